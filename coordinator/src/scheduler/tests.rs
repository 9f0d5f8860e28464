//! The policies of the scheduler, by example and by property.

use super::*;
use proptest::prelude::*;
use shardlift_domain::capability::SHARE;
use shardlift_domain::ids::{MigrationId, Version};
use shardlift_domain::migration::Step;

fn words(words: &[&str]) -> Arc<Capabilities> {
    Arc::new(words.iter().map(|word| (*word).to_owned()).collect())
}

fn candidate(shard: &str, range: u32, limit: u32) -> Candidate {
    let migration = MigrationKey { id: MigrationId::new("m").expect("a name"), version: Version::FIRST };
    let shard = ShardId::new(shard).expect("a name");
    let task = TaskId { migration, shard, step: Step::Backfill, range: Some(range) };
    Candidate { task, limit, running: 0, served: 0, needs: words(&["data"]), pressing: false, last: None }
}

fn worker(name: &str, shards: &[&str], slots: u32, busy: u32) -> Candidacy {
    let shards = Arc::new(shards.iter().map(|shard| ShardId::new(*shard).expect("a name")).collect());
    let worker = WorkerId::new(name).expect("a name");
    Candidacy { worker, shards, knows: words(&["data", SHARE]), slots, busy, pressing: 0 }
}

fn names(handed_out: &[(TaskId, WorkerId)]) -> Vec<&str> {
    handed_out.iter().map(|(_, worker)| worker.as_str()).collect()
}

fn shards(handed_out: &[(TaskId, WorkerId)]) -> Vec<&str> {
    handed_out.iter().map(|(task, _)| task.shard.as_str()).collect()
}

#[test]
fn work_is_spread_over_the_workers_of_a_shard() {
    let tasks: Vec<_> = (0..4).map(|range| candidate("a", range, 9)).collect();
    let got = assign(&tasks, vec![worker("w1", &["a"], 4, 0), worker("w2", &["a"], 4, 0)]);
    assert_eq!(names(&got), ["w1", "w2", "w1", "w2"]);
}

#[test]
fn load_counts_relative_to_slots() {
    let tasks: Vec<_> = (0..6).map(|range| candidate("a", range, 9)).collect();
    let got = assign(&tasks, vec![worker("large", &["a"], 8, 0), worker("small", &["a"], 2, 0)]);
    assert_eq!(names(&got).iter().filter(|name| **name == "large").count(), 5, "{got:?}");
}

#[test]
fn a_range_stays_where_it_ran() {
    let mut task = candidate("a", 0, 9);
    task.last = Some(WorkerId::new("w2").expect("a name"));
    assert_eq!(names(&assign(&[task], vec![worker("w1", &["a"], 4, 0), worker("w2", &["a"], 4, 3)])), ["w2"]);
}

#[test]
fn a_worker_that_joins_gets_what_waits() {
    let mut tasks: Vec<_> = (0..2).map(|range| candidate("a", range, 9)).collect();
    tasks.iter_mut().for_each(|task| task.running = 4);
    let got = assign(&tasks, vec![worker("old", &["a"], 4, 4), worker("new", &["a"], 4, 0)]);
    assert_eq!(names(&got), ["new", "new"]);
}

#[test]
fn what_others_hold_locks_for_does_not_wait_behind_other_work_and_is_bounded_all_the_same() {
    let pressing = |shard| Candidate { pressing: true, ..candidate(shard, 0, 1) };
    let shards = ["a", "b", "c"];
    let tasks: Vec<_> = shards.map(pressing).into_iter().chain([candidate("a", 1, 9)]).collect();
    let got = assign(&tasks, vec![worker("w1", &shards, 2, 2)]);
    assert_eq!(got.iter().map(|(task, _)| task.shard.as_str()).collect::<Vec<_>>(), ["a", "b"]);
    assert!(got.iter().all(|(task, _)| task.range == Some(0)), "the other one has no slot: {got:?}");
}

#[test]
fn nobody_gets_work_for_a_shard_it_does_not_serve() {
    assert!(assign(&[candidate("a", 0, 9)], vec![worker("w1", &["b"], 4, 0)]).is_empty());
}

