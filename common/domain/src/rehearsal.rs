//! A rehearsal: the transform run on a sample of each shard in transactions that are rolled back, and what that foretells.
//!
//! Only [`SampleRow`] holds values of rows, and only for whoever asks to be shown them (promise P12): it is never stored,
//! never logged, and no part of a plan.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::failure::{ErrorCode, Failure};
use crate::ids::{MigrationId, MigrationKey, ShardId};
use crate::spec::SpecFile;

/// Rows of each shard unless the request says how many.
pub const REHEARSED_ROWS: u32 = 1_000;
/// Most rows of each shard: others may have to wait for their locks.
pub const MOST_REHEARSED_ROWS: u32 = 10_000;
/// Most rows of each shard that are shown.
pub const SHOWN_ROWS: u32 = 3;
/// Most characters of a value that are shown.
pub const SHOWN_CHARACTERS: usize = 500;
/// Most keys that are told as examples of one class of errors.
const EXAMPLES: usize = 5;

/// What is asked of one shard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RehearsalRequest {
    /// As which it would run.
    pub migration: MigrationKey,
    /// Its spec.
    pub file: SpecFile,
    /// About how many rows to go over.
    pub rows: u32,
    /// How many changed rows to show.
    pub shown: u32,
}

/// What one shard answers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ShardRehearsal {
    /// What was measured.
    pub measured: Measured,
    /// A few rows, before and after.
    pub samples: Vec<SampleRow>,
}

/// What was measured on the sample of one shard.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Measured {
    /// Rows that were gone over.
    pub walked: u64,
    /// Rows that were changed.
    pub changed: u64,
    /// How long the batches took, without their commits.
    pub took: Duration,
    /// What they added to the log: bytes of WAL, those of others in the same moments included; or of oplog, estimated by
    /// the sizes of the documents.
    pub log_bytes: u64,
    /// Rows that cannot be changed, by the kind of error.
    pub errors: Vec<ErrorClass>,
    /// Why it is less than was asked for: it took too long, or met too many errors.
    pub cut_short: Option<String>,
}

impl Measured {
    /// Counts a row that cannot be changed.
    pub fn refuse(&mut self, failure: &Failure) {
        self.walked += 1;
        let same = |class: &&mut ErrorClass| class.code == failure.code && class.message == failure.message;
        let class = match self.errors.iter_mut().find(same) {
            Some(class) => class,
            None => {
                let (code, message) = (failure.code, failure.message.clone());
                self.errors.push(ErrorClass { code, message, rows: 0, keys: Vec::new() });
                let last = self.errors.len() - 1;
                &mut self.errors[last]
            }
        };
        class.rows += 1;
        if let Some(key) = failure.place.key.clone().filter(|_| class.keys.len() < EXAMPLES) {
            class.keys.push(key);
        }
    }

    /// Rows that cannot be changed.
    pub fn refused(&self) -> u64 {
        self.errors.iter().map(|class| class.rows).sum()
    }

    /// Rows that were changed or only passed, in one second; `None`: too few to tell.
    pub fn rows_per_second(&self) -> Option<u64> {
        let passed = self.walked.saturating_sub(self.refused());
        if passed == 0 || self.took.is_zero() {
            return None;
        }
        #[allow(clippy::cast_precision_loss, reason = "a prediction")]
        let rate = passed as f64 / self.took.as_secs_f64();
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "not negative, and bounded"
        )]
        Some(rate.round().max(1.0) as u64)
    }

    /// What so many rows foretell: how long they take on one connection, and how much they add to the log. `limit`: most
    /// rows that may be changed in one second.
    pub fn foretell(&self, rows: u64, limit: Option<u32>) -> Option<Foretold> {
        let rate = self.rows_per_second()?;
        let passed = self.walked.saturating_sub(self.refused()).max(1);
        let of_all = |part: u64| {
            let all = u128::from(part) * u128::from(rows) / u128::from(passed);
            u64::try_from(all).unwrap_or(u64::MAX)
        };
        let free = Duration::from_millis(rows.saturating_mul(1000) / rate);
        let throttled = limit.map(|limit| {
            Duration::from_millis(of_all(self.changed).saturating_mul(1000) / u64::from(limit.max(1)))
        });
        Some(Foretold {
            duration: throttled.map_or(free, |slow| slow.max(free)),
            log_bytes: of_all(self.log_bytes),
        })
    }
}

/// Rows that cannot be changed for the same reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorClass {
    /// The stable code, such as `row.rejected`.
    pub code: ErrorCode,
    /// In words, without values.
    pub message: String,
    /// How many rows of the sample.
    pub rows: u64,
    /// The keys of some.
    pub keys: Vec<String>,
}

/// What is to be expected of a shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Foretold {
    /// On one connection.
    pub duration: Duration,
    /// Bytes that are added to its WAL or oplog.
    pub log_bytes: u64,
}

/// One row that the transform changes.
#[derive(Clone, PartialEq, Eq)]
pub struct SampleRow {
    /// Its key, as text.
    pub key: String,
    /// What differs.
    pub fields: Vec<SampleField>,
}

