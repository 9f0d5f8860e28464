//! What comes of evaluating a transform anew on what the undo log keeps: figures, keys and reasons, never values.

use std::ops::AddAssign;
use std::str::FromStr;

use crate::ids::MigrationKey;
use crate::spec::SpecFile;

/// A walk over the before-images of one migration on one shard: one page of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MismatchesRequest {
    /// Of this version of this migration.
    pub migration: MigrationKey,
    /// Its spec: what to evaluate.
    pub file: SpecFile,
    /// Where the page before ended.
    pub after: Option<LogPlace>,
    /// About how many differing rows at most.
    pub limit: u32,
}

/// A place in the undo log: behind so many rows of one entry.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct LogPlace {
    /// Of this range.
    pub range: u32,
    /// Of this batch.
    pub batch: u64,
    /// Of this part of it.
    pub part: u32,
    /// So many of its rows are behind.
    pub row: u32,
}

impl LogPlace {
    /// Before the rows of the entry that follows this one.
    pub fn next_entry(self) -> Self {
        Self { part: self.part.saturating_add(1), row: 0, ..self }
    }
}

/// How a row differs from what the transform gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Difference {
    /// It is what was written, on unchanged inputs, and the transform gives something else.
    Mismatch,
    /// It, or what the transform makes it of, is not what it was: by whom, nobody can tell.
    Changed,
    /// It is not there any more.
    Gone,
}

impl Difference {
    /// Every one.
    pub const ALL: [Difference; 3] = [Difference::Mismatch, Difference::Changed, Difference::Gone];

    /// The word for people.
    pub fn as_str(self) -> &'static str {
        match self {
            Difference::Mismatch => "mismatch",
            Difference::Changed => "changed",
            Difference::Gone => "gone",
        }
    }
}

impl FromStr for Difference {
    type Err = UnknownDifference;

    fn from_str(word: &str) -> Result<Self, UnknownDifference> {
        Self::ALL.into_iter().find(|difference| difference.as_str() == word).ok_or(UnknownDifference)
    }
}

/// A word that names no difference.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no difference has this name")]
pub struct UnknownDifference;

/// One row that differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DifferingRow {
    /// How.
    pub difference: Difference,
    /// Its key, as text.
    pub key: String,
    /// In words, without values.
    pub reason: String,
}

/// How many rows were compared, and with what result.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Compared {
    /// They are what the transform gives.
    pub verified: u64,
    /// [`Difference::Mismatch`].
    pub mismatches: u64,
    /// [`Difference::Changed`].
    pub changed: u64,
    /// [`Difference::Gone`].
    pub gone: u64,
    /// Not in the sample, so not looked at.
    pub left_out: u64,
}

impl Compared {
    /// Counts one row; `None`: it is what the transform gives.
    pub fn add(&mut self, difference: Option<Difference>) {
        *match difference {
            None => &mut self.verified,
            Some(Difference::Mismatch) => &mut self.mismatches,
            Some(Difference::Changed) => &mut self.changed,
            Some(Difference::Gone) => &mut self.gone,
        } += 1;
    }

    /// Rows that were looked at.
    pub fn looked_at(&self) -> u64 {
        self.verified + self.mismatches + self.changed + self.gone
    }
}

impl AddAssign for Compared {
    fn add_assign(&mut self, more: Self) {
        self.verified += more.verified;
        self.mismatches += more.mismatches;
        self.changed += more.changed;
        self.gone += more.gone;
        self.left_out += more.left_out;
    }
}

/// One page.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MismatchesPage {
    /// What this page looked at.
    pub compared: Compared,
    /// The rows that differ, in the order of the log.
    pub rows: Vec<DifferingRow>,
    /// Where this page ends; `None`: it was the last one.
    pub next: Option<LogPlace>,
}
