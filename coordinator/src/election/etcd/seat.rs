//! The seat of a coordinator that won.

use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::watch;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::super::{ElectionError, Expiry, Registered, Seat};
use super::ballot::{Ballot, Standing};
use super::lease::Lease;

/// Held by the leader. Dropping it drops the lease, and with it every key.
pub(super) struct Taken {
    pub(super) ballot: Ballot,
    pub(super) lease: Lease,
    pub(super) workers: Arc<watch::Sender<Vec<Registered>>>,
}

#[async_trait]
impl Seat for Taken {
    async fn confirm(&self) -> Result<(), ElectionError> {
        let standing = self.ballot.standing().await?;
        if standing == Standing::First && !self.lease.is_over() {
            return Ok(());
        }
        self.lease.ended().cancel();
        Err(ElectionError::Lost)
    }

    fn expiry(&self) -> Expiry {
        self.lease.expiry()
    }

    fn registry(&self) -> Option<&watch::Sender<Vec<Registered>>> {
        Some(&self.workers)
    }

    async fn resign(self: Box<Self>) {
        self.lease.revoke().await;
    }
}

/// Notices that the key was taken away although the lease lives: whenever the lead seems to have changed, etcd is asked.
pub(super) async fn guard(ballot: Ballot, mut turns: watch::Receiver<Option<i64>>, lost: CancellationToken) {
    loop {
        tokio::select! {
            () = lost.cancelled() => return,
            changed = turns.changed() => if changed.is_err() { return },
        }
        let asked = tokio::select! {
            () = lost.cancelled() => return,
            asked = ballot.standing() => asked,
        };
        match asked {
            Ok(Standing::First) => {}
            Ok(Standing::Waits | Standing::Gone) => {
                tracing::warn!("the key of this leader is gone from etcd: it leads no more");
                lost.cancel();
            }
            Err(error) => {
                tracing::debug!(%error, "who leads cannot be read");
                sleep(ballot.pause()).await;
                turns.mark_changed();
            }
        }
    }
}
