//! How often one caller may ask. Who asks too much is told when to come again; others do not notice. A caller that is known is
//! counted by its name, wherever it asks from; an unknown one by its address.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use governor::clock::{Clock, DefaultClock};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use shardlift_domain::failure::ErrorCode;
use shardlift_domain::principal::Principal;

use super::problem::Problem;

/// After so many requests the callers that were not seen for a while are forgotten, so that memory is bounded by those who
/// ask now.
const TIDY_EVERY: u32 = 4096;

/// Whose requests are counted together.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Who {
    /// Somebody who is known, by the name.
    Known(String),
    /// Whoever asks from there. In IPv6 a machine has as many addresses as it likes below the first 64 bits.
    From(IpAddr),
}

impl Who {
    /// Whoever asks from this address.
    pub(super) fn at(address: IpAddr) -> Self {
        Who::From(match address.to_canonical() {
            IpAddr::V6(address) => {
                let [a, b, c, d, ..] = address.segments();
                IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
            }
            v4 => v4,
        })
    }
}

impl From<&Principal> for Who {
    fn from(principal: &Principal) -> Self {
        Who::Known(principal.name().to_owned())
    }
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Who::Known(name) => f.write_str(name),
            Who::From(address) => address.fmt(f),
        }
    }
}

/// The requests of each caller, as a bucket that fills by so many a second and holds twice as many.
pub(super) struct Limits {
    callers: DefaultKeyedRateLimiter<Who>,
    each: NonZeroU32,
    clock: DefaultClock,
    asked: AtomicU32,
}

impl Limits {
    pub(super) fn new(each: NonZeroU32) -> Self {
        let quota =
            Quota::per_second(each).allow_burst(each.saturating_mul(NonZeroU32::MIN.saturating_add(1)));
        let callers = RateLimiter::keyed(quota);
        Self { callers, each, clock: DefaultClock::default(), asked: AtomicU32::default() }
    }

    /// Counts a request of this caller; refused when it has asked too often.
    pub(super) fn count(&self, caller: &Who) -> Result<(), Problem> {
        if self.asked.fetch_add(1, Ordering::Relaxed) % TIDY_EVERY == TIDY_EVERY - 1 {
            self.callers.retain_recent();
        }
        let early = match self.callers.check_key(caller) {
            Ok(()) => return Ok(()),
            Err(early) => early.wait_time_from(self.clock.now()),
        };
        let each = self.each;
        let message = format!("more than {each} requests a second come from {caller}");
        let next = "ask again after the pause that Retry-After names, and less often; to follow a migration use its event stream";
        Err(Problem::new(ErrorCode::RequestTooMany, message, next).after(whole_seconds(early)))
    }
}

fn whole_seconds(pause: Duration) -> u64 {
    pause.as_secs() + u64::from(pause.subsec_nanos() > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(each: u32) -> Limits {
        Limits::new(NonZeroU32::new(each).expect("not zero"))
    }

    fn address(text: &str) -> Who {
        Who::at(text.parse().expect("an address"))
    }

    #[test]
    fn who_asks_too_often_is_refused_and_others_are_not() {
        let limits = limits(1);
        let known = |name: &str| Who::Known(name.to_owned());
        for (one, other) in [(address("10.0.0.1"), address("10.0.0.2")), (known("mira"), known("olaf"))] {
            let told: Vec<bool> = (0..20).map(|_| limits.count(&one).is_ok()).collect();
            assert_eq!(told[..3], [true, true, false], "twice as many at once as in a second");
            assert!(!told[3..].contains(&true) && limits.count(&other).is_ok(), "{told:?}");
        }
    }

    #[test]
    fn a_machine_of_many_addresses_is_one_caller() {
        assert_eq!(address("2001:db8:1:2:3:4:5:6"), address("2001:db8:1:2:ffff::1"));
        assert_ne!(address("2001:db8:1:2::1"), address("2001:db8:1:3::1"));
        assert_eq!(address("::ffff:10.0.0.1"), address("10.0.0.1"));
    }

    #[test]
    fn callers_that_come_no_more_are_forgotten() {
        let limits = limits(1_000_000);
        for number in 0..TIDY_EVERY {
            assert!(limits.count(&Who::at(IpAddr::V4(number.into()))).is_ok());
            // Each bucket is full again after two microseconds.
        }
        assert!(limits.callers.len() < 100, "{} are kept", limits.callers.len());
    }

    #[test]
    fn a_pause_is_told_in_whole_seconds() {
        let told = [1, 1_000, 1_001].map(|ms| whole_seconds(Duration::from_millis(ms)));
        assert_eq!(told, [1, 1, 2]);
    }
}
