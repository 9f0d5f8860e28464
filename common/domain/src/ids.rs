//! Typed names: a shard can never be passed where a worker is meant.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::migration::Step;

/// Why a text is not a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} {text:?} is not a name: {why}")]
pub struct IdError {
    /// The kind of name that was expected.
    pub what: &'static str,
    /// The refused text.
    pub text: String,
    /// What is wrong with it.
    pub why: &'static str,
}

/// Longest name in bytes: PostgreSQL cuts identifiers at 63.
pub const MAX_NAME: usize = 63;

fn checked(what: &'static str, text: &str) -> Result<String, IdError> {
    let refuse = |why| Err(IdError { what, text: text.chars().take(80).collect(), why });
    if text.is_empty() {
        return refuse("it is empty");
    }
    if text.len() > MAX_NAME {
        return refuse("it is longer than 63 bytes");
    }
    if !text.starts_with(|c: char| c.is_ascii_alphanumeric()) {
        return refuse("it must begin with a letter or a digit");
    }
    if !text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.')) {
        return refuse("only letters, digits, '_', '-' and '.' are allowed");
    }
    Ok(text.to_owned())
}

macro_rules! name {
    ($(#[$doc:meta])* $type:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $type(String);

        impl $type {
            /// Checks the text: 1 to 63 bytes of letters, digits, `_`, `-`, `.`, beginning with a letter or digit.
            pub fn new(text: impl AsRef<str>) -> Result<Self, IdError> {
                checked($what, text.as_ref()).map(Self)
            }

            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl FromStr for $type {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                Self::new(text)
            }
        }

        impl TryFrom<String> for $type {
            type Error = IdError;
            fn try_from(text: String) -> Result<Self, IdError> {
                Self::new(text)
            }
        }

        impl From<$type> for String {
            fn from(id: $type) -> String {
                id.0
            }
        }
    };
}

name!(
    /// The `id` of a spec: unique for ever.
    MigrationId,
    "migration id"
);
name!(
    /// A named group of shards of one engine.
    ClusterName,
    "cluster name"
);
name!(
    /// One database of a cluster.
    ShardId,
    "shard id"
);
name!(
    /// One worker process.
    WorkerId,
    "worker name"
);

/// Which edition of a migration id: 1 at first, one more after a rollback or an early cancel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Version(pub u32);

impl Version {
    /// The first edition of an id.
    pub const FIRST: Self = Self(1);

    /// The edition after this one.
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// One edition of one migration, written `id@version`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct MigrationKey {
    /// The id in the spec.
    pub id: MigrationId,
    /// The edition of that id.
    pub version: Version,
}

impl fmt::Display for MigrationKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.id, self.version)
    }
}

/// SHA-256 of a spec's meaning, in lower-case hex.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Checksum(String);

impl Checksum {
    /// The checksum of these bytes.
    pub fn of(bytes: &[u8]) -> Self {
        use sha2::{Digest, Sha256};
        // Row by row in a verification: formatting each byte would cost more than the digest.
        let digits = Sha256::digest(bytes).into_iter().flat_map(|byte| [byte >> 4, byte & 15]);
        Self(digits.filter_map(|digit| char::from_digit(u32::from(digit), 16)).collect())
    }

    /// A checksum that was stored or sent before.
    pub fn from_stored(hex: impl Into<String>) -> Self {
        Self(hex.into())
    }

    /// 64 hex digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Checksum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The name of one task: a step of a migration on a shard, or one range of its backfill.
///
/// It is derived, never drawn, so that every leader calls the same work by the same name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TaskId {
    /// Whose work it is.
    pub migration: MigrationKey,
    /// Where it runs.
    pub shard: ShardId,
    /// Which step it is.
    pub step: Step,
    /// Which range, when the step is a backfill.
    pub range: Option<u32>,
}

impl fmt::Display for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.migration, self.shard, self.step)?;
        match self.range {
            Some(range) => write!(f, "/{range}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_short_and_plain() {
        assert!(ShardId::new("chat-pg-01").is_ok());
        for bad in ["", "-a", "a b", "a/b", "a'b", &"x".repeat(64), "é"] {
            assert!(ShardId::new(bad).is_err(), "{bad:?} was accepted");
        }
    }

    #[test]
    fn a_checksum_is_sha256() {
        assert_eq!(
            Checksum::of(b"abc").as_str(),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
    }
}
