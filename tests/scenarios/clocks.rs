//! Wall clocks are set forward and back by an hour in the middle of a run (fault 30): whatever decides uses clocks that
//! never jump.
//!
//! Programs built with failpoints add the seconds in the file that `SHARDLIFT_TEST_CLOCK` names to their wall clock.

use std::path::Path;

use shardlift_harness::installation::WorkerSpec;
use tempfile::TempDir;

use crate::stage::{Engine, Form, Items, ItemsSpec, Play, Witness, curtain, store};

const ID: &str = "0001_items";
const NONE: Vec<String> = Vec::new();
const CLOCK: &str = "SHARDLIFT_TEST_CLOCK";
const HOUR: i64 = 3_600;
const LEASE_MS: u64 = 20_000;

/// The wall clocks of the coordinator and of the workers.
struct Clocks {
    directory: TempDir,
}

impl Clocks {
    fn new() -> Self {
        Self { directory: tempfile::tempdir().unwrap() }
    }

    fn of(&self, whose: &str) -> String {
        self.directory.path().join(whose).to_str().unwrap().to_owned()
    }

    /// Sets a clock so many seconds wrong. A file that is renamed is never seen half written.
    fn set(&self, whose: &str, seconds: i64) {
        let (new, path) = (self.of("new"), self.of(whose));
        std::fs::write(&new, seconds.to_string()).unwrap();
        std::fs::rename(Path::new(&new), Path::new(&path)).unwrap();
    }
}

/// How often a worker began a session, and how often a lease was lost.
fn heard(play: &Play) -> (usize, usize) {
    let logs: String = play.installation.workers().iter().map(|worker| worker.process().log_text()).collect();
    (logs.matches("connected").count(), logs.matches("the session is over").count())
}

/// The jumps come in this order; the run ends, and nobody has lost a lease.
async fn jumped(engine: Engine, form: Form, jumps: &[(&str, i64)]) -> Play {
    let (items, clocks) = (Items::of(engine, 5_000).await, Clocks::new());
    let worker = WorkerSpec::new("worker-1", &[&items.shard]).env(CLOCK, &clocks.of("worker"));
    // Long enough that only a clock that jumps by an hour can end it, however busy the machine is.
    let builder = Play::builder(&[&items]).lease_ttl_ms(LEASE_MS);
    let builder = builder.coordinator_env(CLOCK, &clocks.of("coordinator")).worker(worker);
    let play = Play::of(builder).await;
    let witness = Witness::of(&items).await;
    let before = heard(&play);
    play.apply(&[ItemsSpec::new(ID, engine, form).rows_per_second(900).text()]).await;
    let mut rows = 0;
    for (whose, seconds) in jumps {
        rows = play.until_rows(ID, rows + 200).await;
        clocks.set(whose, *seconds);
    }
    play.until_rows(ID, rows + 200).await;
    play.completed(ID).await;
    assert_eq!(heard(&play), before, "a session ended because a wall clock jumped");
    assert_eq!(witness.complaints().await, NONE);
    curtain(&play, ID, &items, form, None).await;
    play
}

/// When the migration was made, begun and completed, as `status` shows it.
async fn milestones(play: &Play) -> [String; 3] {
    let status = play.status(ID).await;
    ["created_at", "started_at", "completed_at"].map(|key| status[key].as_str().unwrap().to_owned())
}

/// By how many seconds the newest record of the store is ahead of the first one: which clocks have been seen at all.
async fn spread(play: &Play) -> i64 {
    let seconds =
        "SELECT max(strftime('%s', created_at)) - min(strftime('%s', created_at)) FROM migration_history";
    sqlx::query_scalar(seconds).fetch_one(&mut store(play).await).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn clocks_that_are_set_an_hour_forward_cost_no_lease() {
    let play = jumped(Engine::Postgres, Form::WithoutWhere, &[("coordinator", HOUR), ("worker", HOUR)]).await;
    let [created, started, completed] = milestones(&play).await;
    assert!(created <= started && started < completed, "{created} {started} {completed}");
    assert!(spread(&play).await >= HOUR, "the coordinator's clock did not jump");
}

#[tokio::test(flavor = "multi_thread")]
async fn clocks_that_are_set_an_hour_back_cost_no_lease_and_nothing_ends_before_it_began() {
    let play =
        jumped(Engine::Postgres, Form::WithoutWhere, &[("worker", -HOUR), ("coordinator", -HOUR)]).await;
    let [created, started, completed] = milestones(&play).await;
    // The clock that says so is wrong by now: what is shown is the earliest time that is no contradiction.
    assert!(created <= started && started == completed, "{created} {started} {completed}");
    assert!(spread(&play).await >= HOUR - 60, "the coordinator's clock did not jump");
}

#[tokio::test(flavor = "multi_thread")]
async fn clocks_that_jump_apart_and_together_cost_no_lease_of_mongodb() {
    let jumps = [("coordinator", HOUR), ("worker", -HOUR), ("coordinator", -HOUR), ("worker", HOUR)];
    jumped(Engine::Mongodb, Form::WithWhere, &jumps).await;
}
