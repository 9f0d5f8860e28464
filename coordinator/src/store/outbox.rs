//! What is told to others, and what was heard from them.
//!
//! The history is the outbox: an entry is written in the commit of what it tells of. Commits come one after the other, each under
//! the fence, so sequences appear in their order, and whoever reads on behind the last one misses none. A sink only needs its
//! place in it.

use chrono::{DateTime, TimeDelta, Utc};

/// Up to which entry of the history a sink was told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Relayed {
    /// Which sink.
    pub sink: String,
    /// The sequence of the last entry that it was told. A smaller one than that which is stored changes nothing.
    pub position: u64,
}

/// A request that came from a broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heard {
    /// Who sent it.
    pub source: String,
    /// Its id; with the source it names the request for ever.
    pub id: String,
    /// When it was carried out; whole microseconds.
    pub at: DateTime<Utc>,
}

impl Heard {
    /// What was heard before this moment is forgotten with this commit.
    pub(in crate::store) fn horizon(&self) -> DateTime<Utc> {
        self.at - TimeDelta::days(30)
    }
}

/// Where a sink stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// The last entry that it was told; none, if it was never told where to begin.
    pub told: Option<u64>,
    /// The newest entry of the history; 0 when there is none.
    pub newest: u64,
}
