//! Values that must not be seen: connection strings and passwords.

use std::fmt;
use std::path::Path;

use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Deserializer};

/// A text that is never printed, logged or serialised, and wiped from memory when dropped.
#[derive(Clone)]
pub struct Secret(SecretString);

impl Secret {
    /// Hides a text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(SecretString::from(text.into()))
    }

    /// The text itself, for the driver that needs it and nobody else.
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // The driver's own words would quote the value.
        let text =
            String::deserialize(deserializer).map_err(|_| serde::de::Error::custom("it must be a text"))?;
        Ok(Self::new(text))
    }
}

/// Why a secret cannot be had. Holds no part of it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SecretError {
    /// Neither form was given.
    #[error("give it in `{0}` or the name of a file that holds it in `{0}_file`")]
    Missing(&'static str),
    /// Both forms were given.
    #[error("both `{0}` and `{0}_file` are given; keep one of them")]
    Both(&'static str),
    /// The file cannot be read.
    #[error("cannot read the file {file}: {why}")]
    File {
        /// Which file.
        file: String,
        /// What the system says.
        why: String,
    },
    /// There is nothing in it.
    #[error("it is empty")]
    Empty,
}

/// The secret of a key that may stand in the configuration (`dsn`) or in a file of its own (`dsn_file`), from which
/// line ends and spaces around it are removed. `key` is the name of the first form.
pub fn read_secret(
    key: &'static str,
    inline: Option<&Secret>,
    file: Option<&Path>,
) -> Result<Secret, SecretError> {
    let secret = match (inline, file) {
        (None, None) => return Err(SecretError::Missing(key)),
        (Some(_), Some(_)) => return Err(SecretError::Both(key)),
        (Some(secret), None) => secret.clone(),
        (None, Some(file)) => {
            let text = std::fs::read_to_string(file).map_err(|error| SecretError::File {
                // Relative to where the program was started, which is not where the configuration is: say the place.
                file: std::path::absolute(file).unwrap_or_else(|_| file.to_owned()).display().to_string(),
                why: error.to_string(),
            })?;
            Secret::new(text.trim())
        }
    };
    if secret.expose().is_empty() { Err(SecretError::Empty) } else { Ok(secret) }
}