#[test]
fn nobody_gets_work_that_it_cannot_do() {
    let mut task = candidate("a", 0, 9);
    task.needs = words(&["data", "transformer.yours"]);
    let mut able = worker("w2", &["a"], 1, 0);
    assert!(assign(&[task.clone()], vec![worker("w1", &["a"], 4, 0), able.clone()]).is_empty());
    able.knows = words(&["data", "transformer.yours"]);
    assert_eq!(names(&assign(&[task], vec![worker("w1", &["a"], 4, 0), able])), ["w2"]);
}

#[test]
fn the_shard_that_has_least_is_next_and_among_those_the_one_that_waited_longest() {
    let mut tasks: Vec<_> = ["a", "b", "c"].map(|shard| candidate(shard, 0, 9)).into();
    tasks[0].running = 1;
    (tasks[1].served, tasks[2].served) = (9, 3);
    let one = |tasks: &[Candidate]| assign(tasks, vec![worker("w", &["a", "b", "c"], 1, 0)]);
    assert_eq!(shards(&one(&tasks)), ["c"]);
    assert_eq!(shards(&one(&tasks[..2])), ["b"]);
}

fn crew(ranges: &[(u32, f64, Option<u64>)], spare: u32, left: u64) -> Crew {
    let walking = |(range, rows_per_second, asked): &(u32, f64, Option<u64>)| Walking {
        task: candidate("a", *range, 9).task,
        worker: WorkerId::new("owner").expect("a name"),
        begun: 0,
        asked: *asked,
        rows_per_second: *rows_per_second,
        batch_size: 100,
    };
    let shard = ShardId::new("a").expect("a name");
    Crew { shard, needs: words(&["data"]), spare, left, ranges: ranges.iter().map(walking).collect() }
}

fn asked(crew: Crew, workers: Vec<Candidacy>, now: u64) -> Vec<u32> {
    let knowing = BTreeMap::from([(WorkerId::new("owner").expect("a name"), words(&[SHARE]))]);
    splits(&[crew], workers, &knowing, now).into_iter().filter_map(|task| task.range).collect()
}

fn idle() -> Vec<Candidacy> {
    vec![worker("owner", &["a"], 2, 2), worker("idle", &["a"], 4, 0)]
}

#[test]
fn the_slowest_range_with_much_left_is_asked_to_share() {
    assert_eq!(asked(crew(&[(0, 900.0, None), (1, 100.0, None)], 1, 10_000), idle(), 1000), [1]);
    assert_eq!(asked(crew(&[(0, 900.0, None), (1, 100.0, None)], 2, 10_000), idle(), 1000), [1, 0]);
}

#[test]
fn nobody_is_asked_in_vain() {
    let range = |asked| crew(&[(0, 1000.0, asked)], 1, 100_000);
    assert!(asked(range(None), vec![worker("owner", &["a"], 2, 2)], 1000).is_empty(), "nobody could help");
    assert!(asked(range(None), vec![worker("idle", &["b"], 2, 0)], 1000).is_empty(), "nobody who serves it");
    assert!(asked(range(Some(0)), idle(), 1999).is_empty(), "it was asked just now");
    assert_eq!(asked(range(Some(0)), idle(), 2000), [0]);
    let nearly_done = || crew(&[(0, 1000.0, None)], 1, 1_500);
    assert!(asked(nearly_done(), idle(), 1000).is_empty(), "it is nearly done");
    assert_eq!(asked(nearly_done(), idle(), 5000), [0], "the guess was wrong");
    let few = splits(&[range(None)], idle(), &BTreeMap::new(), 1000);
    assert!(few.is_empty(), "its owner does not know how");
}

prop_compose! {
    fn a_worker(index: usize)(slots in 0..6u32, mask in 0..8u8) -> Candidacy {
        let shards: Vec<_> = (0..3).filter(|bit| mask >> bit & 1 == 1).map(|bit| format!("s{bit}")).collect();
        worker(&format!("w{index}"), &shards.iter().map(String::as_str).collect::<Vec<_>>(), slots, 0)
    }
}

