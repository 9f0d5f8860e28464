//! A circuit breaker: a service that fails again and again is left alone for a while, then asked once before the others
//! are let through. Pure: time is an argument.

use std::time::Duration;

use shardlift_domain::task::Millis;

/// So many failures one after the other open it.
const FAILURES: u32 = 5;
/// How long nobody asks then.
const REST: Millis = 5_000;
/// The longest time that a service may ask for: what it says must not silence it for a day.
const LONGEST_WISH: Duration = Duration::from_secs(60);

/// What is known of a service.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Breaker {
    failures: u32,
    /// Nobody asks before.
    until: Millis,
    /// Whoever asks first after a rest; the others wait for the answer, until this time at most.
    probe: Option<Millis>,
}

impl Breaker {
    /// Whether the service may be asked now; otherwise how long it is left alone.
    pub(super) fn admit(&mut self, now: Millis) -> Result<(), Duration> {
        if now < self.until {
            return Err(Duration::from_millis(self.until - now));
        }
        if self.failures < FAILURES {
            return Ok(());
        }
        match self.probe {
            Some(until) if now < until => Err(Duration::from_millis(until - now)),
            _ => {
                // Whoever was let through may have gone without an answer.
                self.probe = Some(now + REST);
                Ok(())
            }
        }
    }

    /// It has answered.
    pub(super) fn answered(&mut self) {
        *self = Self::default();
    }

    /// It has not.
    pub(super) fn failed(&mut self, now: Millis) {
        self.failures = self.failures.saturating_add(1);
        self.probe = None;
        if self.failures >= FAILURES {
            self.until = self.until.max(now + REST);
        }
    }

    /// It wants to be left alone for so long.
    pub(super) fn asked_for_patience(&mut self, now: Millis, wish: Duration) {
        let wish = Millis::try_from(wish.min(LONGEST_WISH).as_millis()).unwrap_or(Millis::MAX);
        *self = Self { until: now.saturating_add(wish), ..Self::default() };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn broken(at: Millis) -> Breaker {
        let mut breaker = Breaker::default();
        for _ in 0..FAILURES {
            breaker.failed(at);
        }
        breaker
    }

    #[test]
    fn failures_one_after_the_other_open_it_and_an_answer_between_them_does_not() {
        let mut breaker = Breaker::default();
        for round in 0..20 {
            assert_eq!(breaker.admit(round), Ok(()), "{round}");
            if round % 4 == 3 { breaker.answered() } else { breaker.failed(round) }
        }
        assert_eq!(broken(100).admit(100), Err(Duration::from_millis(REST)));
        assert_eq!(broken(100).admit(100 + REST - 1), Err(Duration::from_millis(1)));
    }

    #[test]
    fn after_the_rest_one_asks_and_the_others_wait_for_the_answer() {
        let mut breaker = broken(0);
        assert_eq!(breaker.admit(REST), Ok(()));
        assert!(breaker.admit(REST + 1).is_err(), "a second one while the first one waits");
        let mut healed = breaker;
        healed.answered();
        assert_eq!(healed, Breaker::default());
        assert_eq!(healed.admit(REST + 1), Ok(()));
        breaker.failed(REST + 10);
        assert_eq!(breaker.admit(REST + 10), Err(Duration::from_millis(REST)), "it rests again");
    }

    #[test]
    fn who_was_let_through_and_went_away_keeps_nobody_out_for_ever() {
        let mut breaker = broken(0);
        assert_eq!(breaker.admit(REST), Ok(()));
        assert_eq!(breaker.admit(2 * REST), Ok(()));
    }

    #[test]
    fn a_wish_for_patience_is_kept_within_reason() {
        let mut breaker = Breaker::default();
        breaker.asked_for_patience(0, Duration::from_secs(2));
        assert_eq!(breaker.admit(500), Err(Duration::from_millis(1_500)));
        assert_eq!(breaker.admit(2_000), Ok(()));
        breaker.asked_for_patience(0, Duration::from_secs(86_400));
        assert_eq!(breaker.admit(0), Err(LONGEST_WISH));
    }
}
