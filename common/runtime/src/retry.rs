//! Trying again with growing, jittered pauses. The only place that knows the crate `backoff`.
//!
//! Whether an error is worth another try is asked of the typed error itself, before anybody turns it into text.

use std::time::Duration;

use backoff::ExponentialBackoffBuilder;
use backoff::backoff::Backoff;
use shardlift_domain::Failure;
use tokio_util::sync::CancellationToken;

/// How to try again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// The first pause; each further one is about twice as long.
    pub first: Duration,
    /// No pause is longer.
    pub longest: Duration,
    /// No further try begins once so much time has passed since the first; `None`: for ever.
    pub total: Option<Duration>,
}

impl Policy {
    /// For ever, from 100 ms to 5 s: for a peer that will be back.
    pub const FOREVER: Policy =
        Policy { first: Duration::from_millis(100), longest: Duration::from_secs(5), total: None };
}

/// An error that knows whether trying again may help.
pub trait Retryable {
    /// Whether the same call may succeed later without anybody changing anything.
    fn retryable(&self) -> bool;
}

impl Retryable for Failure {
    fn retryable(&self) -> bool {
        Failure::retryable(self)
    }
}

/// The pauses of one series of tries; ends when the policy's total time is over. For loops that wait themselves.
pub struct Delays {
    inner: backoff::exponential::ExponentialBackoff<backoff::SystemClock>,
    longest: Duration,
}

impl Delays {
    /// A new series, counted from now.
    pub fn new(policy: &Policy) -> Self {
        let inner = ExponentialBackoffBuilder::new()
            .with_initial_interval(policy.first)
            .with_max_interval(policy.longest)
            .with_multiplier(2.0)
            .with_randomization_factor(0.5)
            .with_max_elapsed_time(policy.total)
            .build();
        Self { inner, longest: policy.longest }
    }

    /// Begins anew with the shortest pause: called after a success.
    pub fn reset(&mut self) {
        self.inner.reset();
    }
}

impl Iterator for Delays {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        // Jitter may lengthen a pause beyond the longest.
        self.inner.next_backoff().map(|pause| pause.min(self.longest))
    }
}

/// Calls `op` until it succeeds, fails for good, the policy's time is over or `cancel` is cancelled. In the last
/// three cases the newest error is returned. `op` is called at least once.
pub async fn retry<T, E, F, Fut>(policy: &Policy, cancel: &CancellationToken, mut op: F) -> Result<T, E>
where
    E: Retryable + std::fmt::Display,
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<T, E>>,
{
    let mut delays = Delays::new(policy);
    loop {
        let error = match op().await {
            Ok(value) => return Ok(value),
            Err(error) if !error.retryable() => return Err(error),
            Err(error) => error,
        };
        let Some(pause) = delays.next() else { return Err(error) };
        tracing::debug!(%error, ?pause, "trying again");
        tokio::select! {
            () = cancel.cancelled() => return Err(error),
            () = tokio::time::sleep(pause) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Eq, thiserror::Error)]
    enum Trouble {
        #[error("passing")]
        Passing,
        #[error("lasting")]
        Lasting,
    }

    impl Retryable for Trouble {
        fn retryable(&self) -> bool {
            *self == Trouble::Passing
        }
    }

    fn quick(total: Option<Duration>) -> Policy {
        Policy { first: Duration::from_millis(1), longest: Duration::from_millis(4), total }
    }

    #[tokio::test]
    async fn a_passing_trouble_is_tried_again_and_a_lasting_one_is_not() {
        let mut answers = vec![Err(Trouble::Lasting), Ok(7), Err(Trouble::Passing), Err(Trouble::Passing)];
        let cancel = CancellationToken::new();
        let first = retry(&quick(None), &cancel, || std::future::ready(answers.pop().expect("four"))).await;
        assert_eq!(first, Ok(7));
        let second = retry(&quick(None), &cancel, || std::future::ready(answers.pop().expect("one"))).await;
        assert_eq!(second, Err(Trouble::Lasting));
        assert!(answers.is_empty());
    }

    #[tokio::test]
    async fn it_ends_when_the_time_is_over() {
        let policy = quick(Some(Duration::from_millis(20)));
        let cancel = CancellationToken::new();
        let mut tries = 0;
        let ended = retry(&policy, &cancel, || {
            tries += 1;
            std::future::ready(Err::<(), _>(Trouble::Passing))
        });
        assert_eq!(ended.await, Err(Trouble::Passing));
        assert!(tries > 1, "{tries}");
    }

    #[tokio::test]
    async fn it_ends_when_it_is_cancelled() {
        let cancel = CancellationToken::new();
        let policy =
            Policy { first: Duration::from_secs(3600), longest: Duration::from_secs(3600), total: None };
        cancel.cancel();
        let ended = retry(&policy, &cancel, || std::future::ready(Err::<(), _>(Trouble::Passing)));
        assert_eq!(ended.await, Err(Trouble::Passing));
    }

    #[test]
    fn pauses_grow_up_to_the_longest() {
        let policy =
            Policy { first: Duration::from_millis(10), longest: Duration::from_millis(80), total: None };
        let pauses: Vec<_> = Delays::new(&policy).take(20).collect();
        assert!(pauses[0] <= Duration::from_millis(15), "{pauses:?}");
        assert!(pauses.iter().all(|pause| *pause <= policy.longest), "{pauses:?}");
        assert!(pauses[19] >= Duration::from_millis(40), "{pauses:?}");
    }
}
