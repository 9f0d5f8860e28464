//! What can happen next, and what must hold.

use shardlift_domain::fence::{Epoch, Fence, FenceVerdict};
use stateright::{Model, Property};

use crate::coordinator::{Coordinator, Leader, Task};
use crate::healing;
use crate::worker::Worker;
use crate::world::{Message, Offence, RANGES, Seat, World};

/// How large the world is, and what is wrong with it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    pub(crate) coordinators: usize,
    pub(crate) workers: usize,
    pub(crate) rows: u8,
    /// Take-overs.
    pub(crate) reigns: u8,
    /// Hand-outs of each leader.
    pub(crate) attempts: u32,
    /// The store may be restored from an older copy, once.
    pub(crate) restore: bool,
    /// An owner may split its range.
    pub(crate) split: bool,
    /// A mistake that was made on purpose.
    pub(crate) bug: Option<Bug>,
}

/// Mistakes that the model must find.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bug {
    /// A batch does not ask whether its claim still holds.
    BatchWithoutCondition,
    /// A take-over draws no nonce.
    NoNonce,
    /// A write to the store reads the fence, but does not keep take-overs waiting.
    WriteBesideTakeOver,
    /// Somebody who does not own a range splits it.
    SplitByAnybody,
    /// A leader that a shard refuses leads on, instead of rising above what the shard has seen.
    LeadsOn,
}

/// One step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Elect(Seat),
    WipeEtcd,
    Look(Seat),
    Confirm(Seat),
    TakeOver(Seat),
    HearFence(Seat),
    HandOut(Seat, usize, usize),
    Lose(Seat, usize),
    Deliver(Message),
    DeliverTo(Seat, Message),
    Sweep(Seat),
    BeginWrite(Seat),
    EndWrite(Seat),
    CrashCoordinator(Seat),
    BackUp,
    Restore,
    ShowLeader(usize),
    Claim(usize),
    OpenBatch(usize),
    SendCommit(usize),
    Execute(usize),
    HearCommit(usize),
    BreakOff(usize),
    CrashWorker(usize),
    EndBatch(usize),
    EndWriteOf(Seat),
    Split(usize),
    SplitByAnybody(usize),
}

impl Bounds {
    /// Makes one step; `None` when it cannot be made now.
    pub(crate) fn step(&self, world: &mut World, step: Step) -> Option<()> {
        let bug = self.bug;
        match step {
            Step::Elect(seat) => world.elected = Some(seat),
            Step::WipeEtcd => world.elected = None,
            Step::Look(seat) => world.look(seat)?,
            Step::Confirm(seat) => world.confirm(seat)?,
            Step::TakeOver(seat) => world.take_over(seat, bug)?,
            Step::HearFence(seat) => world.hear_fence(seat, bug)?,
            Step::HandOut(seat, range, worker) => world.hand_out(seat, range, worker)?,
            Step::Lose(seat, range) => world.lose(seat, range)?,
            Step::Deliver(Message::Assign { to, lease }) => world.accept(to, lease)?,
            Step::DeliverTo(seat, Message::Finished { range, token }) => {
                world.hear_finished(seat, range, token)?
            }
            Step::Deliver(_) | Step::DeliverTo(..) => return None,
            Step::Sweep(seat) => world.sweep(seat)?,
            Step::BeginWrite(seat) => world.begin_write(seat, bug)?,
            Step::EndWrite(seat) => world.end_write(seat, bug)?,
            Step::CrashCoordinator(seat) => world.step_down(seat, Epoch::NONE),
            Step::BackUp => world.backup = Some(world.store.copy()),
            Step::Restore => {
                world.store.restore(world.backup.take()?);
                world.restored = true;
            }
            Step::ShowLeader(worker) => world.show_leader(worker)?,
            Step::Claim(worker) => world.claim_range(worker)?,
            Step::OpenBatch(worker) => world.open_batch(worker, bug)?,
            Step::SendCommit(worker) => world.send_commit(worker)?,
            Step::Execute(range) => world.execute(range),
            Step::HearCommit(worker) => world.hear_commit(worker)?,
            Step::BreakOff(worker) => world.break_off(worker)?,
            Step::CrashWorker(worker) => world.workers[worker] = Worker::Idle,
            Step::EndBatch(range) => world.shard.ranges[range].batch = None,
            Step::EndWriteOf(_) => world.store.writing = None,
            Step::Split(worker) => world.split_own(worker)?,
            Step::SplitByAnybody(range) => {
                world.cut(range)?;
            }
        }
        Some(())
    }

