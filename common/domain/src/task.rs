//! One task in the coordinator's hands: the table of moves of a hand-out.
//!
//! Nothing here is stored: after a take-over every task begins anew under a larger epoch, and the shard's checkpoint
//! knows how far it is.

use crate::failure::{ErrorCode, Failure};
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
        /// What went wrong since it last moved.
        setbacks: Setbacks,
    },
    /// A worker has it.
    Leased {
        /// Who.
        worker: WorkerId,
        /// With which right.
        token: Token,
        /// What went wrong since it last moved.
        setbacks: Setbacks,
    },
    /// It is finished.
    Done,
    /// It failed for good.
    Failed(Failure),
}

/// What went wrong with the hand-outs of a task since it last moved.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Setbacks {
    /// How many failed in a row.
    pub failures: u32,
    /// How many ended with the loss of their worker.
    pub losses: u32,
    /// Why the last one failed.
    pub last: Option<Failure>,
}

impl Setbacks {
    /// What a person should know: the last failure, or that workers are lost again and again.
    pub fn trouble(&self) -> Option<&Failure> {
        self.last.as_ref()
    }

    fn failed(self, failure: Failure) -> Self {
        Self { failures: self.failures.saturating_add(1), last: Some(failure), ..self }
    }

    fn lost(self, worker: &WorkerId) -> Self {
        let losses = self.losses.saturating_add(1);
        Self { losses, last: (losses >= LOSSES_TOLD).then(|| lost_again(worker, losses)), ..self }
    }

    /// Given back without fault: a failure is over, lost workers are not forgotten.
    fn released(self) -> Self {
        let last = self.last.filter(|failure| failure.code == ErrorCode::WorkerLost);
        Self { last, ..self }
    }
}

fn lost_again(worker: &WorkerId, losses: u32) -> Failure {
    Failure::new(
        ErrorCode::WorkerLost,
        format!("workers were lost {losses} times in a row during this task, {worker} the last time"),
        "look into that worker's log and memory: a batch may be more than it can hold (batch.max); it is tried again \
         with growing pauses",
    )
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
    /// The worker gave it back without fault: withdrawn, draining, stopped in order.
    Released(Token),
    /// The worker is gone without a word: it died, or nothing is heard of it. Once is no fault of the task's; again and
    /// again may well be.
    Lost {
        /// With which right it ran.
        token: Token,
        /// When it was noticed.
        now: Millis,
    },
}

/// What became of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TaskMove {
    /// The state changed, or the report was welcome.
    Made,
    /// The event speaks of a right that is over; the sender must hear "stale".
    Stale,
}

/// Losses in a row from which on they are told as trouble.
pub const LOSSES_TOLD: u32 = 3;

/// The pause after so many failures in a row: 250 ms doubling to 15 s.
pub fn pause_after(failures: u32) -> Millis {
    const FIRST: Millis = 250;
    const LONGEST: Millis = 15_000;
    FIRST.checked_shl(failures.min(16)).unwrap_or(LONGEST).min(LONGEST)
}

impl TaskState {
    /// A task that may be handed out at once.
    pub fn ready() -> Self {
        TaskState::Waiting { not_before: 0, setbacks: Setbacks::default() }
    }

    /// What a person should know of a task that is not finished.
    pub fn trouble(&self) -> Option<&Failure> {
        match self {
            TaskState::Waiting { setbacks, .. } => setbacks.trouble(),
            // It runs again, but nothing says yet that it gets further than last time.
            TaskState::Leased { setbacks, .. } => {
                setbacks.trouble().filter(|_| setbacks.losses >= LOSSES_TOLD)
            }
            TaskState::Done | TaskState::Failed(_) => None,
        }
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
        let next = match (&*self, event) {
            (TaskState::Waiting { setbacks, .. }, TaskEvent::Assigned { worker, token }) => {
                TaskState::Leased { worker, token, setbacks: setbacks.clone() }
            }
            (TaskState::Leased { worker, token, .. }, TaskEvent::Progressed(seen)) if *token == seen => {
                TaskState::Leased { worker: worker.clone(), token: seen, setbacks: Setbacks::default() }
            }
            (TaskState::Leased { token, .. }, TaskEvent::Finished(seen)) if *token == seen => TaskState::Done,
            (TaskState::Leased { token, setbacks, .. }, TaskEvent::Broke { token: seen, failure, now })
                if *token == seen =>
            {
                broken(setbacks.clone(), failure, now)
            }
            (TaskState::Leased { token, setbacks, .. }, TaskEvent::Released(seen)) if *token == seen => {
                TaskState::Waiting { not_before: 0, setbacks: setbacks.clone().released() }
            }
            (TaskState::Leased { worker, token, setbacks }, TaskEvent::Lost { token: seen, now })
                if *token == seen =>
            {
                // The first one costs nothing: the work of a worker that died is to go on at once.
                let pause = setbacks.losses.checked_sub(1).map_or(0, pause_after);
                let setbacks = setbacks.clone().lost(worker);
                TaskState::Waiting { not_before: now.saturating_add(pause), setbacks }
            }
            _ => return TaskMove::Stale,
        };
        *self = next;
        TaskMove::Made
    }
}

