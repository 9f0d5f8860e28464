//! The walk over what the undo log keeps of each changed row, and what follows from it, the same for both engines. How a row
//! is evaluated and compared is the engine's.
//!
//! Asked is either whether a row is what was written (`verify: digest`), or whether it is what the transform gives when it is
//! evaluated anew (`verify: transform`). Then a row is *verified* when what is there is what the transform gives on the kept old values and the other values that are
//! there. Otherwise it is a *mismatch* only if nothing says that somebody else has been at it: its changed fields have the
//! digest of what was written, and the transform's other inputs have theirs. Everything else is *changed since*, by whom
//! nobody can tell.

use std::time::Duration;

use async_trait::async_trait;
use shardlift_domain::mismatch::{Compared, Difference, DifferingRow, LogPlace, MismatchesPage};
use shardlift_domain::spec::{Anew, Leeway, Sample};
use shardlift_domain::verdict::CheckResult;
use tokio::time::{Instant, sleep};

use super::{EngineError, EngineResult};
use crate::lease::TaskLease;

/// Rows of the log that are compared at once, at first; fewer when the shard is slow. About those of one entry: each look into an
/// entry unpacks all of it.
const ROWS: u32 = 10_000;
/// How long a verification goes on before it keeps how far it is, if nothing differs: what is lost with a worker.
const KEPT_EVERY: Duration = Duration::from_secs(1);
/// Fewest.
const FEWEST: u32 = 10;
/// How often in a row the shard may be too slow, or hold what is asked for.
const PATIENCE: u32 = 12;
/// The pause after that.
const PAUSE: Duration = Duration::from_millis(200);
/// How long one page of a listing is worked on, about.
const PAGE: Duration = Duration::from_secs(5);
/// Keys of each kind that a report names.
pub(super) const NAMED: usize = 10;
/// Longest part of a key that a report repeats.
const SHOWN: usize = 120;

/// What a row that is no mismatch was changed in.
pub(super) const CHANGED: &str = "it was changed since";
/// The same of what the transform makes it of.
pub(super) const INPUTS: &str = "what the transform makes it of was changed since";
/// A row that is not there.
pub(super) const GONE: &str = "it is not there any more";
/// Nobody has changed it, and yet.
pub(super) const MISMATCH: &str = "nobody has changed it since, and the transform gives something else";

/// What a verification asks of each changed row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asked {
    /// Is it what the transform gives?
    Transform(Anew),
    /// Is it what was written?
    Digest(Leeway),
}

/// The word for [`Asked::Transform`] in the spec and in the shard's tables.
pub(super) const TRANSFORM: &str = "transform";
/// The same for [`Asked::Digest`].
pub(super) const DIGEST: &str = "digest";

impl Asked {
    fn word(self) -> &'static str {
        match self {
            Asked::Transform(_) => TRANSFORM,
            Asked::Digest(_) => DIGEST,
        }
    }

    fn sample(self) -> Sample {
        match self {
            Asked::Transform(anew) => anew.sample,
            Asked::Digest(_) => Sample::All,
        }
    }

    fn allowed(self) -> Leeway {
        match self {
            Asked::Transform(anew) => anew.allowed(),
            Asked::Digest(allowed) => allowed,
        }
    }
}

/// A walk over the before-images of one migration on one shard.
#[async_trait]
pub(super) trait Look: Send {
    /// Compares the next rows of the log behind this place, at most so many, in a statement or snapshot of their own.
    async fn next(&mut self, after: LogPlace, rows: u32, sample: Sample) -> EngineResult<Seen>;

    /// Takes a verification over under this lease, in the shard: goes on where an earlier hand-out of it stopped, if as many
    /// rows were changed then (`changed`); begins anew otherwise, and forgets what the one before has recorded. Refused with
    /// [`EngineError::LeaseLost`] if a larger token has it, and by the shard's fence.
    async fn begin(&mut self, lease: &TaskLease, changed: u64) -> EngineResult<Walked>;

    /// Keeps how far it is, and records what it has found since, in one transaction on the condition of the lease's token.
    async fn keep(&mut self, lease: &TaskLease, walked: &Walked, found: &[Differing]) -> EngineResult<()>;
}

/// Most rows that a verification records on a shard for a repair.
pub(super) const RECORDED: u64 = 10_000;

/// Some rows, compared.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pub(super) compared: Compared,
    /// Those that differ.
    pub(super) rows: Vec<Differing>,
    /// Where they end; `None`: nothing is left.
    pub(super) next: Option<LogPlace>,
}

/// A row that differs, and what is recorded of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Differing {
    pub(super) row: DifferingRow,
    /// So many rows of its entry of the log stand before it.
    pub(super) place: LogPlace,
    /// The digest of its changed fields as they are; `None`: it is not there.
    pub(super) now: Option<i64>,
}

