//! The transform evaluated anew on what the undo log keeps, and compared with what is there; or only the digests of what was written.
//!
//! [`log`] reads the log, entry by entry; [`set_list`] has the shard evaluate a `SET` list, [`program`] runs a program of
//! the worker; [`written`] compares without either; [`repeatable`] asks the shard whether a list gives the same again; [`progress`] keeps how far a verification is
//! and what it has found, which [`mend`] repairs. Nothing here is used by what wrote the
//! rows: of that only the names of columns and the digest's formula are shared, which stand in the log itself.

mod log;
mod mend;
mod program;
mod progress;
mod repeatable;
mod set_list;
mod written;

use std::time::Duration;

use async_trait::async_trait;
use shardlift_domain::failure::{ErrorCode, Failure};
use shardlift_domain::fence::Fence;
use shardlift_domain::ids::{MigrationKey, ShardId, TaskId};
use shardlift_domain::migration::Step;
use shardlift_domain::mismatch::{LogPlace, MismatchesPage, MismatchesRequest};
use shardlift_domain::repair::{RepairPage, RepairRequest};
use shardlift_domain::spec::Sample;
use shardlift_domain::verdict::{CheckResult, Severity};
use sqlx::Row;

use self::log::{Entry, Part};
use self::program::Program;
use self::set_list::SetList;
use self::written::Written;
use super::error::{OrTrouble, sqlstate, trouble, words};
use super::fence::unsigned;
use super::session::{Access, Purpose, QUICK, Session, task_name, within};
use super::walk::{Walk, assignments};
use crate::engine::anew::{Asked, Differing, Known, Seen, TRANSFORM, Walked};
use crate::engine::findings::Findings;
use crate::engine::{DataJob, EngineError, EngineResult, anew};
use crate::lease::TaskLease;

/// The longest that the server lets one statement run.
const STATEMENT: Duration = Duration::from_secs(60);
const MEND: &str =
    "leave `transform` out of `verify`, or write the transform so that it depends on the row alone";

/// How the transform is evaluated.
enum How {
    /// By the shard.
    List(SetList),
    /// By the worker.
    Program(Program),
}

/// The walk over one migration's log.
struct Look {
    session: Session,
    migration: MigrationKey,
    how: How,
}

/// The checks of `verify` that walk over the log.
pub(super) async fn verify(
    access: &Access,
    lease: &TaskLease,
    job: &DataJob,
) -> EngineResult<Vec<CheckResult>> {
    let mut results = Vec::new();
    if let Some(allowed) = job.data.digest() {
        let mut written = Written::open(access, lease.task(), job).await?;
        let changed = written.changed().await?;
        results.push(anew::verify(&mut written, lease, Asked::Digest(allowed), changed).await?);
        written.close().await;
    }
    if let Some(anew) = job.data.anew() {
        let mut look = Look::open(access, lease.task(), job).await?;
        let changed = changed(&mut look.session, &look.migration).await?;
        results.push(anew::verify(&mut look, lease, Asked::Transform(anew), changed).await?);
        look.session.close().await;
    }
    Ok(results)
}

/// One page of a listing.
pub(super) async fn mismatches(
    access: &Access,
    request: &MismatchesRequest,
    job: &DataJob,
) -> EngineResult<MismatchesPage> {
    let (migration, shard) = (request.migration.clone(), access.shard.clone());
    let task = TaskId { migration, shard, step: Step::Verify, range: None };
    if job.data.known_by_digest() {
        let mut written = Written::open(access, &task, job).await?;
        let page = anew::page(&mut written, request.after, request.limit).await?;
        written.close().await;
        return Ok(page);
    }
    let mut look = Look::open(access, &task, job).await?;
    let page = anew::page(&mut look, request.after, request.limit).await?;
    look.session.close().await;
    Ok(page)
}

/// Adds what keeps the transform from being evaluated anew on this shard.
pub(super) async fn check(
    session: &mut Session,
    walk: &Walk,
    list: &[(String, String)],
    findings: &mut Findings,
) -> EngineResult<()> {
    let shard = session.shard.clone();
    let refused = within(QUICK, repeatable::problem(&mut session.conn, list)).await.or_trouble(&shard)?;
    if let Some(why) = refused {
        let what = format!("verify: transform cannot evaluate this transform anew: {why}");
        findings.of_spec(Severity::Error, ErrorCode::TransformInvalid, what, MEND);
        return Ok(());
    }
    let types = within(QUICK, log::types(&mut session.conn, &walk.table)).await.or_trouble(&shard)?;
    let list = SetList::new(walk.clone(), list.to_vec(), types);
    match within(QUICK, list.explain(&mut session.conn)).await {
        Ok(()) => Ok(()),
        Err(error) if sqlstate(&error).is_some_and(|code| code.starts_with("42")) => {
            let what = format!("the transform cannot be evaluated by itself: {}", words(&error));
            findings.of_spec(Severity::Error, ErrorCode::TransformInvalid, what, MEND);
            Ok(())
        }
        Err(error) => Err(trouble(&shard, error)),
    }
}

