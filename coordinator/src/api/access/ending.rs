//! A token may end, or be taken out of the configuration, while what it has opened goes on: then an open stream ends, too, and
//! says why.

use std::fmt;
use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use shardlift_domain::failure::{ErrorCode, Failure};
use shardlift_domain::principal::Principal;
use shardlift_runtime::clock;
use tokio::sync::watch;
use tokio::time::sleep;

use super::{Known, TokenHash};

/// A wall clock may be set meanwhile: it is looked at again so often.
const LOOK_EVERY: Duration = Duration::from_secs(60);

/// By what somebody is known.
#[derive(Clone)]
pub(super) enum Shown {
    /// Nothing: nobody was asked.
    Nothing,
    /// A token of the configuration.
    Token(TokenHash),
    /// A token of the issuer.
    Issued,
}

/// How long somebody may go on with what is open: until their token ends, or is worth less than it was.
#[derive(Clone)]
pub(in crate::api) struct Stay {
    principal: Principal,
    shown: Shown,
    /// Who knew them.
    before: Arc<Known>,
    /// Who is known now.
    known: watch::Receiver<Arc<Known>>,
}

impl fmt::Debug for Stay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stay").field("principal", &self.principal).finish_non_exhaustive()
    }
}

impl Stay {
    pub(super) fn new(
        principal: Principal,
        shown: Shown,
        before: Arc<Known>,
        known: watch::Receiver<Arc<Known>>,
    ) -> Self {
        Self { principal, shown, before, known }
    }

    /// Waits for its end; what is told then.
    pub(in crate::api) async fn over(self) -> Failure {
        let Self { principal, shown, before, mut known } = self;
        let withdrawal = async {
            let withdrawn = known.wait_for(|now| !now.still_knows(&principal, &shown, &before));
            // Nobody is left who could read the configuration again: nothing is withdrawn any more.
            if withdrawn.await.map(drop).is_err() {
                pending::<()>().await;
            }
        };
        tokio::select! {
            () = end(principal.ends()) => expired(),
            () = withdrawal => withdrawn(),
        }
    }

    /// What is told if it is over.
    pub(in crate::api) fn is_over(&self) -> Option<Failure> {
        if left(self.principal.ends()) == Some(Duration::ZERO) {
            return Some(expired());
        }
        let still = self.known.borrow().still_knows(&self.principal, &self.shown, &self.before);
        (!still).then(withdrawn)
    }
}

/// Waits for a moment of the wall clock, in seconds since 1970; for ever if there is none.
async fn end(at: Option<i64>) {
    loop {
        match left(at) {
            None => return pending().await,
            Some(Duration::ZERO) => return,
            Some(left) => sleep(left.min(LOOK_EVERY)).await,
        }
    }
}

fn left(at: Option<i64>) -> Option<Duration> {
    let left = at?.saturating_mul(1000).saturating_sub(clock::now().timestamp_millis());
    Some(Duration::from_millis(u64::try_from(left).unwrap_or_default()))
}

fn expired() -> Failure {
    Failure::new(
        ErrorCode::AccessUnauthenticated,
        "the token with which this stream was opened has expired",
        "get a fresh token from your issuer, and open it again: nothing that was asked for is lost",
    )
}

fn withdrawn() -> Failure {
    Failure::new(
        ErrorCode::AccessUnauthenticated,
        "the token with which this stream was opened was taken out of [access] of the coordinators, or is worth less there now",
        "open it again with a token that is known there: nothing that was asked for is lost",
    )
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[tokio::test]
    async fn a_token_ends_at_its_time_and_without_one_never() {
        let now = clock::now().timestamp();
        assert!(end(Some(now - 1)).now_or_never().is_some());
        for later in [None, Some(now + 60), Some(i64::MAX)] {
            assert!(end(later).now_or_never().is_none(), "{later:?}");
        }
        let soon = end(Some(now + 1));
        tokio::time::timeout(Duration::from_secs(20), soon).await.expect("it ends in time");
    }
}
