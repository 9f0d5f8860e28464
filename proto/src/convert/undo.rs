//! What undoing has left alone.

use shardlift_domain::facts::{Conflict, ConflictsPage, ConflictsRequest, Purged};
use shardlift_domain::ids::ShardId;

use super::common::key_from_wire;
use super::{WireError, need};
use crate::v1;

impl From<Conflict> for v1::Conflict {
    fn from(conflict: Conflict) -> Self {
        Self { key: conflict.key, reason: conflict.reason }
    }
}

impl From<v1::Conflict> for Conflict {
    fn from(conflict: v1::Conflict) -> Self {
        Self { key: conflict.key, reason: conflict.reason }
    }
}

/// A question to the wire.
pub fn conflicts_to_wire(query: u64, shard: ShardId, request: ConflictsRequest) -> v1::ConflictsQuery {
    v1::ConflictsQuery {
        query,
        shard: shard.into(),
        migration: Some(request.migration.into()),
        after: request.after,
        limit: request.limit,
    }
}

/// A question from the wire.
pub fn conflicts_from_wire(query: v1::ConflictsQuery) -> Result<ConflictsRequest, WireError> {
    let migration = key_from_wire(need(query.migration, "migration")?)?;
    Ok(ConflictsRequest { migration, after: query.after, limit: query.limit })
}

/// A page to the wire.
pub fn conflicts_page_to_wire(page: ConflictsPage) -> v1::ConflictsPage {
    v1::ConflictsPage { conflicts: page.conflicts.into_iter().map(Into::into).collect(), next: page.next }
}

/// A page from the wire.
pub fn conflicts_page_from_wire(page: v1::ConflictsPage) -> ConflictsPage {
    ConflictsPage { conflicts: page.conflicts.into_iter().map(Into::into).collect(), next: page.next }
}

/// What was removed, to the wire.
pub fn purged_to_wire(purged: Purged) -> v1::Purged {
    v1::Purged { rows: purged.rows, more: purged.more }
}

/// What was removed, from the wire.
pub fn purged_from_wire(purged: v1::Purged) -> Purged {
    Purged { rows: purged.rows, more: purged.more }
}
