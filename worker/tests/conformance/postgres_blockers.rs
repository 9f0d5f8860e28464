//! Who is ended when a schema change does not get its locks, and who never is.

use std::time::Duration;

use anyhow::{Result, ensure};
use shardlift_domain::failure::ErrorCode;
use shardlift_domain::migration::Step;
use shardlift_domain::spec::{EndBlockers, SpecBody, Written};
use shardlift_domain::verdict::Severity;
use shardlift_runtime::config::Secret;
use shardlift_worker::engine::postgres::PostgresEngine;
use shardlift_worker::engine::{EngineError, Job, SchemaJob, ShardEngine};
use shardlift_worker::lease::TaskLease;
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};

use super::bench::{Bench, SHARD, failure, leader, lease, migration};
use super::postgres::PostgresBench;
use super::postgres_schema::job;

/// A shard, and a role of its application that is no superuser.
struct Stage {
    bench: PostgresBench,
    role: String,
}

impl Stage {
    async fn start() -> Result<Self> {
        let bench = PostgresBench::start().await?;
        bench.add(1..=10).await?;
        let database = bench.value("SELECT current_database()").await?;
        let role = format!("reader of {database}");
        let grants = format!(
            "CREATE ROLE \"{role}\" LOGIN; GRANT SELECT, UPDATE ON items TO \"{role}\"; \
             GRANT USAGE ON SCHEMA shardlift TO \"{role}\"; GRANT ALL ON ALL TABLES IN SCHEMA shardlift TO \"{role}\""
        );
        bench.execute(&grants).await?;
        Ok(Self { bench, role })
    }

    fn dsn(&self, superuser: bool) -> String {
        let user = if superuser { "postgres".to_owned() } else { self.role.replace(' ', "%20") };
        self.bench.dsn.replace("postgres@", &format!("{user}@"))
    }

    /// A transaction that is open and keeps a lock on the table.
    async fn holds(&self, application: &str, superuser: bool, statement: &str) -> Result<PgConnection> {
        let mut session = PgConnection::connect(&self.dsn(superuser)).await?;
        session.execute(AssertSqlSafe(format!("SET application_name = '{application}'"))).await?;
        session.execute("BEGIN").await?;
        session.execute(AssertSqlSafe(statement.to_owned())).await?;
        Ok(session)
    }

    fn policy(&self) -> EndBlockers {
        EndBlockers {
            applications: vec!["reports".into()],
            users: vec!["postgres".into(), self.role.clone()],
            younger_than: Duration::from_secs(600),
            written: Written::Nothing,
        }
    }

    async fn apply(&self, policy: EndBlockers) -> Result<bool, EngineError> {
        self.apply_under(&lease(&leader(1, "a"), Step::Apply, 1), policy).await
    }

    async fn apply_under(&self, lease: &TaskLease, policy: EndBlockers) -> Result<bool, EngineError> {
        self.bench.engine().apply(lease, &ending(policy)).await
    }
}

fn ending(policy: EndBlockers) -> SchemaJob {
    let mut job = job(&["ALTER TABLE items ADD COLUMN one int"]);
    job.schema.on_block = Some(Box::new(policy));
    job.spec.body = SpecBody::Schema(job.schema.clone());
    job
}

async fn alive(session: &mut PgConnection) -> bool {
    session.execute("SELECT 1").await.is_ok()
}

const LOOKS: &str = "SELECT count(*) FROM items";
const WRITES: &str = "UPDATE items SET applied = 7 WHERE id = 3";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_who_is_named_and_has_done_little_is_ended() -> Result<()> {
    let stage = Stage::start().await?;
    let mut named = stage.holds("reports", false, LOOKS).await?;
    let mut spared = [
        ("another application", stage.holds("orders", false, LOOKS).await?),
        ("a superuser", stage.holds("reports", true, LOOKS).await?),
        ("who has written", stage.holds("reports", false, WRITES).await?),
    ];
    let lease = lease(&leader(1, "a"), Step::Apply, 1);
    let locked = failure(stage.apply_under(&lease, stage.policy()).await);
    ensure!(locked.code == ErrorCode::SchemaLocked, "{locked:?}");
    let told = lease.take_ended();
    let one = told.first().filter(|_| told.len() == 1);
    ensure!(
        one.is_some_and(|one| one.application == "reports"
            && one.user == stage.role
            && one.statement == "SELECT"),
        "{told:?}"
    );
    ensure!(
        locked.message.contains("ended: pid ") && locked.message.contains("(reports, user reader of "),
        "{locked:?}"
    );
    ensure!(!alive(&mut named).await, "it was in the way: {locked:?}");
    for (who, session) in &mut spared {
        ensure!(alive(session).await, "{who} was ended: {locked:?}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_goes_on_once_who_was_in_the_way_is_ended_and_an_old_transaction_is_waited_for() -> Result<()>
{
    let stage = Stage::start().await?;
    let mut writer = stage.holds("reports", false, WRITES).await?;
    let old = EndBlockers { younger_than: Duration::ZERO, written: Written::Anything, ..stage.policy() };
    let locked = failure(stage.apply(old).await);
    ensure!(locked.code == ErrorCode::SchemaLocked && alive(&mut writer).await, "{locked:?}");
    ensure!(
        !stage.apply(EndBlockers { written: Written::Anything, ..stage.policy() }).await?,
        "it was not there yet"
    );
    ensure!(!alive(&mut writer).await, "it was in the way");
    ensure!(
        stage.bench.value("SELECT applied FROM items WHERE id = 3").await? == "0",
        "what it wrote is rolled back"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_role_that_may_not_end_others_is_told_before_anything_is_changed() -> Result<()> {
    let stage = Stage::start().await?;
    let shy = PostgresEngine::new(SHARD.parse()?, "chat".parse()?, &Secret::new(stage.dsn(false)))?;
    let found = shy.check(&migration(), &Job::Schema(ending(stage.policy()))).await?;
    let told = found.iter().find(|finding| finding.failure.message.contains("on_block"));
    ensure!(told.is_some_and(|told| told.severity == Severity::Error), "{found:?}");
    ensure!(
        told.is_some_and(|told| told.failure.next.contains("pg_read_all_stats, pg_signal_backend")),
        "{found:?}"
    );
    let may = stage.bench.engine().check(&migration(), &Job::Schema(ending(stage.policy()))).await?;
    ensure!(may.is_empty(), "{may:?}");
    Ok(())
}
