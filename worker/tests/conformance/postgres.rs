//! PostgreSQL's bench, and what only PostgreSQL can get wrong while rows are walked.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, ensure};
use async_trait::async_trait;
use shardlift_domain::failure::ErrorCode;
use shardlift_domain::ids::{Checksum, ClusterName, ShardId};
use shardlift_domain::migration::Step;
use shardlift_domain::spec::{
    Backup, Batch, DataSpec, Engine, OnError, OnVerifyFailure, Parallel, Source, Spec, SpecBody, Throttle,
    Transform, Undo, VerifyCheck, Where,
};
use shardlift_domain::verdict::Sweep;
use shardlift_harness::servers::shared_postgres;
use shardlift_harness::wait::wait_for;
use shardlift_runtime::config::Secret;
use shardlift_worker::engine::postgres::PostgresEngine;
use shardlift_worker::engine::{DataJob, EngineError, Job, MAX_PASSES, ShardEngine};
use shardlift_worker::transformer::{Document, TransformError, Transformer};
use sqlx::{AssertSqlSafe, Connection, PgConnection, Row};
use vrl::value::Value;

use super::bench::{
    Bench, CLUSTER_UUID, Form, Item, SHARD, WRONG, failure, leader, lease, migration, range_lease,
};
use super::drive::{exactly_once, finish, open, split, walk};
use super::undo::capturing;

super::all_cases!(PostgresBench::start);

const TABLES: &str = "CREATE TABLE items (id bigint PRIMARY KEY, migrated boolean NOT NULL DEFAULT false, \
    applied integer NOT NULL DEFAULT 0, spoilt boolean NOT NULL DEFAULT false, \
    CHECK (NOT (spoilt AND migrated)))";

/// A database of its own on the server that all tests share.
pub(crate) struct PostgresBench {
    pub(crate) dsn: String,
}

impl PostgresBench {
    /// Identified, with an empty table `items`.
    pub(crate) async fn start() -> Result<Self> {
        let bench = Self { dsn: shared_postgres().await? };
        bench.create().await?;
        Ok(bench)
    }

    /// Makes an empty database such a bench.
    pub(crate) async fn create(&self) -> Result<()> {
        self.execute(TABLES).await?;
        Ok(self.engine().identify(CLUSTER_UUID).await?)
    }

    pub(crate) async fn connect(&self) -> Result<PgConnection> {
        Ok(PgConnection::connect(&self.dsn).await?)
    }

    /// Runs statements as the application.
    pub(crate) async fn execute(&self, sql: &str) -> Result<()> {
        let mut connection = self.connect().await?;
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut connection).await?;
        Ok(connection.close().await?)
    }

    /// Until a session of this database waits for a lock.
    pub(crate) async fn wait_for_lock(&self) -> Result<()> {
        let waiting = "SELECT count(*)::text FROM pg_stat_activity \
                       WHERE wait_event_type = 'Lock' AND datname = current_database()";
        wait_for("a session to wait for a lock", Duration::from_secs(10), async || {
            (self.value(waiting).await.ok()? == "1").then_some(())
        })
        .await
    }

    async fn items_of(&self, table: &str) -> Result<Vec<Item>> {
        let mut connection = self.connect().await?;
        let all = format!("SELECT id, migrated, applied::int8 FROM {table} ORDER BY id");
        let rows = sqlx::query(AssertSqlSafe(all)).fetch_all(&mut connection).await?;
        let item = |row: &sqlx::postgres::PgRow| {
            Ok(Item { id: row.try_get(0)?, migrated: row.try_get(1)?, applied: row.try_get(2)? })
        };
        rows.iter().map(item).collect()
    }

    /// One value, as text.
    pub(crate) async fn value(&self, sql: &str) -> Result<String> {
        let mut connection = self.connect().await?;
        let row = sqlx::raw_sql(AssertSqlSafe(sql)).fetch_one(&mut connection).await?;
        let value = row.try_get_unchecked::<Option<String>, _>(0)?.unwrap_or_else(|| "NULL".into());
        connection.close().await?;
        Ok(value)
    }
}

