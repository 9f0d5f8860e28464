//! What coordinator and workers say to each other about uniqueness over all shards: digests of rows, never their values.

use crate::ids::MigrationKey;
use crate::spec::SpecFile;

/// The digest of the fields of one row, as a number: it sorts like its bytes.
pub type Digest = u128;

/// A question to a worker about the digests that one shard has collected.
#[derive(Debug, Clone, PartialEq)]
pub struct UniqueRequest {
    /// Of which migration.
    pub migration: MigrationKey,
    /// Its spec.
    pub file: SpecFile,
    /// What.
    pub ask: UniqueAsk,
}

/// What may be asked.
#[derive(Debug, Clone, PartialEq)]
pub enum UniqueAsk {
    /// How many there are.
    Summary,
    /// Those of an interval, in order.
    Slice(DigestSlice),
    /// Which rows have these digests now.
    Rows(Vec<Digest>),
    /// Remove some of them, with all that is kept beside them.
    Clear,
}

/// An interval of digests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DigestSlice {
    /// The first that may be told.
    pub from: Digest,
    /// The first that may not; `None`: there is no such.
    pub below: Option<Digest>,
    /// Most digests of one answer.
    pub limit: u32,
}

/// What a worker answers.
#[derive(Debug, Clone, PartialEq)]
pub enum UniqueAnswer {
    /// How many there are.
    Summary(Collected),
    /// Those of an interval, each once, in order; an answer that is full may have others behind it.
    Slice(Vec<Counted>),
    /// Rows that have one of the digests; of each digest the first few.
    Rows(Vec<KeyedDigest>),
    /// Whether there may be more to remove.
    Cleared(bool),
}

/// What one shard has collected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Collected {
    /// Digests.
    pub digests: u64,
    /// What they are made of: shards whose columns have types that are compared otherwise cannot be compared.
    pub form: String,
}

/// One digest, and how many rows of the shard have it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counted {
    /// Which.
    pub digest: Digest,
    /// How many rows: at least 1.
    pub rows: u64,
}

/// A row that has a digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyedDigest {
    /// Which digest.
    pub digest: Digest,
    /// By which of the spec's `unique` checks; the first is 0.
    pub check: u32,
    /// The key of the row, as it is shown to people.
    pub key: String,
}
