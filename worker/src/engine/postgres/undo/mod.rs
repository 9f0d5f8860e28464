//! Undoing a data migration: batch by batch from the newest before-image to the oldest.
//!
//! A batch is one transaction, on the condition that nobody else has claimed the undoing: rows that still are what was
//! written get their old values, the others are set aside as conflicts, the before-images go, the count advances. The claim
//! also seals the migration's checkpoints, so that whoever still walks a range under an older right cannot commit.

mod claim;
mod restore;

use async_trait::async_trait;
use shardlift_domain::facts::{Conflict, ConflictsPage, ConflictsRequest};
use shardlift_domain::range::KeyText;
use shardlift_domain::verdict::Undone;
use sqlx::{Connection, PgConnection, Row};

use self::claim::Claim;
use self::restore::Image;
use super::error::{OrTrouble, trouble};
use super::fence::{signed, unsigned};
use super::session::{Access, Purpose, QUICK, Session, task_name, within};
use super::walk::Walk;
use crate::engine::{DataJob, EngineError, EngineResult, UndoReport, UndoWriter};
use crate::lease::TaskLease;

/// The undoing of one migration, claimed.
struct Writer {
    session: Session,
    claim: Claim,
    /// `None`: there is nothing to restore, so the table need not be there.
    walk: Option<Walk>,
    done: Undone,
    unsure: bool,
}

/// Claims the undoing of the lease's migration.
pub(super) async fn open(
    access: &Access,
    lease: &TaskLease,
    job: &DataJob,
) -> EngineResult<Box<dyn UndoWriter>> {
    lease.check()?;
    let mut session = access.open(&task_name(lease.task()), Purpose::Batch(claim::STATEMENT)).await?;
    let (claim, held) = claim::claim(&mut session, lease).await?;
    let walk = match held.kept {
        false => None,
        true => Some(Walk::resolve(&mut session, lease.task(), job).await?),
    };
    Ok(Box::new(Writer { session, claim, walk, done: held.done, unsure: false }))
}

#[async_trait]
impl UndoWriter for Writer {
    fn done(&self) -> Undone {
        self.done
    }

    async fn run_batch(&mut self, lease: &TaskLease) -> EngineResult<UndoReport> {
        lease.check()?;
        if self.unsure {
            return Err(self.session.broken("the outcome of its last batch is not known"));
        }
        self.unsure = true;
        let outcome = self.batch().await;
        self.unsure = matches!(outcome, Err(EngineError::Connection(_)));
        outcome
    }
}

impl Writer {
    async fn batch(&mut self) -> EngineResult<UndoReport> {
        let image = {
            let newest = Image::newest(&mut self.session.conn, &self.claim.migration);
            within(QUICK, newest).await.or_trouble(&self.session.shard)?
        };
        let (Some(image), Some(walk)) = (image, self.walk.clone()) else {
            self.step(async |tx, claim| claim.end(tx).await.map(|()| Undone::default())).await?;
            return Ok(UndoReport { undone: self.done, rows: 0, last: true });
        };
        let restored = self.step(async |tx, _| image.restore(tx, &walk).await).await;
        let (undone, rows) = match restored {
            Ok(undone) => (undone, image.rows),
            Err(EngineError::Row(_)) if image.rows > 1 => {
                // The one that is refused is found by dividing.
                let divided = self.step(async |tx, _| image.divide(tx, &walk).await);
                (divided.await?, 0)
            }
            Err(EngineError::Row(failure)) => {
                let why = failure.message;
                (self.step(async |tx, _| image.set_aside(tx, &walk, &why).await).await?, 1)
            }
            Err(other) => return Err(other),
        };
        self.done += undone;
        Ok(UndoReport { undone: self.done, rows, last: false })
    }

    /// One transaction under the claim: the work, then the count.
    async fn step(
        &mut self,
        work: impl AsyncFnOnce(&mut PgConnection, &Claim) -> Result<Undone, sqlx::Error>,
    ) -> EngineResult<Undone> {
        let shard = self.session.shard.clone();
        let limit = claim::STATEMENT + QUICK;
        let mut tx = within(limit, self.session.conn.begin()).await.or_trouble(&shard)?;
        let worked = async {
            if !self.claim.hold(&mut tx).await? {
                return Ok(None);
            }
            let undone = work(&mut tx, &self.claim).await?;
            Ok::<_, sqlx::Error>(self.claim.count(&mut tx, undone).await?.then_some(undone))
        };
        let worked = within(limit, worked).await;
        if let Ok(Some(undone)) = worked {
            fail::fail_point!("pg-undo-before-commit", |_| std::process::abort());
            // Constraints that are deferred are checked now.
            within(limit, tx.commit()).await.map_err(|error| trouble(&shard, error))?;
            fail::fail_point!("pg-undo-after-commit", |_| std::process::abort());
            return Ok(undone);
        }
        within(limit, tx.rollback()).await.or_trouble(&shard)?;
        Err(match worked {
            Err(error) => trouble(&shard, error),
            Ok(_) => EngineError::LeaseLost,
        })
    }
}

const CONFLICTS: &str = "\
    SELECT id, key, reason FROM shardlift.undo_conflict WHERE migration = $1 AND version = $2 AND id > $3
    ORDER BY id LIMIT $4";

/// One page of what undoing has left alone.
pub(super) async fn conflicts(access: &Access, request: &ConflictsRequest) -> EngineResult<ConflictsPage> {
    let mut session = access.control("control").await?;
    let rows = sqlx::query(CONFLICTS)
        .bind(request.migration.id.as_str())
        .bind(i64::from(request.migration.version.0))
        .bind(signed(request.after.unwrap_or_default()))
        .bind(i64::from(request.limit))
        .fetch_all(&mut session.conn);
    let rows = within(QUICK, rows).await.or_trouble(&access.shard)?;
    let mut page = ConflictsPage::default();
    for row in &rows {
        let number: i64 = row.try_get(0).or_trouble(&access.shard)?;
        let key: Vec<String> = row.try_get(1).or_trouble(&access.shard)?;
        let reason = row.try_get(2).or_trouble(&access.shard)?;
        page.conflicts.push(Conflict { key: KeyText(key).to_string(), reason });
        page.next = (rows.len() >= request.limit as usize).then_some(unsigned(number));
    }
    session.close().await;
    Ok(page)
}
