//! How fast and when batches may run: the rows per second of one range, and the daily window.
//!
//! Pure: time is an argument. It limits what the user said; how large a batch should be is the pacer's business.

use std::cmp::Ordering;
use std::time::Duration;

use shardlift_domain::spec::{BucketedShare, Window};

/// Unused time that may be made up for: a range that stood still does not flood the shard afterwards.
pub const BURST: Duration = Duration::from_secs(1);

const DAY_MINUTES: u64 = 24 * 60;

/// Keeps one range below its share of the shard's rows per second, on average.
///
/// A token bucket, kept as the time at which everything let through so far is paid for.
#[derive(Debug, Clone)]
pub struct Limiter {
    share: BucketedShare,
    paid_until: Option<Duration>,
}

impl Limiter {
    /// A limiter for one range's share. No rows per second count as one.
    pub fn new(share: BucketedShare) -> Self {
        Self { share, paid_until: None }
    }

    /// What it keeps the range below.
    pub fn share(&self) -> BucketedShare {
        self.share
    }

    /// Most rows of one batch: a second's worth, so that a batch is never a flood by itself. At least 1.
    pub fn max_size(&self) -> u32 {
        self.share.rows_per_second.max(1)
    }

    /// Counts `rows` that were just committed; answers how long to wait before the next batch begins.
    /// `now`: monotonic time since any fixed moment; never earlier than at the last call.
    pub fn delay(&mut self, now: Duration, rows: u32) -> Duration {
        let price = Duration::from_nanos(u64::from(rows) * 1_000_000_000 / u64::from(self.max_size()));
        let earliest = now.saturating_sub(BURST);
        // The first batch has had no time to be paid for, so it is paid for afterwards.
        let paid = self.paid_until.unwrap_or(now).max(earliest) + price;
        self.paid_until = Some(paid);
        paid.saturating_sub(now)
    }
}

/// Whether batches may begin in this minute after midnight UTC (0 to 1439). The window's end is outside;
/// a window whose ends are the same is the whole day.
pub fn is_open(window: Window, minute: u16) -> bool {
    let (from, to) = (window.from_minute, window.to_minute);
    match from.cmp(&to) {
        Ordering::Less => (from..to).contains(&minute),
        Ordering::Equal => true,
        Ordering::Greater => minute >= from || minute < to,
    }
}

