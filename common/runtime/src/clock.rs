//! Time. Wall time is for records and daily windows only; whatever decides uses the monotonic clock.

use std::time::Duration;

use chrono::{DateTime, Timelike, Utc};
use shardlift_domain::task::Millis;
use tokio::time::Instant;

/// Now, for a record that a person will read. Whole microseconds, so that a stored time reads back equal.
#[allow(clippy::disallowed_methods, reason = "the one place that reads the wall clock")]
pub fn now() -> DateTime<Utc> {
    let now = Utc::now();
    #[cfg(feature = "failpoints")]
    let now = now + jump::shift();
    let micros = now.nanosecond() / 1_000 * 1_000;
    now.with_nanosecond(micros).unwrap_or(now)
}

/// Minutes after midnight UTC, 0 to 1439: what a spec's `window` is compared with.
pub fn minute_of_day() -> u16 {
    let now = now();
    let minutes = now.hour() * 60 + now.minute();
    u16::try_from(minutes).unwrap_or_default()
}

/// A wall clock that somebody sets in the middle of a run: only in builds for tests.
#[cfg(feature = "failpoints")]
mod jump {
    use std::path::PathBuf;
    use std::sync::LazyLock;

    use chrono::TimeDelta;

    /// Names a file that holds the seconds by which the wall clock is wrong, such as `-3600`.
    const VARIABLE: &str = "SHARDLIFT_TEST_CLOCK";

    #[allow(clippy::disallowed_methods, reason = "not a setting: only in builds for tests")]
    static FILE: LazyLock<Option<PathBuf>> = LazyLock::new(|| std::env::var_os(VARIABLE).map(PathBuf::from));

    /// What the file says at this moment; a file that is not there, or is being written, says nothing.
    pub(super) fn shift() -> TimeDelta {
        let text = FILE.as_ref().and_then(|path| std::fs::read_to_string(path).ok());
        TimeDelta::seconds(text.and_then(|text| seconds(&text)).unwrap_or_default())
    }

    fn seconds(text: &str) -> Option<i64> {
        text.trim().parse().ok().filter(|seconds: &i64| seconds.unsigned_abs() < 1_000_000_000)
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn a_shift_is_a_number_of_seconds() {
            assert_eq!((seconds("-3600\n"), seconds("3600")), (Some(-3600), Some(3600)));
            assert_eq!((seconds(""), seconds("soon"), seconds("9999999999999")), (None, None, None));
        }
    }
}

/// A clock that never jumps: milliseconds since it was made.
#[derive(Debug, Clone, Copy)]
pub struct Monotonic(Instant);

impl Monotonic {
    /// Starts at 0 now.
    pub fn start() -> Self {
        Self(Instant::now())
    }

    /// Milliseconds since the start.
    pub fn millis(&self) -> Millis {
        Millis::try_from(self.elapsed().as_millis()).unwrap_or(Millis::MAX)
    }

    /// Time since the start.
    pub fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_monotonic_clock_counts_milliseconds_forward() {
        let past = Instant::now().checked_sub(Duration::from_millis(1500)).expect("the machine runs longer");
        let clock = Monotonic(past);
        let (first, second) = (clock.millis(), clock.millis());
        assert!((1500..60_000).contains(&first) && second >= first, "{first} {second}");
    }

    #[test]
    fn records_carry_whole_microseconds() {
        assert_eq!(now().nanosecond() % 1_000, 0);
        assert!(minute_of_day() < 1440);
    }
}