/// A data spec for any table.
pub(crate) fn data_job(
    source: (&str, &[&str], Option<&str>),
    transform: Transform,
    transformer: Option<Arc<dyn Transformer>>,
) -> DataJob {
    let (relation, key, pending) = source;
    let data = DataSpec {
        source: Source {
            relation: relation.into(),
            key: key.iter().map(|column| (*column).to_owned()).collect(),
            pending: pending.map(|text| Where::Sql(text.into())),
            immutable_key: pending.is_none(),
            tenants: None,
        },
        transform,
        batch: Batch::default(),
        parallel: Parallel::default(),
        throttle: Throttle::default(),
        max_replica_lag: None,
        on_error: OnError::default(),
        verify: match pending {
            Some(_) => vec![VerifyCheck::Remaining, VerifyCheck::Count { tolerance: 0.01 }],
            None => vec![VerifyCheck::Count { tolerance: 0.01 }],
        },
        undo: Undo::None,
        backup: Backup::None,
    };
    let checksum = Checksum::of(format!("{data:?}").as_bytes());
    let spec = Spec {
        id: migration().id,
        engine: Engine::Postgres,
        cluster: ClusterName::new("chat").expect("a name"),
        depends_on: Vec::new(),
        body: SpecBody::Data(Box::new(data.clone())),
        on_verify_failure: OnVerifyFailure::Halt,
        rollout: Vec::new(),
        checksum,
    };
    DataJob { spec, data, transformer }
}

/// A `SET` list.
pub(crate) fn set(list: &[(&str, &str)]) -> Transform {
    Transform::Sql(list.iter().map(|(column, value)| ((*column).to_owned(), (*value).to_owned())).collect())
}

/// A transform that runs in the worker.
pub(crate) fn in_worker() -> Transform {
    Transform::Named { name: "test".into(), options: serde_json::json!({}) }
}

/// A closure as a transformer.
pub(crate) struct Change(pub(crate) fn(&mut Document) -> Result<(), TransformError>);

impl Transformer for Change {
    fn name(&self) -> &str {
        "test"
    }

    fn transform(&self, document: &mut Document) -> Result<(), TransformError> {
        (self.0)(document)
    }
}

fn add_one(document: &mut Document) -> Result<(), TransformError> {
    let Some(Value::Integer(applied)) = document.get("applied").cloned() else {
        return Err(TransformError { message: "applied is no integer".into() });
    };
    document.insert("applied".into(), Value::Integer(applied + 1));
    document.insert("migrated".into(), Value::Boolean(true));
    Ok(())
}

fn add_wrongly(document: &mut Document) -> Result<(), TransformError> {
    add_one(document)?;
    if document.get("id") == Some(&Value::Integer(WRONG)) {
        document.insert("applied".into(), Value::Integer(2));
    }
    Ok(())
}

const ADD_ONE: &[(&str, &str)] = &[("migrated", "true"), ("applied", "applied + 1")];

#[async_trait]
impl Bench for PostgresBench {
    fn engine(&self) -> Arc<dyn ShardEngine> {
        self.engine_named(SHARD)
    }

    fn engine_named(&self, shard: &str) -> Arc<dyn ShardEngine> {
        let (shard, cluster) =
            (ShardId::new(shard).expect("a name"), ClusterName::new("chat").expect("a name"));
        Arc::new(PostgresEngine::new(shard, cluster, &Secret::new(self.dsn.as_str())).expect("a good dsn"))
    }

    fn job(&self, form: Form) -> Arc<DataJob> {
        let pending = Some("migrated = false");
        Arc::new(match form {
            Form::Pending => data_job(("public.items", &["id"], pending), set(ADD_ONE), None),
            Form::Everything => data_job(("items", &[], None), set(ADD_ONE), None),
            Form::Worker => data_job(("items", &[], pending), in_worker(), Some(Arc::new(Change(add_one)))),
            Form::Aside => {
                let mut job = data_job(("public.items", &["id"], pending), set(ADD_ONE), None);
                job.data.on_error = OnError::Quarantine { budget: 3 };
                job
            }
            Form::Stuck => data_job(("items", &[], pending), set(&[("applied", "applied + 1")]), None),
        })
    }

    fn faulty(&self, form: Form) -> Arc<DataJob> {
        let source = ("public.items", ["id"].as_slice(), Some("migrated = false"));
        let applied = format!("applied + CASE WHEN id = {WRONG} THEN 2 ELSE 1 END");
        Arc::new(match form {
            Form::Worker => data_job(source, in_worker(), Some(Arc::new(Change(add_wrongly)))),
            _ => data_job(source, set(&[("migrated", "true"), ("applied", &applied)]), None),
        })
    }

    async fn add(&self, ids: RangeInclusive<i64>) -> Result<()> {
        self.execute(&format!(
            "INSERT INTO items (id) SELECT generate_series({}, {})",
            ids.start(),
            ids.end()
        ))
        .await
    }

