//! The history of all migrations, and what a walk along its chain has found.

use serde::Serialize;
use serde_json::Value;
use shardlift_proto::v1;
use utoipa::ToSchema;

use super::time;

/// One entry. If it cannot be read, `unreadable` says why and the rest is null.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = AuditEntry)]
struct EntryBody {
    /// Its place in the order of all things that happened.
    sequence: u64,
    /// The migration's id; null as well where an entry is about the installation: its topology, its workers.
    migration: Option<String>,
    /// The migration's version.
    version: Option<u32>,
    /// A word, as in the events of a migration.
    event: Option<String>,
    /// When.
    at: Option<String>,
    /// Who.
    actor: Option<String>,
    /// The id of the request that asked for it.
    request_id: Option<String>,
    /// What was changed, and where the migration stood before and after.
    #[schema(value_type = Option<Object>)]
    detail: Option<Value>,
    /// Why it cannot be read.
    unreadable: Option<String>,
    /// SHA-256 over the entry and the hash before it, in hexadecimal; null for entries from before the chain.
    hash: Option<String>,
}

impl From<v1::AuditEntry> for EntryBody {
    fn from(entry: v1::AuditEntry) -> Self {
        let v1::AuditEntry { sequence, fact, unreadable, hash } = entry;
        let unreadable = fact.is_none().then_some(unreadable);
        let fact = fact.unwrap_or_default();
        let there = unreadable.is_none();
        let (migration, version) = fact.migration.map(|key| (key.id, key.version)).unzip();
        Self {
            sequence,
            migration,
            version,
            event: there.then_some(fact.event),
            at: time(fact.at),
            actor: there.then_some(fact.actor),
            request_id: fact.request_id,
            detail: serde_json::from_str(&fact.detail).ok(),
            unreadable,
            hash,
        }
    }
}

/// A page of the history, oldest first.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Audit)]
pub(in super::super) struct AuditBody {
    entries: Vec<EntryBody>,
    /// The sequence of the last one: to go on, ask with `after` set to it.
    last: Option<u64>,
    /// There are more behind the last one.
    more: bool,
}

impl From<v1::AuditResponse> for AuditBody {
    fn from(page: v1::AuditResponse) -> Self {
        let entries: Vec<EntryBody> = page.entries.into_iter().map(Into::into).collect();
        Self { last: entries.last().map(|entry| entry.sequence), entries, more: page.more }
    }
}

/// What a walk along the chain has found.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Verification)]
pub(in super::super) struct VerifiedBody {
    /// Entries that hold, from the beginning of the chain.
    entries: u64,
    /// Entries from before the chain.
    unchained: u64,
    /// The hash of the last entry that holds: keep it elsewhere, and give it as `known` the next time.
    head: String,
    /// The last entry that was looked at.
    last: Option<u64>,
    /// Where it does not hold; null if all of it does.
    broken: Option<BrokenBody>,
}

/// Where the chain does not hold.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Broken)]
struct BrokenBody {
    /// At which entry; null at the end.
    sequence: Option<u64>,
    /// What is wrong there.
    why: String,
}

impl From<v1::VerifyAuditResponse> for VerifiedBody {
    fn from(found: v1::VerifyAuditResponse) -> Self {
        let broken = found.broken.map(|broken| BrokenBody { sequence: broken.sequence, why: broken.why });
        let v1::VerifyAuditResponse { entries, unchained, head, last, .. } = found;
        Self { entries, unchained, head, last, broken }
    }
}
