//! What the stories share: four small PostgreSQL shards on one server, a coordinator, a worker for each shard, and a
//! directory for specs.

use anyhow::{Context, Result, ensure};
use shardlift_harness::installation::{Engine, Installation};
use shardlift_harness::servers::{Postgres, PostgresOptions};
use sqlx::{Connection, PgConnection};

use crate::phase::phase;

/// The shards, in order; the worker of each has the same number.
pub(crate) const SHARDS: [&str; 4] = ["chat-pg-01", "chat-pg-02", "chat-pg-03", "chat-pg-04"];

/// Everything that runs; dropping it ends every process and removes every file.
pub(crate) struct Stage {
    server: Postgres,
    pub(crate) installation: Installation,
    specs: tempfile::TempDir,
}

impl Stage {
    /// Starts everything; `tables`: the SQL that fills the shard with this number.
    pub(crate) async fn start(tables: impl Fn(usize) -> String) -> Result<Self> {
        let started = Self::set_up(tables);
        phase("starting PostgreSQL with 4 shards, a coordinator, a worker for each shard", started).await
    }

    async fn set_up(tables: impl Fn(usize) -> String) -> Result<Self> {
        let server = Postgres::start_named("chat-pg", PostgresOptions::default()).await?;
        let mut builder = Installation::builder();
        for (number, shard) in SHARDS.into_iter().enumerate() {
            let dsn = server.create_database(&database(number)).await?;
            let mut session = PgConnection::connect(&dsn).await?;
            sqlx::raw_sql(sqlx::AssertSqlSafe(tables(number))).execute(&mut session).await?;
            session.close().await?;
            builder = builder.shard(shard, "chat", Engine::Postgres, &dsn);
        }
        let installation = builder.start().await?;
        installation.wait_connected().await?;
        Ok(Self { server, installation, specs: tempfile::tempdir()? })
    }

    /// A session with a shard, past Shardlift.
    pub(crate) async fn session(&self, number: usize) -> Result<PgConnection> {
        Ok(PgConnection::connect(&self.server.dsn(&database(number))).await?)
    }

    /// Makes this the only spec.
    pub(crate) fn write(&self, spec: &str) -> Result<()> {
        std::fs::write(self.specs.path().join("0001.yaml"), spec).context("cannot write the spec")
    }

    /// Applies the spec, and does not wait for its end.
    pub(crate) async fn apply(&self) -> Result<()> {
        let specs = self.specs.path().to_str().context("a path of the system's own")?;
        self.cli(&["apply", specs, "--yes", "--no-watch"], 0).await.map(drop)
    }

    /// Runs `shardlift` and gives what it says.
    pub(crate) async fn cli(&self, args: &[&str], code: i32) -> Result<String> {
        let output = self.installation.cli(args).await?;
        ensure!(output.code == Some(code), "shardlift {}: {output:#?}", args.join(" "));
        Ok(output.stdout)
    }

    /// The same for the reader to see.
    pub(crate) async fn show(&self, args: &[&str], code: i32) -> Result<()> {
        println!("\n$ shardlift {}\n{}", args.join(" "), self.cli(args, code).await?);
        Ok(())
    }
}

fn database(number: usize) -> String {
    format!("chat_{}", number + 1)
}
