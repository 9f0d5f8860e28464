//! S1, S3, S7 and S15: an SQL transform through the whole path, against one raw UPDATE of the same table, itself on a table of
//! another size, itself with before-images, and itself with a broker that is told of it.

use std::time::{Duration, Instant};

use anyhow::Result;
use shardlift_harness::installation::{Engine, Installation};
use shardlift_harness::servers::{Postgres, PostgresOptions, RabbitMq};
use sqlx::{Connection, PgConnection};

use crate::figure::{Figure, Goal};
use crate::run::{Ranges, apply};

const SHARD: &str = "bench-pg";
const SET: &str = "body = body || '.', applied = applied + 1, migrated = true";

/// The secondary index of the table: an update that cannot be done in place writes to it, too.
#[derive(Debug, Clone, Copy)]
enum Index {
    /// Its order is that of the key, as of a time of creation.
    Ordered,
    /// Few values, each all over the table: the database pays for it in small transactions more than in one large.
    Scattered,
}

/// One durable server with one shard.
pub(crate) struct Bench {
    connection: PgConnection,
    pub(crate) installation: Installation,
    index: Index,
    runs: u32,
    // Dropped last: the installation uses it.
    _server: Postgres,
}

impl Bench {
    /// Starts everything.
    pub(crate) async fn start() -> Result<Self> {
        Self::start_with("").await
    }

    /// The same with more in the coordinator's configuration.
    async fn start_with(config: &str) -> Result<Self> {
        let options = PostgresOptions::default()
            .durable()
            .set("shared_buffers", "512MB")
            .set("max_wal_size", "8GB")
            .set("checkpoint_timeout", "30min")
            .set("autovacuum", "off");
        let server = Postgres::start_with(options).await?;
        let dsn = server.create_database("bench").await?;
        let installation = Installation::builder()
            .shard(SHARD, "bench", Engine::Postgres, &dsn)
            .coordinator_config(config)
            .start()
            .await?;
        Ok(Self {
            connection: PgConnection::connect(&dsn).await?,
            installation,
            index: Index::Ordered,
            runs: 0,
            _server: server,
        })
    }

    async fn sql(&mut self, text: &'static str) -> Result<()> {
        sqlx::raw_sql(text).execute(&mut self.connection).await?;
        Ok(())
    }

    /// Rows of about 150 B. `tenant` is scattered over the keys, `created_at` grows with them.
    pub(crate) async fn seed(&mut self, rows: u64) -> Result<()> {
        self.sql("DROP TABLE IF EXISTS seed; CREATE UNLOGGED TABLE seed (id bigint, tenant int, created_at timestamptz, body text, applied int, migrated boolean)")
            .await?;
        sqlx::query("INSERT INTO seed SELECT id, id % 977, timestamptz '2026-01-01' + id * interval '1 second', repeat(md5(id::text), 3), 0, false FROM generate_series(1, $1) id")
            .bind(i64::try_from(rows)?)
            .execute(&mut self.connection)
            .await?;
        Ok(())
    }

    /// The table as it was before any migration, with a primary key and one secondary index.
    pub(crate) async fn fresh(&mut self) -> Result<()> {
        self.sql(
            "DROP TABLE IF EXISTS items; \
             CREATE TABLE items (id bigint PRIMARY KEY, tenant int NOT NULL, created_at timestamptz NOT NULL, \
             body text, applied int NOT NULL, migrated boolean NOT NULL); \
             INSERT INTO items SELECT * FROM seed",
        )
        .await?;
        match self.index {
            Index::Ordered => self.sql("CREATE INDEX ON items (created_at)").await?,
            Index::Scattered => self.sql("CREATE INDEX ON items (tenant)").await?,
        }
        self.sql("VACUUM ANALYZE items").await?;
        self.sql("CHECKPOINT").await
    }

