//! How long the application waited: the share of its writes, and its worst moment.

use std::time::{Duration, Instant};

/// Latencies of the writes that succeeded, and the longest time without one although one was wanted.
#[derive(Debug, Default)]
pub(super) struct Latencies {
    micros: Vec<u32>,
    longest: Duration,
    failing_since: Option<Instant>,
}

impl Latencies {
    /// A write that began at `began` succeeded now. If writes before it failed, the stall began with the
    /// first of them.
    pub(super) fn succeeded(&mut self, began: Instant) {
        let taken = began.elapsed();
        self.micros.push(u32::try_from(taken.as_micros()).unwrap_or(u32::MAX));
        let stall = self.failing_since.take().map_or(taken, |since| since.elapsed());
        self.longest = self.longest.max(stall);
    }

    /// A write that began at `began` failed.
    pub(super) fn failed(&mut self, began: Instant) {
        self.failing_since.get_or_insert(began);
    }

    /// (p99, longest stall), both in ms.
    pub(super) fn summary(mut self) -> (f64, f64) {
        self.micros.sort_unstable();
        let place = (self.micros.len() * 99) / 100;
        let p99 = self.micros.get(place).or(self.micros.last()).copied().unwrap_or(0);
        let longest = self.failing_since.map_or(self.longest, |since| self.longest.max(since.elapsed()));
        (f64::from(p99) / 1_000.0, longest.as_secs_f64() * 1_000.0)
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::Latencies;

    #[test]
    fn a_stall_lasts_from_the_first_failure_to_the_next_success() {
        let mut latencies = Latencies::default();
        let began = Instant::now().checked_sub(Duration::from_secs(5)).unwrap();
        latencies.failed(began);
        latencies.failed(Instant::now());
        latencies.succeeded(Instant::now());
        let (p99, longest) = latencies.summary();
        assert!(longest >= 5_000.0 && p99 < 1_000.0, "p99 {p99} ms, longest {longest} ms");
    }
}
