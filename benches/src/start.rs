//! S14: how soon work begins, and how soon a finished plan says so.

use std::fmt::Write as _;
use std::time::Instant;

use anyhow::{Result, ensure};
use shardlift_harness::installation::{Engine, Installation};
use shardlift_harness::servers::{Postgres, PostgresOptions};

use crate::figure::{Figure, Goal};
use crate::postgres::{Bench, ONE};
use crate::run::write;

const SHARDS: usize = 100;

/// S14: from `apply` to the first batch; and applying a finished plan of 100 shards again.
pub(crate) async fn s14(runs: usize) -> Result<Vec<Figure>> {
    const ROWS: u64 = 100_000;
    let mut bench = Bench::start().await?;
    bench.seed(ROWS).await?;
    let mut first = Vec::new();
    for _ in 0..runs {
        first.push(bench.migrated(ONE).await?.first_batch.as_secs_f64());
    }
    drop(bench);
    let again = again(runs).await?;
    println!("S14: first batch after {first:.2?} s; a finished plan of {SHARDS} shards again {again:.2?} s");
    let figure = |name, goal, runs, against, rows| Figure { name, goal, runs, against, rows };
    Ok(vec![
        figure("S14", Goal::AtMost(2.0), first, "seconds from apply to the first batch", ROWS),
        figure("S14b", Goal::AtMost(1.0), again, "seconds to apply a finished plan of 100 shards again", 0),
    ])
}

async fn again(runs: usize) -> Result<Vec<f64>> {
    let server =
        Postgres::start_with(PostgresOptions::default().durable().set("max_connections", "800")).await?;
    let mut builder = Installation::builder();
    for shard in 0..SHARDS {
        let dsn = server.create_database(&format!("bench{shard:03}")).await?;
        builder = builder.shard(&format!("bench-{shard:03}"), "bench", Engine::Postgres, &dsn);
    }
    let installation = builder.start().await?;
    let mut spec = String::from("id: table\nkind: schema\nengine: postgres\ncluster: bench\n");
    writeln!(spec, "up: [\"CREATE TABLE items (id bigint PRIMARY KEY)\"]\ndown: [\"DROP TABLE items\"]")?;
    let folder = write(&installation, "table", &spec)?.display().to_string();
    let mut took = Vec::new();
    for run in 0..=runs {
        let began = Instant::now();
        let applied = installation.cli(&["apply", &folder, "--yes"]).await?;
        ensure!(applied.code == Some(0), "apply failed: {}{}", applied.stdout, applied.stderr);
        // The first one does the work.
        if run > 0 {
            took.push(began.elapsed().as_secs_f64());
        }
    }
    Ok(took)
}
