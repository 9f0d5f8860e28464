//! Named places to ask, in a file of the user's: `$XDG_CONFIG_HOME/shardlift/config.toml`.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use shardlift_domain::{ErrorCode, Failure};
use shardlift_runtime::config::{ConfigProblems, load, user_file};

/// Where it is, below the directory of the user's settings.
const FILE: &str = "shardlift/config.toml";
/// What no variable of the environment begins with: the environment has its own say for each flag.
const NO_PREFIX: &str = "SHARDLIFT_CONTEXTS";

/// The whole file.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Contexts {
    /// The one that is meant unless another is named.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) current: Option<String>,
    /// All of them, by name.
    #[serde(rename = "context")]
    pub(crate) all: BTreeMap<String, Context>,
}

/// One installation, and how it is reached. Holds names of files, no secret.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Context {
    /// Addresses of its coordinators.
    pub(crate) coordinators: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) ca: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) server_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) certificate: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) key: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) token_file: Option<PathBuf>,
}

/// Refuses a name that nobody could type again.
pub(crate) fn nameable(name: &str) -> Result<(), Failure> {
    if name.is_empty() || name.chars().any(|c| c.is_whitespace() || c.is_control()) {
        let message = format!("{name:?} is no name of a context: it is empty, or has blanks");
        return Err(Failure::new(ErrorCode::RequestInvalid, message, "take a word, such as production"));
    }
    Ok(())
}

/// Where the file is.
pub(crate) fn place() -> Result<PathBuf, Failure> {
    user_file(FILE).ok_or_else(|| {
        let next = "set HOME or XDG_CONFIG_HOME, or say --coordinator";
        Failure::new(ErrorCode::ConfigInvalid, "there is no directory for a user's settings", next)
    })
}

impl Contexts {
    /// Reads the file; there may be none.
    pub(crate) fn read() -> Result<Self, Failure> {
        match user_file(FILE) {
            Some(file) if file.exists() => {
                load(Some(&file), NO_PREFIX, &[]).map_err(|problems: ConfigProblems| problems.into())
            }
            _ => Ok(Self::default()),
        }
    }

    /// Writes the file, as a whole: a reader sees the old one or the new one.
    pub(crate) fn write(&self) -> Result<PathBuf, Failure> {
        let file = place()?;
        let failed = |error: io::Error| {
            let message = format!("{} cannot be written: {error}", file.display());
            Failure::new(ErrorCode::ConfigInvalid, message, "make that directory writable for you")
        };
        let text = toml::to_string(self).map_err(|error| failed(io::Error::other(error)))?;
        if let Some(directory) = file.parent() {
            std::fs::create_dir_all(directory).map_err(failed)?;
        }
        let new = file.with_extension("toml.new");
        std::fs::write(&new, text).map_err(failed)?;
        std::fs::rename(&new, &file).map_err(failed)?;
        Ok(file)
    }

    /// The one of this name.
    pub(crate) fn find(&self, name: &str) -> Result<&Context, Failure> {
        self.all.get(name).ok_or_else(|| {
            let known: Vec<&str> = self.all.keys().map(String::as_str).collect();
            let known = if known.is_empty() {
                "there is none yet".to_owned()
            } else {
                format!("known: {}", known.join(", "))
            };
            Failure::new(
                ErrorCode::ConfigInvalid,
                format!("there is no context {name:?}; {known}"),
                "shardlift context list shows them, shardlift context add makes one",
            )
        })
    }

    /// The one that is meant when nobody says which.
    pub(crate) fn present(&self) -> Result<Option<&Context>, Failure> {
        self.current.as_deref().map(|name| self.find(name)).transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_a_word() {
        for name in ["production", "eu-1.example", "日本"] {
            assert_eq!(nameable(name), Ok(()), "{name}");
        }
        for name in ["", " ", "two words", "a\n"] {
            assert_eq!(nameable(name).expect_err(name).code, ErrorCode::RequestInvalid);
        }
    }

    #[test]
    fn what_is_written_reads_back_and_an_unknown_name_is_told_with_the_known_ones() {
        let here = Context {
            coordinators: vec!["https://a:1".into()],
            ca: Some("ca.pem".into()),
            ..Context::default()
        };
        let contexts =
            Contexts { current: Some("here".into()), all: [("here".to_owned(), here.clone())].into() };
        let text = toml::to_string(&contexts).expect("TOML");
        assert_eq!(
            text,
            "current = \"here\"\n\n[context.here]\ncoordinators = [\"https://a:1\"]\nca = \"ca.pem\"\n"
        );
        assert_eq!(toml::from_str::<Contexts>(&text).expect("reads"), contexts);
        assert_eq!(contexts.present().ok(), Some(Some(&here)));
        assert!(contexts.find("there").expect_err("unknown").message.contains("known: here"));
        assert_eq!(Contexts::default().present().ok(), Some(None));
    }
}
