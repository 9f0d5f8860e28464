//! Backups: what a shard's table or collection was before it changed, in an object store.
//!
//! Reading order: [`vault`] is the object store and [`shelf`] the place of one shard's backup in it; [`format`](mod@format)
//! knows where a row ends; an engine gives rows, [`parts`] writes them; [`manifest`] says what lies there, and nothing lies
//! there without it; [`review`] reads parts back; [`answer`] is for people.
//!
//! It knows no database: engines save and restore, the executor says when.

pub(crate) mod answer;
pub(crate) mod format;
pub(crate) mod manifest;
pub(crate) mod parts;
pub(crate) mod review;
pub mod shelf;
pub mod vault;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use shardlift_domain::failure::{ErrorCode, Failure};
use shardlift_domain::fence::Token;
use shardlift_domain::ids::MigrationKey;

pub use format::{Format, RowsDigest};
pub use parts::{Parts, Told};
pub use shelf::Shelf;
pub use vault::Vault;

use crate::engine::{EngineError, EngineResult};

/// Which moment a backup shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Consistency {
    /// All rows as they were at one moment.
    Snapshot,
    /// Each document as a majority of the replica set held it when it was read.
    Majority,
}

impl Consistency {
    /// The word for people.
    pub fn as_str(self) -> &'static str {
        match self {
            Consistency::Snapshot => "snapshot",
            Consistency::Majority => "majority",
        }
    }
}

/// What is saved, as an engine tells it before the first row, and as it needs it to restore.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subject {
    /// The table or collection, as people write it.
    pub relation: String,
    /// Its own name, without schema or database.
    pub name: String,
    /// How its rows are written.
    pub format: Format,
    /// The path of its data in a backup, without the number of the part.
    pub stem: String,
    /// The columns of a row, in order; none where rows name their fields themselves.
    pub columns: Vec<String>,
    /// What makes an empty one of the same shape, wherever it is to be: statements, or options.
    pub create: Vec<String>,
    /// Which moment it shows.
    pub consistency: Consistency,
}

/// A file beside the rows, for people and their tools.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Beside {
    /// Its path in the backup.
    pub name: String,
    /// Its content.
    pub content: Vec<u8>,
}

/// Where an engine puts what it saves. As slow as the object store: whoever saves waits for it.
#[async_trait]
pub trait Saving: Send {
    /// What is saved. Said once, before any row.
    async fn begin(&mut self, subject: Subject, beside: Vec<Beside>) -> EngineResult<()>;

    /// So many whole rows.
    async fn rows(&mut self, bytes: &[u8], rows: u64) -> EngineResult<()>;
}

/// Where a part of a backup is restored to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The schema or database; `None`: one with a name of its own.
    pub into: Option<String>,
    /// Of which migration the backup is.
    pub migration: MigrationKey,
    /// Which hand-out made it.
    pub token: Token,
    /// Which part, from 0.
    pub part: u32,
    /// Of so many.
    pub parts: u32,
}

impl Target {
    /// Longest name of a schema, and of a database.
    const LONGEST: usize = 63;

    /// The schema or database.
    pub(crate) fn place(&self) -> String {
        self.into.clone().unwrap_or_else(|| {
            let name = format!("restored_{}_v{}", self.migration.id, self.migration.version.0);
            let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' };
            name.chars().map(plain).take(Self::LONGEST).collect()
        })
    }

    /// What tells one backup from all others.
    pub(crate) fn backup(&self) -> String {
        format!("{} {}-{}", self.migration, self.token.epoch.0, self.token.attempt.0)
    }
}

/// A restore that would touch what is there.
pub(crate) fn in_the_way(what: impl std::fmt::Display) -> EngineError {
    EngineError::Failed(Failure::new(
        ErrorCode::RequestIllegal,
        format!("{what}: a restore never writes over anything"),
        "name another place with --into, or move away what is there",
    ))
}

/// A backup that cannot be made, or cannot be read.
pub(crate) fn failed(message: impl Into<String>, next: &str) -> EngineError {
    EngineError::Failed(Failure::new(ErrorCode::BackupFailed, message, next))
}

/// A backup that is not what was saved.
pub(crate) fn damaged(place: &str, what: impl std::fmt::Display) -> EngineError {
    EngineError::Failed(Failure::new(
        ErrorCode::BackupDamaged,
        format!("the backup at {place} is not what was saved: {what}"),
        "look after the object store (disk, network, who writes there); while nothing of the shard has changed yet, \
         `resume` saves it anew",
    ))
}

#[cfg(test)]
mod tests {
    use shardlift_domain::fence::{Attempt, Epoch};
    use shardlift_domain::ids::{MigrationId, Version};

    use super::*;

    #[test]
    fn a_restore_goes_beside_the_original_unless_told() {
        let target = |id: &str, into: Option<&str>| Target {
            into: into.map(str::to_owned),
            migration: MigrationKey { id: MigrationId::new(id).expect("a name"), version: Version(2) },
            token: Token { epoch: Epoch(3), attempt: Attempt(7) },
            part: 0,
            parts: 1,
        };
        assert_eq!(target("0003_Body.v2", None).place(), "restored_0003_body_v2_v2");
        assert_eq!(target("0003_Body.v2", None).backup(), "0003_Body.v2@2 3-7");
        assert_eq!(target("a", Some("there")).place(), "there");
        assert_eq!(target(&"a".repeat(63), None).place().len(), 63);
    }
}
