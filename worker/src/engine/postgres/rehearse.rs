//! The real statement of a batch on a sample, in transactions that are rolled back: nothing is left, not even the
//! checkpoint row that a batch needs.

use std::time::{Duration, Instant};

use async_trait::async_trait;
use shardlift_domain::fence::{Attempt, Epoch, Token};
use shardlift_domain::ids::TaskId;
use shardlift_domain::migration::Step;
use shardlift_domain::rehearsal::{RehearsalRequest, SampleField, SampleRow, ShardRehearsal};
use sqlx::{AssertSqlSafe, Connection, PgConnection, Row};
use uuid::Uuid;

use super::batch_rows::Refusal;
use super::checkpoint::Claim;
use super::claim::change;
use super::error::OrTrouble;
use super::key::{Bound, shown as key_shown};
use super::session::{Access, Purpose, QUICK, Session, within};
use super::split;
use super::walk::Walk;
use super::window::{Edges, Stretch, Window};
use super::writer::{Change, refused};
use crate::engine::rehearsal::{First, PARTS, Stage, Tried, run};
use crate::engine::{DataJob, EngineResult};

/// The longest that the server lets one statement run, and so others wait for the rows of it.
const STATEMENT: Duration = Duration::from_secs(5);
/// How long it waits for rows that others hold.
const LOCK: &str = "500ms";
/// The greatest number that a range can have: real ones never come near it.
const LAST_RANGE: u32 = i32::MAX.unsigned_abs();

/// Rehearses.
pub(super) async fn rehearse(
    access: &Access,
    request: &RehearsalRequest,
    job: &DataJob,
) -> EngineResult<ShardRehearsal> {
    let (migration, shard) = (request.migration.clone(), access.shard.clone());
    let task = TaskId { migration, shard, step: Step::Backfill, range: None };
    let mut session = access.open("rehearsal", Purpose::Batch(STATEMENT)).await?;
    let patience = sqlx::query("SELECT set_config('lock_timeout', $1, false)").bind(LOCK);
    within(QUICK, patience.execute(&mut session.conn)).await.or_trouble(&access.shard)?;
    let walk = Walk::resolve(&mut session, &task, job).await?;
    let change = change(&session.shard, &walk, job)?;
    let cuts = split::cuts(&mut session.conn, &walk, false, PARTS);
    let cuts = within(STATEMENT + QUICK, cuts).await.or_trouble(&access.shard)?;
    let bounds: Vec<Bound> =
        std::iter::once(None).chain(cuts.into_iter().map(|cut| Some(cut.0))).chain([None]).collect();
    let parts = bounds.windows(2).map(|pair| Part { after: pair[0].clone(), upper: pair[1].clone() });
    let parts = parts.collect();
    let checksum = job.spec.checksum.as_str().to_owned();
    let mut stage = Rehearsing { session, edges: Edges::new(walk), change, checksum };
    let found = run(&mut stage, parts, request.rows, request.shown).await;
    stage.session.close().await;
    found
}

/// `(after, upper]`.
struct Part {
    after: Bound,
    upper: Bound,
}

struct Rehearsing {
    session: Session,
    edges: Edges,
    change: Change,
    checksum: String,
}

#[async_trait]
impl Stage for Rehearsing {
    type Part = Part;

    async fn first(&mut self, part: &Part, rows: u32) -> EngineResult<Option<First<Part>>> {
        let window = self.edges.next(&mut self.session.conn, &part.after, &part.upper, rows);
        let window = within(STATEMENT + QUICK, window).await.or_trouble(&self.session.shard)?;
        let Some(edge) = window.edge else { return Ok(None) };
        let rest = Part { after: Some(edge.clone()), upper: part.upper.clone() };
        let part = Part { after: part.after.clone(), upper: Some(edge) };
        Ok(Some(First { part, rows: window.rows, rest: (!window.last).then_some(rest) }))
    }

    async fn try_out(&mut self, rows: &First<Part>, shown: usize) -> EngineResult<Tried> {
        let window = Window { edge: rows.part.upper.clone(), rows: rows.rows, last: false };
        let shard = self.session.shard.clone();
        let beginning = match &self.change {
            Change::Sql(batch) => batch.beginning(),
            Change::Rows(_) => "BEGIN",
        };
        let mut tx = within(QUICK, self.session.conn.begin_with(beginning)).await.or_trouble(&shard)?;
        let act = Act { walk: self.edges.walk(), change: &mut self.change, checksum: &self.checksum };
        let tried = act.play(&mut tx, &rows.part.after, &window, shown).await;
        within(QUICK, tx.rollback()).await.or_trouble(&shard)?;
        tried.map_err(|refusal| refused(&shard, refusal, &window))
    }
}

/// One transaction of it.
struct Act<'a> {
    walk: &'a Walk,
    change: &'a mut Change,
    checksum: &'a str,
}

