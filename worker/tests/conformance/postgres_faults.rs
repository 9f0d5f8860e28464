//! The network and the server fail in the middle of a batch: the next claim knows what became of it.

use std::time::Duration;

use anyhow::{Result, ensure};
use shardlift_domain::spec::Undo;
use shardlift_harness::proxy::{Cut, Proxy};
use shardlift_harness::servers::{Postgres, shared_postgres_server};
use shardlift_harness::wait::wait_for_ok;
use shardlift_worker::engine::EngineError;
use sqlx::Connection;

use super::bench::{Bench, Form, leader, range_lease};
use super::drive::{exactly_once, finish, open, split};
use super::postgres::PostgresBench;
use super::undo::capturing;

/// The last key of the second batch: only the statement that commits it says it.
const SECOND: &str = "200";

/// Two batches of 100; the cut hits the second. Answers how many rows had been seen when the range was claimed again.
async fn seen_after(form: Form, undo: Undo, cut: Cut) -> Result<u64> {
    let bench = PostgresBench::start().await?;
    bench.add(1..=500).await?;
    let address = format!("127.0.0.1:{}", shared_postgres_server().await?.port());
    let proxy = Proxy::start(address.clone()).await?;
    let far = PostgresBench { dsn: proxy.instead_of(&address, &bench.dsn) };
    let job = match undo {
        Undo::None => bench.job(form),
        Undo::Capture => capturing(&bench.job(form)),
    };
    let (near, leader) = (bench.engine(), leader(1, "a"));
    split(&*near, &leader, &job, 1).await?;
    let lease = range_lease(&leader, 0, 1);
    let mut writer = open(&*far.engine(), &lease, &job).await?;
    writer.run_batch(&lease, 100).await?;
    // The batch waits in its middle until the cut is armed, so that nothing of the first one can trigger it.
    let mut other = bench.connect().await?;
    let mut held = other.begin().await?;
    sqlx::query("SELECT FROM items WHERE id = 150 FOR UPDATE").execute(&mut *held).await?;
    // Of batches that end with a statement of their own, it is that one that the cut hits.
    let commits = form == Form::Worker || undo == Undo::Capture;
    let arm = async {
        if commits {
            bench.wait_for_lock().await?;
        }
        proxy.cut(cut);
        Ok::<(), anyhow::Error>(held.rollback().await?)
    };
    let (outcome, armed) = if commits {
        tokio::join!(writer.run_batch(&lease, 100), arm)
    } else {
        let armed = arm.await;
        (writer.run_batch(&lease, 100).await, armed)
    };
    armed?;
    ensure!(matches!(outcome, Err(EngineError::Connection(_))), "{outcome:?}");
    ensure!(proxy.cuts() == 1);
    let again = writer.run_batch(&lease, 100).await;
    ensure!(matches!(again, Err(EngineError::Connection(_))), "it went on without knowing: {again:?}");
    let mut writer = open(&*near, &lease, &job).await?;
    let seen = writer.state().seen;
    finish(writer.as_mut(), &lease, 100).await?;
    exactly_once(&bench).await?;
    Ok(seen)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reply_that_is_lost_after_the_commit_is_not_done_again() -> Result<()> {
    ensure!(seen_after(Form::Everything, Undo::None, Cut::after(SECOND)).await? == 200);
    for (form, undo) in [(Form::Worker, Undo::None), (Form::Everything, Undo::Capture)] {
        ensure!(seen_after(form, undo, Cut::after("COMMIT")).await? == 200);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_is_lost_leaves_nothing() -> Result<()> {
    ensure!(seen_after(Form::Everything, Undo::None, Cut::before(SECOND)).await? == 100);
    for (form, undo) in [(Form::Worker, Undo::None), (Form::Everything, Undo::Capture)] {
        ensure!(seen_after(form, undo, Cut::before("COMMIT")).await? == 100);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_killed_and_started_again_loses_nothing() -> Result<()> {
    let server = Postgres::start().await?;
    let bench = PostgresBench { dsn: server.create_database("chat").await? };
    bench.create().await?;
    bench.add(1..=3_000).await?;
    let (engine, leader) = (bench.engine(), leader(1, "a"));
    let job = bench.job(Form::Everything);
    split(&*engine, &leader, &job, 1).await?;
    let lease = range_lease(&leader, 0, 1);
    for _ in 0..2 {
        let mut writer = open(&*engine, &lease, &job).await?;
        writer.run_batch(&lease, 200).await?;
        let batches = async { while writer.run_batch(&lease, 20).await.is_ok() && !writer.state().done {} };
        let kill = async { server.kill9() };
        tokio::join!(batches, kill);
        ensure!(!writer.state().done, "it was killed too late to prove anything");
        // Its sessions notice the end of the server a moment later, and it does not start beside them.
        wait_for_ok("PostgreSQL to start again", Duration::from_secs(30), async || server.restart().await)
            .await?;
    }
    let mut writer = open(&*engine, &lease, &job).await?;
    finish(writer.as_mut(), &lease, 500).await?;
    exactly_once(&bench).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_written_under_a_lease_that_is_over() -> Result<()> {
    let bench = PostgresBench::start().await?;
    bench.add(1..=10).await?;
    let (engine, job, leader) = (bench.engine(), bench.job(Form::Everything), leader(1, "a"));
    split(&*engine, &leader, &job, 1).await?;
    let lease = range_lease(&leader, 0, 1);
    let mut writer = open(&*engine, &lease, &job).await?;
    lease.withdraw();
    ensure!(matches!(writer.run_batch(&lease, 5).await, Err(EngineError::LeaseLost)));
    ensure!(matches!(open(&*engine, &lease, &job).await, Err(EngineError::LeaseLost)));
    ensure!(bench.items().await?.iter().all(|item| item.applied == 0));
    Ok(())
}
