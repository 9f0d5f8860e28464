//! R1 to R3: how soon work goes on after a worker or the leader was killed or stopped, and how soon a stopped worker's locks
//! are gone.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use shardlift_harness::installation::{
    Election, Engine, Installation, InstallationBuilder, Member, Store, WorkerSpec,
};
use shardlift_harness::servers::{Etcd, Postgres, PostgresOptions};
use sqlx::{Connection, PgConnection};

use crate::figure::{Figure, Goal};
use crate::run::write;

const SHARD: &str = "bench-pg";
const ID: &str = "rows";
/// The lease of a worker.
const TTL: Duration = Duration::from_secs(3);
/// `idle_in_transaction_session_timeout` of a worker's sessions.
const SESSION_TIMEOUT: Duration = Duration::from_secs(10);
/// What the goals allow beyond.
const GRACE: Duration = Duration::from_secs(2);
const WITHIN: Duration = Duration::from_secs(60);
/// Slow enough to be alive when something happens to it; in the worker, so that a transaction stays open between statements.
const SPEC: &str = "id: rows\nkind: data\nengine: postgres\ncluster: bench\nsource: { table: items, where: not migrated }\n\
    transform:\n  vrl: |\n    .body = string!(.body) + \".\"\n    .migrated = true\n\
    parallel: { ranges: 1, workers: 1 }\nthrottle: { rows_per_second: 5000 }\n";

/// One migration under way.
struct Stage {
    connection: PgConnection,
    installation: Installation,
    // Dropped last: the installation uses them.
    _etcd: Option<Etcd>,
    _server: Postgres,
}

/// Where the only range is.
#[derive(Debug, sqlx::FromRow)]
struct Range {
    epoch: i64,
    attempt: i64,
    batches: i64,
}

/// How often the shard is asked.
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// What a hand-over may take.
const HAND_OVER: Duration = Duration::from_millis(500);

impl Stage {
    /// One coordinator with a store and an election of its own.
    async fn start(workers: &[&str]) -> Result<Self> {
        let server = Postgres::start_with(PostgresOptions::default().durable()).await?;
        Self::begin(server, None, Installation::builder(), workers).await
    }

    /// Three coordinators, who agree through etcd and share a store.
    async fn shared() -> Result<Self> {
        let server = Postgres::start_with(PostgresOptions::default().durable()).await?;
        let etcd = Etcd::start().await?;
        let ttl_ms = u64::try_from(TTL.as_millis())?;
        let builder = Installation::builder()
            .coordinators(3)
            .store(Store::Postgres(server.create_database("store").await?))
            .election(Election::Etcd { endpoints: etcd.endpoints(), ttl_ms });
        Self::begin(server, Some(etcd), builder, &["one"]).await
    }

    async fn begin(
        server: Postgres,
        etcd: Option<Etcd>,
        builder: InstallationBuilder,
        workers: &[&str],
    ) -> Result<Self> {
        let dsn = server.create_database("bench").await?;
        let mut connection = PgConnection::connect(&dsn).await?;
        sqlx::raw_sql(
            "CREATE TABLE items (id bigint PRIMARY KEY, body text, migrated boolean NOT NULL); \
             INSERT INTO items SELECT id, repeat(md5(id::text), 3), false FROM generate_series(1, 2000000) id",
        )
        .execute(&mut connection)
        .await?;
        let ttl = u64::try_from(TTL.as_millis())?;
        let builder = builder.lease_ttl_ms(ttl).shard(SHARD, "bench", Engine::Postgres, &dsn);
        let builder =
            workers.iter().fold(builder, |builder, name| builder.worker(WorkerSpec::new(name, &[SHARD])));
        let installation = builder.start().await?;
        let folder = write(&installation, ID, SPEC)?.display().to_string();
        let applied = installation.cli(&["apply", &folder, "--yes", "--no-watch"]).await?;
        ensure!(applied.code == Some(0), "apply was refused: {}{}", applied.stdout, applied.stderr);
        let mut stage = Self { connection, installation, _etcd: etcd, _server: server };
        stage.until("the first batches", |range| range.batches > 2).await?;
        Ok(stage)
    }

    async fn range(&mut self) -> Result<Range> {
        let sql = "SELECT epoch, attempt, batches FROM shardlift.checkpoint WHERE migration = $1";
        sqlx::query_as(sql).bind(ID).fetch_one(&mut self.connection).await.context("no checkpoint")
    }