/// How long until the window opens: zero if it is open. `second`: of the minute, 0 to 59; a caller that does not know
/// it says 0 and comes up to a minute late.
pub fn until_open(window: Window, minute: u16, second: u16) -> Duration {
    if is_open(window, minute) {
        return Duration::ZERO;
    }
    let ahead = (u64::from(window.from_minute) + DAY_MINUTES - u64::from(minute)) % DAY_MINUTES;
    Duration::from_secs((ahead * 60).saturating_sub(u64::from(second)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn limiter(rows_per_second: u32) -> Limiter {
        Limiter::new(BucketedShare { rows_per_second })
    }

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// Runs batches of `rows`, each `took` long, for `total`; answers rows per second.
    fn rate_of(limiter: &mut Limiter, rows: u32, took: Duration, total: Duration) -> f64 {
        let (mut now, mut done) = (ms(5_000), 0_u64);
        let start = now;
        while now - start < total {
            now += took;
            done += u64::from(rows);
            now += limiter.delay(now, rows);
        }
        done as f64 / (now - start).as_secs_f64()
    }

    #[test]
    fn the_rate_is_held_whatever_the_size_and_duration_of_batches() {
        for (rate, rows, took) in
            [(1_000, 100, 10), (1_000, 100, 99), (1_000, 1_000, 300), (7, 1, 1), (50_000, 50_000, 900)]
        {
            let got = rate_of(&mut limiter(rate), rows, ms(took), Duration::from_secs(200));
            let wanted = f64::from(rate);
            assert!((got - wanted).abs() < wanted * 0.02, "{rate}/s asked, {got}/s got in batches of {rows}");
        }
    }

    #[test]
    fn a_slow_shard_is_never_made_to_wait() {
        let mut limiter = limiter(1_000);
        let mut now = ms(0);
        for batch in 0..100 {
            now += ms(500);
            let wait = limiter.delay(now, 100);
            assert!(batch == 0 || wait.is_zero(), "batch {batch} waits {wait:?}");
        }
    }

    #[test]
    fn a_long_pause_gives_at_most_one_second_of_burst() {
        let mut limiter = limiter(1_000);
        limiter.delay(ms(0), 100);
        let now = Duration::from_secs(3_600);
        let mut let_through = 0;
        while limiter.delay(now, 100).is_zero() {
            let_through += 100;
        }
        assert_eq!(let_through, 1_000);
    }

    #[test]
    fn a_batch_is_a_second_of_the_rate_at_most_and_never_nothing() {
        assert_eq!(limiter(1_000).max_size(), 1_000);
        assert_eq!(limiter(0).max_size(), 1);
        assert_eq!(limiter(500).delay(ms(7), 250), ms(500));
    }

    #[test]
    fn windows_open_and_close_also_over_midnight() {
        let window = |from_minute, to_minute| Window { from_minute, to_minute };
        let night = window(22 * 60, 6 * 60);
        let office = window(9 * 60, 17 * 60);
        let table = [
            (night, 21 * 60 + 59, 1),
            (night, 22 * 60, 0),
            (night, 23 * 60 + 59, 0),
            (night, 0, 0),
            (night, 5 * 60 + 59, 0),
            (night, 6 * 60, 16 * 60),
            (office, 0, 9 * 60),
            (office, 9 * 60, 0),
            (office, 16 * 60 + 59, 0),
            (office, 17 * 60, 16 * 60),
            (office, 23 * 60 + 59, 9 * 60 + 1),
            (window(60, 60), 60, 0),
            (window(60, 60), 59, 0),
            (window(0, 1), 1, 1_439),
        ];
        for (window, minute, wait) in table {
            assert_eq!(is_open(window, minute), wait == 0, "{window:?} at {minute}");
            assert_eq!(
                until_open(window, minute, 0),
                Duration::from_secs(wait * 60),
                "{window:?} at {minute}"
            );
            let later = Duration::from_secs((wait * 60).saturating_sub(59));
            assert_eq!(until_open(window, minute, 59), later, "{window:?} at {minute}:59");
        }
    }

    proptest! {
        #[test]
        fn never_more_than_the_rate_and_one_second_of_it(
            rate in 1_u32..100_000,
            batches in prop::collection::vec((1_u32..100_000, 0_u64..3_000, 0_u64..5_000), 1..60),
        ) {
            let mut limiter = limiter(rate);
            let (mut now, mut done) = (ms(0), 0_u64);
            for (rows, took, idle) in batches {
                let rows = rows.min(limiter.max_size());
                now += ms(took);
                done += u64::from(rows);
                // A second of burst, and the batch that has not been paid for yet.
                let allowed = (now.as_secs_f64() + 1.0) * f64::from(rate) + f64::from(rows) + 1.0;
                prop_assert!(done as f64 <= allowed, "{} rows at {:?}, {} per second", done, now, rate);
                now += limiter.delay(now, rows) + ms(idle);
            }
        }

        #[test]
        fn after_waiting_the_window_is_open(from in 0_u16..1440, to in 0_u16..1440, minute in 0_u16..1440) {
            let window = Window { from_minute: from, to_minute: to };
            let wait = until_open(window, minute, 0).as_secs() / 60;
            let then = (u64::from(minute) + wait) % DAY_MINUTES;
            prop_assert!(is_open(window, u16::try_from(then).expect("a minute of the day")));
            prop_assert!(wait < DAY_MINUTES);
        }
    }
}