    async fn raw(&mut self) -> Result<Duration> {
        self.fresh().await?;
        let began = Instant::now();
        sqlx::query(sqlx::AssertSqlSafe(format!("UPDATE items SET {SET} WHERE NOT migrated")))
            .execute(&mut self.connection)
            .await?;
        Ok(began.elapsed())
    }

    /// The migration on a fresh table; how long its backfill took, and when its first batch was there.
    pub(crate) async fn migrated(&mut self, parallel: &str) -> Result<crate::run::Took> {
        self.fresh().await?;
        self.runs += 1;
        let id = format!("run_{:03}", self.runs);
        let spec = format!(
            "id: {id}\nkind: data\nengine: postgres\ncluster: bench\nsource: {{ table: items, where: not migrated }}\n\
             transform: {{ sql: {{ body: \"body || '.'\", applied: applied + 1, migrated: \"true\" }} }}\n{parallel}"
        );
        let connection = &mut self.connection;
        apply(&self.installation, &id, &spec, async || ranges(connection, &id).await).await
    }
}

async fn ranges(connection: &mut PgConnection, id: &str) -> Result<Ranges> {
    let there: bool = sqlx::query_scalar("SELECT to_regclass('shardlift.checkpoint') IS NOT NULL")
        .fetch_one(&mut *connection)
        .await?;
    if !there {
        return Ok(Ranges::default());
    }
    let (all, claimed, done, batches, walked) = sqlx::query_as(
        "SELECT count(*), count(*) FILTER (WHERE epoch > 0), count(*) FILTER (WHERE done), coalesce(sum(batches), 0)::bigint, \
         (SELECT bool_and(v.done) FROM shardlift.verifying v WHERE v.migration = $1) \
         FROM shardlift.checkpoint WHERE migration = $1",
    )
    .bind(id)
    .fetch_one(connection)
    .await?;
    Ok(Ranges { all, claimed, done, batches, walked })
}

/// One range at a time, on one connection.
pub(crate) const ONE: &str = "parallel: { ranges: 1, workers: 1 }\n";

/// S1: one connection, and default parallelism; S1c: one connection with the other kind of index.
pub(crate) async fn s1(rows: u64, runs: usize) -> Result<Vec<Figure>> {
    let mut bench = Bench::start().await?;
    bench.seed(rows).await?;
    let (mut one, mut default, mut scattered) = (Vec::new(), Vec::new(), Vec::new());
    for run in 1..=runs {
        let raw = bench.raw().await?.as_secs_f64();
        let single = bench.migrated(ONE).await?.backfill.as_secs_f64();
        let parallel = bench.migrated("").await?.backfill.as_secs_f64();
        println!(
            "S1 run {run}: raw {raw:.2} s, one connection {single:.2} s, default parallelism {parallel:.2} s"
        );
        one.push(raw / single);
        default.push(raw / parallel);
        bench.index = Index::Scattered;
        let raw = bench.raw().await?.as_secs_f64();
        let single = bench.migrated(ONE).await?.backfill.as_secs_f64();
        println!("S1c run {run}: with a scattered index raw {raw:.2} s, one connection {single:.2} s");
        scattered.push(raw / single);
        bench.index = Index::Ordered;
    }
    let figure = |name, goal, runs, against| Figure { name, goal: Goal::AtLeast(goal), runs, against, rows };
    Ok(vec![
        figure("S1", 0.95, one, "rows/s of one raw UPDATE"),
        figure("S1b", 1.30, default, "rows/s of one raw UPDATE"),
        figure(
            "S1c",
            0.95,
            scattered,
            "rows/s of one raw UPDATE, with a secondary index scattered over the keys",
        ),
    ])
}

