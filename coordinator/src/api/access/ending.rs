//! A token may end while what it has opened goes on: then an open stream ends, too, and says why.

use std::time::Duration;

use shardlift_domain::failure::{ErrorCode, Failure};
use shardlift_domain::principal::Principal;
use shardlift_runtime::clock;
use tokio::time::sleep;

/// A wall clock may be set meanwhile: it is looked at again so often.
const LOOK_EVERY: Duration = Duration::from_secs(60);

/// Until when somebody may go on with what is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::api) struct Stay(Option<i64>);

impl Stay {
    /// As long as the token of this principal is good.
    pub(in crate::api) fn of(principal: Option<&Principal>) -> Self {
        Self(principal.and_then(Principal::ends))
    }

    /// Whether it has no end.
    pub(in crate::api) fn is_endless(self) -> bool {
        self.0.is_none()
    }

    /// Waits for its end; what is told then.
    pub(in crate::api) async fn over(self) -> Failure {
        loop {
            match self.left() {
                None => return std::future::pending().await,
                Some(Duration::ZERO) => return ended(),
                Some(left) => sleep(left.min(LOOK_EVERY)).await,
            }
        }
    }

    /// What is told if it is over.
    pub(in crate::api) fn is_over(self) -> Option<Failure> {
        (self.left() == Some(Duration::ZERO)).then(ended)
    }

    fn left(self) -> Option<Duration> {
        let left = self.0?.saturating_mul(1000).saturating_sub(clock::now().timestamp_millis());
        Some(Duration::from_millis(u64::try_from(left).unwrap_or_default()))
    }
}

fn ended() -> Failure {
    Failure::new(
        ErrorCode::AccessUnauthenticated,
        "the token with which this stream was opened has expired",
        "get a fresh token from your issuer, and open it again: nothing that was asked for is lost",
    )
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[tokio::test]
    async fn a_stay_ends_with_its_token_and_without_an_end_never() {
        let now = clock::now().timestamp();
        let past = Stay(Some(now - 1));
        assert_eq!(past.over().now_or_never().map(|told| told.code), Some(ErrorCode::AccessUnauthenticated));
        assert!(past.is_over().is_some());
        for stays in [Stay(None), Stay(Some(now + 60)), Stay(Some(i64::MAX))] {
            assert!(stays.over().now_or_never().is_none() && stays.is_over().is_none(), "{stays:?}");
        }
        let soon = Stay(Some(now + 1));
        tokio::time::timeout(Duration::from_secs(20), soon.over()).await.expect("it ends in time");
    }
}
