//! An installation over shards with items, and what a scenario does to it.

use std::time::Duration;

use serde_json::Value;
use shardlift_harness::installation::{Installation, InstallationBuilder, Output};
use shardlift_harness::wait::wait_for_ok;
use sqlx::ConnectOptions;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};

use super::{Items, Specs};

/// How long anything may take that is awaited: generous, since machines of tests are slow.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// A scenario's installation.
#[derive(Debug)]
pub(crate) struct Play {
    pub(crate) installation: Installation,
}

impl Play {
    /// These shards, with leases short enough to run out within a scenario.
    pub(crate) fn builder(shards: &[&Items]) -> InstallationBuilder {
        let builder = Installation::builder().lease_ttl_ms(1500);
        shards.iter().fold(builder, |builder, items| items.declared(builder))
    }

    /// A coordinator and one worker for each shard.
    pub(crate) async fn start(shards: &[&Items]) -> Self {
        Self::of(Self::builder(shards)).await
    }

    /// As described.
    pub(crate) async fn of(builder: InstallationBuilder) -> Self {
        Self { installation: builder.start().await.unwrap() }
    }

    /// `shardlift apply --yes --no-watch` of these specs; what it printed.
    pub(crate) async fn applied<T: AsRef<str>>(&self, specs: &[T]) -> Output {
        let specs = Specs::of(specs);
        self.installation.cli(&["apply", specs.as_str(), "--yes", "--no-watch"]).await.unwrap()
    }

    /// As [`Play::applied`], which must succeed.
    pub(crate) async fn apply<T: AsRef<str>>(&self, specs: &[T]) {
        let output = self.applied(specs).await;
        assert_eq!(output.code, Some(0), "{output:#?}\n{}", self.installation.log_tails(20));
    }

    /// Waits for the end; fails at once when it ends otherwise.
    pub(crate) async fn completed(&self, id: &str) -> Value {
        self.reached(id, "completed").await
    }

    /// Waits for a status; fails at once when it ends otherwise.
    pub(crate) async fn reached(&self, id: &str, status: &str) -> Value {
        self.installation.wait_status(id, status, DEADLINE).await.unwrap()
    }

    /// The status at this moment.
    pub(crate) async fn status(&self, id: &str) -> Value {
        self.installation.status(id).await.unwrap()
    }

    /// Waits until at least so many rows were changed; tells how many.
    pub(crate) async fn until_rows(&self, id: &str, rows: u64) -> u64 {
        self.until(&format!("{id} to have changed {rows} rows"), async || {
            let status = self.installation.status(id).await?;
            let done = rows_done(&status);
            anyhow::ensure!(done >= rows, "{status:#}");
            Ok(done)
        })
        .await
    }

    /// Waits until the status of a migration answers a question.
    pub(crate) async fn until_status(&self, id: &str, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
        self.until(&format!("{id}: {what}"), async || {
            let status = self.installation.status(id).await?;
            anyhow::ensure!(holds(&status), "{status:#}");
            Ok(status)
        })
        .await
    }

    /// Waits for anything; a failure holds the ends of all logs.
    pub(crate) async fn until<T>(&self, what: &str, ask: impl AsyncFnMut() -> anyhow::Result<T>) -> T {
        match wait_for_ok(what, DEADLINE, ask).await {
            Ok(value) => value,
            Err(error) => panic!("{error:#}\n{}", self.installation.log_tails(25)),
        }
    }

    /// Runs the command line with the address of this coordinator alone, counted from 0.
    pub(crate) async fn ask(&self, number: usize, args: &[&str]) -> Output {
        let only = self.installation.coordinators()[number].url();
        self.installation.cli_with(args, &[("SHARDLIFT_COORDINATOR", &only)]).await.unwrap()
    }

    /// Runs a verb that must be refused in this state, and gives its complaint.
    pub(crate) async fn refused(&self, args: &[&str], code: i32) -> String {
        refused(&self.installation, args, code).await
    }
}

/// The coordinator's store, read past it.
pub(crate) async fn store(play: &Play) -> SqliteConnection {
    let path = play.installation.directory().join("coordinator.db");
    SqliteConnectOptions::new().filename(path).connect().await.unwrap()
}

/// Runs the command line, which must end with this code; gives what it complained.
pub(crate) async fn refused(installation: &Installation, args: &[&str], code: i32) -> String {
    let output = installation.cli(args).await.unwrap();
    assert_eq!(output.code, Some(code), "shardlift {}: {output:#?}", args.join(" "));
    output.stdout + &output.stderr
}

fn rows_done(status: &Value) -> u64 {
    let shards = status["shards"].as_array().into_iter().flatten();
    shards.filter_map(|shard| shard["rows_done"].as_u64()).sum()
}