impl Act<'_> {
    async fn play(
        self,
        conn: &mut PgConnection,
        after: &Bound,
        window: &Window,
        shown: usize,
    ) -> Result<Tried, Refusal> {
        let claim = self.claim(conn, after).await?;
        let limit = STATEMENT + QUICK;
        let before = within(limit, before(conn, self.walk, after, window, shown)).await?;
        let log = sqlx::query_scalar("SELECT pg_current_wal_insert_lsn()::text").fetch_one(&mut *conn);
        let log: String = within(QUICK, log).await?;
        let began = Instant::now();
        let stretch = Stretch { claim: &claim, after, window };
        let advanced = match self.change {
            Change::Sql(batch) => {
                within(limit, batch.once(conn, stretch)).await.map_err(Refusal::Database)?
            }
            Change::Rows(batch) => batch.steps(conn, stretch, limit).await?,
        };
        // What would be refused by the commit is refused now.
        let constraints = sqlx::query("SET CONSTRAINTS ALL IMMEDIATE").execute(&mut *conn);
        within(limit, constraints).await?;
        let took = began.elapsed();
        let bytes =
            sqlx::query_scalar("SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), $1::pg_lsn)::int8");
        let bytes: i64 = within(QUICK, bytes.bind(log).fetch_one(&mut *conn)).await?;
        let mut samples = Vec::with_capacity(before.len());
        for old in before {
            samples.extend(within(limit, compared(conn, self.walk, old)).await?);
        }
        let changed = advanced.map_or(0, |(_, changed)| changed);
        Ok(Tried { changed, took, log_bytes: bytes.unsigned_abs(), samples })
    }

    /// The checkpoint row that a batch advances; it goes with the transaction.
    async fn claim(&self, conn: &mut PgConnection, after: &Bound) -> Result<Claim, sqlx::Error> {
        let id = Uuid::new_v4();
        // Two rehearsals at once must not wait for each other.
        let index = LAST_RANGE - (id.as_fields().0 >> 8);
        let claim = Claim {
            migration: self.walk.migration.clone(),
            index,
            token: Token { epoch: Epoch::NONE, attempt: Attempt(0) },
            id,
            last_key: after.clone(),
        };
        let insert = sqlx::query(
            "INSERT INTO shardlift.checkpoint (migration, version, range_index, epoch, attempt, claim, last_key, pass, checksum) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, 0, $8)",
        );
        within(QUICK, claim.bind(insert).bind(self.checksum).execute(conn)).await?;
        Ok(claim)
    }
}

/// A row as it was: its key, and each column as text.
struct Old {
    key: Vec<String>,
    values: Vec<Option<String>>,
}

/// The first pending rows of the window.
async fn before(
    conn: &mut PgConnection,
    walk: &Walk,
    after: &Bound,
    window: &Window,
    shown: usize,
) -> Result<Vec<Old>, sqlx::Error> {
    if shown == 0 {
        return Ok(Vec::new());
    }
    let sql = format!(
        "SELECT {key}, {values} FROM {table} WHERE {interval}{pending} ORDER BY {order} LIMIT {shown}",
        key = walk.key.texts(&walk.table.sql),
        values = values(walk),
        table = walk.table.sql,
        interval = walk.key.between(after.is_some().then_some(1), Some(2)),
        pending = walk.and_pending(3),
        order = walk.key.list(),
    );
    let rows = sqlx::query(AssertSqlSafe(sql)).bind(after).bind(&window.edge).bind(walk.tenant_keys());
    let rows = rows.fetch_all(conn).await?;
    rows.iter().map(|row| Ok(Old { key: row.try_get(0)?, values: row.try_get(1)? })).collect()
}

/// What differs now.
async fn compared(conn: &mut PgConnection, walk: &Walk, old: Old) -> Result<Option<SampleRow>, sqlx::Error> {
    let sql = format!(
        "SELECT {values} FROM {table} WHERE {same}",
        values = values(walk),
        table = walk.table.sql,
        same = walk.key.compare("=", 1)
    );
    let found = sqlx::query_scalar(AssertSqlSafe(sql)).bind(&old.key).fetch_optional(conn).await?;
    let Some(new): Option<Vec<Option<String>>> = found else { return Ok(None) };
    let columns = walk.table.columns.iter().zip(old.values.into_iter().zip(new));
    let fields = columns.filter_map(|(column, (old, new))| SampleField::of(&column.name, old, new));
    let fields: Vec<SampleField> = fields.collect();
    Ok((!fields.is_empty()).then(|| SampleRow { key: key_shown(&old.key), fields }))
}

fn values(walk: &Walk) -> String {
    let columns: Vec<String> =
        walk.table.columns.iter().map(|column| format!("{}::text", column.sql())).collect();
    format!("ARRAY[{}]::text[]", columns.join(", "))
}
