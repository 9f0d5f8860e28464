//! How far a replica is behind, by the worker's own clock.
//!
//! Servers tell positions in their logs, and times only as long as something is acknowledged: a replica that stands still goes
//! on telling the last time that was measured. So the worker remembers when the primary had come to which position, and looks
//! up since when there has been something that a replica lacks.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Most positions that are remembered; then those are forgotten that lie close together for their age.
const REMEMBERED: usize = 1024;
/// Positions may be apart by this part of their age: how wrong a time may be. So few are enough for months.
const COARSENESS: u32 = 32;
/// Positions that are closer together than this tell nothing more.
const APART: Duration = Duration::from_millis(200);

/// The replica that is furthest behind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lag {
    /// As the server names it.
    pub replica: String,
    /// How far, at least.
    pub behind: Duration,
}

impl Lag {
    /// The larger one.
    pub(crate) fn furthest(all: impl Iterator<Item = Lag>) -> Option<Lag> {
        all.max_by_key(|lag| lag.behind)
    }
}

/// When the log of a shard's primary had come to which position, shared by all ranges of the shard.
#[derive(Debug, Default)]
pub(crate) struct Track(Mutex<VecDeque<(Instant, u64)>>);

impl Track {
    /// The log has come to this position.
    pub(crate) fn note(&self, now: Instant, position: u64) {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.back().is_some_and(|(_, last)| position < *last) {
            // Another primary, whose log is another one.
            seen.clear();
        }
        if seen.back().is_some_and(|(at, last)| position == *last || now - *at < APART) {
            return;
        }
        if seen.len() >= REMEMBERED {
            thin(&mut seen, now);
        }
        seen.push_back((now, position));
    }

    /// Since when there has been something in the log that a replica at this position lacks, at least.
    pub(crate) fn behind(&self, now: Instant, position: u64) -> Duration {
        let seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let lacked = seen.iter().find(|(_, reached)| *reached > position);
        lacked.map_or(Duration::ZERO, |(at, _)| now.saturating_duration_since(*at))
    }
}

/// Forgets a position where the one before it and the one behind it are close enough for their age.
fn thin(seen: &mut VecDeque<(Instant, u64)>, now: Instant) {
    let all: Vec<(Instant, u64)> = seen.drain(..).collect();
    for (at, place) in all.iter().enumerate() {
        let before = seen.back().map(|(kept, _)| *kept);
        let gap = all.get(at + 1).zip(before).map(|((next, _), before)| *next - before);
        if gap.is_none_or(|gap| gap > (now - place.0) / COARSENESS) {
            seen.push_back(*place);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn a_replica_is_behind_since_the_first_position_that_it_lacks() {
        let (track, begin) = (Track::default(), Instant::now());
        for second in 0..10 {
            track.note(begin + ms(1000 * second), 100 * (second + 1));
        }
        let now = begin + ms(9_500);
        assert_eq!(track.behind(now, 1000), Duration::ZERO, "it has everything");
        assert_eq!(track.behind(now, 950), ms(500));
        assert_eq!(track.behind(now, 400), ms(5_500));
        assert_eq!(track.behind(now, 0), ms(9_500), "from the first look on, not longer");
    }

    #[test]
    fn a_log_that_stands_still_lets_a_replica_fall_behind_and_not_one_that_has_everything() {
        let (track, begin) = (Track::default(), Instant::now());
        for second in 0..60 {
            track.note(begin + ms(1000 * second), 7);
        }
        assert_eq!(track.behind(begin + ms(60_000), 6), ms(60_000));
        assert_eq!(track.behind(begin + ms(60_000), 7), Duration::ZERO);
    }

    #[test]
    fn the_log_of_another_primary_begins_anew() {
        let (track, begin) = (Track::default(), Instant::now());
        track.note(begin, 1_000);
        track.note(begin + ms(1_000), 500);
        assert_eq!(track.behind(begin + ms(1_500), 499), ms(500));
    }

    #[test]
    fn what_is_remembered_is_bounded_however_long_a_replica_stands_still() {
        let (track, begin) = (Track::default(), Instant::now());
        let last = 100_000;
        for step in 0..=last {
            track.note(begin + ms(250 * step), step + 1);
        }
        let remembered = track.0.lock().expect("alive").len();
        assert!(remembered <= REMEMBERED, "{remembered}");
        let now = begin + ms(250 * last);
        let behind = track.behind(now, last / 2);
        let truly = ms(250 * (last / 2));
        assert!(behind <= truly && behind > truly * 9 / 10, "{behind:?} of {truly:?}");
    }
}
