//! Who may try to lead.
//!
//! An election is a hint, never authority: whoever wins it still has to take the store's fence over, and the fence
//! alone decides whose writes count. The suite in `conformance` holds every backend to the same behaviour.

#[cfg(test)]
mod conformance;
mod etcd;
mod standalone;

use std::sync::Arc;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use shardlift_domain::ids::{ShardId, WorkerId};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

pub use etcd::{Etcd, EtcdOptions, EtcdTls};
pub use standalone::Standalone;

/// A coordinator, and where clients and workers reach it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Peer {
    /// Its name, for people.
    pub name: String,
    /// Host and port.
    pub address: String,
}

/// A connected worker, as the leader tells it to whoever looks into the election.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registered {
    /// Who.
    pub worker: WorkerId,
    /// Version of its program.
    pub version: String,
    /// What it serves.
    pub shards: Vec<ShardId>,
}

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

/// A way to agree on one coordinator among several.
#[async_trait]
pub trait Election: Send + Sync + 'static {
    /// Waits until this coordinator may try to lead. Dropping the future withdraws from the election.
    async fn campaign(&self) -> Result<Leadership, ElectionError>;

    /// Who leads, as far as is known here: where to send whoever asks, never a right to act.
    fn leader(&self) -> watch::Receiver<Option<Peer>>;

    /// Every coordinator that is known here, this one included, by name: a hint, too.
    fn coordinators(&self) -> watch::Receiver<Vec<Peer>>;

    /// Takes this coordinator off the list of coordinators, at the end of the process.
    async fn leave(&self);
}

/// Whether a time is over. Cheap to ask: doors do it for each sign of life of a worker.
pub type Expiry = Arc<dyn Fn() -> bool + Send + Sync>;

/// What a backend keeps for the coordinator that won.
#[async_trait]
pub trait Seat: Send + Sync + 'static {
    /// Asks the election itself, now, whether this seat still leads; an answer from memory will not do.
    async fn confirm(&self) -> Result<(), ElectionError>;

    /// Tells whether the time for which the seat was won is over, by this machine's own clock: asks nobody.
    fn expiry(&self) -> Expiry;

    /// Where the leader tells its workers, if this election keeps such a list.
    fn registry(&self) -> Option<&watch::Sender<Vec<Registered>>>;

    /// Hands the seat back, so that the next one need not wait for it to expire.
    async fn resign(self: Box<Self>);
}

/// A won election. Dropping it gives the lead up, too, but the others may have to wait until they notice.
pub struct Leadership {
    seat: Box<dyn Seat>,
    reign: Reign,
}

/// How long a won election counts, for those who speak in the leader's name. Clones end together.
#[derive(Clone)]
pub struct Reign {
    over: CancellationToken,
    expiry: Expiry,
}

impl Reign {
    /// Whether it is over. Right also in the first moment after a pause of the process, before any timer has had its
    /// turn.
    pub fn is_over(&self) -> bool {
        self.over.is_cancelled() || (self.expiry)()
    }

    /// From here on nobody speaks in its name any more.
    pub fn end(&self) {
        self.over.cancel();
    }
}

impl Leadership {
    /// For backends: `lost` is cancelled when the seat is taken away.
    pub fn new(seat: Box<dyn Seat>, lost: CancellationToken) -> Self {
        let expiry = seat.expiry();
        Self { seat, reign: Reign { over: lost, expiry } }
    }

    /// Waits until the lead is lost. What has begun may then be finished only under the store's fence.
    pub async fn lost(&self) {
        self.reign.over.cancelled().await;
    }

    /// Whether the lead is lost. Unlike [`Leadership::lost`] this is right in the first moment after a pause of the
    /// process, before any timer has had its turn.
    pub fn is_lost(&self) -> bool {
        self.reign.is_over()
    }

    /// How long one leader of this election counts: until the lead is lost, or until that leader ends it.
    pub fn reign(&self) -> Reign {
        Reign { over: self.reign.over.child_token(), expiry: Arc::clone(&self.reign.expiry) }
    }

    /// Asks the election itself whether this coordinator still leads.
    pub async fn confirm(&self) -> Result<(), ElectionError> {
        if self.is_lost() {
            return Err(ElectionError::Lost);
        }
        self.seat.confirm().await
    }

    /// Where to tell the connected workers, if this election keeps such a list.
    pub fn registry(&self) -> Option<&watch::Sender<Vec<Registered>>> {
        self.seat.registry()
    }

    /// Gives the lead up: the next coordinator is elected at once.
    pub async fn resign(self) {
        self.seat.resign().await;
    }
}
