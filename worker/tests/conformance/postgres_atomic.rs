//! Two-phase commit on one shard: what is prepared is ended by who may, and by nobody else.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, ensure};
use shardlift_domain::failure::ErrorCode;
use shardlift_domain::migration::Step;
use shardlift_domain::spec::SchemaChange;
use shardlift_worker::engine::{EngineError, Job, SchemaJob};
use shardlift_worker::lease::TaskLease;
use sqlx::Connection;

use super::bench::{Bench, failure, leader, lease};
use super::postgres::PostgresBench;
use super::postgres_schema::job;

/// A shard of an installation of its own: names of prepared transactions are unique in the whole server.
async fn start(number: u32) -> Result<(PostgresBench, String)> {
    let bench = PostgresBench::start().await?;
    let uuid = format!("6f1f3a52-0000-4000-8000-1000000000{number:02}");
    bench.execute(&format!("UPDATE shardlift.identity SET cluster_uuid = '{uuid}'")).await?;
    Ok((bench, uuid))
}

fn column() -> SchemaJob {
    let mut job = job(&["ALTER TABLE items ADD COLUMN one int"]);
    job.schema.atomic = true;
    job
}

fn of(epoch: u64, attempt: u32, step: Step) -> TaskLease {
    lease(&leader(epoch, "a"), step, attempt)
}

async fn prepare(bench: &PostgresBench, epoch: u64, attempt: u32) -> Result<(), EngineError> {
    bench.engine().prepare(&of(epoch, attempt, Step::Prepare), &column()).await
}

async fn abort(bench: &PostgresBench, epoch: u64, attempt: u32) -> Result<(), EngineError> {
    bench.engine().abort(&of(epoch, attempt, Step::Abort), &column()).await
}

async fn commit(bench: &PostgresBench, epoch: u64, attempt: u32) -> Result<(), EngineError> {
    bench.engine().commit(&of(epoch, attempt, Step::Commit), &column()).await
}

/// Whether the column is there.
async fn changed(bench: &PostgresBench) -> Result<bool> {
    let there =
        "SELECT count(*)::text FROM pg_attribute WHERE attrelid = 'items'::regclass AND attname = 'one'";
    Ok(bench.value(there).await? == "1")
}

