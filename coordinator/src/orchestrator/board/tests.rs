//! The tasks and who has them: each test is a sentence.

use super::*;
use shardlift_domain::failure::{ErrorCode, Failure};
use shardlift_domain::ids::{MigrationId, Version};
use shardlift_domain::range::{RangeState, RangeTotals};

fn key(id: &str) -> MigrationKey {
    MigrationKey { id: MigrationId::new(id).expect("a name"), version: Version::FIRST }
}

fn shard(name: &str) -> ShardId {
    ShardId::new(name).expect("a name")
}

fn worker(name: &str) -> WorkerId {
    WorkerId::new(name).expect("a name")
}

fn task(on: &str, range: u32) -> TaskId {
    TaskId { migration: key("m"), shard: shard(on), step: Step::Backfill, range: Some(range) }
}

fn range(index: u32, done: bool) -> RangeState {
    RangeState { index, rows: 0, seen: 0, batches: 0, done }
}

fn pass(done: &[bool]) -> Pass {
    let ranges = (0..).zip(done).map(|(index, done)| range(index, *done)).collect();
    Pass { number: 1, ranges, before: RangeTotals::default() }
}

/// The pace of one of so many ranges.
fn shared(sharers: u32) -> Pace {
    Pace { sharers, throttle: None }
}

fn want(board: &mut Board, on: &str, ranges: &[u32]) -> Vec<Held> {
    let wanted = ranges.iter().map(|range| Wanted { task: task(on, *range), limit: 2 }).collect();
    board.reconcile(&key("m"), Some(&shard(on)), wanted)
}

fn ready(board: &mut Board, now: Millis) -> Vec<TaskId> {
    board.look(now);
    let shards: Vec<ShardId> = board.ready_shards().cloned().collect();
    shards.iter().flat_map(|shard| board.ready(shard).map(|ready| ready.task).collect::<Vec<_>>()).collect()
}

fn receipt(index: u32) -> Receipt {
    Receipt { range: range(index, false), batch_size: 10, rows_per_second: 100.0, batch_ms: 1.0, waits: None }
}

#[test]
fn what_is_handed_out_is_held_until_it_ends_and_ready_again_when_it_is_given_back() {
    let mut board = Board::new(Epoch(1));
    want(&mut board, "a", &[0, 1]);
    want(&mut board, "b", &[0]);
    assert_eq!(ready(&mut board, 0), [task("a", 0), task("a", 1), task("b", 0)]);
    let token = board.hand_out(&task("a", 0), &worker("w"), shared(2), 0).expect("it waits");
    assert_eq!(board.hand_out(&task("a", 0), &worker("v"), shared(2), 0), None, "it was given to two");
    assert_eq!((board.busy(&worker("w")), board.held().len()), (1, 1));
    assert_eq!(ready(&mut board, 0), [task("a", 1), task("b", 0)]);
    assert_eq!(board.ready(&shard("a")).map(|ready| ready.running).collect::<Vec<_>>(), [1]);
    assert_eq!(board.on(&task("a", 0), TaskEvent::Released(token)), TaskMove::Made);
    assert_eq!((board.busy(&worker("w")), board.held().len()), (0, 0));
    assert_eq!(ready(&mut board, 0).len(), 3);
}

#[test]
fn one_shard_is_reconciled_without_touching_the_others() {
    let mut board = Board::new(Epoch(1));
    want(&mut board, "a", &[0, 1]);
    want(&mut board, "b", &[0]);
    let token = board.hand_out(&task("a", 0), &worker("w"), shared(2), 0).expect("it waits");
    let unwanted = want(&mut board, "a", &[]);
    assert_eq!(unwanted, [Held { task: task("a", 0), worker: worker("w"), token }]);
    assert!(want(&mut board, "a", &[]).is_empty(), "it is withdrawn once");
    assert_eq!(ready(&mut board, 0), [task("b", 0)]);
    board.on(&task("a", 0), TaskEvent::Finished(token));
    assert_eq!((board.busy(&worker("w")), ready(&mut board, 0)), (0, vec![task("b", 0)]));
    assert_eq!(board.on(&task("a", 0), TaskEvent::Finished(token)), TaskMove::Stale);
}

#[test]
fn a_worker_that_is_lost_again_and_again_gets_its_task_later_each_time() {
    let mut board = Board::new(Epoch(1));
    want(&mut board, "a", &[0]);
    for due in [0, 0, 250, 750] {
        assert!(due == 0 || ready(&mut board, due - 1).is_empty(), "it was ready before {due}");
        assert_eq!(ready(&mut board, due), [task("a", 0)]);
        board.hand_out(&task("a", 0), &worker("w"), shared(1), due).expect("it waits");
        board.lose(&worker("w"), due);
    }
    let trouble = board.activity(&key("m"), &shard("a")).trouble.expect("it is told");
    assert!(trouble.message.contains("4 times"), "{trouble:?}");
    assert_eq!(board.busy(&worker("w")), 0);
}

