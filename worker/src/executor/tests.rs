//! One task from lease to report, over a shard in memory. Time is the test's.

use std::sync::Arc;
use std::time::Duration;

use shardlift_domain::failure::ErrorCode;
use shardlift_domain::migration::{Pace, Step};
use shardlift_domain::range::RangeState;
use shardlift_domain::spec::{Throttle, Window};
use shardlift_domain::verdict::TaskOutcome;
use shardlift_runtime::clock;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};

use super::{Assignment, Ending, News, RECEIPT_EVERY, run};
use crate::engine::testing::{Call, Fault, Memory, file, pulse, task, token};
use crate::lease::{Pulse, TaskLease, Wish};

/// Longer than anything here lasts.
const FOR_EVER: Duration = Duration::from_secs(1_000_000);
const ROW: Duration = Duration::from_micros(100);

/// As the spec says, beside so many others.
fn shared(sharers: u32) -> Pace {
    Pace { sharers, throttle: None }
}

/// One hand-out of a step, and what is heard of it.
struct Stage {
    pulse: Arc<Pulse>,
    lease: TaskLease,
    assignment: Assignment,
    memory: Memory,
}

impl Stage {
    fn new(memory: &Memory, step: Step, more: &str) -> Self {
        let pulse = pulse(FOR_EVER);
        let lease = pulse.grant(task(step), token(1));
        let assignment = Assignment {
            lease: lease.clone(),
            file: file(more),
            shard_slots: 4,
            pace: Pace::default(),
            drop_data: false,
        };
        Self { pulse, lease, assignment, memory: memory.clone() }
    }

    fn backfill(memory: &Memory, more: &str) -> Self {
        Self::new(memory, Step::Backfill, more)
    }

    fn sharers(mut self, sharers: u32) -> Self {
        self.assignment.pace = shared(sharers);
        self
    }

    async fn run(self) -> Ending {
        self.run_told().await.0
    }

    /// The ending, and when each receipt came.
    async fn run_told(self) -> (Ending, Vec<(Instant, News)>) {
        let (sender, mut receipts) = mpsc::channel(10_000);
        let collect = tokio::spawn(async move {
            let mut told = Vec::new();
            while let Some((_, news)) = receipts.recv().await {
                told.push((Instant::now(), news));
            }
            told
        });
        let ended = timeout(FOR_EVER / 2, run(self.assignment, Arc::new(self.memory), sender)).await;
        (ended.expect("it ended"), collect.await.expect("not cancelled"))
    }
}

fn done(ending: Ending) -> RangeState {
    match ending {
        Ending::Finished(TaskOutcome::RangeDone(range)) if range.done => range,
        other => panic!("the range is not done: {other:?}"),
    }
}

