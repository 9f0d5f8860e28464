//! The story of an atomic schema change: the coordinator is killed when half of the shards have committed.
//!
//! Nothing is staged inside of the programs: a report holds one shard's table, so that the decision waits; two workers are
//! stopped (SIGSTOP) before it falls; then the coordinator is killed (SIGKILL).

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use shardlift_harness::installation::{Engine, Installation};
use shardlift_harness::servers::{Postgres, PostgresOptions};
use shardlift_harness::wait::wait_for_ok;
use sqlx::{Connection, PgConnection};

use crate::phase::phase;

const SHARDS: usize = 4;
/// Workers that stand still when the decision falls.
const STOPPED: [usize; 2] = [2, 3];
const ID: &str = "0001_message_priority";
const PATIENCE: Duration = Duration::from_secs(60);
/// What is promised for after a crash.
const RESOLVED: Duration = Duration::from_secs(60);

struct Stage {
    server: Postgres,
    installation: Installation,
    specs: tempfile::TempDir,
}

/// Plays it.
pub(crate) async fn story() -> Result<()> {
    println!("One schema change over {SHARDS} shards: all of them make it, or none.\n");
    let stage =
        phase("starting PostgreSQL with 4 shards, a coordinator, a worker for each shard", set_up()).await?;
    let mut report = PgConnection::connect(&stage.dsn(0)).await?;
    let mut held = report.begin().await?;
    sqlx::query("SELECT count(*) FROM messages").execute(&mut *held).await?;
    println!("A report reads messages on chat-pg-01: the change cannot have its lock there yet.\n");

    stage.cli(&["apply", stage.path()?, "--yes", "--no-watch"]).await?;
    phase("the other three shards prepare the change and hold their locks", stage.prepared(&[1, 2, 3]))
        .await?;
    println!("\n$ shardlift indoubt\n{}", stage.cli(&["indoubt"]).await?);

    for worker in STOPPED {
        stage.installation.worker(worker).process().pause();
    }
    println!("The workers of chat-pg-03 and chat-pg-04 are stopped: kill -STOP");
    held.commit().await?;
    println!("The report ends: chat-pg-01 prepares as the last one, and it is decided that all commit.");
    phase("chat-pg-01 and chat-pg-02 commit", stage.changed(2)).await?;
    stage.installation.coordinator().kill9();
    println!("The coordinator is killed between the decision and the other commits: kill -9\n");
    stage.tell().await?;

    println!("\nA new coordinator is started on the same store, and the two workers go on.");
    let crash = Instant::now();
    for worker in STOPPED {
        stage.installation.worker(worker).process().resume();
    }
    stage.installation.coordinator().restart().await?;
    phase("what was decided is carried out", stage.changed(SHARDS)).await?;
    let resolved = crash.elapsed();
    stage.installation.wait_status(ID, "completed", PATIENCE).await?;
    stage.tell().await?;
    println!("\n$ shardlift indoubt\n{}", stage.cli(&["indoubt"]).await?);
    ensure!(resolved <= RESOLVED, "it took {:.1} s", resolved.as_secs_f64());
    println!(
        "All {SHARDS} shards have the change, none is in doubt: {:.1} s after there was a coordinator again (promised: {} s).",
        resolved.as_secs_f64(),
        RESOLVED.as_secs()
    );
    Ok(())
}

async fn set_up() -> Result<Stage> {
    let server = Postgres::start_named("chat-pg", PostgresOptions::default()).await?;
    let mut builder = Installation::builder();
    for number in 0..SHARDS {
        let dsn = server.create_database(&database(number)).await?;
        let mut session = PgConnection::connect(&dsn).await?;
        let table = "CREATE TABLE messages (id bigint PRIMARY KEY, body text NOT NULL); \
                     INSERT INTO messages SELECT n, 'message ' || n FROM generate_series(1, 1000) AS s (n)";
        sqlx::raw_sql(table).execute(&mut session).await?;
        builder = builder.shard(&shard(number), "chat", Engine::Postgres, &dsn);
    }
    let installation = builder.start().await?;
    installation.wait_connected().await?;
    let specs = tempfile::tempdir()?;
    let spec = format!(
        "id: {ID}\nkind: schema\nengine: postgres\ncluster: chat\natomic: true\nlock_timeout: 60s\n\
         up: [ALTER TABLE messages ADD COLUMN priority integer]\ndown: [ALTER TABLE messages DROP COLUMN priority]\n"
    );
    std::fs::write(specs.path().join("0001.yaml"), spec)?;
    Ok(Stage { server, installation, specs })
}

fn shard(number: usize) -> String {
    format!("chat-pg-0{}", number + 1)
}

fn database(number: usize) -> String {
    format!("chat_{}", number + 1)
}

impl Stage {
    fn dsn(&self, number: usize) -> String {
        self.server.dsn(&database(number))
    }

    fn path(&self) -> Result<&str> {
        self.specs.path().to_str().context("a path of the system's own")
    }

    async fn cli(&self, args: &[&str]) -> Result<String> {
        let output = self.installation.cli(args).await?;
        ensure!(output.code == Some(0), "shardlift {}: {output:#?}", args.join(" "));
        Ok(output.stdout)
    }

    /// Waits until the coordinator knows that these shards have prepared.
    async fn prepared(&self, numbers: &[usize]) -> Result<()> {
        wait_for_ok("the shards to have prepared", PATIENCE, async || {
            let status = self.installation.status(ID).await?;
            let waits = |number: &usize| {
                let mut told = status["shards"].as_array().into_iter().flatten();
                told.any(|part: &Value| part["shard"] == shard(*number) && part["step"] == "commit")
            };
            ensure!(numbers.iter().all(waits), "{status:#}");
            Ok(())
        })
        .await
    }

    /// Waits until so many shards have the change.
    async fn changed(&self, wanted: usize) -> Result<()> {
        wait_for_ok("the shards to have committed", PATIENCE, async || {
            let mut there = 0;
            for number in 0..SHARDS {
                there += usize::from(self.look(number).await?.0);
            }
            ensure!(there == wanted, "{there} shards have it");
            Ok(())
        })
        .await
    }

    /// Whether the shard has the change, and how many transactions are prepared there; asked past Shardlift.
    async fn look(&self, number: usize) -> Result<(bool, i64)> {
        let mut session = PgConnection::connect(&self.dsn(number)).await?;
        let row: (bool, i64) = sqlx::query_as(
            "SELECT EXISTS (SELECT FROM pg_attribute WHERE attrelid = 'messages'::regclass AND attname = 'priority'), \
             (SELECT count(*) FROM pg_prepared_xacts WHERE database = current_database())",
        )
        .fetch_one(&mut session)
        .await?;
        session.close().await?;
        Ok(row)
    }

    async fn tell(&self) -> Result<()> {
        for number in 0..SHARDS {
            let (changed, prepared) = self.look(number).await?;
            let says = match (changed, prepared) {
                (true, 0) => "has the new column",
                (false, 0) => "does not have the new column",
                (false, _) => "prepared, holds its lock, waits to hear the decision",
                (true, _) => "has the new column, and something prepared",
            };
            println!("  {}  {says}", shard(number));
        }
        Ok(())
    }
}