    async fn spoil(&self, id: i64) -> Result<()> {
        self.execute(&format!("UPDATE items SET spoilt = true WHERE id = {id}")).await
    }

    async fn mend(&self, id: i64) -> Result<()> {
        self.execute(&format!("UPDATE items SET spoilt = false WHERE id = {id}")).await
    }

    async fn remove(&self, id: i64) -> Result<()> {
        self.execute(&format!("DELETE FROM items WHERE id = {id}")).await
    }

    async fn revert(&self, id: i64) -> Result<()> {
        self.execute(&format!("UPDATE items SET migrated = false WHERE id = {id}")).await
    }

    async fn set_applied(&self, id: i64, applied: i64) -> Result<()> {
        self.execute(&format!("UPDATE items SET applied = {applied} WHERE id = {id}")).await
    }

    async fn checkpoint_form(&self, form: i64) -> Result<()> {
        self.execute(&format!("UPDATE shardlift.checkpoint SET form = {form}")).await
    }

    async fn items(&self) -> Result<Vec<Item>> {
        self.items_of("items").await
    }

    fn beside(&self) -> String {
        "restored".into()
    }

    async fn restored(&self) -> Result<Vec<Item>> {
        self.items_of("restored.items").await
    }

    async fn scratch(&self) -> Result<Vec<String>> {
        let mut connection = self.connect().await?;
        let left = sqlx::query_scalar(
            "SELECT nspname::text FROM pg_namespace WHERE nspname LIKE 'shardlift_scratch%'",
        );
        Ok(left.fetch_all(&mut connection).await?)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_former_owner_inside_a_batch_is_ended_and_its_locks_with_it() -> Result<()> {
    let bench = PostgresBench::start().await?;
    bench.add(1..=100).await?;
    let (engine, leader) = (bench.engine(), leader(1, "a"));
    // Row 50 takes its time: the former owner holds the checkpoint row and 49 rows meanwhile.
    let slow = "CASE WHEN id = 50 AND applied = 0 THEN (SELECT 1 FROM pg_sleep(20)) ELSE applied + 1 END";
    let stuck =
        Arc::new(data_job(("items", &[], None), set(&[("migrated", "true"), ("applied", slow)]), None));
    split(&*engine, &leader, &stuck, 1).await?;
    let former = range_lease(&leader, 0, 1);
    let mut zombie = open(&*engine, &former, &stuck).await?;
    let hanging = tokio::spawn(async move { zombie.run_batch(&former, 100).await });
    wait_for("the former owner to sleep inside its batch", Duration::from_secs(10), async || {
        let asleep = "SELECT count(*)::text FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND datname = current_database()";
        (bench.value(asleep).await.ok()? == "1").then_some(())
    })
    .await?;
    let started = std::time::Instant::now();
    let lease = range_lease(&leader, 0, 2);
    let quick = Arc::new(data_job(("items", &[], None), set(ADD_ONE), None));
    let mut writer = open(&*bench.engine(), &lease, &quick).await?;
    ensure!(started.elapsed() < Duration::from_secs(5), "the claim waited for the former owner");
    ensure!(matches!(hanging.await?, Err(EngineError::Connection(_) | EngineError::LeaseLost)));
    finish(writer.as_mut(), &lease, 30).await?;
    exactly_once(&bench).await
}

/// Every form in which a batch of one statement comes.
fn jobs(bench: &PostgresBench) -> [Arc<DataJob>; 2] {
    let job = bench.job(Form::Everything);
    [capturing(&job), job]
}

/// The batch had begun before the claim and waits for the row that the claim changes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_that_waits_for_the_checkpoint_row_notices_the_claim() -> Result<()> {
    let bench = PostgresBench::start().await?;
    bench.add(1..=100).await?;
    for (job, attempt) in jobs(&bench).into_iter().zip([1, 5]) {
        let (engine, leader) = (bench.engine(), leader(1, "a"));
        split(&*engine, &leader, &job, 1).await?;
        let lease = range_lease(&leader, 0, attempt);
        let mut zombie = open(&*engine, &lease, &job).await?;
        let mut other = bench.connect().await?;
        let mut claim = other.begin().await?;
        sqlx::query("UPDATE shardlift.checkpoint SET attempt = attempt + 1, claim = gen_random_uuid()")
            .execute(&mut *claim)
            .await?;
        let waiting = tokio::spawn(async move { zombie.run_batch(&lease, 50).await });
        bench.wait_for_lock().await?;
        claim.commit().await?;
        let outcome = waiting.await?;
        ensure!(matches!(outcome, Err(EngineError::LeaseLost)), "{outcome:?}");
        ensure!(bench.items().await?.iter().all(|item| item.applied == 0), "a former owner wrote");
    }
    Ok(())
}

/// The checkpoint row is locked and released without a change while the batch waits for it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_that_had_to_wait_for_its_row_advances_it() -> Result<()> {
    let bench = PostgresBench::start().await?;
    bench.add(1..=100).await?;
    let [capturing, plain] = jobs(&bench);
    let (engine, leader) = (bench.engine(), leader(1, "a"));
    split(&*engine, &leader, &plain, 1).await?;
    let (mut seen, mut attempt) = (0, 0);
    for job in [capturing, plain] {
        (seen, attempt) = (seen + 40, attempt + 1);
        let lease = range_lease(&leader, 0, attempt);
        let mut writer = open(&*engine, &lease, &job).await?;
        let mut other = bench.connect().await?;
        let mut touch = other.begin().await?;
        // A new version of the row with the same claim: the batch must follow it.
        sqlx::query("UPDATE shardlift.checkpoint SET at = now()").execute(&mut *touch).await?;
        let waiting = tokio::spawn(async move { writer.run_batch(&lease, 40).await });
        bench.wait_for_lock().await?;
        touch.commit().await?;
        let report = waiting.await??;
        ensure!(report.changed == 40 && report.range.seen == seen, "{report:?}");
    }
    let lease = range_lease(&leader, 0, attempt + 1);
    let mut writer = open(&*engine, &lease, &bench.job(Form::Everything)).await?;
    finish(writer.as_mut(), &lease, 30).await?;
    exactly_once(&bench).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sweep_waits_for_transactions_that_began_before_it() -> Result<()> {
    let bench = PostgresBench::start().await?;
    bench.add(1..=20).await?;
    let (engine, job, leader) = (bench.engine(), bench.job(Form::Pending), leader(1, "a"));
    let pass = split(&*engine, &leader, &job, 1).await?;
    let mut other = bench.connect().await?;
    let mut open = other.begin().await?;
    sqlx::query("INSERT INTO items (id) VALUES (5000)").execute(&mut *open).await?;
    walk(&*engine, &leader, &job, &pass, 50).await?;
    let lease = lease(&leader, Step::Sweep, 1);
    let sweep = tokio::spawn(async move { engine.sweep(&lease, &job).await });
    tokio::time::sleep(Duration::from_millis(300)).await;
    ensure!(!sweep.is_finished(), "the sweep did not wait");
    open.commit().await?;
    let found = sweep.await??;
    ensure!(matches!(found, Sweep::Found { pending: 1, .. }), "{found:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_application_that_keeps_writing_the_old_form_halts_the_sweep() -> Result<()> {
    let bench = PostgresBench::start().await?;
    bench.add(1..=20).await?;
    let (engine, job, leader) = (bench.engine(), bench.job(Form::Pending), leader(1, "a"));
    let mut pass = split(&*engine, &leader, &job, 1).await?;
    for _ in 1..MAX_PASSES {
        walk(&*engine, &leader, &job, &pass, 50).await?;
        bench.revert(7).await?;
        let found = engine.sweep(&lease(&leader, Step::Sweep, 1), &job).await?;
        let Sweep::Found { pass: next, .. } = found else { anyhow::bail!("the sweep found {found:?}") };
        pass = next;
    }
    walk(&*engine, &leader, &job, &pass, 50).await?;
    bench.revert(7).await?;
    let halted = failure(engine.sweep(&lease(&leader, Step::Sweep, 1), &job).await);
    ensure!(halted.code == ErrorCode::SweepNotConverging && halted.message.contains("1 rows"), "{halted:?}");
    // A person made the application right and resumes.
    let resumed = engine.sweep(&lease(&leader, Step::Sweep, 2), &job).await?;
    let Sweep::Found { pass, .. } = resumed else { anyhow::bail!("nothing to go on with: {resumed:?}") };
    ensure!(pass.number == MAX_PASSES + 1);
    walk(&*engine, &leader, &job, &pass, 50).await?;
    ensure!(engine.sweep(&lease(&leader, Step::Sweep, 3), &job).await? == Sweep::Clean);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_of_the_application_are_not_waited_for_long() -> Result<()> {
    let bench = PostgresBench::start().await?;
    bench.add(1..=20).await?;
    let (engine, job, leader) = (bench.engine(), bench.job(Form::Pending), leader(1, "a"));
    split(&*engine, &leader, &job, 1).await?;
    let lease = range_lease(&leader, 0, 1);
    let mut writer = open(&*engine, &lease, &job).await?;
    let mut other = bench.connect().await?;
    let mut held = other.begin().await?;
    sqlx::query("UPDATE items SET applied = applied WHERE id = 10").execute(&mut *held).await?;
    let outcome = writer.run_batch(&lease, 20).await;
    ensure!(matches!(&outcome, Err(EngineError::Contended(_))), "{outcome:?}");
    held.commit().await?;
    finish(writer.as_mut(), &lease, 20).await?;
    exactly_once(&bench).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_precheck_tells_everything_that_is_wrong() -> Result<()> {
    let bench = PostgresBench::start().await?;
    bench
        .execute("CREATE TABLE bare (a int, b int GENERATED ALWAYS AS (a) STORED, id int PRIMARY KEY)")
        .await?;
    let (engine, leader) = (bench.engine(), leader(1, "a"));
    let refused = async |job: DataJob| {
        failure(engine.precheck(&lease(&leader, Step::Precheck, 1), &Job::Data(job)).await)
    };
    let missing = refused(data_job(("nowhere", &[], None), set(ADD_ONE), None)).await;
    ensure!(missing.code == ErrorCode::PrecheckRefused && missing.message.contains("nowhere"), "{missing:?}");
    let key = refused(data_job(("bare", &["a"], None), set(&[("a", "1")]), None)).await;
    ensure!(key.code == ErrorCode::PrecheckRefused && key.message.contains("source.key [a]"), "{key:?}");
    let columns =
        refused(data_job(("bare", &[], None), set(&[("b", "1"), ("id", "2"), ("c", "3")]), None)).await;
    ensure!(
        ["column b", "column id", "column c"].iter().all(|part| columns.message.contains(part)),
        "{columns:?}"
    );
    let expression = refused(data_job(("bare", &[], Some("a < nothing")), set(&[("a", "1")]), None)).await;
    ensure!(
        expression.code == ErrorCode::TransformInvalid && expression.message.contains("nothing"),
        "{expression:?}"
    );
    let types = refused(data_job(("bare", &[], Some("a + 1")), set(&[("a", "1")]), None)).await;
    ensure!(types.code == ErrorCode::TransformInvalid, "{types:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shard_that_cannot_be_reached_says_why_without_its_dsn() -> Result<()> {
    let port = shardlift_harness::ports::Port::reserve()?;
    let dsn = format!("postgres://someone:CANARY@{}/nowhere", port.address());
    let bench = PostgresBench { dsn };
    let problem = bench.engine().hello().await.problem.expect("nobody listens");
    ensure!(problem.code == ErrorCode::ShardUnreachable, "{problem:?}");
    ensure!(!format!("{problem:?}").contains("CANARY"), "{problem:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shard_that_takes_no_writes_says_so_and_heals() -> Result<()> {
    let bench = PostgresBench::start().await?;
    bench.add(1..=20).await?;
    let (engine, job, leader) = (bench.engine(), bench.job(Form::Pending), leader(1, "a"));
    split(&*engine, &leader, &job, 1).await?;
    let database = bench.value("SELECT current_database()").await?;
    bench.execute(&format!("ALTER DATABASE {database} SET default_transaction_read_only = on")).await?;
    let problem = engine.hello().await.problem.expect("it takes no writes");
    ensure!(problem.code == ErrorCode::ShardReadOnly, "{problem:?}");
    let refused = failure(open(&*engine, &range_lease(&leader, 0, 1), &job).await);
    ensure!(refused.code == ErrorCode::ShardReadOnly && refused.retryable(), "{refused:?}");
    let same = DataJob { spec: job.spec.clone(), data: job.data.clone(), transformer: None };
    let precheck = engine.precheck(&lease(&leader, Step::Precheck, 1), &Job::Data(same)).await;
    ensure!(failure(precheck).code == ErrorCode::ShardReadOnly);
    let mut connection = bench.connect().await?;
    sqlx::query("SET default_transaction_read_only = off").execute(&mut connection).await?;
    let reset = format!("ALTER DATABASE {database} RESET default_transaction_read_only");
    sqlx::raw_sql(AssertSqlSafe(reset)).execute(&mut connection).await?;
    ensure!(engine.hello().await.problem.is_none());
    let lease = range_lease(&leader, 0, 1);
    let mut writer = open(&*engine, &lease, &job).await?;
    finish(writer.as_mut(), &lease, 20).await?;
    exactly_once(&bench).await
}
