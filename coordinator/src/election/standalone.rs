//! One coordinator, nobody to agree with: it always leads.
//!
//! A second process on the same store is not noticed here. It does no harm: it takes the fence over, and the first
//! one finds itself fenced.

use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use super::{Election, ElectionError, Leadership, Seat};

/// An election with one seat within this process. Clones contend for the same seat.
#[derive(Debug, Clone)]
pub struct Standalone {
    seat: Arc<Semaphore>,
}

impl Standalone {
    /// A free seat.
    pub fn new() -> Self {
        Self { seat: Arc::new(Semaphore::new(1)) }
    }
}

impl Default for Standalone {
    fn default() -> Self {
        Self::new()
    }
}

#[async_trait]
impl Election for Standalone {
    async fn campaign(&self) -> Result<Leadership, ElectionError> {
        let seat = Arc::clone(&self.seat).acquire_owned().await.map_err(|_| ElectionError::Lost)?;
        // Nobody can take this seat away, so the token is never cancelled.
        Ok(Leadership::new(Box::new(Taken { _seat: seat }), CancellationToken::new()))
    }
}

struct Taken {
    _seat: OwnedSemaphorePermit,
}

#[async_trait]
impl Seat for Taken {
    async fn confirm(&self) -> Result<(), ElectionError> {
        Ok(())
    }

    async fn resign(self: Box<Self>) {}
}
