//! What a worker shows coordinators that ask who it is.

use std::path::PathBuf;

use shardlift_proto::bearer::Bearer;
use shardlift_runtime::config::read_secret;

/// Where its token is.
#[derive(Debug, Clone, Default)]
pub enum Token {
    /// It has none: on a loopback address a coordinator may ask nobody.
    #[default]
    None,
    /// In the settings.
    Written(Bearer),
    /// In a file. It is read at each dial: one of an issuer ends, and by then another one lies there.
    File(PathBuf),
}

impl Token {
    /// What is shown now; otherwise why there is nothing to show, without a word of it.
    pub fn bearer(&self) -> Result<Bearer, String> {
        match self {
            Token::None => Ok(Bearer::default()),
            Token::Written(bearer) => Ok(bearer.clone()),
            Token::File(file) => {
                let secret =
                    read_secret("token", None, Some(file.as_path())).map_err(|error| error.to_string())?;
                Bearer::new(secret.expose()).map_err(|error| error.to_string())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_at_each_dial_and_nothing_of_it_is_shown() {
        let dir = tempfile::tempdir().expect("a temp dir");
        let token = Token::File(dir.path().join("token"));
        assert!(token.bearer().is_err(), "it is not there yet");
        for (text, good) in [("hunter2\n", true), ("hunter2 hunter3", false), ("", false), ("hunter4", true)]
        {
            std::fs::write(dir.path().join("token"), text).expect("written");
            let read = token.bearer();
            assert_eq!(read.is_ok(), good, "{text}");
            assert!(!format!("{read:?}").contains("hunter"), "{read:?}");
        }
    }
}
