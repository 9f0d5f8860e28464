//! One task in the coordinator's hands: the table of moves of a hand-out.
//!
//! Nothing here is stored: after a take-over every task begins anew under a larger epoch, and the shard's checkpoint
//! knows how far it is.

use crate::failure::Failure;
use crate::fence::Token;
use crate::ids::WorkerId;

/// Milliseconds of a monotonic clock, given by the caller.
pub type Millis = u64;

/// Where one task stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TaskState {
    /// Nobody has it.
    Waiting {
        /// Not before this time: the pause after a failure.
        not_before: Millis,
        /// How many hand-outs failed in a row.
        failures: u32,
        /// Why the last one failed.
        last: Option<Failure>,
    },
    /// A worker has it.
    Leased {
        /// Who.
        worker: WorkerId,
        /// With which right.
        token: Token,
        /// How many hand-outs failed in a row before this one.
        failures: u32,
    },
    /// It is finished.
    Done,
    /// It failed for good.
    Failed(Failure),
}

/// All that can move a task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TaskEvent {
    /// The scheduler gives it to a worker.
    Assigned {
        /// To whom.
        worker: WorkerId,
        /// With which right.
        token: Token,
    },
    /// The worker reports progress: it works.
    Progressed(Token),
    /// The worker finished it.
    Finished(Token),
    /// The worker failed.
    Broke {
        /// With which right it ran.
        token: Token,
        /// Why.
        failure: Failure,
        /// When it happened.
        now: Millis,
    },
    /// The worker gave it back without fault (withdrawn, draining), or is gone.
    Released(Token),
}

/// What became of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TaskMove {
    /// The state changed, or the report was welcome.
    Made,
    /// The event speaks of a right that is over; the sender must hear "stale".
    Stale,
}

/// The pause after so many failures in a row: 250 ms doubling to 15 s.
pub fn pause_after(failures: u32) -> Millis {
    const FIRST: Millis = 250;
    const LONGEST: Millis = 15_000;
    FIRST.checked_shl(failures.min(16)).unwrap_or(LONGEST).min(LONGEST)
}

impl TaskState {
    /// A task that may be handed out at once.
    pub fn ready() -> Self {
        TaskState::Waiting { not_before: 0, failures: 0, last: None }
    }

    /// The word for people and metrics.
    pub fn as_str(&self) -> &'static str {
        match self {
            TaskState::Waiting { .. } => "waiting",
            TaskState::Leased { .. } => "leased",
            TaskState::Done => "done",
            TaskState::Failed(_) => "failed",
        }
    }

    /// The right under which it runs now.
    pub fn token(&self) -> Option<Token> {
        match self {
            TaskState::Leased { token, .. } => Some(*token),
            _ => None,
        }
    }

    /// The one table of moves. Events of an old right are stale whatever they say.
    pub fn on(&mut self, event: TaskEvent) -> TaskMove {
        let (next, made) = match (&*self, event) {
            (TaskState::Waiting { failures, .. }, TaskEvent::Assigned { worker, token }) => {
                (TaskState::Leased { worker, token, failures: *failures }, TaskMove::Made)
            }
            (TaskState::Leased { worker, token, .. }, TaskEvent::Progressed(seen)) if *token == seen => {
                (TaskState::Leased { worker: worker.clone(), token: seen, failures: 0 }, TaskMove::Made)
            }
            (TaskState::Leased { token, .. }, TaskEvent::Finished(seen)) if *token == seen => {
                (TaskState::Done, TaskMove::Made)
            }
            (TaskState::Leased { token, failures, .. }, TaskEvent::Broke { token: seen, failure, now })
                if *token == seen =>
            {
                (broken(*failures, failure, now), TaskMove::Made)
            }
            (TaskState::Leased { token, failures, .. }, TaskEvent::Released(seen)) if *token == seen => {
                (TaskState::Waiting { not_before: 0, failures: *failures, last: None }, TaskMove::Made)
            }
            _ => return TaskMove::Stale,
        };
        *self = next;
        made
    }
}

fn broken(failures: u32, failure: Failure, now: Millis) -> TaskState {
    if !failure.retryable() {
        return TaskState::Failed(failure);
    }
    TaskState::Waiting {
        not_before: now.saturating_add(pause_after(failures)),
        failures: failures.saturating_add(1),
        last: Some(failure),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::ErrorCode;
    use crate::fence::{Attempt, Epoch};

    fn token(attempt: u32) -> Token {
        Token { epoch: Epoch(1), attempt: Attempt(attempt) }
    }

    fn worker() -> WorkerId {
        WorkerId::new("w").expect("a name")
    }

    fn failure(code: ErrorCode) -> Failure {
        Failure::new(code, "broke", "mend")
    }

    fn states() -> [TaskState; 4] {
        [
            TaskState::ready(),
            TaskState::Leased { worker: worker(), token: token(1), failures: 2 },
            TaskState::Done,
            TaskState::Failed(failure(ErrorCode::RowRejected)),
        ]
    }

    fn events(seen: Token) -> [TaskEvent; 6] {
        [
            TaskEvent::Assigned { worker: worker(), token: seen },
            TaskEvent::Progressed(seen),
            TaskEvent::Finished(seen),
            TaskEvent::Broke { token: seen, failure: failure(ErrorCode::ShardUnreachable), now: 1000 },
            TaskEvent::Broke { token: seen, failure: failure(ErrorCode::RowRejected), now: 1000 },
            TaskEvent::Released(seen),
        ]
    }

    fn name(state: &TaskState) -> &'static str {
        match state {
            TaskState::Waiting { .. } => "waiting",
            TaskState::Leased { .. } => "leased",
            TaskState::Done => "done",
            TaskState::Failed(_) => "failed",
        }
    }

    #[test]
    fn every_event_in_every_state_does_what_the_table_says() {
        // Columns: assigned, progressed, finished, broke (retry), broke (for good), released. "" is stale.
        let table = [
            ["leased", "", "", "", "", ""],
            ["", "leased", "done", "waiting", "failed", "waiting"],
            [""; 6],
            [""; 6],
        ];
        for (state, row) in states().into_iter().zip(table) {
            for (event, expected) in events(token(1)).into_iter().zip(row) {
                let mut after = state.clone();
                let made = after.on(event.clone());
                if expected.is_empty() {
                    assert_eq!((made, &after), (TaskMove::Stale, &state), "{event:?}");
                } else {
                    assert_eq!((made, name(&after)), (TaskMove::Made, expected), "{event:?}");
                }
            }
        }
    }

    #[test]
    fn an_old_right_is_stale_whatever_it_says() {
        for event in events(token(7)).into_iter().skip(1) {
            let mut state = TaskState::Leased { worker: worker(), token: token(8), failures: 0 };
            assert_eq!(state.on(event), TaskMove::Stale);
            assert_eq!(state.token(), Some(token(8)));
        }
    }

    #[test]
    fn pauses_grow_and_are_bounded() {
        assert_eq!(pause_after(0), 250);
        assert_eq!(pause_after(3), 2000);
        assert_eq!(pause_after(6), 15_000);
        assert_eq!(pause_after(u32::MAX), 15_000);
    }
}
