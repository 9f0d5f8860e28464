//! How much a range is braked while replicas of its shard are behind.
//!
//! Pure: it is told how far the furthest replica is behind, and by what clock. What it does is felt late: a replica that is as
//! far behind as the bound replays what was written so long ago. So it changes the pace once in the time that a change needs to be
//! felt, eases off early, and comes back in small steps:
//!
//! - from half the bound on, as long as the replica falls further behind: a quarter less of the time is spent on batches;
//! - beyond the bound no batch begins, until the replica is within half of it again;
//! - within 3/10 of it: a twentieth more.

use std::time::Duration;

/// How often replicas are looked at.
pub const LOOK_EVERY: Duration = Duration::from_secs(1);
/// The longest rest after one batch.
const LONGEST_REST: Duration = Duration::from_secs(5);
/// Of the bound: from here on it eases off; …
const EASE_FROM: f64 = 0.5;
/// … when it has stopped, it goes on from here on; …
const GO_ON: f64 = 0.5;
/// … and here it comes back.
const CALM: f64 = 0.3;
const EASE: f64 = 0.75;
const EASE_AFTER_STOP: f64 = 0.6;
const COME_BACK: f64 = 1.05;
/// The least share of the time that is spent on batches.
const LEAST: f64 = 0.02;

/// The brake of one range.
#[derive(Debug, Clone)]
pub struct Brake {
    bound: Duration,
    /// The share of the time that is spent on batches.
    share: f64,
    stopped: bool,
    /// How far the replica was behind when it was looked at last.
    before: Duration,
    look_at: Duration,
    /// Until then the last change is not felt.
    felt_at: Duration,
}

impl Brake {
    /// A brake that is not pressed.
    pub fn new(bound: Duration) -> Self {
        let zero = Duration::ZERO;
        Self { bound, share: 1.0, stopped: false, before: zero, look_at: zero, felt_at: zero }
    }

    /// How far replicas may be behind.
    pub fn bound(&self) -> Duration {
        self.bound
    }

    /// Whether replicas are to be looked at. `now`: monotonic time since any fixed moment.
    pub fn due(&self, now: Duration) -> bool {
        self.stopped || now >= self.look_at
    }

    /// The furthest replica is so far behind. Answers whether batches must wait.
    pub fn look(&mut self, now: Duration, behind: Duration) -> bool {
        self.look_at = now + LOOK_EVERY;
        if self.stopped {
            self.stopped = behind > self.bound.mul_f64(GO_ON);
        } else if behind > self.bound {
            self.stopped = true;
            self.change(EASE_AFTER_STOP, now + self.bound);
        } else if now >= self.felt_at {
            if behind > self.bound.mul_f64(EASE_FROM) && behind >= self.before {
                self.change(EASE, now + behind);
            } else if behind <= self.bound.mul_f64(CALM) && self.share < 1.0 {
                self.change(COME_BACK, now + behind.max(LOOK_EVERY));
            }
        }
        self.before = behind;
        self.stopped
    }

    /// How long to rest after a batch that took so long.
    pub fn rest(&self, took: Duration) -> Duration {
        took.mul_f64(1.0 / self.share - 1.0).min(LONGEST_REST)
    }