fn workers() -> impl Strategy<Value = Vec<Candidacy>> {
    (0..6usize).prop_flat_map(|count| (0..count).map(a_worker).collect::<Vec<_>>())
}

proptest! {
    #[test]
    fn limits_and_slots_hold_and_nothing_is_left_that_somebody_could_do(
        tasks in prop::collection::btree_set((0..3u8, 0..50u32), 0..60),
        limit in 1..5u32,
        workers in workers(),
    ) {
        let tasks: Vec<_> = tasks.iter().map(|(shard, range)| candidate(&format!("s{shard}"), *range, limit)).collect();
        let got = assign(&tasks, workers.clone());
        let of_shard = |shard: &ShardId| got.iter().filter(|(task, _)| task.shard == *shard).count();
        let of_worker = |worker: &WorkerId| got.iter().filter(|(_, who)| who == worker).count();
        let distinct: BTreeSet<_> = got.iter().map(|(task, _)| task).collect();
        prop_assert_eq!(distinct.len(), got.len(), "a task was given to two");
        for worker in &workers {
            prop_assert!(of_worker(&worker.worker) <= worker.slots as usize);
        }
        for (task, who) in &got {
            let worker = workers.iter().find(|worker| worker.worker == *who).expect("known");
            prop_assert!(worker.shards.contains(&task.shard));
            prop_assert!(of_shard(&task.shard) <= limit as usize);
        }
        for task in tasks.iter().filter(|task| !distinct.contains(&task.task)) {
            let somebody = workers.iter().any(|worker| {
                worker.shards.contains(&task.task.shard) && of_worker(&worker.worker) < worker.slots as usize
            });
            prop_assert!(of_shard(&task.task.shard) == limit as usize || !somebody, "{:?} was left", task.task);
        }
    }

    #[test]
    fn equal_workers_get_equal_loads_and_equal_shards_equal_shares(
        ranges in 1..30u32,
        count in 1..5usize,
        slots in 1..6u32,
    ) {
        let all = ["a", "b", "c"];
        let tasks: Vec<_> =
            all.iter().flat_map(|shard| (0..ranges).map(move |range| candidate(shard, range, 64))).collect();
        let workers: Vec<_> = (0..count).map(|index| worker(&format!("w{index}"), &all, slots, 0)).collect();
        let got = assign(&tasks, workers.clone());
        let loads: Vec<_> =
            workers.iter().map(|worker| got.iter().filter(|(_, who)| *who == worker.worker).count()).collect();
        let shares: Vec<_> =
            all.iter().map(|shard| got.iter().filter(|(task, _)| task.shard.as_str() == *shard).count()).collect();
        prop_assert!(loads.iter().max().expect("some") - loads.iter().min().expect("some") <= 1, "{loads:?}");
        prop_assert!(shares.iter().max().expect("some") - shares.iter().min().expect("some") <= 1, "{shares:?}");
    }

    #[test]
    fn no_shard_starves_however_many_tasks_the_others_have(
        backlog in prop::collection::vec(1..200u32, 2..5),
    ) {
        // One slot, again and again: within one round each shard with work is served once.
        let all: Vec<String> = (0..backlog.len()).map(|number| format!("s{number}")).collect();
        let mut served = vec![0_u64; all.len()];
        let mut order = Vec::new();
        for turn in 1..=2 * all.len() as u64 {
            let mut tasks = Vec::new();
            for (number, shard) in all.iter().enumerate() {
                tasks.extend((0..backlog[number]).map(|range| Candidate { served: served[number], ..candidate(shard, range, 2) }));
            }
            let names: Vec<_> = all.iter().map(String::as_str).collect();
            let got = assign(&tasks, vec![worker("w", &names, 1, 0)]);
            let number = all.iter().position(|shard| shard == got[0].0.shard.as_str()).expect("known");
            served[number] = turn;
            order.push(number);
        }
        let first: BTreeSet<_> = order[..all.len()].iter().collect();
        prop_assert_eq!(first.len(), all.len(), "{:?}", order);
    }
}
