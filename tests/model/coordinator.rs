//! What a coordinator can do. Each function is one step; between two steps it may be paused for as long as you like.

use shardlift_domain::failure::Failure;
use shardlift_domain::fence::{Attempt, Epoch, Fence, FenceVerdict, Token};
use shardlift_domain::ids::WorkerId;
use shardlift_domain::task::{Setbacks, TaskEvent, TaskMove, TaskState};

use crate::model::Bug;
use crate::world::{Lease, Message, Offence, RANGES, Seal, Seat, World};

/// Where a coordinator stands.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Coordinator {
    /// Does not lead; `above`: what a shard has shown to it.
    Follower { above: Epoch },
    /// Has read the store's fence.
    Looked { above: Epoch, seen: Seal },
    /// Has asked etcd afterwards: its key leads, or led a moment ago.
    Confirmed { above: Epoch, seen: Seal },
    /// Has taken over; whether it still leads only the databases know.
    Leader(Leader),
}

/// What only a leader owns.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Leader {
    pub(crate) seal: Seal,
    pub(crate) tasks: [Option<Task>; RANGES],
    pub(crate) attempts: u32,
    /// It has seen every range done.
    pub(crate) swept: bool,
    /// It has begun a write to the store.
    pub(crate) saving: bool,
}

/// The product's `TaskState`, as far as it can be hashed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Task {
    Waiting,
    Leased { worker: usize, token: Token },
    Done,
}

impl Task {
    /// The product's own move.
    fn on(&mut self, event: TaskEvent) -> TaskMove {
        let mut state = match *self {
            Task::Waiting => TaskState::ready(),
            Task::Leased { worker, token } => {
                TaskState::Leased { worker: name(worker), token, setbacks: Setbacks::default() }
            }
            Task::Done => TaskState::Done,
        };
        let made = state.on(event);
        *self = match state {
            TaskState::Waiting { .. } => Task::Waiting,
            TaskState::Leased { worker, token, .. } => Task::Leased { worker: number(&worker), token },
            TaskState::Done => Task::Done,
            TaskState::Failed(failure) => unreachable_failure(&failure),
        };
        made
    }
}

fn unreachable_failure(failure: &Failure) -> Task {
    panic!("nothing fails for good in this model: {failure}")
}

fn name(worker: usize) -> WorkerId {
    WorkerId::new(format!("w{worker}")).expect("a name")
}

fn number(worker: &WorkerId) -> usize {
    worker.as_str().trim_start_matches('w').parse().expect("made by `name`")
}

impl World {
    /// Reads the fence row of the store.
    pub(crate) fn look(&mut self, seat: Seat) -> Option<()> {
        let Coordinator::Follower { above } = self.coordinators[seat] else { return None };
        self.coordinators[seat] = Coordinator::Looked { above, seen: self.store.fence };
        Some(())
    }

    /// Asks etcd, linearizably, whether its key leads.
    pub(crate) fn confirm(&mut self, seat: Seat) -> Option<()> {
        let Coordinator::Looked { above, seen } = self.coordinators[seat] else { return None };
        self.coordinators[seat] = if self.elected == Some(seat) {
            Coordinator::Confirmed { above, seen }
        } else {
            Coordinator::Follower { above }
        };
        if !self.coordinators.iter().any(|other| matches!(other, Coordinator::Looked { .. })) {
            // Nobody will ask before the next election.
            self.elected = None;
        }
        Some(())
    }

    /// Compares the fence with what it saw and sets it to a higher epoch, then reads the ranges from the shard.
    pub(crate) fn take_over(&mut self, seat: Seat, bug: Option<Bug>) -> Option<()> {
        let Coordinator::Confirmed { above, seen } = self.coordinators[seat] else { return None };
        // Somebody's open transaction shares the row: the take-over waits.
        if self.store.writing.is_some() {
            return None;
        }
        if !self.store.fence.same(&seen) {
            self.coordinators[seat] = Coordinator::Follower { above };
            return Some(());
        }
        self.reigns += 1;
        let nonce = if bug == Some(Bug::NoNonce) { 0 } else { self.reigns };
        let seal = Seal { epoch: seen.epoch.max(above).next(), nonce, reign: self.reigns };
        self.store.fence = seal;
        let mut leader = Leader { seal, tasks: [None; RANGES], attempts: 0, swept: false, saving: false };
        if !self.store.completed {
            self.learn(&mut leader);
        }
        self.coordinators[seat] = Coordinator::Leader(leader);
        Some(())
    }

    /// Wants every range that the shard has.
    fn learn(&self, leader: &mut Leader) {
        for task in leader.tasks.iter_mut().take(self.shard.ranges.len()) {
            task.get_or_insert(Task::Waiting);
        }
    }