/// Values stay out of logs, whoever prints this.
impl fmt::Debug for SampleRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SampleRow").field("fields", &self.fields.len()).finish_non_exhaustive()
    }
}

/// One column or field of it.
#[derive(Clone, PartialEq, Eq)]
pub struct SampleField {
    /// Its name.
    pub name: String,
    /// Its value as text; `None`: null, or not there.
    pub before: Option<String>,
    /// The same after the change.
    pub after: Option<String>,
}

impl SampleField {
    /// What differs, if it does; long values are cut.
    pub fn of(name: &str, before: Option<String>, after: Option<String>) -> Option<Self> {
        if before == after {
            return None;
        }
        let cut = |value: String| match value.char_indices().nth(SHOWN_CHARACTERS) {
            Some((end, _)) => format!("{}…", &value[..end]),
            None => value,
        };
        Some(Self { name: name.to_owned(), before: before.map(cut), after: after.map(cut) })
    }
}

/// Values stay out of logs, whoever prints this.
impl fmt::Debug for SampleField {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SampleField").field("name", &self.name).finish_non_exhaustive()
    }
}

/// What became of one migration on all its shards.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rehearsal {
    /// Which.
    pub migration: MigrationId,
    /// On each shard, in the order of their names.
    pub shards: Vec<RehearsedShard>,
    /// How long it is expected to last, if any shard tells.
    pub duration: Option<Spread>,
    /// Why there is nothing to rehearse.
    pub skipped: Option<String>,
}

/// One shard of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RehearsedShard {
    /// Which.
    pub shard: ShardId,
    /// What came of it.
    pub outcome: Rehearsed,
}

/// What came of a rehearsal on one shard.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "is")]
pub enum Rehearsed {
    /// It ran.
    Measured {
        /// With this result.
        measured: Measured,
        /// What that foretells for all rows of the shard, if their number is known.
        foretold: Option<Foretold>,
    },
    /// It can be rehearsed only when a schema migration of the plan was applied.
    Later {
        /// What is missing now.
        why: String,
    },
    /// It could not be rehearsed.
    Failed {
        /// Why not.
        failure: Failure,
    },
}

/// How long shards take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spread {
    /// Half of the shards take no longer.
    pub p50: Duration,
    /// Nine of ten take no longer.
    pub p90: Duration,
    /// All waves one after another, each as long as its longest shard and its soak.
    pub total: Duration,
}

impl Spread {
    /// Of the shards' durations and of all together; `None`: no shard tells.
    pub fn of(mut shards: Vec<Duration>, total: Duration) -> Option<Self> {
        shards.sort_unstable();
        let at = |percent: usize| {
            let place = (shards.len() * percent).div_ceil(100).max(1);
            shards.get(place - 1).copied()
        };
        Some(Self { p50: at(50)?, p90: at(90)?, total })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured() -> Measured {
        let took = Duration::from_millis(100);
        Measured { walked: 1_000, changed: 500, took, log_bytes: 50_000, ..Measured::default() }
    }

    #[test]
    fn a_sample_foretells_the_whole_and_a_throttle_slows_it() {
        assert_eq!(measured().rows_per_second(), Some(10_000));
        let all = measured().foretell(1_000_000, None).expect("enough rows");
        assert_eq!((all.duration, all.log_bytes), (Duration::from_secs(100), 50_000_000));
        let slow = measured().foretell(1_000_000, Some(1_000)).expect("enough rows");
        assert_eq!(slow.duration, Duration::from_secs(500));
        assert_eq!(Measured::default().foretell(10, None), None);
    }

    #[test]
    fn errors_are_told_by_class_with_a_few_keys_each() {
        let mut measured = measured();
        for key in 0..7 {
            let failure = Failure::new(ErrorCode::RowRejected, "too long", "mend it");
            measured.refuse(&failure.at_key(key.to_string()));
        }
        measured.refuse(&Failure::new(ErrorCode::RowRejected, "null", "mend it").at_key("9".to_owned()));
        let classes: Vec<_> = measured.errors.iter().map(|class| (class.rows, class.keys.len())).collect();
        assert_eq!((classes, measured.refused()), (vec![(7, 5), (1, 1)], 8));
    }

    #[test]
    fn percentiles_are_of_the_shards() {
        let shards: Vec<Duration> = (1..=10).rev().map(Duration::from_secs).collect();
        let spread = Spread::of(shards, Duration::from_secs(12)).expect("there are some");
        assert_eq!((spread.p50, spread.p90), (Duration::from_secs(5), Duration::from_secs(9)));
        assert_eq!(Spread::of(Vec::new(), Duration::ZERO), None);
    }

    #[test]
    fn values_are_not_printed_and_long_ones_are_cut() {
        let field = SampleField::of("body", Some("secret".into()), Some("x".repeat(600))).expect("differs");
        let row = SampleRow { key: "4711".into(), fields: vec![field.clone()] };
        assert!(!format!("{row:?} {field:?}").contains("secret"));
        assert_eq!(field.after.map(|value| value.chars().count()), Some(SHOWN_CHARACTERS + 1));
        assert_eq!(SampleField::of("a", None, None), None);
    }
}
