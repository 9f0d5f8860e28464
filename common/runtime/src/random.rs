//! Chance: nonces, identifiers, jitter.

use std::time::Duration;

use rand::RngExt;
use shardlift_domain::Nonce;
use uuid::Uuid;

/// A fresh nonce for a take-over: 32 hex digits.
pub fn nonce() -> Nonce {
    Nonce(Uuid::new_v4().simple().to_string())
}

/// A fresh random UUID in its usual form.
pub fn uuid() -> String {
    Uuid::new_v4().to_string()
}

/// A random number above 0: a name that nobody else chooses.
pub fn positive() -> i64 {
    rand::rng().random_range(1..=i64::MAX)
}

/// `base` lengthened or shortened at random by at most `share` of it (0.0 to 1.0): keeps many processes from
/// acting in step.
pub fn jitter(base: Duration, share: f64) -> Duration {
    let share = share.clamp(0.0, 1.0);
    base.mul_f64(rand::rng().random_range(1.0 - share..=1.0 + share))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_nonces_are_equal() {
        assert_ne!(nonce(), nonce());
        assert_eq!(nonce().0.len(), 32);
        assert_ne!(positive(), positive());
    }

    #[test]
    fn jitter_stays_within_its_share() {
        for _ in 0..100 {
            let wait = jitter(Duration::from_secs(10), 0.2);
            assert!((8.0..=12.0).contains(&wait.as_secs_f64()), "{wait:?}");
        }
    }
}
