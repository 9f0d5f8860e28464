//! A lease that is kept alive, and the moment after which it must not be relied on.
//!
//! That moment is counted from the *sending* of the last renewal that was answered: the member counts from its receipt,
//! which is later. It passes even when this process stands still, or when no member answers; once passed, nothing
//! brings the lease back.

use std::sync::{Arc, Mutex, PoisonError};

use etcd_client::LeaseGrantOptions;
use shardlift_runtime::random;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::super::Expiry;
use super::error::EtcdError;
use super::link::Link;
use super::options::EtcdOptions;

/// A granted lease. Dropping it gives it back, with every key that hangs on it, as soon as a member answers.
pub(super) struct Lease {
    id: i64,
    link: Arc<Link>,
    options: Arc<EtcdOptions>,
    life: Arc<Life>,
    revoked: bool,
}

/// How long the lease counts.
struct Life {
    until: Mutex<Instant>,
    ended: CancellationToken,
}

impl Lease {
    /// Takes a lease and keeps it alive from here on.
    pub(super) async fn grant(link: &Arc<Link>, options: &Arc<EtcdOptions>) -> Result<Self, EtcdError> {
        // A name of our own choice: asking again after a lost answer finds the lease that was granted.
        let (id, seconds) = (random::positive(), options.lease_seconds());
        let sent = Instant::now();
        let granted = link
            .call(options.ttl, |mut client| async move {
                client.lease_grant(seconds, Some(LeaseGrantOptions::new().with_id(id))).await
            })
            .await;
        match granted {
            Ok(_) => {}
            Err(error) if error.says("lease already exists") => {}
            Err(error) => return Err(error),
        }
        let life =
            Arc::new(Life { until: Mutex::new(sent + options.term()), ended: CancellationToken::new() });
        let lease = Self {
            id,
            link: Arc::clone(link),
            options: Arc::clone(options),
            life: Arc::clone(&life),
            revoked: false,
        };
        tokio::spawn(watch_over(Arc::clone(&life)));
        tokio::spawn(keep(id, Arc::clone(link), Arc::clone(options), life));
        Ok(lease)
    }

    pub(super) fn id(&self) -> i64 {
        self.id
    }

    /// Cancelled when the lease must not be relied on any more.
    pub(super) fn ended(&self) -> &CancellationToken {
        &self.life.ended
    }

    /// Whether the lease must not be relied on any more; right also before any timer has had its turn.
    pub(super) fn is_over(&self) -> bool {
        self.life.is_over()
    }

    /// The same, for those who outlive the lease.
    pub(super) fn expiry(&self) -> Expiry {
        let life = Arc::clone(&self.life);
        Arc::new(move || life.is_over())
    }

    /// Gives the lease back, with every key that hangs on it, and waits until that is done, but not for long.
    pub(super) async fn revoke(mut self) {
        self.revoked = true;
        self.life.ended.cancel();
        revoke(self.id, &self.link, &self.options).await;
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.life.ended.cancel();
        if self.revoked {
            return;
        }
        // Without a runtime the process is ending, and the lease runs out.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let (id, link, options) = (self.id, Arc::clone(&self.link), Arc::clone(&self.options));
            runtime.spawn(async move { revoke(id, &link, &options).await });
        }
    }
}

async fn revoke(id: i64, link: &Link, options: &EtcdOptions) {
    let revoked = link
        .call(options.patience(), |mut client| async move { client.lease_revoke(id).await })
        .await
        .map(drop);
    match revoked {
        Err(error) if !error.says("lease not found") => {
            tracing::warn!(%error, "a lease was not given back: others have to wait until it runs out");
        }
        _ => {}
    }
}

impl Life {
    fn until(&self) -> Instant {
        *self.until.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_over(&self) -> bool {
        self.ended.is_cancelled() || Instant::now() >= self.until()
    }

    /// A renewal was answered. If the time was over before, it stays over: somebody may have relied on that.
    fn renew(&self, until: Instant) {
        let mut held = self.until.lock().unwrap_or_else(PoisonError::into_inner);
        if Instant::now() < *held {
            *held = until.max(*held);
        }
    }
}

/// Ends the lease when its time is over. A task of its own, so that no call that hangs keeps it from that.
async fn watch_over(life: Arc<Life>) {
    loop {
        let until = life.until();
        if Instant::now() >= until {
            life.ended.cancel();
        }
        tokio::select! {
            () = life.ended.cancelled() => return,
            () = sleep_until(until) => {}
        }
    }
}

/// Renews the lease until it ends. Each renewal is a call of its own, so there is no stream that could be dead without
/// anybody noticing, and the next one goes to a member that answers.
async fn keep(id: i64, link: Arc<Link>, options: Arc<EtcdOptions>, life: Arc<Life>) {
    let mut next = Instant::now() + options.renewal();
    loop {
        tokio::select! {
            () = life.ended.cancelled() => return,
            () = sleep_until(next) => {}
        }
        let renewal = link.call(options.ttl, |mut client| async move {
            let sent = Instant::now();
            client.lease_keep_alive(id).await.map(|_| sent)
        });
        let renewed = tokio::select! {
            () = life.ended.cancelled() => return,
            renewed = renewal => renewed,
        };
        match renewed {
            Ok(sent) => {
                life.renew(sent + options.term());
                next = sent + options.renewal();
            }
            Err(EtcdError::LeaseEnded) => {
                tracing::warn!("the lease has ended before its time: it was revoked, or etcd has lost it");
                life.ended.cancel();
            }
            Err(error) => {
                tracing::warn!(%error, "a lease was not renewed");
                next = Instant::now() + options.patience();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn life(until: Instant) -> Arc<Life> {
        Arc::new(Life { until: Mutex::new(until), ended: CancellationToken::new() })
    }

    #[tokio::test]
    async fn what_is_over_is_not_revived_by_a_late_answer() {
        let now = Instant::now();
        let late = life(now);
        late.renew(now + Duration::from_secs(60));
        assert!(late.is_over(), "before any timer had its turn");
        watch_over(Arc::clone(&late)).await;
        assert!(late.ended.is_cancelled());
    }

    #[tokio::test]
    async fn an_answer_that_was_overtaken_shortens_nothing() {
        let now = Instant::now();
        let renewed = life(now + Duration::from_secs(60));
        renewed.renew(now + Duration::from_secs(90));
        renewed.renew(now + Duration::from_secs(70));
        assert_eq!(renewed.until(), now + Duration::from_secs(90));
        assert!(!renewed.is_over());
        renewed.ended.cancel();
        assert!(renewed.is_over());
    }
}
