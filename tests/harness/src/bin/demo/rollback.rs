//! The story of a bad transform: it ends with its canary, is taken back there, and comes again as its next version.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use shardlift_harness::installation::{Engine, Installation};
use shardlift_harness::servers::{Postgres, PostgresOptions};
use sqlx::{Connection, PgConnection};

use crate::phase::phase;

const SHARDS: [&str; 4] = ["chat-pg-01", "chat-pg-02", "chat-pg-03", "chat-pg-04"];
/// The smallest shard: it goes first.
const CANARY: usize = 2;
const ROWS: [u32; 4] = [30_000, 20_000, 2_000, 10_000];
const ID: &str = "0001_attachment_bytes";
const PATIENCE: Duration = Duration::from_secs(120);

struct Stage {
    server: Postgres,
    installation: Installation,
    specs: tempfile::TempDir,
}

/// Plays it.
pub(crate) async fn story() -> Result<()> {
    println!("A transform with a mistake reaches one shard of four, and nothing of it stays.\n");
    let stage =
        phase("starting PostgreSQL with 4 shards, a coordinator, a worker for each shard", set_up()).await?;
    stage.tell().await?;

    println!("\nattachments.bytes is to be filled. A kilobyte has 1024 bytes, but the spec says 100:");
    let wrong = stage.write("kilobytes * 100")?;
    println!("\n{wrong}");
    stage.cli(&["apply", stage.path()?, "--yes", "--no-watch"], 0).await?;
    let halted = stage.installation.wait_status(ID, "paused", PATIENCE);
    phase("the canary is changed, then verified", halted).await?;
    println!("\n$ shardlift status {ID}\n{}", stage.cli(&["status", ID], 0).await?);
    stage.tell().await?;
    ensure!(stage.changed().await? == [0, 0, ROWS[CANARY], 0], "other shards than the canary were touched");

    let update = "UPDATE attachments SET kilobytes = 2, bytes = 2048 WHERE id = 7";
    sqlx::query(update).execute(&mut stage.session(CANARY).await?).await?;
    println!("\nMeanwhile the application writes to attachment 7 of the canary by itself: bytes = 2048.");

    println!("\n$ shardlift rollback {ID} --yes");
    stage.cli(&["rollback", ID, "--yes"], 0).await?;
    let undone = stage.installation.wait_status(ID, "rolled_back", PATIENCE);
    phase("the canary gets its old values back", undone).await?;
    // 8: some rows were left alone.
    println!("\n$ shardlift conflicts {ID}\n{}", stage.cli(&["conflicts", ID], 8).await?);
    stage.tell().await?;
    ensure!(stage.changed().await? == [0, 0, 1, 0], "something else stayed than what the application wrote");

    println!("\nThe mistake is mended: kilobytes * 1024. The same id is now its next version.");
    stage.write("kilobytes * 1024")?;
    stage.cli(&["apply", stage.path()?, "--yes", "--no-watch"], 0).await?;
    let done = stage.installation.wait_status(ID, "completed", PATIENCE);
    let status = phase("it goes through all waves, each verified before the next", done).await?;
    println!("\n$ shardlift status {ID}\n{}", stage.cli(&["status", ID], 0).await?);
    stage.tell().await?;
    ensure!(status["version"] == 2, "{status:#}");
    ensure!(stage.changed().await? == ROWS && stage.wrong().await? == 0, "rows are wrong");
    println!(
        "\nEvery attachment has its bytes, the application's own value included; the mistake has left no trace."
    );
    Ok(())
}

async fn set_up() -> Result<Stage> {
    let server = Postgres::start_named("chat-pg", PostgresOptions::default()).await?;
    let mut builder = Installation::builder();
    for (number, shard) in SHARDS.into_iter().enumerate() {
        let dsn = server.create_database(&database(number)).await?;
        let mut session = PgConnection::connect(&dsn).await?;
        let rows = ROWS[number];
        let table = format!(
            "CREATE TABLE attachments (id bigint PRIMARY KEY, kilobytes integer NOT NULL, bytes bigint); \
             INSERT INTO attachments SELECT n, n % 900 + 1 FROM generate_series(1, {rows}) AS s (n); ANALYZE attachments"
        );
        sqlx::raw_sql(sqlx::AssertSqlSafe(table)).execute(&mut session).await?;
        session.close().await?;
        builder = builder.shard(shard, "chat", Engine::Postgres, &dsn);
    }
    let installation = builder.start().await?;
    installation.wait_connected().await?;
    Ok(Stage { server, installation, specs: tempfile::tempdir()? })
}

fn database(number: usize) -> String {
    format!("chat_{}", number + 1)
}

impl Stage {
    async fn session(&self, number: usize) -> Result<PgConnection> {
        Ok(PgConnection::connect(&self.server.dsn(&database(number))).await?)
    }

    fn path(&self) -> Result<&str> {
        self.specs.path().to_str().context("a path of the system's own")
    }

    /// Writes the spec with this expression, and gives its text.
    fn write(&self, bytes: &str) -> Result<String> {
        let spec = format!(
            "id: {ID}
kind: data
engine: postgres
cluster: chat
source: {{ table: attachments, where: bytes IS NULL }}
transform:
  sql: {{ bytes: {bytes} }}
undo: capture
rollout: [ {{ shards: 1, soak: 2s }}, {{ percent: 50 }}, {{ percent: 100 }} ]
verify:
  - remaining
  - sql: SELECT count(*) FROM attachments WHERE bytes <> kilobytes::bigint * 1024
    equals: 0
"
        );
        std::fs::write(self.specs.path().join("0001.yaml"), &spec)?;
        Ok(spec)
    }

    async fn cli(&self, args: &[&str], code: i32) -> Result<String> {
        let output = self.installation.cli(args).await?;
        ensure!(output.code == Some(code), "shardlift {}: {output:#?}", args.join(" "));
        Ok(output.stdout)
    }

    /// One figure of each shard, asked past Shardlift.
    async fn count(&self, which: &'static str) -> Result<[u32; 4]> {
        let mut counts = [0; 4];
        for (number, count) in counts.iter_mut().enumerate() {
            let mut session = self.session(number).await?;
            let rows: i64 = sqlx::query_scalar(which).fetch_one(&mut session).await?;
            *count = u32::try_from(rows)?;
            session.close().await?;
        }
        Ok(counts)
    }

    /// How many rows of each shard have bytes.
    async fn changed(&self) -> Result<[u32; 4]> {
        self.count("SELECT count(bytes) FROM attachments").await
    }

    /// How many rows have other bytes than they should have.
    async fn wrong(&self) -> Result<u32> {
        let wrong = "SELECT count(*) FROM attachments WHERE bytes IS DISTINCT FROM kilobytes::bigint * 1024";
        Ok(self.count(wrong).await?.into_iter().sum())
    }

    async fn tell(&self) -> Result<()> {
        for ((shard, rows), changed) in SHARDS.into_iter().zip(ROWS).zip(self.changed().await?) {
            println!("  {shard}  {changed:>6} of {rows:>6} attachments have bytes");
        }
        Ok(())
    }
}
