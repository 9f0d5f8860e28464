//! One coordinator, nobody to agree with: it always leads.
//!
//! A second process on the same store is not noticed here. It does no harm: it takes the fence over, and the first
//! one finds itself fenced.

use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio_util::sync::CancellationToken;

use super::{Election, ElectionError, Expiry, Leadership, Peer, Registered, Seat};

/// An election with one seat within this process. Clones contend for the same seat.
#[derive(Debug, Clone)]
pub struct Standalone {
    me: Peer,
    seat: Arc<Semaphore>,
    leader: watch::Sender<Option<Peer>>,
    coordinators: watch::Sender<Vec<Peer>>,
}

impl Standalone {
    /// A free seat for this coordinator.
    pub fn new(me: Peer) -> Self {
        let coordinators = watch::Sender::new(vec![me.clone()]);
        Self { me, seat: Arc::new(Semaphore::new(1)), leader: watch::Sender::new(None), coordinators }
    }
}

#[async_trait]
impl Election for Standalone {
    async fn campaign(&self) -> Result<Leadership, ElectionError> {
        let seat = Arc::clone(&self.seat).acquire_owned().await.map_err(|_| ElectionError::Lost)?;
        self.leader.send_replace(Some(self.me.clone()));
        let taken = Taken { leader: self.leader.clone(), _seat: seat };
        // Nobody can take this seat away, so the token is never cancelled.
        Ok(Leadership::new(Box::new(taken), CancellationToken::new()))
    }

    fn leader(&self) -> watch::Receiver<Option<Peer>> {
        self.leader.subscribe()
    }

    fn coordinators(&self) -> watch::Receiver<Vec<Peer>> {
        self.coordinators.subscribe()
    }

    async fn leave(&self) {}
}

struct Taken {
    leader: watch::Sender<Option<Peer>>,
    _seat: OwnedSemaphorePermit,
}

#[async_trait]
impl Seat for Taken {
    async fn confirm(&self) -> Result<(), ElectionError> {
        Ok(())
    }

    fn expiry(&self) -> Expiry {
        Arc::new(|| false)
    }

    fn registry(&self) -> Option<&watch::Sender<Vec<Registered>>> {
        None
    }

    async fn resign(self: Box<Self>) {}
}

impl Drop for Taken {
    fn drop(&mut self) {
        // Before the seat is free: the next winner's word must come after this one.
        self.leader.send_replace(None);
    }
}
