//! Repairing what verification has recorded, the same for both engines: which rows may be repaired, and a page of them. How a
//! row is compared and written is the engine's.
//!
//! A row is repaired only if it is, under its lock, what verification has seen of it, what its transform reads is what it was
//! when it was migrated, and either nobody has changed it since (a *mismatch*) or the spec says that nobody but the migration
//! may (`changed: 0`). Everything else is left alone.

use std::time::Duration;

use async_trait::async_trait;
use shardlift_domain::mismatch::{Difference, LogPlace};
use shardlift_domain::repair::{Fate, RepairPage, RepairRequest, RepairedRow};
use tokio::time::{Instant, sleep};

use super::anew::{GONE, Known};
use super::{DataJob, EngineError, EngineResult};

/// How long one page is worked on, about.
const PAGE: Duration = Duration::from_secs(5);
/// Most rows of a page.
const ROWS: u32 = 500;
/// How often in a row somebody else may hold a row.
const PATIENCE: u32 = 12;
/// The pause after that.
const PAUSE: Duration = Duration::from_millis(200);

/// Why a row is repaired, or how it was found.
const DEFECT: &str = "nobody has changed it since it was migrated, and it was not what the transform gives";
const DECLARED: &str = "somebody has changed it since it was migrated, and `changed: 0` says that nobody may";
const RIGHT: &str = "it is what the transform gives";
/// Why a row is left alone.
const SINCE: &str = "it was changed since it was verified";
const INPUTS: &str = "what the transform makes it of was changed since it was migrated";
const UNDECLARED: &str = "it was changed since it was migrated, by whom nobody can tell: `changed: 0` in the spec would say that nobody may";
const NO_IMAGE: &str = "its before-image is not kept any more";
const OLDER: &str = "it was migrated once more after this, and only the newest before-image counts";
const NOTHING: &str = "the transform gives nothing for it";
/// What was written is not what stands there.
pub(super) const ALTERED: &str =
    "the table does not keep what is written: look for a trigger that changes it, then repair again";

/// A row that verification has recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Recorded {
    pub(super) place: LogPlace,
    pub(super) key: String,
    pub(super) difference: Difference,
    /// The digest of its changed fields then; `None`: it was not there.
    pub(super) found: Option<i64>,
}

/// What a recorded row is now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Present {
    /// The log has nothing of it any more.
    NoImage,
    /// It is not there.
    Gone,
    /// It is there.
    There {
        known: Known,
        /// The digest of its changed fields.
        now: i64,
        /// No later pass has migrated it once more.
        newest: bool,
        /// The transform gives something.
        given: bool,
    },
}

/// What is to become of a row, and why.
pub(super) fn judge(recorded: &Recorded, present: Present, declared: bool) -> (Fate, &'static str) {
    let left = |why| (Fate::Left, why);
    match present {
        Present::NoImage => left(NO_IMAGE),
        Present::Gone => left(GONE),
        Present::There { known: Known { same: true, .. }, .. } => (Fate::Right, RIGHT),
        Present::There { newest: false, .. } => left(OLDER),
        Present::There { now, .. } if recorded.found != Some(now) => left(SINCE),
        Present::There { known: Known { inputs: false, .. }, .. } => left(INPUTS),
        Present::There { given: false, .. } => left(NOTHING),
        Present::There { known: Known { as_written: true, .. }, .. } => (Fate::Repaired, DEFECT),
        Present::There { .. } if declared => (Fate::Repaired, DECLARED),
        Present::There { .. } => left(UNDECLARED),
    }
}

/// Whether the spec says that nobody but the migration writes its fields.
pub(super) fn declared(job: &DataJob) -> bool {
    job.data.anew().is_some_and(|anew| anew.changed == Some(0))
}

/// What was recorded of one migration on one shard.
#[async_trait]
pub(super) trait Mender: Send {
    /// The rows behind this place, at most so many, in the order of the log.
    async fn recorded(&mut self, after: Option<LogPlace>, limit: u32) -> EngineResult<Vec<Recorded>>;

