//! What was done, by whom, and whether the record of it holds.

use shardlift_proto::v1;

/// Which entries of the history are wanted.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct AuditAsked {
    /// The first ones behind this sequence; without it the newest.
    pub after: Option<u64>,
    /// Of this migration only.
    pub id: Option<String>,
    /// By this person or coordinator only.
    pub actor: Option<String>,
    /// Of this kind only, such as `sessions_ended`.
    pub event: Option<String>,
    /// Not older than this.
    pub since: Option<v1::Timestamp>,
    /// How many at most.
    pub limit: u32,
}

/// One entry. All texts are those of the store: free text.
#[derive(Debug, Clone, PartialEq)]
pub struct AuditEntry {
    /// Its place in the order of all things that happened.
    pub sequence: u64,
    /// What it says, or why it cannot be read.
    pub fact: Result<AuditFact, String>,
    /// SHA-256 over it and the hash before it; an entry from before the chain has none.
    pub hash: Option<String>,
}

/// What an entry says.
#[derive(Debug, Clone, PartialEq)]
pub struct AuditFact {
    /// The migration's id and version; `None`: it is about the installation, its topology or its workers.
    pub migration: Option<(String, u32)>,
    /// A word.
    pub event: String,
    /// RFC 3339 in UTC.
    pub at: String,
    /// Who.
    pub actor: String,
    /// The id of the request that asked for it.
    pub request_id: Option<String>,
    /// What was changed, as JSON.
    pub detail: String,
}

/// What a walk along the chain has found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// Entries that hold.
    pub entries: u64,
    /// Entries from before the chain.
    pub unchained: u64,
    /// The hash of the last entry that holds.
    pub head: String,
    /// The last entry that was looked at.
    pub last: Option<u64>,
    /// At which entry it does not hold (`None`: at the end), and what is wrong there.
    pub broken: Option<(Option<u64>, String)>,
}

impl AuditEntry {
    pub(crate) fn from_wire(entry: v1::AuditEntry) -> Self {
        let v1::AuditEntry { sequence, fact, unreadable, hash } = entry;
        let fact = fact.map(|fact| AuditFact {
            migration: fact.migration.map(|key| (key.id, key.version)),
            event: fact.event,
            at: fact.at.map(|at| at.to_string()).unwrap_or_default(),
            actor: fact.actor,
            request_id: fact.request_id,
            detail: fact.detail,
        });
        Self { sequence, fact: fact.ok_or(unreadable), hash }
    }
}

impl From<v1::VerifyAuditResponse> for Verified {
    fn from(found: v1::VerifyAuditResponse) -> Self {
        let v1::VerifyAuditResponse { entries, unchained, head, last, broken } = found;
        Self { entries, unchained, head, last, broken: broken.map(|broken| (broken.sequence, broken.why)) }
    }
}
