//! The walk: each window of keys leaves its digests in one transaction, with how far it is, on the condition of the token.

use async_trait::async_trait;
use shardlift_domain::ids::{MigrationKey, TaskId};
use sqlx::{AssertSqlSafe, Connection, PgConnection, Row};

use super::STATEMENT;
use super::collection::{self, Collection, clear_some};
use super::fields::{self, Fields};
use crate::engine::postgres::error::OrTrouble;
use crate::engine::postgres::session::{Access, Purpose, QUICK, Session, task_name, within};
use crate::engine::postgres::walk::{Walk, misfit};
use crate::engine::{CollectReport, Collector, DataJob, EngineError, EngineResult};
use crate::lease::TaskLease;

/// A migration's checks against the real table.
pub(super) struct Subject {
    pub(super) walk: Walk,
    checks: Vec<Fields>,
    /// What all digests begin with: the same on every shard, and known to nobody who only sees digests.
    pub(super) salt: String,
}

impl Subject {
    pub(super) async fn resolve(session: &mut Session, task: &TaskId, job: &DataJob) -> EngineResult<Self> {
        let walk = Walk::resolve(session, task, job).await?;
        let shard = session.shard.clone();
        let mut checks = Vec::new();
        for unique in job.data.unique() {
            let found = within(QUICK, fields::of(&mut session.conn, &walk.table, unique)).await;
            checks.push(found.or_trouble(&shard)?.map_err(|why| misfit(&shard, why))?);
        }
        let uuid =
            sqlx::query_scalar("SELECT cluster_uuid FROM shardlift.identity").fetch_one(&mut session.conn);
        let uuid: String = within(QUICK, uuid).await.or_trouble(&shard)?;
        let salt = format!("{uuid} {} ", task.migration);
        Ok(Self { walk, checks, salt })
    }

    /// What the digests are made of.
    pub(super) fn form(&self) -> String {
        self.checks.iter().map(Fields::form).collect::<Vec<_>>().join("; ")
    }

    /// The digest of each check for the row `source`; `salt`: the parameter of [`Subject::salt`].
    pub(super) fn digests(&self, salt: usize) -> Vec<String> {
        (0..).zip(&self.checks).map(|(number, fields)| fields.digest(salt, number)).collect()
    }

    /// A window of at most `$2` keys after `$4`, its digests under the collection `$1`: how many digests, how many rows, and
    /// the last key.
    fn statement(&self, from_the_start: bool) -> String {
        let (table, key) = (&self.walk.table.sql, &self.walk.key);
        let digests = self.digests(3);
        let columns: String =
            (0..).zip(&digests).map(|(number, digest)| format!(", {digest} AS d{number}")).collect();
        let values: Vec<String> =
            (0..digests.len()).map(|number| format!("({number}::smallint, w.d{number})")).collect();
        let after = if from_the_start { "$4::text[] IS NULL".to_owned() } else { key.compare(">", 4) };
        format!(
            "WITH w AS MATERIALIZED (SELECT {keys} AS key, row_number() OVER (ORDER BY {list}) AS n{columns} \
               FROM (SELECT * FROM {table} AS source WHERE {after} ORDER BY {list} LIMIT $2) AS source), \
             put AS (INSERT INTO shardlift.collected (collection, digest, asked, key) \
               SELECT $1, d.digest, d.asked, w.key FROM w CROSS JOIN LATERAL (VALUES {values}) AS d (asked, digest) \
               WHERE d.digest IS NOT NULL RETURNING 1) \
             SELECT (SELECT count(*) FROM put), (SELECT count(*) FROM w), (SELECT w.key FROM w ORDER BY w.n DESC LIMIT 1)",
            keys = key.texts("source"),
            list = key.list(),
            values = values.join(", "),
        )
    }
}

/// The walk of one hand-out.
struct Walking {
    session: Session,
    migration: MigrationKey,
    subject: Subject,
    collection: Collection,
    /// Digests of an earlier collection go first, so that no more are kept than one for each row.
    clears: bool,
    broken: bool,
}

/// Claims the digests of a migration.
pub(in crate::engine::postgres) async fn open(
    access: &Access,
    lease: &TaskLease,
    job: &DataJob,
) -> EngineResult<Box<dyn Collector>> {
    let task = lease.task();
    let mut session = access.open(&task_name(task), Purpose::Batch(STATEMENT)).await?;
    let subject = Subject::resolve(&mut session, task, job).await?;
    let collection = collection::claim(&mut session, lease, &subject.form()).await?;
    let migration = task.migration.clone();
    Ok(Box::new(Walking { session, migration, subject, collection, clears: true, broken: false }))
}

/// What one window has left.
struct Window {
    digests: i64,
    rows: i64,
    last_key: Option<Vec<String>>,
}

#[async_trait]
impl Collector for Walking {
    async fn run_batch(&mut self, lease: &TaskLease, rows: u32) -> EngineResult<CollectReport> {
        lease.check()?;
        if self.broken {
            return Err(self.session.broken("an earlier statement was not answered"));
        }
        // Until it is committed nobody knows what the session is in.
        self.broken = true;
        let report = if self.clears { self.clear().await } else { self.window(rows).await };
        self.broken = matches!(report, Err(EngineError::Connection(_)));
        report
    }
}

impl Walking {
    async fn clear(&mut self) -> EngineResult<CollectReport> {
        let shard = self.session.shard.clone();
        let mut tx = within(QUICK, self.session.conn.begin()).await.or_trouble(&shard)?;
        let more =
            within(STATEMENT + QUICK, clear_some(&mut tx, &self.migration)).await.or_trouble(&shard)?;
        within(QUICK, tx.commit()).await.or_trouble(&shard)?;
        self.clears = more;
        Ok(CollectReport { digests: self.collection.digests, rows: 0, last: false })
    }

    async fn window(&mut self, rows: u32) -> EngineResult<CollectReport> {
        let shard = self.session.shard.clone();
        let mut tx = within(QUICK, self.session.conn.begin()).await.or_trouble(&shard)?;
        let window = within(STATEMENT + QUICK, window(&mut tx, &self.subject, &self.collection, rows));
        let window = window.await.or_trouble(&shard)?;
        let last = window.rows < i64::from(rows);
        let last_key = window.last_key.or_else(|| self.collection.last_key.clone());
        let kept = self.collection.keep(&mut tx, last_key.as_ref(), window.digests, last);
        if !within(QUICK, kept).await.or_trouble(&shard)? {
            return Err(EngineError::LeaseLost);
        }
        fail::fail_point!("pg-collect-before-commit", |_| std::process::abort());
        within(QUICK, tx.commit()).await.or_trouble(&shard)?;
        self.collection.last_key = last_key;
        self.collection.digests += u64::try_from(window.digests).unwrap_or_default();
        let rows = u32::try_from(window.rows).unwrap_or(u32::MAX);
        Ok(CollectReport { digests: self.collection.digests, rows, last })
    }
}

async fn window(
    tx: &mut PgConnection,
    subject: &Subject,
    collection: &Collection,
    rows: u32,
) -> Result<Window, sqlx::Error> {
    let row = sqlx::query(AssertSqlSafe(subject.statement(collection.last_key.is_none())))
        .bind(collection.id)
        .bind(i64::from(rows))
        .bind(&subject.salt)
        .bind(collection.last_key.clone())
        .fetch_one(tx)
        .await?;
    Ok(Window { digests: row.try_get(0)?, rows: row.try_get(1)?, last_key: row.try_get(2)? })
}