    fn change(&mut self, factor: f64, felt_at: Duration) {
        self.share = (self.share * factor).clamp(LEAST, 1.0);
        self.felt_at = felt_at;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::{any, prop, prop_assert, proptest};

    use super::*;

    /// What a run did after its first minute.
    #[derive(Debug)]
    struct Run {
        /// The furthest that the replica was behind, as a multiple of the bound.
        furthest: f64,
        /// Share of what the replica could take that was written.
        used: f64,
        stops: u32,
    }

    /// A replica that replays `capacity` of what unbraked batches write, for 400 seconds.
    fn run(bound: Duration, capacity: f64) -> Run {
        const STEP: f64 = 0.01;
        const WARM: f64 = 60.0;
        const END: f64 = 400.0;
        const BATCH: Duration = Duration::from_millis(100);
        let mut brake = Brake::new(bound);
        let (mut written, mut replayed, mut busy, mut rest) = (0.0_f64, 0.0_f64, 0.0, 0.0);
        let mut log: VecDeque<(f64, f64)> = VecDeque::new();
        let mut run = Run { furthest: 0.0, used: 0.0, stops: 0 };
        let (mut now, mut warm, mut stopped) = (0.0, None, false);
        while now < END {
            replayed = written.min(replayed + capacity * STEP);
            while log.front().is_some_and(|(_, position)| *position <= replayed) {
                log.pop_front();
            }
            let behind = log.front().map_or(0.0, |(at, _)| now - at);
            if busy > 0.0 {
                busy -= STEP;
                written += STEP;
                log.push_back((now, written));
                rest = if busy <= 0.0 { brake.rest(BATCH).as_secs_f64() } else { 0.0 };
            } else if rest > 0.0 {
                rest -= STEP;
            } else {
                let clock = Duration::from_secs_f64(now);
                if brake.due(clock) {
                    let stops = brake.look(clock, Duration::from_secs_f64(behind));
                    run.stops += u32::from(stops && !stopped && now > WARM);
                    stopped = stops;
                }
                busy = if stopped { 0.0 } else { BATCH.as_secs_f64() };
            }
            if now > WARM {
                warm.get_or_insert(written);
                run.furthest = run.furthest.max(behind / bound.as_secs_f64());
            }
            now += STEP;
        }
        run.used = (written - warm.unwrap_or_default()) / (END - WARM) / capacity.min(1.0);
        run
    }

    #[test]
    fn a_replica_that_keeps_up_brakes_nothing() {
        for bound in [1, 5, 20] {
            let run = run(Duration::from_secs(bound), 1.5);
            assert!(run.furthest < 0.3 && run.stops == 0 && run.used > 0.9, "{bound} s: {run:?}");
        }
    }

    #[test]
    fn a_slower_replica_sets_the_pace_and_stays_within_the_bound_without_stops_and_starts() {
        for (bound, capacity) in [(1, 0.2), (1, 0.5), (1, 0.9), (5, 0.2), (5, 0.5), (5, 0.9)] {
            let run = run(Duration::from_secs(bound), capacity);
            assert!(run.furthest <= 1.0, "{bound} s, {capacity}: {run:?}");
            assert!(run.used > 0.85, "{bound} s, {capacity}: {run:?}");
            assert_eq!(run.stops, 0, "{bound} s, {capacity}: {run:?}");
        }
    }

    #[test]
    fn a_very_slow_replica_costs_few_stops_and_most_of_what_it_can_take_is_used() {
        for (bound, capacity) in [(1, 0.05), (5, 0.05), (20, 0.2)] {
            let run = run(Duration::from_secs(bound), capacity);
            assert!(run.used > 0.5 && run.stops <= 15, "{bound} s, {capacity}: {run:?}");
        }
    }

    fn secs(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    #[test]
    fn beyond_the_bound_it_stops_until_the_replica_is_well_within_it() {
        let mut brake = Brake::new(secs(10));
        let told = [
            (1, 9, false),
            (2, 10, false),
            (3, 11, true),
            (4, 10, true),
            (5, 6, true),
            (6, 5, false),
            (7, 6, false),
        ];
        for (now, behind, stops) in told {
            assert_eq!(brake.look(secs(now), secs(behind)), stops, "{behind} s behind at {now}");
        }
    }

    #[test]
    fn it_comes_back_to_full_speed_by_itself() {
        let mut brake = Brake::new(secs(2));
        assert!(brake.look(secs(0), secs(60)));
        assert!(!brake.rest(secs(1)).is_zero());
        let mut now = 0;
        while !brake.rest(secs(1)).is_zero() {
            now += 1;
            assert!(!brake.look(secs(now), secs(0)) && now < 60, "{brake:?}");
        }
    }

    proptest! {
        #[test]
        fn it_never_waits_for_a_replica_that_has_everything(
            looks in prop::collection::vec((0_u64..5_000, any::<u32>()), 0..100),
        ) {
            let mut brake = Brake::new(secs(5));
            let mut now = Duration::ZERO;
            for (later, behind) in looks {
                now += Duration::from_millis(later);
                let stops = brake.look(now, Duration::from_millis(behind.into()));
                prop_assert!(!stops || behind > 2_500);
                prop_assert!(brake.rest(secs(600)) <= LONGEST_REST);
            }
            prop_assert!(!brake.look(now, Duration::ZERO));
        }
    }
}