    /// Compares a row and repairs it if [`judge`] says so, in one transaction: the row, the log's digest of what was written, what
    /// was replaced, and that it is not recorded any more. Of a dry run only the answer.
    async fn mend(&mut self, row: &Recorded, dry_run: bool) -> EngineResult<(Fate, &'static str)>;
}

/// One page: until it has so many rows, some seconds are over, or nothing is left.
pub(super) async fn page(mender: &mut dyn Mender, request: &RepairRequest) -> EngineResult<RepairPage> {
    let began = Instant::now();
    let limit = request.limit.clamp(1, ROWS);
    let recorded = mender.recorded(request.after, limit).await?;
    let last = recorded.len() < limit as usize;
    let mut page = RepairPage::default();
    let mut rows = recorded.iter().peekable();
    while let Some(row) = rows.next() {
        page.rows.push(mended(mender, row, request.dry_run).await?);
        let over = began.elapsed() >= PAGE || rows.peek().is_none();
        if over {
            page.next = (rows.peek().is_some() || !last).then_some(row.place);
            break;
        }
    }
    Ok(page)
}

/// What becomes of a row. One that the application holds is waited for a little; one that the database refuses is left alone.
async fn mended(mender: &mut dyn Mender, row: &Recorded, dry_run: bool) -> EngineResult<RepairedRow> {
    let told = |fate, reason: &str| RepairedRow { fate, key: row.key.clone(), reason: reason.to_owned() };
    let mut failures = 0;
    loop {
        match mender.mend(row, dry_run).await {
            Ok((fate, reason)) => return Ok(told(fate, reason)),
            Err(EngineError::Row(failure)) => return Ok(told(Fate::Left, &failure.message)),
            Err(EngineError::Contended(_) | EngineError::TooSlow(_)) if failures < PATIENCE => {
                failures += 1;
                sleep(PAUSE).await;
            }
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(number: u32, difference: Difference) -> Recorded {
        let place = LogPlace { row: number, ..LogPlace::default() };
        Recorded { place, key: number.to_string(), difference, found: Some(7) }
    }

    fn there(known: Known) -> Present {
        Present::There { known, now: 7, newest: true, given: true }
    }

    #[test]
    fn only_what_verification_has_seen_and_nobody_may_have_changed_is_repaired() {
        let (mismatch, changed) = (row(1, Difference::Mismatch), row(2, Difference::Changed));
        let known = |as_written, inputs| Known { same: false, as_written, inputs };
        let fate = |row: &Recorded, present, declared| judge(row, present, declared).0;
        assert_eq!(fate(&mismatch, there(known(true, true)), false), Fate::Repaired);
        assert_eq!(fate(&changed, there(known(false, true)), true), Fate::Repaired);
        assert_eq!(
            fate(&changed, there(known(false, true)), false),
            Fate::Left,
            "nobody said that nobody may"
        );
        assert_eq!(fate(&changed, there(known(false, false)), true), Fate::Left, "its inputs are others");
        assert_eq!(
            fate(&changed, there(Known { same: true, as_written: false, inputs: true }), true),
            Fate::Right
        );
        let since = Present::There { known: known(false, true), now: 8, newest: true, given: true };
        assert_eq!(judge(&changed, since, true), (Fate::Left, SINCE));
        assert_eq!(judge(&mismatch, since, true), (Fate::Left, SINCE), "it was a mismatch then");
        let older = Present::There { known: known(true, true), now: 7, newest: false, given: true };
        let nothing = Present::There { known: known(true, true), now: 7, newest: true, given: false };
        for present in [older, nothing, Present::Gone, Present::NoImage] {
            assert_eq!(fate(&mismatch, present, true), Fate::Left, "{present:?}");
        }
    }

    /// Mends all but what somebody holds, and what the database refuses.
    struct Rows {
        rows: Vec<Recorded>,
        held: u32,
    }

    #[async_trait]
    impl Mender for Rows {
        async fn recorded(&mut self, after: Option<LogPlace>, limit: u32) -> EngineResult<Vec<Recorded>> {
            let behind = |row: &&Recorded| after.is_none_or(|after| row.place > after);
            Ok(self.rows.iter().filter(behind).take(limit as usize).cloned().collect())
        }

        async fn mend(&mut self, row: &Recorded, dry_run: bool) -> EngineResult<(Fate, &'static str)> {
            use shardlift_domain::failure::{ErrorCode, Failure};
            if self.held > 0 {
                self.held -= 1;
                return Err(EngineError::Contended(Failure::new(ErrorCode::RowContended, "held", "wait")));
            }
            if row.place.row == 3 {
                return Err(EngineError::Row(Failure::new(ErrorCode::RowRejected, "refused", "mend it")));
            }
            if !dry_run {
                self.rows.retain(|other| other != row);
            }
            Ok((Fate::Repaired, DEFECT))
        }
    }

    #[tokio::test(start_paused = true)]
    async fn pages_tell_each_row_once_whatever_goes_meanwhile() {
        use shardlift_domain::ids::{MigrationId, MigrationKey, Version};
        use shardlift_domain::spec::SpecFile;
        for dry_run in [true, false] {
            let mut mender = Rows { rows: (1..=5).map(|n| row(n, Difference::Mismatch)).collect(), held: 2 };
            let migration =
                MigrationKey { id: MigrationId::new("m").expect("a name"), version: Version::FIRST };
            let file = SpecFile { name: "m.yaml".into(), text: String::new() };
            let mut request = RepairRequest { migration, file, after: None, limit: 2, dry_run };
            let mut told = Vec::new();
            loop {
                let page = page(&mut mender, &request).await.expect("a page");
                told.extend(page.rows.into_iter().map(|row| (row.key, row.fate)));
                request.after = page.next;
                if request.after.is_none() {
                    break;
                }
            }
            let left: Vec<&str> =
                told.iter().filter(|(_, fate)| *fate == Fate::Left).map(|(key, _)| key.as_str()).collect();
            assert_eq!((told.len(), left), (5, vec!["3"]), "{told:?}");
            assert_eq!(mender.rows.len(), if dry_run { 5 } else { 1 });
        }
    }
}
