//! Repairing rows that verification has found different: what is asked of a shard, and what becomes of each row. Keys and
//! reasons, never values.

use crate::ids::MigrationKey;
use crate::mismatch::LogPlace;
use crate::spec::SpecFile;

/// One page of the rows of one migration on one shard that the last verification has recorded as different.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RepairRequest {
    /// Of this version of this migration.
    pub migration: MigrationKey,
    /// Its spec: what to evaluate.
    pub file: SpecFile,
    /// Where the page before ended.
    pub after: Option<LogPlace>,
    /// At most so many rows.
    pub limit: u32,
    /// Only tell what would be done.
    pub dry_run: bool,
}

/// What becomes of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Fate {
    /// It is given what its transform gives; of a dry run: it would be.
    Repaired,
    /// It is what its transform gives already.
    Right,
    /// It stays as it is, for a reason.
    Left,
}

impl Fate {
    /// The word for people.
    pub fn as_str(self) -> &'static str {
        match self {
            Fate::Repaired => "repaired",
            Fate::Right => "right",
            Fate::Left => "left",
        }
    }
}

/// One row, and what becomes of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RepairedRow {
    /// What.
    pub fate: Fate,
    /// Its key, as text.
    pub key: String,
    /// In words, without values.
    pub reason: String,
}

/// One page.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RepairPage {
    /// In the order of the undo log.
    pub rows: Vec<RepairedRow>,
    /// Where this page ends; `None`: it was the last one.
    pub next: Option<LogPlace>,
}
