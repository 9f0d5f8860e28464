//! Schema changes on PostgreSQL: applied once, resumable at every point, and never in the application's way for long.

use std::time::Duration;

use anyhow::{Result, ensure};
use shardlift_domain::failure::ErrorCode;
use shardlift_domain::ids::{Checksum, ClusterName};
use shardlift_domain::migration::Step;
use shardlift_domain::spec::{Engine, OnVerifyFailure, SchemaChange, SchemaSpec, Spec, SpecBody};
use shardlift_worker::engine::{EngineError, Job, SchemaJob};
use sqlx::Connection;

use super::bench::{Bench, failure, leader, lease, migration};
use super::postgres::PostgresBench;

pub(super) fn job(up: &[&str]) -> SchemaJob {
    let schema = SchemaSpec {
        up: SchemaChange::Sql(up.iter().map(|statement| (*statement).to_owned()).collect()),
        down: SchemaChange::Sql(Vec::new()),
        lock_timeout: Duration::from_millis(200),
        hold_timeout: Duration::from_secs(2),
        lock_deadline: None,
        on_block: None,
        allow: Vec::new(),
        verify: Vec::new(),
        atomic: false,
    };
    let spec = Spec {
        id: migration().id,
        engine: Engine::Postgres,
        cluster: ClusterName::new("chat").expect("a name"),
        depends_on: Vec::new(),
        body: SpecBody::Schema(schema.clone()),
        on_verify_failure: OnVerifyFailure::Halt,
        rollout: Vec::new(),
        checksum: Checksum::of(up.join(";").as_bytes()),
    };
    SchemaJob { spec, schema }
}

async fn apply(bench: &PostgresBench, job: &SchemaJob, attempt: u32) -> Result<bool, EngineError> {
    bench.engine().apply(&lease(&leader(1, "a"), Step::Apply, attempt), job).await
}

async fn columns(bench: &PostgresBench) -> Result<String> {
    bench
        .value(
            "SELECT string_agg(attname, ',' ORDER BY attnum) FROM pg_attribute \
             WHERE attrelid = 'items'::regclass AND attnum > 4 AND NOT attisdropped",
        )
        .await
}