/// S3: as fast on a large table as on a small one.
pub(crate) async fn s3(runs: usize) -> Result<Figure> {
    const SMALL: u64 = 100_000;
    const LARGE: u64 = 2_000_000;
    let mut bench = Bench::start().await?;
    let mut ratios = Vec::new();
    for run in 1..=runs {
        bench.seed(SMALL).await?;
        let mut small = Vec::new();
        for _ in 0..5 {
            small.push(bench.migrated(ONE).await?.backfill.as_secs_f64());
        }
        let small = SMALL as f64 / crate::figure::median(&small);
        bench.seed(LARGE).await?;
        let large = LARGE as f64 / bench.migrated(ONE).await?.backfill.as_secs_f64();
        println!("S3 run {run}: {small:.0} rows/s at 100 k, {large:.0} rows/s at 2 M");
        ratios.push(large / small);
    }
    Ok(Figure {
        name: "S3",
        goal: Goal::AtLeast(0.95),
        runs: ratios,
        against: "rows/s at 100 k rows",
        rows: LARGE,
    })
}

/// Before-images, and a verification of all of them by evaluating the transform anew.
pub(crate) const ONE_ANEW: &str =
    "parallel: { ranges: 1, workers: 1 }\nundo: capture\nverify: [remaining, { transform: all }]\n";
/// The same by digests.
pub(crate) const ONE_DIGEST: &str =
    "parallel: { ranges: 1, workers: 1 }\nundo: capture\nverify: [remaining, digest]\n";

/// S7: what before-images leave of the speed, on one connection; S7c and S7e: how long their verification takes, of the
/// backfill's time.
pub(crate) async fn s7(rows: u64, runs: usize) -> Result<Vec<Figure>> {
    let mut bench = Bench::start().await?;
    bench.seed(rows).await?;
    let (mut ratios, mut anew, mut digest) = (Vec::new(), Vec::new(), Vec::new());
    for run in 1..=runs {
        let without = bench.migrated(ONE).await?.backfill.as_secs_f64();
        let first = bench.migrated(ONE_ANEW).await?;
        let second = bench.migrated(ONE_DIGEST).await?;
        let with = (first.backfill.as_secs_f64() + second.backfill.as_secs_f64()) / 2.0;
        println!(
            "S7 run {run}: {without:.2} s, with before-images {with:.2} s; verified anew in {:.2} s, by digests in {:.2} s",
            first.walk.as_secs_f64(),
            second.walk.as_secs_f64(),
        );
        ratios.push(without / with);
        anew.push(first.walk.as_secs_f64() / with);
        digest.push(second.walk.as_secs_f64() / with);
    }
    let against = "rows/s of the same migration without before-images";
    Ok(vec![
        Figure { name: "S7", goal: Goal::AtLeast(0.85), runs: ratios, against, rows },
        verification("S7c", anew, rows),
        verification("S7e", digest, rows),
    ])
}

/// How long a verification of all rows takes, of the backfill's time.
pub(crate) fn verification(name: &'static str, runs: Vec<f64>, rows: u64) -> Figure {
    Figure { name, goal: Goal::AtMost(0.15), runs, against: "time of the backfill with before-images", rows }
}

/// S15: what is left of the speed when a RabbitMQ is told of everything, of progress four times a second.
pub(crate) async fn s15(rows: u64, runs: usize) -> Result<Figure> {
    let broker = RabbitMq::start().await?;
    let config =
        format!("[broker]\nkind = \"rabbitmq\"\nurl = \"{}\"\nprogress_every_ms = 250", broker.url());
    let (mut silent, mut telling) = (Bench::start().await?, Bench::start_with(&config).await?);
    silent.seed(rows).await?;
    telling.seed(rows).await?;
    let mut ratios = Vec::new();
    for run in 1..=runs {
        let without = silent.migrated(ONE).await?.backfill.as_secs_f64();
        let with = telling.migrated(ONE).await?.backfill.as_secs_f64();
        println!("S15 run {run}: {without:.2} s, with a broker {with:.2} s");
        ratios.push(without / with);
    }
    let against = "rows/s of the same migration without a broker";
    Ok(Figure { name: "S15", goal: Goal::AtLeast(0.98), runs: ratios, against, rows })
}
