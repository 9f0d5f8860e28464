//! The bearer key of a service: what stands in the configuration, or what lies in its file at the moment in which the service is
//! asked. What cannot be used changes nothing: the key before stays in use.

use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use reqwest::header::HeaderValue;
use shardlift_runtime::config::{Secret, SecretError, read_secret};

/// A key, and the file that it was read from, if it was.
#[derive(Debug, Clone)]
pub struct Key {
    secret: Secret,
    file: Option<PathBuf>,
}

impl Key {
    /// Of `key` or `key_file` in a section: exactly one of them.
    pub fn read(key: Option<&Secret>, file: Option<PathBuf>) -> Result<Self, SecretError> {
        let secret = read_secret("key", key, file.as_deref())?;
        Ok(Self { secret, file })
    }

    #[cfg(test)]
    pub(super) fn of(key: &str) -> Self {
        Self { secret: Secret::new(key), file: None }
    }
}

/// The key that a service is shown.
pub(super) struct Shown(Mutex<Held>);

struct Held {
    header: HeaderValue,
    file: Option<PathBuf>,
}

impl Held {
    /// `None`: it is no header.
    fn new(key: &Key) -> Option<Self> {
        Some(Self { header: bearer(key.secret.expose())?, file: key.file.clone() })
    }
}

impl Shown {
    /// `None`: it is no header.
    pub(super) fn new(key: &Key) -> Option<Self> {
        Held::new(key).map(|held| Self(Mutex::new(held)))
    }

    /// From now on it is this one. Whether it was another one before; `None`: this one is no header.
    pub(super) fn replace(&self, key: &Key) -> Option<bool> {
        let new = Held::new(key)?;
        let mut held = self.held();
        let changed = held.header != new.header;
        *held = new;
        Some(changed)
    }

    /// What is shown now.
    pub(super) async fn now(&self) -> HeaderValue {
        let file = self.held().file.clone();
        if let Some(file) = file {
            let text = tokio::fs::read_to_string(&file).await;
            match text.as_deref().map(bearer) {
                Ok(Some(header)) => {
                    let mut held = self.held();
                    // Meanwhile another place may have been configured.
                    if held.file.as_ref() == Some(&file) {
                        held.header = header;
                    }
                }
                Ok(None) => tracing::debug!(file = %file.display(), "no key lies there now"),
                Err(error) => tracing::debug!(file = %file.display(), %error, "the key cannot be read now"),
            }
        }
        self.held().header.clone()
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn bearer(key: &str) -> Option<HeaderValue> {
    let key = Some(key.trim()).filter(|key| !key.is_empty())?;
    let mut value = HeaderValue::try_from(format!("Bearer {key}")).ok()?;
    value.set_sensitive(true);
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn shown(key: &Shown) -> String {
        key.now().await.to_str().expect("is text").to_owned()
    }

    #[tokio::test]
    async fn what_lies_in_its_file_counts_as_long_as_it_is_a_key() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("key");
        let write = |text: &str| std::fs::write(&file, text).expect("writes");
        write(" first\n");
        let key = Shown::new(&Key::read(None, Some(file.clone())).expect("a key")).expect("a header");
        assert_eq!(shown(&key).await, "Bearer first");
        write("second\n");
        assert_eq!(shown(&key).await, "Bearer second");
        for useless in ["", "\n", "no\nheader"] {
            write(useless);
            assert_eq!(shown(&key).await, "Bearer second", "{useless:?}");
        }
        std::fs::remove_file(&file).expect("removes");
        assert_eq!(shown(&key).await, "Bearer second");
        write("third");
        assert_eq!(shown(&key).await, "Bearer third");
    }

    #[tokio::test]
    async fn another_key_counts_from_the_next_request_on() {
        let key = Shown::new(&Key::of("first")).expect("a header");
        assert_eq!(key.replace(&Key::of("first")), Some(false));
        assert_eq!(key.replace(&Key::of("second")), Some(true));
        assert_eq!(key.replace(&Key::of("no\nheader")), None);
        assert_eq!(shown(&key).await, "Bearer second");
        assert!(!format!("{:?}", Key::of("canary")).contains("canary"));
    }
}
