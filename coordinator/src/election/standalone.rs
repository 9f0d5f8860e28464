//! One coordinator, nobody to agree with: it always leads.
//!
//! A second process on the same store is not noticed here. It does no harm: it takes the fence over, and the first
//! one finds itself fenced.

use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio_util::sync::CancellationToken;

use super::{Election, ElectionError, Leadership, Peer, Seat};

/// An election with one seat within this process. Clones contend for the same seat.
#[derive(Debug, Clone)]
pub struct Standalone {
    me: Peer,
    seat: Arc<Semaphore>,
    leader: watch::Sender<Option<Peer>>,
}

impl Standalone {
    /// A free seat for this coordinator.
    pub fn new(me: Peer) -> Self {
        Self { me, seat: Arc::new(Semaphore::new(1)), leader: watch::Sender::new(None) }
    }
}

#[async_trait]
impl Election for Standalone {
    async fn campaign(&self) -> Result<Leadership, ElectionError> {
        let seat = Arc::clone(&self.seat).acquire_owned().await.map_err(|_| ElectionError::Lost)?;
        self.leader.send_replace(Some(self.me.clone()));
        // Nobody can take this seat away, so the token is never cancelled.
        let taken = Taken { leader: self.leader.clone(), _seat: seat };
        Ok(Leadership::new(Box::new(taken), CancellationToken::new()))
    }

    fn leader(&self) -> watch::Receiver<Option<Peer>> {
        self.leader.subscribe()
    }
}

struct Taken {
    leader: watch::Sender<Option<Peer>>,
    _seat: OwnedSemaphorePermit,
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.leader.send_replace(None);
    }
}

#[async_trait]
impl Seat for Taken {
    async fn confirm(&self) -> Result<(), ElectionError> {
        Ok(())
    }

    async fn resign(self: Box<Self>) {}
}
