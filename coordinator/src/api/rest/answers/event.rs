//! The history of a migration.

use serde::Serialize;
use shardlift_proto::v1;
use utoipa::ToSchema;

use super::super::words::{Phase, Status, Step};
use super::migration::LimitsBody;
use super::{FailureBody, time};

/// One thing that happened. What does not belong to it is null.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Event)]
pub(in super::super) struct EventBody {
    /// Its place in the order of all things that happened, over all migrations; there may be gaps.
    #[schema(example = 41)]
    pub(in super::super) sequence: u64,
    /// The migration's id.
    migration: String,
    /// The migration's version.
    version: u32,
    /// A word; later releases know more of them.
    #[schema(example = "step_done")]
    event: String,
    /// When.
    at: Option<String>,
    /// Who: `person`, or a coordinator.
    actor: String,
    /// Where the migration stood after it.
    status: Option<Status>,
    /// What it was busy with after it.
    phase: Option<Phase>,
    /// On which shard.
    shard: Option<String>,
    /// Which step of the shard.
    step: Option<Step>,
    /// Which wave, from 1.
    wave: Option<u32>,
    /// Rows of the shard that are set aside and wait for a decision.
    quarantined: Option<u64>,
    /// Rows of the shard that a person has given up.
    discarded: Option<u64>,
    /// What failed, or why it was halted.
    failure: Option<FailureBody>,
    /// What was decided about what shards have prepared: `commit` or `abort`.
    decision: Option<String>,
    /// The throttle that holds since.
    throttle: Option<LimitsBody>,
}

impl From<v1::Event> for EventBody {
    fn from(event: v1::Event) -> Self {
        let key = event.migration.clone().unwrap_or_default();
        Self {
            status: Status::of(event.status()),
            phase: Phase::of(event.phase()),
            step: Step::of(event.step()),
            sequence: event.sequence,
            migration: key.id,
            version: key.version,
            event: event.event,
            at: time(event.at),
            actor: event.actor,
            shard: event.shard,
            wave: event.wave,
            quarantined: event.held.map(|held| held.rows),
            discarded: event.held.map(|held| held.discarded),
            failure: event.failure.map(Into::into),
            decision: event.decision,
            throttle: event.throttle.map(Into::into),
        }
    }
}

/// A page of the history, oldest first.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Events)]
pub(in super::super) struct EventsBody {
    events: Vec<EventBody>,
    /// The sequence of the last one: to go on, ask with `after` set to it.
    last: Option<u64>,
    /// There are more behind the last one.
    more: bool,
}

impl From<v1::EventsResponse> for EventsBody {
    fn from(page: v1::EventsResponse) -> Self {
        let events: Vec<EventBody> = page.events.into_iter().map(Into::into).collect();
        Self { last: events.last().map(|event| event.sequence), events, more: page.more }
    }
}
