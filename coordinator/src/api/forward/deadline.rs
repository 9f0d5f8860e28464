//! How long the caller waits, as the header `grpc-timeout` says it.

use std::time::Duration;

use tokio::time::Instant;
use tonic::codegen::http::{HeaderMap, HeaderName, HeaderValue};

pub(super) const TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");

/// When the caller gives up; it may have told no end.
#[derive(Debug, Clone, Copy)]
pub(super) struct Deadline {
    came: Instant,
    limit: Option<Duration>,
}

impl Deadline {
    /// Of a request that came now. What is not understood is left to the leader to refuse.
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let limit = headers.get(TIMEOUT).and_then(|value| parse(value.to_str().ok()?));
        Self { came: Instant::now(), limit }
    }

    /// Until when to look for a leader: a tenth before the caller gives up, so that it still hears why.
    pub(super) fn patience(&self, longest: Duration) -> Instant {
        self.came + self.limit.map_or(longest, |limit| longest.min(limit.mul_f64(0.9)))
    }

    /// What is left of it, as the header says it.
    pub(super) fn left(&self) -> Option<HeaderValue> {
        let left = self.limit?.saturating_sub(self.came.elapsed());
        // At most eight digits.
        let micros = left.as_micros().max(1);
        let text = if micros < 100_000_000 {
            format!("{micros}u")
        } else {
            format!("{}m", left.as_millis().min(99_999_999))
        };
        HeaderValue::from_str(&text).ok()
    }
}

/// Up to eight digits and a unit.
fn parse(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let number: u64 = digits.parse().ok()?;
    match unit {
        "H" => Some(Duration::from_secs(number * 3600)),
        "M" => Some(Duration::from_secs(number * 60)),
        "S" => Some(Duration::from_secs(number)),
        "m" => Some(Duration::from_millis(number)),
        "u" => Some(Duration::from_micros(number)),
        "n" => Some(Duration::from_nanos(number)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn deadline(text: &'static str) -> Deadline {
        Deadline::of(&HeaderMap::from_iter([(TIMEOUT, HeaderValue::from_static(text))]))
    }

    #[tokio::test(start_paused = true)]
    async fn what_has_passed_is_taken_off_the_callers_time() {
        for (told, left) in
            [("10S", "7000000u"), ("2000m", "1u"), ("1H", "3597000m"), ("9000000u", "6000000u")]
        {
            let deadline = deadline(told);
            tokio::time::advance(Duration::from_secs(3)).await;
            assert_eq!(deadline.left().expect("told"), left, "{told}");
        }
    }

    #[test]
    fn what_is_no_timeout_is_no_deadline() {
        for text in ["", "S", "10", "10x", "123456789S", "-1S", "1.5S"] {
            assert!(deadline(text).left().is_none(), "{text}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_caller_hears_why_before_it_gives_up() {
        let longest = Duration::from_secs(5);
        assert_eq!(deadline("1S").patience(longest), Instant::now() + Duration::from_millis(900));
        assert_eq!(deadline("30S").patience(longest), Instant::now() + longest);
        assert_eq!(deadline("").patience(longest), Instant::now() + longest);
    }
}