    fn of_coordinator(&self, world: &World, seat: Seat, steps: &mut Vec<Step>) {
        match &world.coordinators[seat] {
            Coordinator::Follower { .. } if world.reigns < self.reigns => steps.push(Step::Look(seat)),
            Coordinator::Follower { .. } => {}
            Coordinator::Looked { .. } => {
                if world.elected != Some(seat) {
                    steps.push(Step::Elect(seat));
                }
                steps.extend([Step::Confirm(seat), Step::CrashCoordinator(seat)]);
            }
            Coordinator::Confirmed { .. } => {
                if world.reigns < self.reigns {
                    steps.push(Step::TakeOver(seat));
                }
                steps.push(Step::CrashCoordinator(seat));
            }
            Coordinator::Leader(leader) => self.of_leader(world, seat, leader, steps),
        }
    }

    fn of_leader(&self, world: &World, seat: Seat, leader: &Leader, steps: &mut Vec<Step>) {
        for range in 0..RANGES {
            match leader.tasks[range] {
                Some(Task::Waiting) if leader.attempts < self.attempts => {
                    steps.extend((0..self.workers).map(|worker| Step::HandOut(seat, range, worker)));
                }
                Some(Task::Leased { .. }) => steps.push(Step::Lose(seat, range)),
                Some(Task::Waiting | Task::Done) | None => {}
            }
        }
        steps.extend([Step::HearFence(seat), Step::Sweep(seat), Step::CrashCoordinator(seat)]);
        if leader.saving {
            steps.push(Step::EndWrite(seat));
        } else if leader.swept || rivals(world, seat) {
            steps.push(Step::BeginWrite(seat));
        }
        let finished = world.mail.iter().filter(|message| matches!(message, Message::Finished { .. }));
        steps.extend(finished.map(|message| Step::DeliverTo(seat, *message)));
    }

    fn of_worker(&self, world: &World, worker: usize, steps: &mut Vec<Step>) {
        let mine = |message: &&Message| matches!(message, Message::Assign { to, .. } if *to == worker);
        steps.extend(world.mail.iter().filter(mine).map(|message| Step::Deliver(*message)));
        match world.workers[worker] {
            Worker::Idle => return,
            Worker::Claiming { raised: false, .. } => steps.push(Step::ShowLeader(worker)),
            Worker::Claiming { raised: true, .. } => steps.push(Step::Claim(worker)),
            Worker::Holding { .. } => {
                steps.push(Step::OpenBatch(worker));
                if self.split {
                    steps.push(Step::Split(worker));
                }
            }
            Worker::Batch { sent: false, .. } => {
                steps.extend([Step::SendCommit(worker), Step::BreakOff(worker)]);
            }
            Worker::Batch { sent: true, .. } => {
                steps.extend([Step::HearCommit(worker), Step::BreakOff(worker)]);
            }
        }
        steps.push(Step::CrashWorker(worker));
    }

    fn of_servers(&self, world: &World, steps: &mut Vec<Step>) {
        for (number, range) in world.shard.ranges.iter().enumerate() {
            if let Some(batch) = range.batch {
                // A time limit of the server, or the next owner, ends it; or its commit arrives.
                steps.push(Step::EndBatch(number));
                if batch.sent {
                    steps.push(Step::Execute(number));
                }
            } else if self.bug == Some(Bug::SplitByAnybody) {
                steps.push(Step::SplitByAnybody(number));
            }
        }
        if let Some(seat) = world.store.writing {
            steps.push(Step::EndWriteOf(seat));
        }
        // Who is elected is of interest only to those who are about to ask.
        let asks = |coordinator: &Coordinator| matches!(coordinator, Coordinator::Looked { .. });
        if world.elected.is_some() && world.coordinators.iter().any(asks) {
            steps.push(Step::WipeEtcd);
        }
        if self.restore && !world.restored {
            steps.push(if world.backup.is_some() { Step::Restore } else { Step::BackUp });
        }
    }
}

