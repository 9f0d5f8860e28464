//! Sessions of the application that a worker has ended because they kept a schema change from its locks (`on_block`).

use std::fmt;

use serde::{Deserialize, Serialize};

/// One of them, as it was when it was ended. No text of a statement, and no value.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndedSession {
    /// Its server process.
    pub pid: u32,
    /// The name that the application gave it.
    pub application: String,
    /// Its role.
    pub user: String,
    /// What the server said of it, such as `idle in transaction`.
    pub state: String,
    /// How long its transaction had been open, and so at most how long it held what was waited for.
    pub open_seconds: u64,
    /// How long ago its last statement had begun.
    pub quiet_seconds: u64,
    /// The first word of that statement, such as `SELECT`.
    pub statement: String,
}

impl fmt::Display for EndedSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { pid, application, user, state, open_seconds, quiet_seconds, statement } = self;
        let application = if application.is_empty() { "unnamed" } else { application };
        write!(
            f,
            "pid {pid} ({application}, user {user}, {state}, transaction open for {open_seconds} s, {statement} {quiet_seconds} s ago)"
        )
    }
}