/// How far a verification is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Walked {
    pub(super) after: LogPlace,
    pub(super) compared: Compared,
    /// How many rows are recorded.
    pub(super) recorded: u64,
    /// A few keys of each kind of [`Difference`].
    pub(super) keys: [Vec<String>; 3],
    /// It has come to the end.
    pub(super) done: bool,
}

/// What is known of a row that is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Known {
    /// What is there is what the transform gives.
    pub(super) same: bool,
    /// The changed fields are what was written.
    pub(super) as_written: bool,
    /// The other inputs are what they were.
    pub(super) inputs: bool,
}

impl Known {
    /// How it differs, and in words; `None`: it does not.
    pub(super) fn verdict(self) -> Option<(Difference, &'static str)> {
        match self {
            Known { same: true, .. } => None,
            Known { as_written: false, .. } => Some((Difference::Changed, CHANGED)),
            Known { inputs: false, .. } => Some((Difference::Changed, INPUTS)),
            Known { .. } => Some((Difference::Mismatch, MISMATCH)),
        }
    }
}

/// Adds one row to a page.
pub(super) fn add(
    page: &mut Seen,
    verdict: Option<(Difference, &'static str)>,
    (place, now): (LogPlace, Option<i64>),
    key: impl FnOnce() -> String,
) {
    page.compared.add(verdict.map(|(difference, _)| difference));
    page.rows.extend(verdict.map(|(difference, reason)| Differing {
        row: DifferingRow { difference, key: key(), reason: reason.to_owned() },
        place,
        now,
    }));
}

/// One page of a listing: until it has so many rows, some seconds are over, or nothing is left.
pub(super) async fn page(
    look: &mut dyn Look,
    after: Option<LogPlace>,
    limit: u32,
) -> EngineResult<MismatchesPage> {
    let began = Instant::now();
    let mut walk = Walk::new(after, limit.clamp(FEWEST, ROWS));
    let mut all = MismatchesPage::default();
    loop {
        let found = walk.next(look, Sample::All).await?;
        all.compared += found.compared;
        all.rows.extend(found.rows.into_iter().map(|found| found.row));
        all.next = found.next;
        if all.next.is_none() || all.rows.len() >= limit as usize || began.elapsed() >= PAGE {
            return Ok(all);
        }
    }
}

/// Walks over all of the log, from where an earlier hand-out of the same verification stopped. `changed`: how many rows the
/// ranges say were changed, each of which must have left its before-image.
pub(super) async fn verify(
    look: &mut dyn Look,
    lease: &TaskLease,
    asked: Asked,
    changed: u64,
) -> EngineResult<CheckResult> {
    let mut walked = look.begin(lease, changed).await?;
    let mut walk = Walk::new(Some(walked.after), ROWS);
    let mut kept = Instant::now();
    loop {
        lease.check()?;
        let seen = walk.next(look, asked.sample()).await?;
        let room = usize::try_from(RECORDED - walked.recorded).unwrap_or(usize::MAX);
        walked.add(&seen);
        let found = seen.rows.get(..room).unwrap_or(&seen.rows);
        if walked.done || !found.is_empty() || is_time_to_keep(kept) {
            look.keep(lease, &walked, found).await?;
            kept = Instant::now();
            fail::fail_point!("worker-verify-kept", |_| std::process::abort());
        }
        if walked.done {
            return Ok(walked.judged(asked, changed));
        }
    }
}

/// Keeping is a transaction of the shard: not for each page of nothing but right rows.
fn is_time_to_keep(kept: Instant) -> bool {
    fail::fail_point!("worker-verify-keeps-each-page", |_| true);
    kept.elapsed() >= KEPT_EVERY
}

/// Goes through the log, in smaller steps where the shard is slow.
struct Walk {
    after: LogPlace,
    rows: u32,
    failures: u32,
}

impl Walk {
    fn new(after: Option<LogPlace>, rows: u32) -> Self {
        Self { after: after.unwrap_or_default(), rows, failures: 0 }
    }

    async fn next(&mut self, look: &mut dyn Look, sample: Sample) -> EngineResult<Seen> {
        loop {
            match look.next(self.after, self.rows, sample).await {
                Ok(page) => {
                    self.failures = 0;
                    self.after = page.next.unwrap_or(self.after);
                    return Ok(page);
                }
                Err(EngineError::Contended(_) | EngineError::TooSlow(_)) if self.failures < PATIENCE => {
                    self.failures += 1;
                    self.rows = (self.rows / 2).max(FEWEST);
                    sleep(PAUSE).await;
                }
                Err(error) => return Err(error),
            }
        }
    }
}

impl Walked {
    fn add(&mut self, seen: &Seen) {
        self.compared += seen.compared;
        self.recorded = (self.recorded + seen.rows.len() as u64).min(RECORDED);
        self.after = seen.next.unwrap_or(self.after);
        self.done = seen.next.is_none();
        seen.rows.iter().for_each(|found| self.name(found.row.difference, &found.row.key));
    }

    /// Remembers a key, if it is one of the first of its kind.
    pub(super) fn name(&mut self, difference: Difference, key: &str) {
        let keys = &mut self.keys[difference as usize];
        if keys.len() < NAMED {
            keys.push(shortened(key));
        }
    }

    fn judged(&self, asked: Asked, changed: u64) -> CheckResult {
        let Compared { verified, mismatches, changed: since, gone, left_out } = self.compared;
        let kept = self.compared.looked_at() + left_out;
        let missing = changed.saturating_sub(kept);
        let Leeway { changed: most_changed, gone: most_gone } = asked.allowed();
        let within = |count: u64, most: Option<u32>| most.is_none_or(|most| count <= u64::from(most));
        let passed =
            mismatches == 0 && missing == 0 && within(since, most_changed) && within(gone, most_gone);
        let mut detail = format!("of {} rows", self.compared.looked_at());
        if asked.sample() != Sample::All {
            detail.push_str(&format!(" ({} of {kept})", asked.sample()));
        }
        match asked {
            Asked::Transform(_) => detail.push_str(&format!(
                " {verified} are what the transform gives, {mismatches} are not although nobody has changed them{}",
                self.named(Difference::Mismatch),
            )),
            Asked::Digest(_) => detail.push_str(&format!(" {verified} are what was written")),
        }
        detail.push_str(&format!(
            ", {since} were changed since{}{}, {gone} are gone{}{}",
            most(most_changed),
            self.named(Difference::Changed),
            most(most_gone),
            self.named(Difference::Gone),
        ));
        if missing > 0 {
            detail.push_str(&format!("; the before-images of {missing} rows are missing"));
        }
        CheckResult { check: asked.word().to_owned(), passed, detail }
    }

    fn named(&self, difference: Difference) -> String {
        let keys = &self.keys[difference as usize];
        if keys.is_empty() { String::new() } else { format!(" ({})", keys.join(", ")) }
    }
}

fn most(most: Option<u32>) -> String {
    most.map(|most| format!(" (allowed: {most})")).unwrap_or_default()
}

fn shortened(key: &str) -> String {
    match key.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", &key[..end]),
        None => key.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn anew(changed: Option<u32>, gone: Option<u32>) -> Asked {
        Asked::Transform(Anew { sample: Sample::All, changed, gone })
    }

    fn found(rows: &[(Option<(Difference, &'static str)>, &str)]) -> Walked {
        let mut page = Seen::default();
        for (verdict, key) in rows {
            add(&mut page, *verdict, (LogPlace::default(), Some(1)), || (*key).to_owned());
        }
        let mut walked = Walked::default();
        walked.add(&page);
        walked
    }

    /// A log of rows of which every tenth differs, five at a time; its worker may be lost after so many pages.
    struct Kept {
        rows: u32,
        walked: Walked,
        recorded: Vec<LogPlace>,
        looked_at: Vec<u32>,
        pages: u32,
    }

    #[async_trait]
    impl Look for Kept {
        async fn next(&mut self, after: LogPlace, _: u32, _: Sample) -> EngineResult<Seen> {
            self.pages = self.pages.checked_sub(1).ok_or(EngineError::LeaseLost)?;
            let mut seen = Seen::default();
            for row in after.row..(after.row + 5).min(self.rows) {
                self.looked_at.push(row);
                let verdict = row.is_multiple_of(10).then_some((Difference::Mismatch, MISMATCH));
                add(&mut seen, verdict, (LogPlace { row, ..after }, Some(1)), || row.to_string());
            }
            let end = after.row + 5;
            seen.next = (end < self.rows).then_some(LogPlace { row: end, ..after });
            Ok(seen)
        }

        async fn begin(&mut self, _: &TaskLease, _: u64) -> EngineResult<Walked> {
            Ok(self.walked.clone())
        }

        async fn keep(&mut self, _: &TaskLease, walked: &Walked, found: &[Differing]) -> EngineResult<()> {
            self.walked = walked.clone();
            self.recorded.extend(found.iter().map(|found| found.place));
            Ok(())
        }
    }

    fn lease() -> TaskLease {
        use shardlift_domain::fence::{Attempt, Epoch, Fence, Nonce, Token};
        use shardlift_domain::ids::{MigrationId, MigrationKey, ShardId, TaskId, Version};
        let fence = Fence { epoch: Epoch(1), nonce: Nonce("n".into()) };
        let migration = MigrationKey { id: MigrationId::new("m").expect("a name"), version: Version::FIRST };
        let shard = ShardId::new("s").expect("a name");
        let step = shardlift_domain::migration::Step::Verify;
        let task = TaskId { migration, shard, step, range: None };
        let pulse = crate::lease::Pulse::begin(fence, Duration::from_secs(60));
        pulse.grant(task, Token { epoch: Epoch(1), attempt: Attempt(1) })
    }

    #[tokio::test]
    async fn a_verification_that_loses_its_worker_goes_on_where_it_stopped_and_tells_all() {
        let (walked, recorded, looked_at) = (Walked::default(), Vec::new(), Vec::new());
        let mut log = Kept { rows: 43, walked, recorded, looked_at, pages: 4 };
        let lost = verify(&mut log, &lease(), anew(None, None), 43).await;
        assert!(matches!(lost, Err(EngineError::LeaseLost)), "{lost:?}");
        log.pages = 100;
        let report = verify(&mut log, &lease(), anew(None, None), 43).await.expect("a report");
        let again = (0..20).chain(15..43).collect::<Vec<_>>();
        assert_eq!(log.looked_at, again, "rows once more that were seen since something was kept");
        let rows: Vec<u32> = log.recorded.iter().map(|place| place.row).collect();
        assert_eq!(rows, [0, 10, 20, 30, 40]);
        assert!(
            report.detail.starts_with("of 43 rows 38 are what the transform gives, 5 are not"),
            "{report:?}"
        );
        assert!(
            report.detail.contains("(0, 10, 20, 30, 40)"),
            "also of what the lost worker had seen: {report:?}"
        );
    }

    #[test]
    fn a_mismatch_is_told_only_of_rows_that_nobody_has_touched() {
        for (same, as_written, inputs, expected) in [
            (true, true, true, None),
            (true, false, false, None),
            (false, true, true, Some(Difference::Mismatch)),
            (false, true, false, Some(Difference::Changed)),
            (false, false, true, Some(Difference::Changed)),
            (false, false, false, Some(Difference::Changed)),
        ] {
            let verdict = Known { same, as_written, inputs }.verdict();
            assert_eq!(verdict.map(|(difference, _)| difference), expected, "{same} {as_written} {inputs}");
        }
    }

    #[test]
    fn a_report_passes_without_mismatches_and_within_what_is_allowed() {
        let changed = Some((Difference::Changed, CHANGED));
        let rows = found(&[(None, "1"), (changed, "2"), (Some((Difference::Gone, GONE)), "3")]);
        assert!(rows.judged(anew(None, None), 3).passed);
        assert!(rows.judged(anew(Some(1), Some(1)), 3).passed);
        assert!(!rows.judged(anew(Some(0), None), 3).passed);
        assert!(!rows.judged(anew(None, Some(0)), 3).passed);
        let report = rows.judged(anew(Some(0), None), 3);
        assert!(
            report.detail.contains("1 were changed since (allowed: 0) (2), 1 are gone (3)"),
            "{report:?}"
        );
    }

    #[test]
    fn what_is_not_as_it_was_written_passes_only_where_the_spec_allows_it() {
        let changed = Some((Difference::Changed, CHANGED));
        let mut rows = found(&[(changed, "2"), (Some((Difference::Gone, GONE)), "3")]);
        rows.compared.verified = 40;
        let report = rows.judged(Asked::Digest(Leeway::NONE), 42);
        let detail = "of 42 rows 40 are what was written, 1 were changed since (allowed: 0) (2), 1 are gone (allowed: 0) (3)";
        assert_eq!((report.check.as_str(), report.passed, report.detail.as_str()), ("digest", false, detail));
        assert!(rows.judged(Asked::Digest(Leeway { changed: Some(1), gone: None }), 42).passed);
        assert!(
            !rows.judged(Asked::Digest(Leeway { changed: None, gone: None }), 43).passed,
            "an image is missing"
        );
    }

    #[test]
    fn a_mismatch_and_a_missing_before_image_never_pass() {
        let rows = found(&[(None, "1"), (Some((Difference::Mismatch, MISMATCH)), "42")]);
        let report = rows.judged(anew(None, None), 2);
        assert!(!report.passed && report.detail.contains("nobody has changed them (42)"), "{report:?}");
        let report = found(&[(None, "1")]).judged(anew(None, None), 3);
        assert!(
            !report.passed && report.detail.contains("before-images of 2 rows are missing"),
            "{report:?}"
        );
    }

    #[test]
    fn a_report_names_a_few_keys_and_cuts_long_ones() {
        let long = "ä".repeat(500);
        let mismatch = Some((Difference::Mismatch, MISMATCH));
        let rows: Vec<_> = (0..50).map(|_| (mismatch, long.as_str())).collect();
        let report = found(&rows).judged(anew(None, None), 50);
        assert_eq!(report.detail.matches('…').count(), NAMED);
    }
}