impl Model for Bounds {
    type State = World;
    type Action = Step;

    fn init_states(&self) -> Vec<World> {
        vec![World::new(self)]
    }

    fn actions(&self, world: &World, steps: &mut Vec<Step>) {
        (0..self.coordinators).for_each(|seat| self.of_coordinator(world, seat, steps));
        (0..self.workers).for_each(|worker| self.of_worker(world, worker, steps));
        self.of_servers(world, steps);
    }

    fn next_state(&self, world: &World, step: Step) -> Option<World> {
        let mut next = world.clone();
        self.step(&mut next, step)?;
        (next != *world).then_some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(EXACTLY_ONCE, |_, world: &World| {
                world.shard.applied.iter().all(|times| *times <= 1)
            }),
            Property::always(NEVER_FALSELY_DONE, |_, world: &World| {
                !world.store.completed || world.shard.applied.iter().all(|times| *times == 1)
            }),
            Property::always(STORE_IS_FENCED, |_, world: &World| {
                !world.offences.contains(&Offence::StoreTookOldWrite)
            }),
            Property::always(SHARD_IS_FENCED, |_, world: &World| {
                !world.offences.contains(&Offence::ShardTookLowerEpoch)
                    && !world.offences.contains(&Offence::ShardTookReusedEpoch)
            }),
            Property::always(ENDS_WHEN_FAULTS_CEASE, |bounds: &Bounds, world: &World| {
                healing::ends(bounds, world)
            }),
            Property::sometimes(COMPLETED, |_, world: &World| world.store.completed),
            Property::sometimes(ZOMBIE_LEADER, |_, world: &World| {
                let leads = |coordinator: &&Coordinator| matches!(coordinator, Coordinator::Leader(_));
                world.coordinators.iter().filter(leads).count() > 1
            }),
            Property::sometimes(ZOMBIE_WORKER, |_, world: &World| {
                world.workers.iter().any(|worker| lost(world, worker))
            }),
            Property::sometimes(SPLIT, |_, world: &World| world.shard.ranges.len() == RANGES),
            Property::sometimes(FORKED, |_, world: &World| {
                world.coordinators.iter().any(|who| forked(world, who))
            }),
        ]
    }
}

/// P1.
pub(crate) const EXACTLY_ONCE: &str = "P1: no row is changed twice";
/// P1, P6.
pub(crate) const NEVER_FALSELY_DONE: &str = "P1: every row is changed when it is said to be done";
/// P2.
pub(crate) const STORE_IS_FENCED: &str = "P2: the store takes writes of its newest leader only";
/// P2.
pub(crate) const SHARD_IS_FENCED: &str =
    "P2: the shard never goes back, and takes an epoch from one leader only";
/// Nothing that faults do is a dead end.
pub(crate) const ENDS_WHEN_FAULTS_CEASE: &str = "it ends when faults cease";
/// The model is not empty.
pub(crate) const COMPLETED: &str = "a migration is completed";
/// The faults that it is about do happen.
pub(crate) const ZOMBIE_LEADER: &str = "two coordinators take themselves for the leader";
/// The same.
pub(crate) const ZOMBIE_WORKER: &str = "a worker has a transaction open while its range is another's";
/// The same; only where owners split.
pub(crate) const SPLIT: &str = "a range is split";
/// The same; only where a store is restored.
pub(crate) const FORKED: &str = "a shard has seen another leader of the same epoch";

/// Whether somebody else may take over or has: without that a write of progress changes nothing that could be seen.
fn rivals(world: &World, seat: Seat) -> bool {
    let mut others = world.coordinators.iter().enumerate().filter(|(other, _)| *other != seat);
    others.any(|(_, other)| matches!(other, Coordinator::Confirmed { .. } | Coordinator::Leader(_)))
}

fn lost(world: &World, worker: &Worker) -> bool {
    match worker {
        Worker::Batch { lease, held, .. } => world.shard.ranges[lease.range].claim != held.claim,
        _ => false,
    }
}

fn forked(world: &World, who: &Coordinator) -> bool {
    let Coordinator::Leader(leader) = who else { return false };
    let seen = world.shard.fence.map(|seen| seen.fence());
    Fence::judge(seen.as_ref(), &leader.seal.fence()) == FenceVerdict::Forked
}
