//! The story of an atomic schema change: the coordinator is killed when half of the shards have committed.
//!
//! Nothing is staged inside of the programs: a report holds one shard's table, so that the decision waits; two workers are
//! stopped (SIGSTOP) before it falls; then the coordinator is killed (SIGKILL).

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde_json::Value;
use shardlift_harness::wait::wait_for_ok;
use sqlx::Connection;

use crate::phase::phase;
use crate::stage::{SHARDS, Stage};

/// Workers that stand still when the decision falls.
const STOPPED: [usize; 2] = [2, 3];
const ID: &str = "0001_message_priority";
const SPEC: &str = "id: 0001_message_priority
kind: schema
engine: postgres
cluster: chat
atomic: true
lock_timeout: 60s
up: [ALTER TABLE messages ADD COLUMN priority integer]
down: [ALTER TABLE messages DROP COLUMN priority]
";
const TABLE: &str = "CREATE TABLE messages (id bigint PRIMARY KEY, body text NOT NULL); \
                     INSERT INTO messages SELECT n, 'message ' || n FROM generate_series(1, 1000) AS s (n)";
const PATIENCE: Duration = Duration::from_secs(60);
/// What is promised for after a crash.
const RESOLVED: Duration = Duration::from_secs(60);

/// Plays it.
pub(crate) async fn story() -> Result<()> {
    println!("One schema change over {} shards: all of them make it, or none.\n", SHARDS.len());
    let stage = Stage::start(|_| TABLE.to_owned()).await?;
    println!("\n{SPEC}");
    stage.write(SPEC)?;
    half_of_them_commit(&stage).await?;
    tell(&stage).await?;
    carried_out(&stage).await
}

/// Up to the death of the coordinator: decided, and committed on two of four.
async fn half_of_them_commit(stage: &Stage) -> Result<()> {
    let mut report = stage.session(0).await?;
    let mut held = report.begin().await?;
    sqlx::query("SELECT count(*) FROM messages").execute(&mut *held).await?;
    println!("A report reads messages on chat-pg-01: the change cannot have its lock there yet.\n");
    stage.apply().await?;
    phase("the other three shards prepare the change and hold their locks", prepared(stage, &[1, 2, 3]))
        .await?;
    stage.show(&["indoubt"], 0).await?;

    for worker in STOPPED {
        stage.installation.worker(worker).process().pause();
    }
    println!("The workers of chat-pg-03 and chat-pg-04 are stopped: kill -STOP");
    held.commit().await?;
    println!("The report ends: chat-pg-01 prepares as the last one, and it is decided that all commit.\n");
    phase("chat-pg-01 and chat-pg-02 commit", changed(stage, 2)).await?;
    stage.installation.coordinator().kill9();
    println!("The coordinator is killed between the decision and the other commits: kill -9\n");
    Ok(())
}

/// From its return on.
async fn carried_out(stage: &Stage) -> Result<()> {
    println!("\nA coordinator is started on the same store. The two workers still stand still.\n");
    stage.installation.coordinator().restart().await?;
    phase("it takes over, and knows what was decided", decided(stage)).await?;
    stage.show(&["status", ID], 0).await?;
    println!("The two workers go on: kill -CONT\n");
    let there = Instant::now();
    for worker in STOPPED {
        stage.installation.worker(worker).process().resume();
    }
    phase("what was decided is carried out", changed(stage, SHARDS.len())).await?;
    let resolved = there.elapsed();
    stage.installation.wait_status(ID, "completed", PATIENCE).await?;
    tell(stage).await?;
    stage.show(&["indoubt"], 0).await?;
    ensure!(resolved <= RESOLVED, "it took {:.1} s", resolved.as_secs_f64());
    println!(
        "All {} shards have the change, none is in doubt: {:.1} s after a coordinator and every worker were there again \
         (promised: {} s).",
        SHARDS.len(),
        resolved.as_secs_f64(),
        RESOLVED.as_secs()
    );
    Ok(())
}

/// Waits until the coordinator knows that these shards have prepared.
async fn prepared(stage: &Stage, numbers: &[usize]) -> Result<()> {
    wait_for_ok("the shards to have prepared", PATIENCE, async || {
        let status = stage.installation.status(ID).await?;
        let waits = |number: &usize| {
            let mut told = status["shards"].as_array().into_iter().flatten();
            told.any(|part: &Value| part["shard"] == SHARDS[*number] && part["step"] == "commit")
        };
        ensure!(numbers.iter().all(waits), "{status:#}");
        Ok(())
    })
    .await
}

/// Waits until a coordinator leads that knows the decision.
async fn decided(stage: &Stage) -> Result<()> {
    wait_for_ok("a leader that knows the decision", PATIENCE, async || {
        let status = stage.installation.status(ID).await?;
        ensure!(status["decided"] == "commit", "{status:#}");
        Ok(())
    })
    .await
}

/// Waits until so many shards have the change.
async fn changed(stage: &Stage, wanted: usize) -> Result<()> {
    wait_for_ok("the shards to have committed", PATIENCE, async || {
        let mut there = 0;
        for number in 0..SHARDS.len() {
            there += usize::from(look(stage, number).await?.0);
        }
        ensure!(there == wanted, "{there} shards have it");
        Ok(())
    })
    .await
}

/// Whether the shard has the change, and how many transactions are prepared there; asked past Shardlift.
async fn look(stage: &Stage, number: usize) -> Result<(bool, i64)> {
    let mut session = stage.session(number).await?;
    let row: (bool, i64) = sqlx::query_as(
        "SELECT EXISTS (SELECT FROM pg_attribute WHERE attrelid = 'messages'::regclass AND attname = 'priority'), \
         (SELECT count(*) FROM pg_prepared_xacts WHERE database = current_database())",
    )
    .fetch_one(&mut session)
    .await?;
    session.close().await?;
    Ok(row)
}

async fn tell(stage: &Stage) -> Result<()> {
    for (number, shard) in SHARDS.into_iter().enumerate() {
        let (changed, prepared) = look(stage, number).await?;
        let says = match (changed, prepared) {
            (true, 0) => "has the new column",
            (false, 0) => "does not have the new column",
            (false, _) => "prepared, holds its lock, waits to hear the decision",
            (true, _) => "has the new column, and something prepared",
        };
        println!("  {shard}  {says}");
    }
    Ok(())
}
