//! The databases of the chat platform: two shards of each engine, their data, their application.

use std::time::Duration;

use anyhow::{Context, Result};
use futures::future::try_join_all;
use shardlift_harness::dataset::{self, DatasetSize};
use shardlift_harness::installation::{Engine, Installation};
use shardlift_harness::process::Process;
use shardlift_harness::servers::{Mongod, MongodOptions, Postgres, PostgresOptions};
use shardlift_harness::wait::wait_for_ok;
use shardlift_harness::writer::{Writer, WriterReport};

use crate::control::{Control, Shape};

const SHARDS: usize = 2;
const DATABASE: &str = "chat";
/// How long a killed server may take to be started again, and to be read.
const SERVER_BACK: Duration = Duration::from_secs(300);

enum Server {
    Postgres(Postgres),
    Mongod(Mongod),
}

/// One shard: a server with its database.
pub(crate) struct Shard {
    pub(crate) id: String,
    /// Among the shards of its engine, from 0.
    index: usize,
    server: Server,
}

impl Shard {
    pub(crate) fn dsn(&self) -> String {
        match &self.server {
            Server::Postgres(server) => server.dsn(DATABASE),
            Server::Mongod(server) => server.dsn(DATABASE),
        }
    }

    pub(crate) fn process(&self) -> &Process {
        match &self.server {
            Server::Postgres(server) => server.process(),
            Server::Mongod(server) => server.process(),
        }
    }

    async fn start_postgres(index: usize) -> Result<Self> {
        let id = format!("chat-pg-0{}", index + 1);
        let server = Postgres::start_named(&id, PostgresOptions::default()).await?;
        server.create_database(DATABASE).await?;
        Ok(Self { id, index, server: Server::Postgres(server) })
    }

    async fn start_mongod(index: usize) -> Result<Self> {
        let id = format!("chat-mg-0{}", index + 1);
        let server = Mongod::start_named(&id, MongodOptions::default()).await?;
        Ok(Self { id, index, server: Server::Mongod(server) })
    }

    async fn load(&self, size: &DatasetSize) -> Result<()> {
        let loaded = match &self.server {
            Server::Postgres(_) => dataset::load_postgres(&self.dsn(), self.index, SHARDS, size).await,
            Server::Mongod(_) => dataset::load_mongodb(&self.dsn(), self.index, SHARDS, size).await,
        };
        loaded.with_context(|| self.id.clone())
    }

    fn start_writer(&self) -> Writer {
        let seed = self.index as u64 + 1;
        match &self.server {
            Server::Postgres(_) => Writer::start_postgres(self.dsn(), seed),
            Server::Mongod(_) => Writer::start_mongodb(self.dsn(), seed),
        }
    }

    /// What is wrong with the rows, and what the application did.
    async fn check(&self, writer: Writer) -> Result<(Vec<String>, String)> {
        let report = writer.stop().await?;
        let problems = match self.look(&report).await {
            Ok(problems) => problems,
            // Somebody may kill its server even now: it is looked again when that is back.
            Err(_) => wait_for_ok("a look at every row", SERVER_BACK, || self.look(&report)).await?,
        };
        let problems = problems.into_iter().map(|problem| format!("{}: {problem}", self.id)).collect();
        Ok((problems, describe(&self.id, &report)))
    }

    /// What is wrong with any row, by other means than the product's.
    async fn look(&self, report: &WriterReport) -> Result<Vec<String>> {
        let mut problems = report.lost_writes(&self.dsn()).await?;
        problems.extend(match &self.server {
            Server::Postgres(_) => dataset::check_postgres(&self.dsn()).await?,
            Server::Mongod(_) => dataset::check_mongodb(&self.dsn()).await?,
        });
        Ok(problems)
    }
}

fn describe(shard: &str, report: &WriterReport) -> String {
    let mut text = format!(
        "application on {shard}: {} inserts, {} updates, {} deletes, {} key moves; p99 {:.1} ms, longest stall {:.0} ms",
        report.inserted, report.updated, report.deleted, report.key_moves, report.p99_ms, report.max_stall_ms
    );
    if report.errors > 0 {
        // The driver's words go on with the raw answer of the server.
        let first: String =
            report.first_errors.first().map_or("", String::as_str).chars().take(160).collect();
        text += &format!("; {} writes failed or have an unknown outcome, first: {first}", report.errors);
    }
    text
}

/// All shards.
pub(crate) struct Platform {
    pub(crate) shards: Vec<Shard>,
}

impl Platform {
    pub(crate) async fn start() -> Result<Self> {
        let postgres = try_join_all((0..SHARDS).map(Shard::start_postgres));
        let mongod = try_join_all((0..SHARDS).map(Shard::start_mongod));
        let (mut shards, more) = tokio::try_join!(postgres, mongod)?;
        shards.extend(more);
        Ok(Self { shards })
    }

    pub(crate) async fn load(&self, size: &DatasetSize) -> Result<()> {
        try_join_all(self.shards.iter().map(|shard| shard.load(size))).await.map(drop)
    }

    /// Starts Shardlift for these shards.
    pub(crate) async fn install(&self, control: &Control, shape: Shape) -> Result<Installation> {
        let builder = self.shards.iter().fold(Installation::builder(), |builder, shard| {
            let (cluster, engine) = match shard.server {
                Server::Postgres(_) => ("chat", Engine::Postgres),
                Server::Mongod(_) => ("chat-docs", Engine::Mongodb),
            };
            builder.shard(&shard.id, cluster, engine, &shard.dsn())
        });
        control.describe(builder.rest(), shape).start().await
    }

    pub(crate) fn start_writers(&self) -> Vec<Writer> {
        self.shards.iter().map(Shard::start_writer).collect()
    }

    /// Stops the application. Returns what is wrong with any row, and one line for each shard on what it did.
    pub(crate) async fn check(&self, writers: Vec<Writer>) -> Result<(Vec<String>, Vec<String>)> {
        let checks = self.shards.iter().zip(writers).map(|(shard, writer)| shard.check(writer));
        let (problems, reports): (Vec<_>, Vec<_>) = try_join_all(checks).await?.into_iter().unzip();
        Ok((problems.concat(), reports))
    }
}