#[test]
fn what_a_running_range_waits_for_is_told_until_it_goes_on() {
    let mut board = Board::new(Epoch(1));
    let (migration, on) = (key("m"), shard("a"));
    board.learn(&migration, &on, pass(&[false]));
    want(&mut board, "a", &[0]);
    let token = board.hand_out(&task("a", 0), &worker("w"), shared(1), 0).expect("it waits");
    let lagging = Failure::new(ErrorCode::ShardLagging, "replica r1 is 9 s behind", "nothing");
    let waiting = Receipt { waits: Some(lagging.clone()), ..receipt(0) };
    board.receive(&task("a", 0), waiting.clone()).expect("of the pass");
    assert_eq!(board.activity(&migration, &on).trouble, Some(lagging));
    board.receive(&task("a", 0), receipt(0)).expect("of the pass");
    assert_eq!(board.activity(&migration, &on).trouble, None);
    board.receive(&task("a", 0), waiting).expect("of the pass");
    board.on(&task("a", 0), TaskEvent::Finished(token));
    assert_eq!(board.activity(&migration, &on).trouble, None, "who has ended waits for nothing");
}

#[test]
fn a_pass_whose_ranges_were_asked_to_share_is_read_again_before_it_is_over() {
    let mut board = Board::new(Epoch(1));
    let (migration, on) = (key("m"), shard("a"));
    board.learn(&migration, &on, pass(&[true, false]));
    want(&mut board, "a", &[1]);
    let token = board.hand_out(&task("a", 1), &worker("w"), shared(1), 0).expect("it waits");
    board.ask_to_share(&task("a", 1), 5).expect("it runs");
    // The answer is lost; the range ends.
    board.on(&task("a", 1), TaskEvent::Finished(token));
    let done = Receipt { range: range(1, true), ..receipt(1) };
    assert!(board.receive(&task("a", 1), done).is_some_and(Pass::done));
    assert!(!board.end_of_pass(&migration, &on), "a range may be missing");
    assert_eq!(board.pass(&migration, &on), None, "it is to be read from the shard");
    board.learn(&migration, &on, pass(&[true, true, false]));
    assert!(!board.end_of_pass(&migration, &on));
    board.learn(&migration, &on, pass(&[true, true, true]));
    assert!(board.end_of_pass(&migration, &on), "nobody was asked since");
}

#[test]
fn a_range_that_was_split_off_is_known_at_once_but_not_of_an_old_pass() {
    let mut board = Board::new(Epoch(1));
    let (migration, on) = (key("m"), shard("a"));
    board.learn(&migration, &on, pass(&[false]));
    let rest = |pass| Rest { pass, range: range(7, false) };
    assert!(board.split_off(&migration, &on, rest(2)).is_none());
    assert!(board.split_off(&migration, &on, rest(1)).is_some_and(|pass| pass.open() == 2));
    assert_eq!(board.sharers(&migration, &on, 9), 2);
}

#[test]
fn a_crew_is_a_group_with_room_in_which_nothing_waits() {
    let mut board = Board::new(Epoch(1));
    board.learn(&key("m"), &shard("a"), pass(&[false, false]));
    want(&mut board, "a", &[0, 1]);
    board.hand_out(&task("a", 0), &worker("w"), shared(1), 0).expect("it waits");
    board.receive(&task("a", 0), receipt(0));
    assert_eq!(board.crews().count(), 0, "a range waits");
    want(&mut board, "a", &[0]);
    let crew = board.crews().next().expect("one may run more");
    assert_eq!((crew.spare, crew.ranges.len()), (1, 1));
    assert!(board.take_away(&task("a", 0)) && !board.take_away(&task("a", 0)), "told once");
    assert_eq!(board.crews().count(), 0, "it is to go elsewhere as a whole");
}

#[test]
fn running_ranges_are_told_of_another_rate_once() {
    let mut board = Board::new(Epoch(1));
    want(&mut board, "a", &[0, 1]);
    board.hand_out(&task("a", 0), &worker("w"), shared(2), 0).expect("it waits");
    assert!(board.retuned(&key("m"), &shard("a"), shared(2)).is_empty());
    assert_eq!(board.retuned(&key("m"), &shard("a"), shared(1)).len(), 1);
    assert!(board.retuned(&key("m"), &shard("a"), shared(1)).is_empty());
}

#[test]
fn a_finished_migration_is_forgotten_but_for_what_a_worker_has() {
    let mut board = Board::new(Epoch(1));
    board.learn(&key("m"), &shard("a"), pass(&[false]));
    want(&mut board, "a", &[0]);
    let token = board.hand_out(&task("a", 0), &worker("w"), shared(2), 0).expect("it waits");
    want(&mut board, "a", &[]);
    board.close(&key("m"));
    assert_eq!(board.held().len(), 1);
    board.on(&task("a", 0), TaskEvent::Released(token));
    assert!(board.groups.is_empty());
}
