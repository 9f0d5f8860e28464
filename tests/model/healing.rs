//! What happens from any state when no fault happens any more: the run must end. It is the fair schedule that a checker of
//! safety lacks: one coordinator is elected and stays it, one worker works, messages arrive.

use crate::coordinator::{Coordinator, Task};
use crate::model::{Bounds, Step};
use crate::world::{Message, Seat, World};

/// Enough for two leaderships and a walk over all rows.
const STEPS: usize = 80;
/// Who leads and who works from now on.
const SEAT: Seat = 0;
const WORKER: usize = 0;

/// Whether the migration is completed from here.
pub(crate) fn ends(bounds: &Bounds, world: &World) -> bool {
    let mut world = world.clone();
    // What hangs on a dead or paused process ends by the servers' time limits.
    world.store.writing = None;
    world.shard.ranges.iter_mut().for_each(|range| range.batch = None);
    bounds.step(&mut world, Step::CrashWorker(WORKER));
    for _ in 0..STEPS {
        world.elected = Some(SEAT);
        if world.store.completed {
            return true;
        }
        if !next(bounds, &mut world) {
            return false;
        }
    }
    false
}

/// The next step that leads on. `false`: there is none.
fn next(bounds: &Bounds, world: &mut World) -> bool {
    let steps = [
        Step::HearFence(SEAT),
        Step::Look(SEAT),
        Step::Confirm(SEAT),
        Step::TakeOver(SEAT),
        Step::ShowLeader(WORKER),
        Step::Claim(WORKER),
        Step::OpenBatch(WORKER),
        Step::SendCommit(WORKER),
    ];
    if steps.into_iter().any(|step| bounds.step(world, step).is_some()) {
        return true;
    }
    for range in 0..world.shard.ranges.len() {
        if world.shard.ranges[range].batch.is_some() {
            return bounds.step(world, Step::Execute(range)).is_some();
        }
    }
    bounds.step(world, Step::HearCommit(WORKER)).is_some() || lead(bounds, world)
}

/// What the leader does when its worker is idle.
fn lead(bounds: &Bounds, world: &mut World) -> bool {
    let finished = world.mail.iter().copied().filter(|message| matches!(message, Message::Finished { .. }));
    let finished: Vec<_> = finished.collect();
    if finished.into_iter().any(|message| bounds.step(world, Step::DeliverTo(SEAT, message)).is_some()) {
        return true;
    }
    let Coordinator::Leader(leader) = &world.coordinators[SEAT] else { return false };
    let (saving, swept) = (leader.saving, leader.swept);
    let tasks = leader.tasks;
    for (range, task) in tasks.into_iter().enumerate() {
        match task {
            Some(Task::Leased { .. }) => return bounds.step(world, Step::Lose(SEAT, range)).is_some(),
            Some(Task::Waiting) => return hand_out(bounds, world, range),
            Some(Task::Done) | None => {}
        }
    }
    if saving {
        return bounds.step(world, Step::EndWrite(SEAT)).is_some();
    }
    // A leader that has nothing to do learns with its next write that the store was restored beneath it.
    let idle = tasks[0].is_none();
    let step = if swept || idle { Step::BeginWrite(SEAT) } else { Step::Sweep(SEAT) };
    bounds.step(world, step).is_some()
}

/// Hands a range out and delivers this newest hand-out.
fn hand_out(bounds: &Bounds, world: &mut World, range: usize) -> bool {
    let before = world.mail.clone();
    if bounds.step(world, Step::HandOut(SEAT, range, WORKER)).is_none() {
        return false;
    }
    let newest: Vec<_> = world.mail.difference(&before).copied().collect();
    newest.into_iter().any(|message| bounds.step(world, Step::Deliver(message)).is_some())
}
