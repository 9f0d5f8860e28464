//! What must hold at the end: the checks of `verify`.

use std::fmt;

/// One check of the verify phase.
#[derive(Debug, Clone, PartialEq)]
pub enum VerifyCheck {
    /// Nothing is pending any more. Needs `where`.
    Remaining,
    /// The walk has seen the table: rows seen by the first pass against rows there now.
    Count {
        /// Largest allowed difference as a fraction of the rows there now, 0.0 to 1.0. Default 0.01.
        tolerance: f64,
    },
    /// The transform is evaluated anew on what the undo log keeps, and what comes out is what is there.
    Transform(Anew),
    /// What the migration wrote is still there, by the digests of the undo log.
    Digest(Leeway),
    /// Whatever rows refer to is there, on the same shard.
    References(References),
    /// No two rows of the cluster have the same fields.
    Unique(Unique),
    /// A question of the user's own has the answer that it must have.
    Assert(Assertion),
}

/// A reference of the source's rows to rows of a table or collection of the same shard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct References {
    /// Columns or fields that refer; a row in which one of them is null or missing refers to nothing.
    pub fields: Vec<String>,
    /// Table or collection that is referred to.
    pub to: String,
    /// Its columns or fields, as many as [`References::fields`].
    pub key: Vec<String>,
}

impl fmt::Display for References {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} to {} ({})", self.fields.join(", "), self.to, self.key.join(", "))
    }
}

/// Fields that no two rows of the source have in common, on whichever shards they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unique {
    /// Columns or fields; a row in which one of them is null or missing is like no other.
    pub fields: Vec<String>,
}

impl fmt::Display for Unique {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.fields.join(", "))
    }
}

/// How the transform is evaluated anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Anew {
    /// Which of the changed rows.
    pub sample: Sample,
    /// Most rows of a shard that somebody may have changed since. `None`: any number.
    pub changed: Option<u32>,
    /// Most rows of a shard that may be gone. `None`: any number.
    pub gone: Option<u32>,
}

impl Anew {
    /// Most rows that may differ.
    pub fn allowed(self) -> Leeway {
        Leeway { changed: self.changed, gone: self.gone }
    }
}

/// Most rows of a shard that may not be what was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Leeway {
    /// That somebody may have changed since. `None`: any number.
    pub changed: Option<u32>,
    /// That may be gone. `None`: any number.
    pub gone: Option<u32>,
}

impl Leeway {
    /// Everything is as it was written.
    pub const NONE: Leeway = Leeway { changed: Some(0), gone: Some(0) };
}

/// How many rows are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Sample {
    /// Each.
    #[default]
    All,
    /// So many of 100 (1 to 99), chosen by their keys: the same ones every time.
    Percent(u32),
}

impl Sample {
    /// Whether a row is looked at, by a number made of its key.
    pub fn holds(self, number: u64) -> bool {
        match self {
            Sample::All => true,
            Sample::Percent(share) => number % 100 < u64::from(share),
        }
    }
}

impl fmt::Display for Sample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Sample::All => f.write_str("all"),
            Sample::Percent(share) => write!(f, "sample {share} %"),
        }
    }
}

/// A question that each shard is asked, and its answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Assertion {
    /// What is asked.
    pub question: Question,
    /// What the answer must be: a single value.
    pub equals: serde_json::Value,
}

/// A question with a single value as its answer.
#[derive(Debug, Clone, PartialEq)]
pub enum Question {
    /// One `SELECT`, whose answer is one row of one column.
    Sql(String),
    /// How many documents of a collection match a query.
    Documents {
        /// The collection.
        collection: String,
        /// The query, as (extended) JSON object; an empty one matches all.
        query: serde_json::Value,
    },
}

impl Assertion {
    /// Whether an answer is the one that must come. Numbers are compared as numbers, whatever their type.
    pub fn holds(&self, answer: &serde_json::Value) -> bool {
        let (wanted, found) = (&self.equals, answer);
        match (wanted.as_i64(), found.as_i64(), wanted.as_f64(), found.as_f64()) {
            (Some(wanted), Some(found), _, _) => wanted == found,
            (_, _, Some(wanted), Some(found)) => wanted == found,
            _ => wanted == found,
        }
    }
}

impl fmt::Display for Question {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Question::Sql(query) => f.write_str(query),
            Question::Documents { collection, query } => write!(f, "documents of {collection} where {query}"),
        }
    }
}

impl VerifyCheck {
    /// The question, if it is one of the user's own.
    pub fn assertion(&self) -> Option<&Assertion> {
        match self {
            VerifyCheck::Assert(assertion) => Some(assertion),
            VerifyCheck::Remaining
            | VerifyCheck::Count { .. }
            | VerifyCheck::Transform(_)
            | VerifyCheck::Digest(_)
            | VerifyCheck::References(_)
            | VerifyCheck::Unique(_) => None,
        }
    }

    /// The word in the spec.
    pub fn label(&self) -> &'static str {
        match self {
            VerifyCheck::Remaining => "remaining",
            VerifyCheck::Count { .. } => "count",
            VerifyCheck::Transform(_) => "transform",
            VerifyCheck::Digest(_) => "digest",
            VerifyCheck::References(_) => "references",
            VerifyCheck::Unique(_) => "unique",
            VerifyCheck::Assert(Assertion { question: Question::Sql(_), .. }) => "sql",
            VerifyCheck::Assert(_) => "documents",
        }
    }
}