fn broken(setbacks: Setbacks, failure: Failure, now: Millis) -> TaskState {
    if !failure.retryable() {
        return TaskState::Failed(failure);
    }
    let not_before = now.saturating_add(pause_after(setbacks.failures));
    TaskState::Waiting { not_before, setbacks: setbacks.failed(failure) }
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
            TaskState::Leased { worker: worker(), token: token(1), setbacks: Setbacks::default() },
            TaskState::Done,
            TaskState::Failed(failure(ErrorCode::RowRejected)),
        ]
    }

    fn events(seen: Token) -> [TaskEvent; 7] {
        [
            TaskEvent::Assigned { worker: worker(), token: seen },
            TaskEvent::Progressed(seen),
            TaskEvent::Finished(seen),
            TaskEvent::Broke { token: seen, failure: failure(ErrorCode::ShardUnreachable), now: 1000 },
            TaskEvent::Broke { token: seen, failure: failure(ErrorCode::RowRejected), now: 1000 },
            TaskEvent::Released(seen),
            TaskEvent::Lost { token: seen, now: 1000 },
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
        // Columns: assigned, progressed, finished, broke (retry), broke (for good), released, lost. "" is stale.
        let table = [
            ["leased", "", "", "", "", "", ""],
            ["", "leased", "done", "waiting", "failed", "waiting", "waiting"],
            [""; 7],
            [""; 7],
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
            let mut state =
                TaskState::Leased { worker: worker(), token: token(8), setbacks: Setbacks::default() };
            assert_eq!(state.on(event), TaskMove::Stale);
            assert_eq!(state.token(), Some(token(8)));
        }
    }

    /// Hands the task out and loses its worker; answers the pause until the next hand-out.
    fn lose(state: &mut TaskState, attempt: u32) -> Millis {
        assert_eq!(state.on(TaskEvent::Assigned { worker: worker(), token: token(attempt) }), TaskMove::Made);
        assert_eq!(state.on(TaskEvent::Lost { token: token(attempt), now: 1000 }), TaskMove::Made);
        match state {
            TaskState::Waiting { not_before, .. } => *not_before - 1000,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_task_whose_workers_are_lost_waits_longer_each_time_and_says_so() {
        let mut state = TaskState::ready();
        let pauses: Vec<Millis> = (1..=5).map(|attempt| lose(&mut state, attempt)).collect();
        assert_eq!(pauses, [0, 250, 500, 1000, 2000]);
        let told = state.trouble().expect("it is told").clone();
        assert!(told.code == ErrorCode::WorkerLost && told.message.contains("5 times"), "{told:?}");
        state.on(TaskEvent::Assigned { worker: worker(), token: token(6) });
        assert_eq!(state.trouble(), Some(&told), "it runs, but may die again");
        state.on(TaskEvent::Released(token(6)));
        assert_eq!(state.trouble(), Some(&told), "nobody knows yet whether it is over");
        state.on(TaskEvent::Assigned { worker: worker(), token: token(7) });
        state.on(TaskEvent::Progressed(token(7)));
        assert_eq!(state.trouble(), None, "it moves");
        assert_eq!(lose(&mut TaskState::ready(), 1), 0, "one loss is no fault of the task's");
    }

    #[test]
    fn a_failure_is_trouble_while_the_task_waits_only() {
        let mut state =
            TaskState::Leased { worker: worker(), token: token(1), setbacks: Setbacks::default() };
        let failure = failure(ErrorCode::ShardUnreachable);
        state.on(TaskEvent::Broke { token: token(1), failure: failure.clone(), now: 0 });
        assert_eq!(state.trouble(), Some(&failure));
        state.on(TaskEvent::Assigned { worker: worker(), token: token(2) });
        assert_eq!(state.trouble(), None);
    }

    #[test]
    fn pauses_grow_and_are_bounded() {
        assert_eq!(pause_after(0), 250);
        assert_eq!(pause_after(3), 2000);
        assert_eq!(pause_after(6), 15_000);
        assert_eq!(pause_after(u32::MAX), 15_000);
    }
}
