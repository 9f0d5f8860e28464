//! The transform evaluated anew on what the undo log keeps: the walk over the log and what follows from it, the same for
//! both engines. How a row is evaluated and compared is the engine's.
//!
//! A row is *verified* when what is there is what the transform gives on the kept old values and the other values that are
//! there. Otherwise it is a *mismatch* only if nothing says that somebody else has been at it: its changed fields have the
//! digest of what was written, and the transform's other inputs have theirs. Everything else is *changed since*, by whom
//! nobody can tell.

use std::time::Duration;

use async_trait::async_trait;
use shardlift_domain::mismatch::{Compared, Difference, DifferingRow, LogPlace, MismatchesPage};
use shardlift_domain::spec::{Anew, Sample};
use shardlift_domain::verdict::CheckResult;
use tokio::time::{Instant, sleep};

use super::{EngineError, EngineResult};
use crate::lease::TaskLease;

/// Rows of the log that are compared at once, at first; fewer when the shard is slow.
const ROWS: u32 = 1000;
/// Fewest.
const FEWEST: u32 = 10;
/// How often in a row the shard may be too slow, or hold what is asked for.
const PATIENCE: u32 = 12;
/// The pause after that.
const PAUSE: Duration = Duration::from_millis(200);
/// How long one page of a listing is worked on, about.
const PAGE: Duration = Duration::from_secs(5);
/// Keys of each kind that a report names.
const NAMED: usize = 10;
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

/// A walk over the before-images of one migration on one shard.
#[async_trait]
pub(super) trait Look: Send {
    /// Compares the next rows of the log behind this place, at most so many, in a statement or snapshot of their own.
    async fn next(&mut self, after: LogPlace, rows: u32, sample: Sample) -> EngineResult<MismatchesPage>;
}

/// What is known of a row that is there.
#[derive(Debug, Clone, Copy)]
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
    page: &mut MismatchesPage,
    verdict: Option<(Difference, &'static str)>,
    key: impl FnOnce() -> String,
) {
    page.compared.add(verdict.map(|(difference, _)| difference));
    page.rows.extend(verdict.map(|(difference, reason)| DifferingRow {
        difference,
        key: key(),
        reason: reason.to_owned(),
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
        all.rows.extend(found.rows);
        all.next = found.next;
        if all.next.is_none() || all.rows.len() >= limit as usize || began.elapsed() >= PAGE {
            return Ok(all);
        }
    }
}

/// Walks over all of the log. `changed`: how many rows the ranges say were changed, each of which must have left its
/// before-image.
pub(super) async fn verify(
    look: &mut dyn Look,
    lease: &TaskLease,
    anew: &Anew,
    changed: u64,
) -> EngineResult<CheckResult> {
    let mut walk = Walk::new(None, ROWS);
    let mut found = Found::default();
    loop {
        lease.check()?;
        let page = walk.next(look, anew.sample).await?;
        let last = page.next.is_none();
        found.add(page);
        if last {
            return Ok(found.judged(anew, changed));
        }
    }
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

    async fn next(&mut self, look: &mut dyn Look, sample: Sample) -> EngineResult<MismatchesPage> {
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

/// What a whole walk has found: figures, and a few keys.
#[derive(Default)]
struct Found {
    compared: Compared,
    keys: [Vec<String>; 3],
}

impl Found {
    fn add(&mut self, page: MismatchesPage) {
        self.compared += page.compared;
        for row in page.rows {
            let keys = &mut self.keys[row.difference as usize];
            if keys.len() < NAMED {
                keys.push(shortened(&row.key));
            }
        }
    }

    fn judged(&self, anew: &Anew, changed: u64) -> CheckResult {
        let Compared { verified, mismatches, changed: since, gone, left_out } = self.compared;
        let kept = self.compared.looked_at() + left_out;
        let missing = changed.saturating_sub(kept);
        let within = |count: u64, most: Option<u32>| most.is_none_or(|most| count <= u64::from(most));
        let passed =
            mismatches == 0 && missing == 0 && within(since, anew.changed) && within(gone, anew.gone);
        let mut detail = format!("of {} rows", self.compared.looked_at());
        if anew.sample != Sample::All {
            detail.push_str(&format!(" ({} of {kept})", anew.sample));
        }
        detail.push_str(&format!(
            " {verified} are what the transform gives, {mismatches} are not although nobody has changed them{}, {since} \
             were changed since{}{}, {gone} are gone{}{}",
            self.named(Difference::Mismatch),
            most(anew.changed),
            self.named(Difference::Changed),
            most(anew.gone),
            self.named(Difference::Gone),
        ));
        if missing > 0 {
            detail.push_str(&format!("; the before-images of {missing} rows are missing"));
        }
        CheckResult { check: "transform".to_owned(), passed, detail }
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

    fn anew(changed: Option<u32>, gone: Option<u32>) -> Anew {
        Anew { sample: Sample::All, changed, gone }
    }

    fn found(rows: &[(Option<(Difference, &'static str)>, &str)]) -> Found {
        let mut page = MismatchesPage::default();
        rows.iter().for_each(|(verdict, key)| add(&mut page, *verdict, || (*key).to_owned()));
        let mut found = Found::default();
        found.add(page);
        found
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
        assert!(rows.judged(&anew(None, None), 3).passed);
        assert!(rows.judged(&anew(Some(1), Some(1)), 3).passed);
        assert!(!rows.judged(&anew(Some(0), None), 3).passed);
        assert!(!rows.judged(&anew(None, Some(0)), 3).passed);
        let report = rows.judged(&anew(Some(0), None), 3);
        assert!(
            report.detail.contains("1 were changed since (allowed: 0) (2), 1 are gone (3)"),
            "{report:?}"
        );
    }

    #[test]
    fn a_mismatch_and_a_missing_before_image_never_pass() {
        let rows = found(&[(None, "1"), (Some((Difference::Mismatch, MISMATCH)), "42")]);
        let report = rows.judged(&anew(None, None), 2);
        assert!(!report.passed && report.detail.contains("nobody has changed them (42)"), "{report:?}");
        let report = found(&[(None, "1")]).judged(&anew(None, None), 3);
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
        let report = found(&rows).judged(&anew(None, None), 50);
        assert_eq!(report.detail.matches('…').count(), NAMED);
    }
}