/// Names of what is prepared, without the installation.
async fn prepared(bench: &PostgresBench) -> Result<String> {
    let names = "SELECT coalesce(string_agg(gid, ' ' ORDER BY gid), '') FROM pg_prepared_xacts \
                 WHERE database = current_database()";
    Ok(bench
        .value(names)
        .await?
        .split(' ')
        .filter_map(|gid| gid.splitn(3, ':').nth(2))
        .collect::<Vec<_>>()
        .join(" "))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_prepared_is_seen_by_nobody_until_it_is_committed() -> Result<()> {
    let (bench, _) = start(1).await?;
    bench.engine().precheck(&of(1, 1, Step::Precheck), &Job::Schema(column())).await?;
    prepare(&bench, 1, 2).await?;
    ensure!(prepared(&bench).await? == "0001_items@1:chat-01:1.2" && !changed(&bench).await?);
    let told = bench.engine().prepared(false).await?;
    let named = told[0].named.as_ref().expect("ours");
    ensure!(
        named.key().expect("short").to_string() == "0001_items@1" && named.token.epoch.0 == 1,
        "{told:?}"
    );
    ensure!(told[0].locks.contains(&"AccessExclusiveLock public.items".to_owned()), "{told:?}");
    commit(&bench, 1, 3).await?;
    commit(&bench, 2, 1).await?;
    ensure!(prepared(&bench).await?.is_empty() && changed(&bench).await?);
    let report = bench.engine().verify(&of(1, 4, Step::Verify), &Job::Schema(column())).await?;
    ensure!(report.passed(), "{report:?}");
    prepare(&bench, 2, 2).await?;
    ensure!(prepared(&bench).await?.is_empty(), "the ledger has it");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_next_hand_out_prepares_anew_what_was_not_reported() -> Result<()> {
    let (bench, _) = start(2).await?;
    prepare(&bench, 1, 2).await?;
    prepare(&bench, 1, 3).await?;
    ensure!(prepared(&bench).await? == "0001_items@1:chat-01:1.3");
    prepare(&bench, 2, 1).await?;
    ensure!(prepared(&bench).await? == "0001_items@1:chat-01:2.1", "a newer leader");
    ensure!(matches!(prepare(&bench, 1, 9).await, Err(EngineError::LeaseLost)), "an older one does not");
    ensure!(matches!(abort(&bench, 1, 9).await, Err(EngineError::LeaseLost)), "nor does it roll back");
    ensure!(prepared(&bench).await? == "0001_items@1:chat-01:2.1");
    abort(&bench, 2, 2).await?;
    ensure!(prepared(&bench).await?.is_empty() && !changed(&bench).await?);
    ensure!(matches!(prepare(&bench, 2, 1).await, Err(EngineError::LeaseLost)), "it was given up");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_prepare_that_is_under_way_does_not_slip_in_after_the_abort() -> Result<()> {
    for epoch in [1, 2] {
        let (bench, _) = start(20 + u32::try_from(epoch)?).await?;
        let bench = Arc::new(bench);
        let mut other = bench.connect().await?;
        let mut held = other.begin().await?;
        sqlx::query("LOCK TABLE items").execute(&mut *held).await?;
        let zombie = Arc::clone(&bench);
        let zombie = tokio::spawn(async move {
            let mut job = column();
            job.schema.lock_timeout = Duration::from_secs(60);
            zombie.engine().prepare(&of(1, 2, Step::Prepare), &job).await
        });
        bench.wait_for_lock().await?;
        abort(&bench, epoch, 3).await?;
        held.commit().await?;
        ensure!(zombie.await?.is_err(), "its session was ended");
        ensure!(prepared(&bench).await?.is_empty() && !changed(&bench).await?);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_old_order_changes_nothing_that_came_after_it() -> Result<()> {
    let (bench, _) = start(6).await?;
    prepare(&bench, 1, 2).await?;
    // Leader 1 has decided to commit; the store of leader 2 was restored from before that.
    prepare(&bench, 2, 1).await?;
    let late = failure(commit(&bench, 1, 3).await);
    ensure!(late.code == ErrorCode::FenceStale, "{late:?}");
    ensure!(prepared(&bench).await? == "0001_items@1:chat-01:2.1" && !changed(&bench).await?);
    abort(&bench, 2, 2).await?;
    let late = failure(commit(&bench, 1, 3).await);
    ensure!(late.code == ErrorCode::FenceStale && !changed(&bench).await?, "nor is it applied: {late:?}");
    ensure!(matches!(prepare(&bench, 2, 1).await, Err(EngineError::LeaseLost)), "it was given up");
    prepare(&bench, 2, 3).await?;
    ensure!(matches!(commit(&bench, 2, 2).await, Err(EngineError::LeaseLost)), "of an earlier round");
    ensure!(matches!(abort(&bench, 2, 2).await, Err(EngineError::LeaseLost)), "of an earlier round");
    ensure!(prepared(&bench).await? == "0001_items@1:chat-01:2.3");
    commit(&bench, 2, 4).await?;
    ensure!(matches!(abort(&bench, 2, 2).await, Err(EngineError::LeaseLost)));
    ensure!(changed(&bench).await? && prepared(&bench).await?.is_empty());
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_runs_twice_under_one_right_is_there_once() -> Result<()> {
    let (bench, _) = start(7).await?;
    abort(&bench, 1, 1).await?;
    abort(&bench, 1, 1).await?;
    prepare(&bench, 1, 2).await?;
    prepare(&bench, 1, 2).await?;
    ensure!(prepared(&bench).await? == "0001_items@1:chat-01:1.2" && !changed(&bench).await?);
    commit(&bench, 1, 3).await?;
    commit(&bench, 1, 3).await?;
    let entries = bench.value("SELECT count(*)::text FROM shardlift.applied").await?;
    ensure!(entries == "1" && changed(&bench).await? && prepared(&bench).await?.is_empty());
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_taken_back_is_not_prepared_again() -> Result<()> {
    let (bench, _) = start(8).await?;
    let mut job = column();
    job.schema.down = SchemaChange::Sql(vec!["ALTER TABLE items DROP COLUMN one".to_owned()]);
    prepare(&bench, 1, 2).await?;
    commit(&bench, 1, 3).await?;
    bench.engine().undo_schema(&of(1, 4, Step::Undo), &job, false).await?;
    ensure!(!changed(&bench).await?);
    let late = failure(prepare(&bench, 1, 5).await);
    ensure!(late.code == ErrorCode::LedgerConflict && late.message.contains("was taken back"), "{late:?}");
    commit(&bench, 1, 3).await?;
    ensure!(prepared(&bench).await?.is_empty() && !changed(&bench).await?, "nor does a late commit apply it");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_ours_is_never_touched() -> Result<()> {
    let (bench, uuid) = start(3).await?;
    let other_installation = uuid.replace("6f1f3a52", "00000000");
    let foreign = [
        "citus_0_1_2".to_owned(),
        format!("shardlift:{other_installation}:0001_items@1:chat-01:1.1"),
        format!("shardlift:{uuid}:0001_items@1:chat-011:1.1"),
        format!("shardlift:{uuid}:0001_items@11:chat-01:1.1"),
        format!("shardlift:{uuid}:0001_items@1:chat-01:1.1x"),
    ];
    for gid in &foreign {
        bench.execute(&format!("BEGIN; SELECT 1; PREPARE TRANSACTION '{gid}'")).await?;
    }
    prepare(&bench, 1, 2).await?;
    prepare(&bench, 2, 3).await?;
    abort(&bench, 3, 4).await?;
    prepare(&bench, 3, 5).await?;
    commit(&bench, 3, 6).await?;
    ensure!(changed(&bench).await?);
    let there: Vec<String> = bench.engine().prepared(true).await?.into_iter().map(|one| one.gid).collect();
    ensure!(foreign.iter().all(|gid| there.contains(gid)) && there.len() == foreign.len(), "{there:?}");
    let ours = bench.engine().prepared(false).await?;
    ensure!(ours.len() == 1 && ours[0].gid == foreign[3], "ours, though of another version: {ours:?}");
    for gid in &foreign {
        bench.execute(&format!("ROLLBACK PREPARED '{gid}'")).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_decided_is_done_though_somebody_rolled_it_back_by_hand() -> Result<()> {
    let (bench, uuid) = start(4).await?;
    prepare(&bench, 1, 2).await?;
    let gid = format!("shardlift:{uuid}:0001_items@1:chat-01:1.2");
    bench.execute(&format!("ROLLBACK PREPARED '{gid}'")).await?;
    commit(&bench, 1, 3).await?;
    ensure!(changed(&bench).await? && prepared(&bench).await?.is_empty());
    let refused = failure(abort(&bench, 1, 4).await);
    ensure!(refused.code == ErrorCode::LedgerConflict, "it is committed: {refused:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_prepared_leaves_nothing() -> Result<()> {
    let (bench, _) = start(5).await?;
    bench
        .execute(
            "CREATE FUNCTION f() RETURNS void LANGUAGE plpgsql AS $$ BEGIN CREATE TEMP TABLE x (); END $$",
        )
        .await?;
    let mut job = job(&["ALTER TABLE items ADD COLUMN one int", "SELECT f()"]);
    job.schema.atomic = true;
    let refused = failure(bench.engine().prepare(&of(1, 2, Step::Prepare), &job).await);
    ensure!(refused.code == ErrorCode::SchemaFailed && refused.message.contains("temporary"), "{refused:?}");
    ensure!(prepared(&bench).await?.is_empty() && !changed(&bench).await?);
    Ok(())
}
