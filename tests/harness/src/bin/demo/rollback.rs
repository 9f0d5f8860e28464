//! The story of a bad transform: it ends with its canary, is taken back there, and comes again as its next version.

use std::time::Duration;

use anyhow::{Result, ensure};
use sqlx::Connection;

use crate::phase::phase;
use crate::stage::{SHARDS, Stage};

/// The smallest shard: it goes first.
const CANARY: usize = 2;
const ROWS: [u32; 4] = [30_000, 20_000, 2_000, 10_000];
const ID: &str = "0001_attachment_bytes";
const PATIENCE: Duration = Duration::from_secs(120);

/// Plays it.
pub(crate) async fn story() -> Result<()> {
    println!("A transform with a mistake reaches one shard of four, and nothing of it stays.\n");
    let stage = Stage::start(attachments).await?;
    tell(&stage).await?;

    println!("\nattachments.bytes is to be filled. A kilobyte has 1024 bytes, but the spec says 100:");
    let mistaken = spec("kilobytes * 100");
    println!("\n{mistaken}");
    stage.write(&mistaken)?;
    stage.apply().await?;
    let halted = stage.installation.wait_status(ID, "paused", PATIENCE);
    phase("the canary is changed, then verified", halted).await?;
    stage.show(&["status", ID], 0).await?;
    tell(&stage).await?;
    ensure!(changed(&stage).await? == [0, 0, ROWS[CANARY], 0], "other shards than the canary were touched");

    let update = "UPDATE attachments SET kilobytes = 2, bytes = 2048 WHERE id = 7";
    sqlx::query(update).execute(&mut stage.session(CANARY).await?).await?;
    println!("\nMeanwhile the application writes to attachment 7 of the canary by itself: bytes = 2048.");

    println!("\n$ shardlift rollback {ID} --yes");
    stage.cli(&["rollback", ID, "--yes"], 0).await?;
    let undone = stage.installation.wait_status(ID, "rolled_back", PATIENCE);
    phase("the canary gets its old values back", undone).await?;
    // 8: some rows were left alone.
    stage.show(&["conflicts", ID], 8).await?;
    tell(&stage).await?;
    ensure!(changed(&stage).await? == [0, 0, 1, 0], "something else stayed than what the application wrote");

    println!("\nThe mistake is mended: kilobytes * 1024. The same id is now its next version.");
    stage.write(&spec("kilobytes * 1024"))?;
    stage.apply().await?;
    let done = stage.installation.wait_status(ID, "completed", PATIENCE);
    let status = phase("it goes through all waves, each verified before the next", done).await?;
    stage.show(&["status", ID], 0).await?;
    tell(&stage).await?;
    ensure!(status["version"] == 2, "{status:#}");
    ensure!(changed(&stage).await? == ROWS && wrong(&stage).await? == 0, "rows are wrong");
    println!(
        "\nEvery attachment has its bytes, the application's own value included; the mistake has left no trace."
    );
    Ok(())
}

fn attachments(number: usize) -> String {
    let rows = ROWS[number];
    format!(
        "CREATE TABLE attachments (id bigint PRIMARY KEY, kilobytes integer NOT NULL, bytes bigint); \
         INSERT INTO attachments SELECT n, n % 900 + 1 FROM generate_series(1, {rows}) AS s (n); ANALYZE attachments"
    )
}

/// The spec with this expression.
fn spec(bytes: &str) -> String {
    format!(
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
    )
}

/// One figure of each shard, asked past Shardlift.
async fn count(stage: &Stage, which: &'static str) -> Result<[u32; 4]> {
    let mut counts = [0; 4];
    for (number, count) in counts.iter_mut().enumerate() {
        let mut session = stage.session(number).await?;
        let rows: i64 = sqlx::query_scalar(which).fetch_one(&mut session).await?;
        *count = u32::try_from(rows)?;
        session.close().await?;
    }
    Ok(counts)
}

/// How many rows of each shard have bytes.
async fn changed(stage: &Stage) -> Result<[u32; 4]> {
    count(stage, "SELECT count(bytes) FROM attachments").await
}

/// How many rows have other bytes than they should have.
async fn wrong(stage: &Stage) -> Result<u32> {
    let wrong = "SELECT count(*) FROM attachments WHERE bytes IS DISTINCT FROM kilobytes::bigint * 1024";
    Ok(count(stage, wrong).await?.into_iter().sum())
}

async fn tell(stage: &Stage) -> Result<()> {
    for ((shard, rows), changed) in SHARDS.into_iter().zip(ROWS).zip(changed(stage).await?) {
        println!("  {shard}  {changed:>6} of {rows:>6} attachments have bytes");
    }
    Ok(())
}