    async fn until(&mut self, what: &str, reached: impl Fn(&Range) -> bool) -> Result<()> {
        let began = Instant::now();
        loop {
            // The checkpoint is laid out by the split; before that there is none.
            let range = self.range().await;
            if range.as_ref().is_ok_and(&reached) {
                return Ok(());
            }
            let logs = || self.installation.log_tails(10);
            ensure!(began.elapsed() < WITHIN, "waited for {what}: {range:?}\n{}", logs());
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// The number of the worker that has the range.
    async fn owner(&self) -> Result<usize> {
        let known = self.installation.cli_json(&["workers"]).await?;
        let busy = known["workers"].as_array().into_iter().flatten().find(|worker| worker["busy"] != 0);
        let name = busy.and_then(|worker| worker["worker"].as_str());
        let name = name.with_context(|| format!("nobody has the range: {known:#}"))?;
        let workers = self.installation.workers();
        workers.iter().position(|worker| worker.process().name() == name).context("an unknown worker")
    }

    /// How long it takes from the fault of the range's owner until another hand-out has committed a batch.
    async fn goes_on_after(&mut self, fault: impl Fn(&Member)) -> Result<Duration> {
        let attempt = self.range().await?.attempt;
        let owner = self.owner().await?;
        fault(&self.installation.worker(owner));
        let began = Instant::now();
        // One batch of the former owner may still have been under way.
        let batches = self.range().await?.batches + 1;
        self.until("another worker's batch", |now| now.attempt > attempt && now.batches > batches).await?;
        Ok(began.elapsed())
    }

    /// How long it takes from the fault of the leader until the range is claimed for another one.
    async fn leads_on_after(&mut self, fault: impl Fn(&Member)) -> Result<Duration> {
        let epoch = self.range().await?.epoch;
        let leader = self.installation.cli_json(&["leader"]).await?;
        let name = leader["name"].as_str().context("nobody leads")?;
        let coordinators = self.installation.coordinators();
        let leader = coordinators.iter().find(|coordinator| coordinator.member().process().name() == name);
        fault(leader.with_context(|| format!("there is no {name}"))?.member());
        let began = Instant::now();
        self.until("work of another leader", |now| now.epoch > epoch).await?;
        Ok(began.elapsed())
    }

    /// Stops a worker while one of its transactions is open and has changed rows; the server process of that.
    async fn stop_in_transaction(&mut self, owner: usize) -> Result<i32> {
        let worker = self.installation.worker(owner);
        for _ in 0..200 {
            worker.process().pause();
            // What it had sent before is still being carried out.
            tokio::time::sleep(Duration::from_millis(100)).await;
            if let Some(pid) = self.open_transaction(None).await? {
                return Ok(pid);
            }
            worker.process().resume();
            tokio::time::sleep(Duration::from_millis(37)).await;
        }
        anyhow::bail!("no transaction was ever open when the worker was stopped")
    }

    async fn open_transaction(&mut self, pid: Option<i32>) -> Result<Option<i32>> {
        let sql = "SELECT pid FROM pg_stat_activity WHERE state = 'idle in transaction' AND datname = 'bench' \
                   AND pid <> pg_backend_pid() AND pid = coalesce($1, pid) LIMIT 1";
        Ok(sqlx::query_scalar(sql).bind(pid).fetch_optional(&mut self.connection).await?)
    }

    async fn until_gone(&mut self, pid: i32) -> Result<Duration> {
        let began = Instant::now();
        while self.open_transaction(Some(pid)).await?.is_some() {
            ensure!(began.elapsed() < WITHIN, "the transaction of process {pid} stays open");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(began.elapsed())
    }
}

fn figure(name: &'static str, goal: Duration, runs: Vec<f64>, against: &'static str) -> Figure {
    Figure { name, goal: Goal::AtMost(goal.as_secs_f64()), runs, against, rows: 0 }
}

/// R1: a worker is killed, or (R1b) stopped so that only its silence tells; another goes on.
pub(crate) async fn r1(runs: usize) -> Result<Vec<Figure>> {
    let (mut killed, mut stopped) = (Vec::new(), Vec::new());
    for run in 1..=runs {
        let mut stage = Stage::start(&["one", "two"]).await?;
        killed.push(stage.goes_on_after(|worker| worker.kill9()).await?.as_secs_f64());
        let mut stage = Stage::start(&["one", "two"]).await?;
        stopped.push(stage.goes_on_after(|worker| worker.process().pause()).await?.as_secs_f64());
        println!(
            "R1 run {run}: work goes on {:.2} s after a kill, {:.2} s after a stop",
            killed[run - 1],
            stopped[run - 1]
        );
    }
    Ok(vec![
        figure("R1", TTL + GRACE, killed, "seconds from a worker's death to another one's batch; lease 3 s"),
        figure("R1b", TTL + GRACE, stopped, "seconds from a worker's stop to another one's batch; lease 3 s"),
    ])
}

/// R2: the leader is killed, or (R2b) told to stop; another one hands out work.
pub(crate) async fn r2(runs: usize) -> Result<Vec<Figure>> {
    let (mut killed, mut told) = (Vec::new(), Vec::new());
    for run in 1..=runs {
        killed.push(Stage::shared().await?.leads_on_after(Member::kill9).await?.as_secs_f64());
        let stopped = Stage::shared().await?.leads_on_after(|leader| leader.process().terminate()).await?;
        told.push(stopped.as_secs_f64());
        println!(
            "R2 run {run}: another leader's work is claimed {:.2} s after a kill, {:.2} s after SIGTERM",
            killed[run - 1],
            told[run - 1]
        );
    }
    Ok(vec![
        figure(
            "R2",
            TTL + GRACE,
            killed,
            "seconds from the leader's death to a claim for the next one; lease 3 s",
        ),
        figure("R2b", HAND_OVER, told, "seconds from SIGTERM of the leader to a claim for the next one"),
    ])
}

/// R3: a worker is stopped with a transaction open; there is no other worker, or (R3b) there is one.
pub(crate) async fn r3(runs: usize) -> Result<Vec<Figure>> {
    let (mut alone, mut beside) = (Vec::new(), Vec::new());
    for run in 1..=runs {
        for (workers, gone) in [(&["one"][..], &mut alone), (&["one", "two"], &mut beside)] {
            let mut stage = Stage::start(workers).await?;
            let owner = stage.owner().await?;
            let pid = stage.stop_in_transaction(owner).await?;
            gone.push(stage.until_gone(pid).await?.as_secs_f64());
        }
        println!(
            "R3 run {run}: the locks are gone {:.2} s after the stop, with another worker {:.2} s",
            alone[run - 1],
            beside[run - 1]
        );
    }
    let goal = TTL + SESSION_TIMEOUT + GRACE;
    Ok(vec![
        figure(
            "R3",
            goal,
            alone,
            "seconds from a stop in a transaction to the end of its locks; lease 3 s, session 10 s",
        ),
        figure("R3b", goal, beside, "the same with another worker beside, which ends the session"),
    ])
}
