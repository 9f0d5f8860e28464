//! Who may try to lead.
//!
//! An election is a hint, never authority: whoever wins it still has to take the store's fence over, and the fence
//! alone decides whose writes count. The suite in `conformance` holds every backend to the same behaviour.

#[cfg(test)]
mod conformance;
mod standalone;

use async_trait::async_trait;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

pub use standalone::Standalone;

/// Why an election did not help.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ElectionError {
    /// The lead was lost before the question was answered.
    #[error("this coordinator does not lead any more")]
    Lost,
    /// The election itself does not answer.
    #[error("the election cannot be reached: {0}")]
    Unavailable(String),
}

/// A coordinator, and where clients and workers reach it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Its name, for people.
    pub name: String,
    /// Host and port.
    pub address: String,
}

/// A way to agree on one coordinator among several.
#[async_trait]
pub trait Election: Send + Sync + 'static {
    /// Waits until this coordinator may try to lead. Dropping the future withdraws from the election.
    async fn campaign(&self) -> Result<Leadership, ElectionError>;

    /// Who leads, as far as is known here: where to send whoever asks, never a right to act.
    fn leader(&self) -> watch::Receiver<Option<Peer>>;
}

/// What a backend keeps for the coordinator that won.
#[async_trait]
pub trait Seat: Send + Sync + 'static {
    /// Asks the election itself, now, whether this seat still leads; an answer from memory will not do.
    async fn confirm(&self) -> Result<(), ElectionError>;

    /// Hands the seat back, so that the next one need not wait for it to expire.
    async fn resign(self: Box<Self>);
}

/// A won election. Dropping it gives the lead up, too, but the others may have to wait until they notice.
pub struct Leadership {
    seat: Box<dyn Seat>,
    lost: CancellationToken,
}

impl Leadership {
    /// For backends: `lost` is cancelled when the seat is taken away.
    pub fn new(seat: Box<dyn Seat>, lost: CancellationToken) -> Self {
        Self { seat, lost }
    }

    /// Waits until the lead is lost. What has begun may then be finished only under the store's fence.
    pub async fn lost(&self) {
        self.lost.cancelled().await;
    }

    /// Asks the election itself whether this coordinator still leads.
    pub async fn confirm(&self) -> Result<(), ElectionError> {
        if self.lost.is_cancelled() {
            return Err(ElectionError::Lost);
        }
        self.seat.confirm().await
    }

    /// Gives the lead up: the next coordinator is elected at once.
    pub async fn resign(self) {
        self.seat.resign().await;
    }
}