fn broke(ending: Ending) -> shardlift_domain::Failure {
    match ending {
        Ending::Broke(failure) => failure,
        other => panic!("it did not break: {other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_range_is_walked_to_its_end() {
    let memory = Memory::new(10_000, ROW);
    let range = done(Stage::backfill(&memory, "").run().await);
    assert_eq!((range.rows, range.seen), (10_000, 10_000));
    memory.assert_exactly_once();
}

#[tokio::test(start_paused = true)]
async fn a_range_that_is_done_already_is_told_without_a_batch() {
    let memory = Memory::new(0, ROW);
    done(Stage::backfill(&memory, "").run().await);
    assert!(memory.table().asked.is_empty());
}

#[tokio::test(start_paused = true)]
async fn no_batch_begins_while_a_replica_is_too_far_behind_and_it_is_told_until_it_is_not() {
    let memory = Memory::new(60_000, ROW);
    let behind = [0, 9, 11, 30, 12, 7, 5, 0].map(Duration::from_secs);
    memory.table().behind.extend(behind);
    let began = Instant::now();
    let stage = Stage::backfill(&memory, "throttle: { max_replica_lag: 10s }\n");
    let (ending, told) = stage.run_told().await;
    done(ending);
    memory.assert_exactly_once();
    // Four looks find it too far behind: it stops at 11 s and goes on at 5 s.
    let waits = |news: &News| match news {
        News::Moved(receipt) => receipt.waits.clone().map(|waits| (waits.code, waits.message)),
        _ => None,
    };
    let waiting: Vec<_> = told.iter().filter_map(|(at, news)| Some((*at, waits(news)?))).collect();
    assert_eq!(waiting.len(), 4, "{waiting:?}");
    let (code, message) = &waiting[1].1;
    assert_eq!(*code, ErrorCode::ShardLagging);
    assert!(message.contains("replica r1 is 30.0 s behind, 10s"), "{message}");
    let (from, until) = (waiting[0].0, waiting[3].0 + Duration::from_secs(1));
    let asked: Vec<_> = memory.table().asked.iter().map(|batch| batch.at).collect();
    assert!(!asked.iter().any(|at| (from..until).contains(at)), "a batch began from {from:?} to {until:?}");
    assert!(asked.iter().any(|at| *at < from) && asked.iter().any(|at| *at >= until), "since {began:?}");
    assert_eq!(waits(&told.last().expect("a receipt").1), None);
}

#[tokio::test(start_paused = true)]
async fn a_spec_without_a_bound_asks_no_replica() {
    let memory = Memory::new(1_000, ROW);
    memory.table().behind.push_back(Duration::from_secs(1_000));
    done(Stage::backfill(&memory, "").run().await);
    assert_eq!(memory.table().behind.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn after_a_broken_connection_the_range_is_claimed_again_whether_or_not_the_batch_was_committed() {
    for committed in [false, true] {
        let memory = Memory::new(5_000, ROW).fails(move |call| match call {
            Call::Batch { number, .. } if number % 2 == 1 => Some(Fault::Connection { committed }),
            Call::Claim(3) => Some(Fault::Connection { committed: false }),
            _ => None,
        });
        done(Stage::backfill(&memory, "").run().await);
        memory.assert_exactly_once();
        let table = memory.table();
        let (claims, batches) = (table.claims as usize, table.asked.len());
        assert_eq!(
            claims,
            batches.div_ceil(2) + 2,
            "one claim after each broken batch, and one for a broken claim"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_bad_row_is_named_and_everything_before_it_is_done() {
    for bad in [0, 1, 1_237, 4_999] {
        let memory = Memory::new(5_000, ROW).with_bad_row(bad);
        let failure = broke(Stage::backfill(&memory, "").run().await);
        assert_eq!(failure.code, ErrorCode::RowRejected);
        assert_eq!(failure.place.key.as_deref(), Some(bad.to_string().as_str()));
        assert_eq!(failure.place.step, Some(Step::Backfill));
        assert_eq!(failure.place.migration.as_ref(), Some(&task(Step::Backfill).migration));
        let table = memory.table();
        let changed: u32 = table.changed.iter().sum();
        assert_eq!(changed as usize, bad, "all rows before the bad one, and only those");
        assert!(table.changed[..bad].iter().all(|times| *times == 1));
        assert!(table.asked.len() < 60, "{} batches to find one row", table.asked.len());
        assert_eq!(table.claims, 1, "a bad row is no reason to claim again");
    }
}

#[tokio::test(start_paused = true)]
async fn batches_that_are_too_slow_shrink_until_they_pass() {
    let memory = Memory::new(3_000, ROW).fails(|call| match call {
        Call::Batch { rows, .. } if rows > 30 => Some(Fault::TooSlow),
        _ => None,
    });
    done(Stage::backfill(&memory, "").run().await);
    memory.assert_exactly_once();
    let table = memory.table();
    let first = table.asked.iter().position(|batch| batch.done).expect("some batch passed");
    assert!(first <= 6, "{first} batches failed before one passed");
    let failed = table.asked.iter().filter(|batch| !batch.done).count();
    assert!(failed * 4 < table.asked.len(), "{failed} of {} batches failed", table.asked.len());
}

#[tokio::test(start_paused = true)]
async fn a_batch_of_one_row_that_is_still_too_slow_gives_the_task_back() {
    let memory = Memory::new(3_000, ROW).fails(|call| match call {
        Call::Batch { .. } => Some(Fault::TooSlow),
        Call::Claim(_) | Call::Share => None,
    });
    let failure = broke(Stage::backfill(&memory, "").run().await);
    assert!(failure.retryable(), "{failure}");
    assert_eq!(memory.table().asked.last().map(|batch| batch.rows), Some(1));
}

#[tokio::test(start_paused = true)]
async fn bad_rows_are_set_aside_up_to_the_budget_and_batches_grow_again_behind_them() {
    let bad = [0, 1, 2_500, 4_999];
    let stage = |budget: u32| {
        let memory = bad.into_iter().fold(Memory::new(5_000, ROW), |memory, row| memory.with_bad_row(row));
        let stage =
            Stage::backfill(&memory, &format!("on_error: {{ quarantine: {{ budget: {budget} }} }}\n"));
        (memory, stage)
    };
    let (memory, enough) = stage(4);
    let (ending, told) = enough.run_told().await;
    assert_eq!(done(ending).seen, 5_000);
    let held: Vec<u64> = told
        .iter()
        .filter_map(|(_, news)| if let News::Quarantined(held) = news { Some(held.rows) } else { None })
        .collect();
    assert_eq!(held, [1, 2, 3, 4], "each is told");
    {
        let table = memory.table();
        assert_eq!(table.set_aside, bad);
        let twice = (0..5_000).find(|row| table.changed[*row] != u32::from(!bad.contains(row)));
        assert_eq!(twice, None, "the rest is changed once");
        assert!(table.asked.len() < 150, "windows stay narrow: {} batches", table.asked.len());
    }
    let (memory, few) = stage(3);
    assert_eq!(broke(few.run().await).code, ErrorCode::QuarantineOverBudget);
    assert_eq!(memory.table().set_aside, bad[..3]);
}

#[tokio::test(start_paused = true)]
async fn patience_ends_and_the_task_is_given_back_with_the_last_failure() {
    let table = [
        (Fault::Connection { committed: false }, ErrorCode::ShardUnreachable),
        (Fault::Contended, ErrorCode::RowContended),
    ];
    for (fault, code) in table {
        let memory = Memory::new(100, ROW).fails(move |call| match call {
            Call::Batch { .. } => Some(fault),
            Call::Claim(_) | Call::Share => None,
        });
        let began = Instant::now();
        let failure = broke(Stage::backfill(&memory, "").run().await);
        assert_eq!(failure.code, code);
        assert!(failure.retryable(), "the coordinator hands it out again");
        assert_eq!(memory.table().asked.len(), 13, "{fault:?}: twelve failures are forgiven");
        let waited = began.elapsed();
        assert!(
            (1..=30).contains(&waited.as_secs()),
            "{fault:?}: the pauses grow, but not for ever: {waited:?}"
        );
    }
    let unreachable = Memory::new(100, ROW).fails(|_| Some(Fault::Connection { committed: false }));
    assert_eq!(broke(Stage::backfill(&unreachable, "").run().await).code, ErrorCode::ShardUnreachable);
    assert_eq!(unreachable.table().claims, 13, "claims are counted in the same way");
}

#[tokio::test(start_paused = true)]
async fn a_shard_that_does_not_answer_at_all_is_left_to_others_before_long() {
    let memory = Memory::new(100, ROW).fails(|call| matches!(call, Call::Claim(_)).then_some(Fault::Silence));
    let began = Instant::now();
    let failure = broke(Stage::backfill(&memory, "").run().await);
    assert_eq!(failure.code, ErrorCode::ShardUnreachable);
    let waited = began.elapsed();
    assert!(
        (15..=30).contains(&waited.as_secs()),
        "one silent attempt is forgiven, twelve are not: {waited:?}"
    );
    assert!(memory.table().claims >= 2, "{} claims", memory.table().claims);
}

#[tokio::test(start_paused = true)]
async fn failures_with_batches_between_them_never_exhaust_patience() {
    let memory = Memory::new(20_000, ROW).fails(|call| match call {
        Call::Batch { number, .. } if number % 8 != 0 => Some(Fault::Contended),
        _ => None,
    });
    done(Stage::backfill(&memory, "batch: { target: 100ms, min: 1, max: 50 }\n").run().await);
    memory.assert_exactly_once();
}

#[tokio::test(start_paused = true)]
async fn a_range_that_somebody_else_has_is_let_go_at_once() {
    for call in [Call::Claim(1), Call::Batch { number: 2, rows: 0 }] {
        let memory = Memory::new(5_000, ROW).fails(move |now| match (call, now) {
            (Call::Claim(_), Call::Claim(_)) => Some(Fault::LeaseLost),
            (Call::Batch { number: wanted, .. }, Call::Batch { number, .. }) if wanted == number => {
                Some(Fault::LeaseLost)
            }
            _ => None,
        });
        // The lease is alive as far as the worker knows, so it says what it found.
        let failure = broke(Stage::backfill(&memory, "").run().await);
        assert_eq!(failure.code, ErrorCode::LeaseLost);
        let table = memory.table();
        assert!(table.asked.len() <= 2 && table.claims == 1);
    }
}

/// Lets so many batches begin, then does something, and answers how it ended and how many batches there were.
async fn stopped_after(batches: usize, stop: impl FnOnce(&Pulse, &TaskLease)) -> (Ending, Memory) {
    let memory = Memory::new(1_000_000, ROW);
    let stage = Stage::backfill(&memory, "");
    let (pulse, lease) = (Arc::clone(&stage.pulse), stage.lease.clone());
    let running = tokio::spawn(stage.run());
    while memory.table().asked.len() < batches {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    stop(&pulse, &lease);
    (running.await.expect("not cancelled"), memory)
}

#[tokio::test(start_paused = true)]
async fn when_it_is_withdrawn_the_open_batch_ends_and_no_other_begins() {
    let (ending, memory) = stopped_after(3, |_, lease| lease.withdraw()).await;
    assert!(matches!(ending, Ending::Released), "{ending:?}");
    let table = memory.table();
    assert_eq!(table.asked.len(), 3);
    assert!(table.asked[2].done, "the open batch was torn");
}

#[tokio::test(start_paused = true)]
async fn when_the_session_ends_the_open_batch_ends_and_no_other_begins() {
    let (ending, memory) = stopped_after(3, |pulse, _| pulse.close()).await;
    assert!(matches!(ending, Ending::Released), "{ending:?}");
    assert_eq!(memory.table().asked.len(), 3);
}

#[tokio::test(start_paused = true)]
async fn when_the_coordinator_falls_silent_no_batch_begins_after_the_lease() {
    let memory = Memory::new(1_000_000, ROW);
    let mut stage = Stage::backfill(&memory, "");
    let ttl = Duration::from_secs(5);
    stage.pulse = pulse(ttl);
    stage.lease = stage.pulse.grant(task(Step::Backfill), token(1));
    stage.assignment.lease = stage.lease.clone();
    let began = Instant::now();
    let ending = stage.run().await;
    assert!(matches!(ending, Ending::Released), "{ending:?}");
    let last = memory.table().asked.last().expect("some").at - began;
    assert!(last < ttl, "a batch began {last:?} after the coordinator was last heard");
    assert!(last > ttl - Duration::from_secs(1), "it stopped too early, after {last:?}");
}

#[tokio::test(start_paused = true)]
async fn a_withdrawal_ends_a_pause_at_once() {
    let memory = Memory::new(100, ROW).fails(|_| Some(Fault::Connection { committed: false }));
    let stage = Stage::backfill(&memory, "");
    let lease = stage.lease.clone();
    let running = tokio::spawn(stage.run());
    while memory.table().claims < 9 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let asked = Instant::now();
    lease.withdraw();
    assert!(matches!(running.await.expect("not cancelled"), Ending::Released));
    assert!(asked.elapsed() < Duration::from_millis(5), "it slept on for {:?}", asked.elapsed());
}

#[tokio::test(start_paused = true)]
async fn rows_per_second_are_a_limit_that_is_shared_and_reached() {
    for sharers in [1, 2] {
        let memory = Memory::new(20_000, Duration::from_micros(10));
        let began = Instant::now();
        let stage = Stage::backfill(&memory, "throttle: { rows_per_second: 2000 }\n").sharers(sharers);
        done(stage.run().await);
        memory.assert_exactly_once();
        let rate = 20_000.0 / began.elapsed().as_secs_f64();
        let limit = 2_000.0 / f64::from(sharers);
        assert!(rate <= limit * 1.15, "{rate} rows/s, {limit} allowed");
        assert!(rate >= limit * 0.8, "{rate} rows/s, {limit} allowed: it waits more than it must");
        let largest = memory.table().asked.iter().map(|batch| batch.rows).max().expect("some");
        assert!(f64::from(largest) <= limit, "a batch of {largest} rows is more than a second's worth");
    }
}

#[tokio::test(start_paused = true)]
async fn batches_settle_near_the_target() {
    let memory = Memory::new(100_000, ROW);
    done(Stage::backfill(&memory, "batch: { target: 100ms, min: 10, max: 50000 }\n").run().await);
    let table = memory.table();
    let late = &table.asked[table.asked.len() / 2..table.asked.len() - 1];
    assert!(late.iter().all(|batch| (900..=1_100).contains(&batch.rows)), "{late:?}");
}

#[tokio::test(start_paused = true)]
async fn a_throttled_range_tells_how_fast_it_goes_and_not_how_fast_its_batches_are() {
    let memory = Memory::new(20_000, ROW);
    let (ending, told) = Stage::backfill(&memory, "throttle: { rows_per_second: 2000 }\n").run_told().await;
    done(ending);
    let speeds: Vec<f64> = told
        .iter()
        .filter_map(|(_, news)| match news {
            News::Moved(receipt) => Some(receipt.rows_per_second),
            _ => None,
        })
        .collect();
    assert!(speeds.len() >= 5, "{speeds:?}");
    assert!(speeds.iter().all(|speed| *speed <= 2_000.0), "{speeds:?}");
    assert!(speeds.iter().all(|speed| *speed >= 1_000.0), "{speeds:?}");
}

#[tokio::test(start_paused = true)]
async fn receipts_come_a_few_times_a_second_and_only_grow() {
    let memory = Memory::new(50_000, ROW);
    let (ending, told) =
        Stage::backfill(&memory, "batch: { target: 20ms, min: 10, max: 500 }\n").run_told().await;
    done(ending);
    assert!(memory.table().asked.len() > 100);
    assert!(told.len() > 10, "{} receipts", told.len());
    for pair in told.windows(2) {
        let ((earlier, one), (later, next)) = (&pair[0], &pair[1]);
        assert!(*later - *earlier >= RECEIPT_EVERY, "two receipts within {:?}", *later - *earlier);
        assert!(*later - *earlier < 2 * RECEIPT_EVERY, "silence of {:?}", *later - *earlier);
        let (News::Moved(one), News::Moved(next)) = (one, next) else { panic!("nobody asked to share") };
        assert!(one.range.rows < next.range.rows);
        assert!(next.rows_per_second > 0.0 && next.batch_ms > 0.0);
    }
}

#[tokio::test(start_paused = true)]
async fn receipts_that_nobody_takes_stop_nothing() {
    let memory = Memory::new(50_000, ROW);
    let stage = Stage::backfill(&memory, "");
    let (sender, _receipts) = mpsc::channel(1);
    done(run(stage.assignment, Arc::new(stage.memory), sender).await);
    memory.assert_exactly_once();
}

#[tokio::test(start_paused = true)]
async fn a_scan_ends_when_it_is_withdrawn_and_a_schema_change_does_not() {
    for step in [Step::Precheck, Step::Sweep, Step::Verify] {
        let memory = Memory::new(0, ROW).closed();
        let stage = Stage::new(&memory, step, "");
        let lease = stage.lease.clone();
        let running = tokio::spawn(stage.run());
        tokio::time::sleep(Duration::from_secs(1)).await;
        lease.withdraw();
        let ending =
            timeout(Duration::from_secs(1), running).await.expect("it ended").expect("not cancelled");
        assert!(matches!(ending, Ending::Released), "{step}: {ending:?}");
    }
    let memory = Memory::new(0, ROW).closed();
    let mut stage = Stage::new(&memory, Step::Apply, "");
    stage.assignment.file.text =
        "id: m\nkind: schema\nengine: postgres\ncluster: c\nup: [\"ALTER TABLE t ADD COLUMN c int\"]\n"
            .into();
    let lease = stage.lease.clone();
    let running = tokio::spawn(stage.run());
    tokio::time::sleep(Duration::from_secs(1)).await;
    lease.withdraw();
    tokio::time::sleep(Duration::from_secs(1)).await;
    memory.gate.add_permits(1);
    let ending = running.await.expect("not cancelled");
    assert!(matches!(ending, Ending::Finished(TaskOutcome::Applied { already: false })), "{ending:?}");
}

#[tokio::test(start_paused = true)]
async fn digests_are_collected_to_the_last_row_in_windows_that_do_not_grow_without_bound() {
    let memory = Memory::new(30_000, ROW);
    let ending = Stage::new(&memory, Step::Collect, "").run().await;
    assert!(matches!(ending, Ending::Finished(TaskOutcome::Collected)), "{ending:?}");
}

#[tokio::test(start_paused = true)]
async fn a_spec_that_this_release_cannot_read_is_a_failure_and_no_panic() {
    let memory = Memory::new(10, ROW);
    let stage = Stage::backfill(&memory, "from_the_future: 7\n");
    let failure = broke(stage.run().await);
    assert!(!failure.retryable(), "{failure}");
    assert_eq!(memory.table().claims, 0);
}

/// The wish comes while the first batch runs.
fn asked_to_share(memory: &Memory, more: &str) -> Stage {
    let stage = Stage::backfill(memory, more);
    stage.lease.adjust(Wish { pace: shared(2), share: true });
    stage
}

fn rests(told: &[(Instant, News)]) -> Vec<bool> {
    let shared = told.iter().filter_map(|(_, news)| match news {
        News::Shared(rest) => Some(rest.is_some()),
        News::Moved(_) | News::Quarantined(_) | News::Saved(_) => None,
    });
    shared.collect()
}

#[tokio::test(start_paused = true)]
async fn a_range_that_is_asked_to_share_walks_what_it_keeps() {
    let memory = Memory::new(40_000, ROW);
    let (ending, told) = asked_to_share(&memory, "").run_told().await;
    assert_eq!((done(ending).seen, rests(&told)), (20_000, vec![true]));
    memory.assert_exactly_once();
    assert_eq!(memory.table().shared, [1_500], "three batches, as long as the pace is not known");
}

#[tokio::test(start_paused = true)]
async fn a_range_with_little_left_keeps_it_and_says_so() {
    let memory = Memory::new(2_000, ROW);
    let (ending, told) = asked_to_share(&memory, "").run_told().await;
    assert_eq!((done(ending).seen, rests(&told)), (2_000, vec![false]));
    memory.assert_exactly_once();
}

#[tokio::test(start_paused = true)]
async fn a_split_whose_outcome_is_unknown_is_settled_by_the_next_claim() {
    for committed in [false, true] {
        let memory = Memory::new(40_000, ROW)
            .fails(move |call| (call == Call::Share).then_some(Fault::Connection { committed }));
        let (ending, _) = asked_to_share(&memory, "").run_told().await;
        assert_eq!(done(ending).seen, if committed { 20_000 } else { 40_000 });
        assert_eq!(memory.table().claims, 2);
        memory.assert_exactly_once();
    }
}

#[tokio::test(start_paused = true)]
async fn a_range_takes_its_new_share_of_the_rate() {
    let memory = Memory::new(40_000, Duration::from_nanos(1));
    let stage = Stage::backfill(&memory, "throttle: { rows_per_second: 1000 }\n");
    let (lease, started) = (stage.lease.clone(), Instant::now());
    let running = tokio::spawn(stage.run());
    tokio::time::sleep(Duration::from_secs(10)).await;
    // The same again is nothing new.
    (0..2).for_each(|_| lease.adjust(Wish { pace: shared(2), share: false }));
    done(running.await.expect("no panic"));
    let took = started.elapsed().as_secs_f64();
    assert!((65.0..75.0).contains(&took), "10 s at the whole rate, 60 s at half of it, not {took} s");
}

/// Another throttle than the spec's, from the next batch on.
fn throttled(rows_per_second: Option<u32>) -> Wish {
    let throttle = Some(Throttle { rows_per_second, window: None });
    Wish { pace: Pace { sharers: 1, throttle }, share: false }
}

#[tokio::test(start_paused = true)]
async fn a_range_keeps_its_claim_when_its_throttle_is_changed_lifted_and_restored() {
    let memory = Memory::new(40_000, Duration::from_nanos(1));
    let stage = Stage::backfill(&memory, "throttle: { rows_per_second: 100 }\n");
    let (lease, started) = (stage.lease.clone(), Instant::now());
    let running = tokio::spawn(stage.run());
    let seen = || memory.table().asked.iter().map(|batch| batch.rows).sum::<u32>();
    for (wish, at_least, at_most) in [
        (throttled(Some(1_000)), 900, 1_200),
        (throttled(Some(1_000)), 10_500, 11_500),
        (Wish { pace: shared(1), share: false }, 20_500, 21_500),
        (throttled(None), 21_500, 22_500),
    ] {
        tokio::time::sleep(Duration::from_secs(10)).await;
        assert!((at_least..=at_most).contains(&seen()), "{} rows before {wish:?}", seen());
        lease.adjust(wish);
    }
    done(running.await.expect("no panic"));
    let took = started.elapsed().as_secs_f64();
    assert!(took < 43.0, "without a limit the rest takes no time, not {took} s");
    assert_eq!(memory.table().claims, 1);
    memory.assert_exactly_once();
}

#[tokio::test(start_paused = true)]
async fn a_range_that_waits_for_its_time_of_day_goes_on_when_any_time_is_good() {
    let memory = Memory::new(2_000, ROW);
    let (from, to) = ((clock::minute_of_day() + 60) % 1440, (clock::minute_of_day() + 120) % 1440);
    let window = Window { from_minute: from, to_minute: to };
    let stage = Stage::backfill(&memory, &format!("throttle: {{ window: \"{window}\" }}\n"));
    let lease = stage.lease.clone();
    let running = tokio::spawn(stage.run());
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert_eq!(memory.table().asked.len(), 0, "its time has not come");
    lease.adjust(throttled(None));
    done(running.await.expect("no panic"));
    memory.assert_exactly_once();
}
