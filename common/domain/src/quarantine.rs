//! Rows that could not be changed and were set aside: how many there are, and what may be asked of a shard about them.
//!
//! They are kept in the shard. Only [`QuarantineAnswer::Image`] holds values of a row, and only for whoever asks to be
//! shown it (promise P12).

use serde::{Deserialize, Serialize};

use crate::ids::MigrationKey;

/// How many rows of one migration one shard has set aside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Held {
    /// Rows that wait for a decision; the budget counts these.
    pub rows: u64,
    /// Rows that a person has given up.
    pub discarded: u64,
}

impl Held {
    /// Whether there is nothing to tell.
    pub fn is_empty(self) -> bool {
        self == Self::default()
    }
}

/// A question about the quarantine of one shard, or a decision about rows in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QuarantineRequest {
    /// Of which migration.
    pub migration: MigrationKey,
    /// What.
    pub ask: QuarantineAsk,
}

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum QuarantineAsk {
    /// A page of the list, in the order of the keys' texts.
    List {
        /// After this key, as its page said.
        after: Option<String>,
        /// At most so many rows.
        limit: u32,
    },
    /// A part of one row's before-image.
    Show {
        /// Which row, as the list shows its key.
        key: String,
        /// From this byte on.
        offset: u64,
    },
    /// The rows are pending again. Empty: all that wait for a decision.
    Retry(Vec<String>),
    /// The rows stay as they are for good. Empty: all that wait for a decision.
    Discard(Vec<String>),
}

/// What the shard answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum QuarantineAnswer {
    /// A page of the list.
    Page {
        /// The rows.
        rows: Vec<QuarantinedRow>,
        /// Where the next page begins; `None`: this was the last.
        next: Option<String>,
    },
    /// A part of a before-image.
    Image {
        /// Bytes of a JSON text, which may end within a character.
        bytes: Vec<u8>,
        /// How long the whole is.
        total: u64,
    },
    /// A decision was carried out.
    Decided {
        /// How many rows it concerned.
        rows: u64,
        /// How many are there now.
        held: Held,
    },
}

/// One row in the list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QuarantinedRow {
    /// Its key, as people see it.
    pub key: String,
    /// The stable code of the error, such as `row.rejected`.
    pub class: String,
    /// What happened. Holds no value of the row.
    pub message: String,
    /// How often it was set aside.
    pub attempts: u32,
    /// Given up by a person.
    pub discarded: bool,
    /// When it was set aside last, RFC 3339 in UTC.
    pub at: String,
}

/// Most bytes of a before-image in one answer.
pub const IMAGE_PART: u64 = 1024 * 1024;
/// Most rows in one page of the list.
pub const QUARANTINE_PAGE: u32 = 500;
