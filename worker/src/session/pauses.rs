//! How long to wait between attempts to reach a coordinator: short at first, since shards wait for the next leader's word.

use std::time::Duration;

use shardlift_runtime::retry::{Delays, Policy};

/// A dead leader may be dialled twice in a row, by its name and by its place in the list: two of the longest pauses and the lease
/// must be over before the time in which the next leader's work is to begin.
const PAUSES: Policy =
    Policy { first: Duration::from_millis(50), longest: Duration::from_millis(600), total: None };

/// The pauses of one worker.
pub(super) struct Pauses {
    delays: Delays,
    /// The last attempt was at a leader that somebody had named.
    sent_on: bool,
}

impl Pauses {
    pub(super) fn new() -> Self {
        Self { delays: Delays::new(&PAUSES), sent_on: false }
    }

    /// Somebody was reached: begins with the shortest again.
    pub(super) fn reset(&mut self) {
        self.delays.reset();
        self.sent_on = false;
    }

    /// The next one. A leader that was `named` is dialled soon, however long nobody could be reached before; one that only
    /// names a leader again is not.
    pub(super) fn next(&mut self, named: bool) -> Duration {
        let soon = named && !self.sent_on;
        self.sent_on = named;
        if soon { PAUSES.first } else { self.delays.next().unwrap_or(PAUSES.longest) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of somebody who has tried for a while; jitter halves a pause at most.
    const LONG: Duration = Duration::from_millis(300);

    fn weary() -> Pauses {
        let mut pauses = Pauses::new();
        for _ in 0..20 {
            pauses.next(false);
        }
        pauses
    }

    #[test]
    fn pauses_grow_until_somebody_was_reached() {
        let mut pauses = weary();
        assert!((LONG..=PAUSES.longest).contains(&pauses.next(false)));
        pauses.reset();
        assert!(pauses.next(false) < LONG);
    }

    #[test]
    fn a_leader_that_is_named_is_dialled_soon_and_the_pause_after_it_is_as_long_as_it_was() {
        let mut pauses = weary();
        for _ in 0..3 {
            assert_eq!(pauses.next(true), PAUSES.first);
            assert!(pauses.next(false) >= LONG, "it is gone");
        }
    }

    #[test]
    fn coordinators_that_send_on_to_each_other_are_not_asked_in_haste() {
        let mut pauses = weary();
        assert_eq!(pauses.next(true), PAUSES.first);
        for _ in 0..3 {
            assert!(pauses.next(true) >= LONG, "it names another one again");
        }
    }
}
