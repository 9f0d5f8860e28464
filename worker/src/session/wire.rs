//! Between the session's messages and the executor's words.

use std::sync::Arc;

use shardlift_domain::ended::EndedSession;
use shardlift_domain::ids::TaskId;
use shardlift_domain::migration::Pace;
use shardlift_domain::progress::Receipt;
use shardlift_proto::convert::{
    WireError, ended_to_wire, held_to_wire, outcome_to_wire, range_to_wire, saved_to_wire, task_from_wire,
    task_to_wire, throttle_from_wire, token_from_wire, token_to_wire,
};
use shardlift_proto::v1::{self, from_worker};

use crate::executor::{Assignment, Ending, News};
use crate::lease::{Pulse, TaskLease};

/// A message on its way.
pub(super) fn wrap(message: from_worker::Message) -> v1::FromWorker {
    v1::FromWorker { message: Some(message) }
}

/// A task as it was handed out, with its lease.
pub(super) fn assignment(assign: v1::Assign, pulse: &Arc<Pulse>) -> Result<Assignment, WireError> {
    let task: TaskId = task_from_wire(assign.task)?;
    let lease = pulse.grant(task, token_from_wire(assign.token)?);
    let file = assign.spec.ok_or(WireError::Missing("spec"))?.into();
    let pace = pace(assign.sharers, assign.throttle)?;
    Ok(Assignment { lease, file, shard_slots: assign.shard_slots, pace, drop_data: assign.drop_data })
}

/// What is told of a range's pace.
pub(super) fn pace(sharers: u32, throttle: Option<v1::Throttle>) -> Result<Pace, WireError> {
    Ok(Pace { sharers, throttle: throttle.map(throttle_from_wire).transpose()? })
}

/// How a task ended.
pub(super) fn ending(lease: &TaskLease, ending: Ending) -> v1::FromWorker {
    let task = Some(task_to_wire(lease.task()));
    let token = Some(token_to_wire(lease.token()));
    wrap(match ending {
        Ending::Finished(outcome) => from_worker::Message::Finished(v1::TaskFinished {
            task,
            token,
            outcome: Some(outcome_to_wire(&outcome)),
        }),
        Ending::Broke(failure) => {
            from_worker::Message::Broke(v1::TaskBroke { task, token, failure: Some(failure.into()) })
        }
        Ending::Released => from_worker::Message::Released(v1::TaskReleased { task, token }),
    })
}

/// The sessions that a task has ended; `None`: none.
pub(super) fn ended(lease: &TaskLease) -> Option<v1::FromWorker> {
    let sessions: Vec<EndedSession> = lease.take_ended();
    let task = Some(task_to_wire(lease.task()));
    let sessions: Vec<_> = sessions.into_iter().map(ended_to_wire).collect();
    (!sessions.is_empty()).then(|| wrap(from_worker::Message::Ended(v1::SessionsEnded { task, sessions })))
}

/// News of a running range.
pub(super) fn news(lease: &TaskLease, news: &News) -> v1::FromWorker {
    match news {
        News::Moved(receipt) => progress(lease, receipt),
        News::Shared(rest) => wrap(from_worker::Message::Shared(v1::TaskShared {
            task: Some(task_to_wire(lease.task())),
            token: Some(token_to_wire(lease.token())),
            pass: rest.as_ref().map_or(0, |rest| rest.pass),
            rest: rest.as_ref().map(|rest| range_to_wire(&rest.range)),
        })),
        News::Saved(saved) => wrap(from_worker::Message::Saved(v1::TaskSaved {
            task: Some(task_to_wire(lease.task())),
            token: Some(token_to_wire(lease.token())),
            saved: Some(saved_to_wire(*saved)),
        })),
        News::Quarantined(held) => wrap(from_worker::Message::Quarantined(v1::TaskQuarantined {
            task: Some(task_to_wire(lease.task())),
            token: Some(token_to_wire(lease.token())),
            held: Some(held_to_wire(*held)),
        })),
    }
}

/// A receipt of a running range.
fn progress(lease: &TaskLease, receipt: &Receipt) -> v1::FromWorker {
    wrap(from_worker::Message::Progress(v1::TaskProgress {
        task: Some(task_to_wire(lease.task())),
        token: Some(token_to_wire(lease.token())),
        range: Some(range_to_wire(&receipt.range)),
        batch_size: receipt.batch_size,
        rows_per_second: receipt.rows_per_second,
        batch_ms: receipt.batch_ms,
        waits: receipt.waits.clone().map(Into::into),
    }))
}
