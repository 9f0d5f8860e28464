//! Whether rows still are what was written, by the digests that the log holds alone: the transform is not evaluated, so it need
//! not give the same again.

use async_trait::async_trait;
use shardlift_domain::ids::{MigrationKey, TaskId};
use shardlift_domain::mismatch::{Difference, LogPlace};
use shardlift_domain::spec::Sample;
use sqlx::{PgConnection, Row};

use super::log::{Entry, Part, digest_of_columns, key, later, told};
use super::{STATEMENT, changed, progress};
use crate::engine::anew::{self, CHANGED, DIGEST, Differing, GONE, Seen, Walked};
use crate::engine::postgres::error::OrTrouble;
use crate::engine::postgres::fence::unsigned;
use crate::engine::postgres::key::shown;
use crate::engine::postgres::session::{Access, Purpose, QUICK, Session, task_name, within};
use crate::engine::postgres::walk::Walk;
use crate::engine::{DataJob, EngineResult};
use crate::lease::TaskLease;

/// The walk over one migration's log.
pub(super) struct Written {
    session: Session,
    migration: MigrationKey,
    walk: Walk,
}

impl Written {
    pub(super) async fn open(access: &Access, task: &TaskId, job: &DataJob) -> EngineResult<Self> {
        let mut session = access.open(&task_name(task), Purpose::Batch(STATEMENT)).await?;
        let walk = Walk::resolve(&mut session, task, job).await?;
        Ok(Self { session, migration: task.migration.clone(), walk })
    }

    pub(super) async fn changed(&mut self) -> EngineResult<u64> {
        changed(&mut self.session, &self.migration).await
    }

    pub(super) async fn close(self) {
        self.session.close().await;
    }
}

#[async_trait]
impl anew::Look for Written {
    async fn next(&mut self, after: LogPlace, rows: u32, _: Sample) -> EngineResult<Seen> {
        let entry = Entry::after(&mut self.session.conn, &self.migration, after);
        let entry = within(QUICK, entry).await.or_trouble(&self.session.shard)?;
        let Some(entry) = entry else { return Ok(Seen::default()) };
        let page = compare(&mut self.session.conn, &self.walk, &entry, entry.part(after, rows));
        within(STATEMENT + QUICK, page).await.or_trouble(&self.session.shard)
    }

    async fn begin(&mut self, lease: &TaskLease, changed: u64) -> EngineResult<Walked> {
        progress::begin(&mut self.session, lease, DIGEST, changed).await
    }

    async fn keep(&mut self, lease: &TaskLease, walked: &Walked, found: &[Differing]) -> EngineResult<()> {
        progress::keep(&mut self.session, lease, DIGEST, walked, found).await
    }
}

/// Compares some rows of an entry, in one statement and so in one snapshot. A row that a later pass has migrated once more is
/// what that pass has written, whose image comes later: the older one is left out.
async fn compare(
    conn: &mut PgConnection,
    walk: &Walk,
    entry: &Entry,
    part: Part,
) -> Result<Seen, sqlx::Error> {
    let rows = entry.query(statement(walk, entry, part)).fetch_all(conn).await?;
    let mut page = Seen { next: Some(entry.behind(part.to)), ..Seen::default() };
    let mut all = 0;
    for row in &rows {
        all = unsigned(row.try_get(0)?);
        let Some(number) = row.try_get::<Option<i64>, _>(1)? else { continue };
        if row.try_get(4)? {
            page.compared.left_out += 1;
            continue;
        }
        let now: Option<i64> = row.try_get(2)?;
        let key: Vec<String> = row.try_get(3)?;
        let verdict = if now.is_some() { (Difference::Changed, CHANGED) } else { (Difference::Gone, GONE) };
        anew::add(&mut page, Some(verdict), (entry.row(part.row(number)), now), || shown(&key));
    }
    page.compared.verified = all - page.compared.looked_at() - page.compared.left_out;
    Ok(page)
}

/// Of each row that is not what was written, as [`told`] has it, and besides whether a later pass has migrated it. The keys of
/// later passes are read only if there is such a row.
fn statement(walk: &Walk, entry: &Entry, part: Part) -> String {
    let keys = walk.key.columns().len();
    let again = (0..keys).map(|n| format!("shardlift_later.shardlift_k{n} = shardlift_other.shardlift_k{n}"));
    let again = again.collect::<Vec<_>>().join(" AND ");
    format!(
        "WITH shardlift_log AS MATERIALIZED ({log}), \
         shardlift_seen AS MATERIALIZED (SELECT {key}, shardlift_log.shardlift_n, shardlift_log.shardlift_w, \
           CASE WHEN shardlift_now.tableoid IS NOT NULL THEN {present} END AS shardlift_is \
         FROM shardlift_log LEFT JOIN {table} AS shardlift_now ON {joins}), \
         shardlift_other AS MATERIALIZED (SELECT * FROM shardlift_seen WHERE shardlift_is IS DISTINCT FROM shardlift_w), \
         shardlift_later AS ({later}) {told}",
        log = entry.written(keys, part),
        key = key(keys, "shardlift_log"),
        present = digest_of_columns("shardlift_now", &entry.fields),
        table = walk.table.sql,
        joins = walk.key.same_as("shardlift_log"),
        later = later(keys),
        told = told(
            keys,
            &format!("shardlift_n IS NOT NULL AND EXISTS (SELECT FROM shardlift_later WHERE {again})")
        ),
    )
}