impl Look {
    async fn open(access: &Access, task: &TaskId, job: &DataJob) -> EngineResult<Self> {
        let mut session = access.open(&task_name(task), Purpose::Batch(STATEMENT)).await?;
        let walk = Walk::resolve(&mut session, task, job).await?;
        let shard = session.shard.clone();
        let types = within(QUICK, log::types(&mut session.conn, &walk.table)).await.or_trouble(&shard)?;
        let how = match (assignments(&shard, &job.data.transform)?, &job.transformer) {
            (Some(list), _) => {
                let problem = repeatable::problem(&mut session.conn, &list);
                if let Some(why) = within(QUICK, problem).await.or_trouble(&shard)? {
                    return Err(unrepeatable(&shard, &why));
                }
                How::List(SetList::new(walk, list, types))
            }
            (None, Some(transformer)) => How::Program(Program::new(walk, transformer.clone(), types)),
            (None, None) => return Err(unrepeatable(&shard, "this worker has no such program")),
        };
        Ok(Self { session, migration: task.migration.clone(), how })
    }
}

/// How many rows the ranges say were changed.
async fn changed(session: &mut Session, migration: &MigrationKey) -> EngineResult<u64> {
    let sum = sqlx::query(
        "SELECT coalesce(sum(rows_changed), 0)::int8 FROM shardlift.checkpoint WHERE migration = $1 AND version = $2",
    )
    .bind(migration.id.as_str())
    .bind(i64::from(migration.version.0))
    .fetch_one(&mut session.conn);
    let sum = within(QUICK, sum).await.and_then(|row| row.try_get(0));
    sum.map(unsigned).or_trouble(&session.shard)
}

#[async_trait]
impl anew::Look for Look {
    async fn next(&mut self, after: LogPlace, rows: u32, sample: Sample) -> EngineResult<Seen> {
        let entry = Entry::after(&mut self.session.conn, &self.migration, after);
        let entry = within(QUICK, entry).await.or_trouble(&self.session.shard)?;
        let Some(entry) = entry else { return Ok(Seen::default()) };
        let part = entry.part(after, rows);
        match &self.how {
            How::List(list) => {
                let page =
                    within(STATEMENT + QUICK, list.compare(&mut self.session.conn, &entry, part, sample));
                page.await.or_trouble(&self.session.shard)
            }
            How::Program(program) => {
                let shard = self.session.shard.clone();
                program.compare(&mut self.session.conn, &shard, &entry, part, sample).await
            }
        }
    }

    async fn begin(&mut self, lease: &TaskLease, changed: u64) -> EngineResult<Walked> {
        progress::begin(&mut self.session, lease, TRANSFORM, changed).await
    }

    async fn keep(&mut self, lease: &TaskLease, walked: &Walked, found: &[Differing]) -> EngineResult<()> {
        progress::keep(&mut self.session, lease, TRANSFORM, walked, found).await
    }
}

/// One row, compared by itself.
struct One {
    there: bool,
    known: Known,
    /// The digest of its changed columns, as they are.
    now: i64,
    /// What the transform gives for them, and the digest of that; `None`: nothing.
    given: Option<(Vec<Option<String>>, i64)>,
}

/// Repairs some of the rows that verification has recorded.
pub(super) async fn repair(
    access: &Access,
    leader: &Fence,
    request: &RepairRequest,
    job: &DataJob,
) -> EngineResult<RepairPage> {
    let (migration, shard) = (request.migration.clone(), access.shard.clone());
    let task = TaskId { migration, shard, step: Step::Verify, range: None };
    let look = Look::open(access, &task, job).await?;
    mend::page(look, leader, request, job).await
}

impl Look {
    /// Compares one row of an entry.
    async fn one(&mut self, entry: &Entry, row: u32) -> EngineResult<Option<One>> {
        let part = Part { from: row, to: row.saturating_add(1) };
        let shard = self.session.shard.clone();
        match &self.how {
            How::List(list) => {
                let one = within(STATEMENT + QUICK, list.one(&mut self.session.conn, entry, part));
                one.await.or_trouble(&shard)
            }
            How::Program(program) => program.one(&mut self.session.conn, &shard, entry, part).await,
        }
    }

    fn walk(&self) -> &Walk {
        match &self.how {
            How::List(list) => list.walk(),
            How::Program(program) => program.walk(),
        }
    }
}

fn unrepeatable(shard: &ShardId, why: &str) -> EngineError {
    let what = format!("the transform cannot be evaluated anew: {why}");
    EngineError::Failed(Failure::new(ErrorCode::TransformInvalid, what, MEND).on_shard(shard))
}
