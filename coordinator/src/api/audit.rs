//! The history of all migrations on the wire, with the hashes that chain it.

use chrono::{DateTime, Utc};
use shardlift_domain::failure::{ErrorCode, Failure};
use shardlift_proto::v1;

use super::views::moment;
use crate::service::{Services, Verified, migration_id};
use crate::store::{HistoryEntry, HistoryEvent, Link, Wanted};

/// Entries of one answer unless the request says how many, and at most.
const ENTRIES: u32 = 100;
const MOST_ENTRIES: u32 = 1000;

/// One page.
pub(super) async fn page(
    services: &Services,
    request: v1::AuditRequest,
) -> Result<v1::AuditResponse, Failure> {
    let limit = if request.limit == 0 { ENTRIES } else { request.limit.min(MOST_ENTRIES) };
    let wanted = Wanted {
        after: request.after,
        id: request.id.as_deref().map(migration_id).transpose()?,
        actor: request.actor,
        event: request.event.as_deref().map(kind).transpose()?,
        since: request.since.map(time).transpose()?,
        // One more than is told says whether there are more.
        limit: limit + u32::from(request.after.is_some()),
    };
    let mut found = services.audit(wanted).await?;
    let more = found.len() > limit as usize;
    found.truncate(limit as usize);
    Ok(v1::AuditResponse { entries: found.into_iter().map(to_wire).collect(), more })
}

/// A walk along the chain.
pub(super) async fn verify(
    services: &Services,
    request: v1::VerifyAuditRequest,
) -> Result<v1::VerifyAuditResponse, Failure> {
    let Verified { walk, broken } = services.verify_audit(request.known.as_deref()).await?;
    if let Some(broken) = &broken {
        tracing::error!(sequence = broken.sequence, "the history does not hold: {}", broken.why);
    }
    Ok(v1::VerifyAuditResponse {
        entries: walk.seen().count,
        unchained: walk.unchained(),
        head: walk.seen().hash.clone(),
        last: walk.last(),
        broken: broken.map(|broken| v1::AuditBroken { sequence: broken.sequence, why: broken.why }),
    })
}

fn time(at: v1::Timestamp) -> Result<DateTime<Utc>, Failure> {
    let nanos = u32::try_from(at.nanos).unwrap_or(u32::MAX);
    DateTime::from_timestamp(at.seconds, nanos).ok_or_else(|| {
        let next = "give a time such as 2026-11-29T00:00:00Z";
        Failure::new(ErrorCode::RequestInvalid, "`since` is no time", next)
    })
}

fn kind(word: &str) -> Result<HistoryEvent, Failure> {
    HistoryEvent::ALL.iter().copied().find(|event| event.as_str() == word).ok_or_else(|| {
        let next = "use a word of the column EVENT, such as sessions_ended";
        Failure::new(ErrorCode::RequestInvalid, format!("there are no entries of the kind {word:?}"), next)
    })
}

fn to_wire(link: Link) -> v1::AuditEntry {
    let Link { sequence, entry, hash } = link;
    let (fact, unreadable) = match entry {
        Ok(HistoryEntry { migration, event, at, actor, request, detail }) => {
            let fact = v1::AuditFact {
                migration: migration.map(Into::into),
                event: event.as_str().to_owned(),
                at: Some(moment(at)),
                actor,
                request_id: request,
                detail: detail.to_string(),
            };
            (Some(fact), String::new())
        }
        Err(why) => (None, why),
    };
    v1::AuditEntry { sequence, fact, unreadable, hash }
}