const MIXED: [&str; 4] = [
    "ALTER TABLE items ADD COLUMN one int",
    "ALTER TABLE items ADD COLUMN two int",
    "CREATE INDEX CONCURRENTLY items_one ON items (one)",
    "ALTER TABLE items ADD COLUMN three int",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_is_applied_once() -> Result<()> {
    let bench = PostgresBench::start().await?;
    let job = job(&MIXED);
    ensure!(!apply(&bench, &job, 1).await?);
    ensure!(apply(&bench, &job, 2).await?, "the ledger was not asked");
    ensure!(columns(&bench).await? == "one,two,three");
    let report = bench
        .engine()
        .verify(&lease(&leader(1, "a"), Step::Verify, 1), &Job::Schema(self::job(&MIXED)))
        .await?;
    ensure!(report.passed() && report.checks.len() == 2, "{report:?}");
    let other = failure(apply(&bench, &self::job(&["SELECT 1"]), 1).await);
    ensure!(other.code == ErrorCode::LedgerConflict, "{other:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_statement_that_fails_takes_its_whole_transaction_with_it() -> Result<()> {
    let bench = PostgresBench::start().await?;
    let job = job(&["ALTER TABLE items ADD COLUMN one int", "ALTER TABLE items ADD COLUMN id int"]);
    let refused = failure(apply(&bench, &job, 1).await);
    ensure!(
        refused.code == ErrorCode::SchemaFailed && refused.message.contains("statement 2"),
        "{refused:?}"
    );
    ensure!(columns(&bench).await? == "NULL");
    Ok(())
}

/// As if the worker had died after so many groups of the list.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_goes_on_where_it_was_broken_off() -> Result<()> {
    let crashes = [
        // After the index was built, before that was written down.
        "DELETE FROM shardlift.applied; DELETE FROM shardlift.intent WHERE position = 3; \
         ALTER TABLE items DROP COLUMN three; UPDATE shardlift.intent SET done = false WHERE position = 2",
        // While it was being built.
        "DELETE FROM shardlift.applied; ALTER TABLE items DROP COLUMN three; \
         UPDATE shardlift.intent SET done = false WHERE position = 2; \
         UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'items_one'::regclass",
        // Before it was begun.
        "DELETE FROM shardlift.applied; ALTER TABLE items DROP COLUMN three; DROP INDEX items_one; \
         DELETE FROM shardlift.intent WHERE position = 2",
    ];
    for crash in crashes {
        let bench = PostgresBench::start().await?;
        let job = job(&MIXED);
        apply(&bench, &job, 1).await?;
        bench.execute(crash).await?;
        ensure!(!apply(&bench, &job, 2).await?, "{crash}");
        ensure!(columns(&bench).await? == "one,two,three", "{crash}");
        let valid = "SELECT count(*)::text FROM pg_index WHERE indrelid = 'items'::regclass AND indisvalid";
        ensure!(bench.value(valid).await? == "2", "{crash}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_index_that_cannot_be_built_leaves_nothing_behind() -> Result<()> {
    let bench = PostgresBench::start().await?;
    bench.add(1..=10).await?;
    let job = job(&["CREATE UNIQUE INDEX CONCURRENTLY items_applied ON items (applied)"]);
    let refused = failure(apply(&bench, &job, 1).await);
    ensure!(refused.code == ErrorCode::SchemaFailed, "{refused:?}");
    ensure!(bench.value("SELECT to_regclass('items_applied')::text").await? == "NULL");
    bench.execute("UPDATE items SET applied = id").await?;
    apply(&bench, &job, 2).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_holds_the_lock_is_named_and_nobody_waits_behind_us() -> Result<()> {
    let bench = PostgresBench::start().await?;
    let mut other = bench.connect().await?;
    sqlx::query("SET application_name = 'the report'").execute(&mut other).await?;
    let mut held = other.begin().await?;
    sqlx::query("SELECT count(*) FROM items").execute(&mut *held).await?;
    let job = job(&["ALTER TABLE items ADD COLUMN one int"]);
    let refused = failure(apply(&bench, &job, 1).await);
    ensure!(refused.code == ErrorCode::SchemaLocked && refused.retryable(), "{refused:?}");
    ensure!(
        refused.message.contains("the report") && refused.message.contains("idle in transaction"),
        "{refused:?}"
    );
    held.commit().await?;
    ensure!(!apply(&bench, &job, 2).await?);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lock_is_not_held_longer_than_allowed() -> Result<()> {
    let bench = PostgresBench::start().await?;
    let mut job = job(&["LOCK TABLE items", "SELECT pg_sleep(30)"]);
    job.schema.hold_timeout = Duration::from_millis(300);
    let refused = failure(apply(&bench, &job, 1).await);
    ensure!(refused.code == ErrorCode::SchemaFailed && refused.next.contains("hold_timeout"), "{refused:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_older_leader_applies_nothing() -> Result<()> {
    let bench = PostgresBench::start().await?;
    apply(&bench, &job(&["SELECT 1"]), 1).await?;
    bench.execute("UPDATE shardlift.fence SET epoch = 9; DELETE FROM shardlift.applied").await?;
    let refused = failure(apply(&bench, &job(&["SELECT 1"]), 1).await);
    ensure!(refused.code == ErrorCode::FenceStale, "{refused:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_taken_back_is_not_said_to_be_applied_by_a_store_that_does_not_know() -> Result<()> {
    let bench = PostgresBench::start().await?;
    let mut job = job(&["ALTER TABLE items ADD COLUMN one int"]);
    job.schema.down = SchemaChange::Sql(vec!["ALTER TABLE items DROP COLUMN one".to_owned()]);
    ensure!(!apply(&bench, &job, 1).await?);
    bench.engine().undo_schema(&lease(&leader(1, "a"), Step::Undo, 2), &job, true).await?;
    let refused = failure(apply(&bench, &job, 3).await);
    ensure!(
        refused.code == ErrorCode::LedgerConflict && refused.message.contains("taken back"),
        "{refused:?}"
    );
    ensure!(columns(&bench).await? == "NULL", "nothing came again");
    Ok(())
}