    fn leader(&self, seat: Seat) -> Option<Leader> {
        match &self.coordinators[seat] {
            Coordinator::Leader(leader) => Some(leader.clone()),
            _ => None,
        }
    }

    /// A worker's hello tells what the shard has seen: a leader that is not the newest there steps down.
    pub(crate) fn hear_fence(&mut self, seat: Seat, bug: Option<Bug>) -> Option<()> {
        let leader = self.leader(seat)?;
        let seen = self.shard.fence?;
        let verdict = Fence::judge(Some(&seen.fence()), &leader.seal.fence());
        if verdict == FenceVerdict::Admitted || bug == Some(Bug::LeadsOn) {
            return None;
        }
        self.step_down(seat, seen.epoch);
        Some(())
    }

    /// Whatever ends a leadership, a crash among it: nothing of the leader is left, and its open transaction ends.
    pub(crate) fn step_down(&mut self, seat: Seat, above: Epoch) {
        if self.store.writing == Some(seat) {
            self.store.writing = None;
        }
        self.coordinators[seat] = Coordinator::Follower { above };
    }

    /// Hands a waiting range out.
    pub(crate) fn hand_out(&mut self, seat: Seat, range: usize, to: usize) -> Option<()> {
        let mut leader = self.leader(seat)?;
        leader.attempts += 1;
        let lease = Lease { range, leader: leader.seal, attempt: Attempt(leader.attempts) };
        let event = TaskEvent::Assigned { worker: name(to), token: lease.token() };
        if leader.tasks[range].as_mut()?.on(event) == TaskMove::Stale {
            return None;
        }
        self.mail.insert(Message::Assign { to, lease });
        self.coordinators[seat] = Coordinator::Leader(leader);
        Some(())
    }

    /// The worker of a range was silent for too long, or gave it back. Pauses are time, which this model has none of.
    pub(crate) fn lose(&mut self, seat: Seat, range: usize) -> Option<()> {
        let mut leader = self.leader(seat)?;
        let task = leader.tasks[range].as_mut()?;
        let Task::Leased { token, .. } = *task else { return None };
        task.on(TaskEvent::Lost { token, now: 0 });
        self.coordinators[seat] = Coordinator::Leader(leader);
        Some(())
    }

    /// A range is said to be done.
    pub(crate) fn hear_finished(&mut self, seat: Seat, range: usize, token: Token) -> Option<()> {
        let mut leader = self.leader(seat)?;
        let made = leader.tasks[range].as_mut()?.on(TaskEvent::Finished(token));
        self.coordinators[seat] = Coordinator::Leader(leader);
        (made == TaskMove::Made).then_some(())
    }

    /// Every range that it knows is done: the shard is searched again.
    pub(crate) fn sweep(&mut self, seat: Seat) -> Option<()> {
        let mut leader = self.leader(seat)?;
        let known = leader.tasks.iter().flatten();
        if leader.swept || leader.tasks[0].is_none() || !known.clone().all(|task| *task == Task::Done) {
            return None;
        }
        leader.swept = self.shard.ranges.iter().all(|range| range.done);
        if !leader.swept {
            self.learn(&mut leader);
        }
        self.coordinators[seat] = Coordinator::Leader(leader);
        Some(())
    }

    /// Begins a write to the store: compares the fence with its permit, and keeps take-overs waiting until it ends.
    pub(crate) fn begin_write(&mut self, seat: Seat, bug: Option<Bug>) -> Option<()> {
        let mut leader = self.leader(seat)?;
        if leader.saving || self.store.writing.is_some() {
            return None;
        }
        if !self.store.fence.same(&leader.seal) {
            self.step_down(seat, Epoch::NONE);
            return Some(());
        }
        leader.saving = true;
        if bug != Some(Bug::WriteBesideTakeOver) {
            self.store.writing = Some(seat);
        }
        self.coordinators[seat] = Coordinator::Leader(leader);
        Some(())
    }

    /// Commits what it has begun to write, unless the server has ended the transaction meanwhile.
    pub(crate) fn end_write(&mut self, seat: Seat, bug: Option<Bug>) -> Option<()> {
        let mut leader = self.leader(seat)?;
        if !leader.saving {
            return None;
        }
        if self.store.writing != Some(seat) && bug != Some(Bug::WriteBesideTakeOver) {
            self.step_down(seat, Epoch::NONE);
            return Some(());
        }
        if leader.seal != self.store.fence {
            self.offences.insert(Offence::StoreTookOldWrite);
        }
        self.store.writing = None;
        self.store.completed |= leader.swept;
        leader.saving = false;
        if self.store.completed {
            leader.tasks = [None; RANGES];
        }
        self.coordinators[seat] = Coordinator::Leader(leader);
        Some(())
    }
}
