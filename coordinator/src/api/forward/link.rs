//! The connection to the leader: kept while it is the same, made anew when it is another.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use shardlift_runtime::tls::{Dial, reasons};
use tonic::transport::{Channel, Endpoint};

use crate::election::Peer;

/// How long connecting may take: the leader is near, and while it is not there another one is elected.
const CONNECT_WITHIN: Duration = Duration::from_secs(1);
/// A leader that is silent for longer than both together is taken for gone.
const KEEP_ALIVE: Duration = Duration::from_secs(2);
const KEEP_ALIVE_ANSWER: Duration = Duration::from_secs(3);

/// At most one connection, to the newest leader. Clones share it.
#[derive(Clone)]
pub(super) struct Link {
    dial: Option<Arc<Dial>>,
    open: Arc<Mutex<Option<(String, Channel)>>>,
}

impl Link {
    /// `dial`: over TLS.
    pub(super) fn new(dial: Option<Dial>) -> Self {
        Self { dial: dial.map(Arc::new), open: Arc::default() }
    }

    /// A connection to this leader. Two who find none at the same moment make two, and one is kept.
    pub(super) async fn to(&self, leader: &Peer) -> Result<Channel, String> {
        if let Some(channel) = self.kept(&leader.address) {
            return Ok(channel);
        }
        let channel = self
            .endpoint(leader)?
            .connect_timeout(CONNECT_WITHIN)
            .tcp_nodelay(true)
            .http2_keep_alive_interval(KEEP_ALIVE)
            .keep_alive_timeout(KEEP_ALIVE_ANSWER)
            .connect()
            .await
            .map_err(|error| reasons(&error))?;
        *self.open.lock().unwrap_or_else(PoisonError::into_inner) =
            Some((leader.address.clone(), channel.clone()));
        Ok(channel)
    }

    fn endpoint(&self, leader: &Peer) -> Result<Endpoint, String> {
        let scheme = if self.dial.is_some() { "https" } else { "http" };
        let endpoint = Endpoint::from_shared(format!("{scheme}://{}", leader.address))
            .map_err(|error| reasons(&error))?;
        match &self.dial {
            Some(dial) => dial.secure(endpoint).map_err(|error| error.to_string()),
            None => Ok(endpoint),
        }
    }

    /// It broke: the next request connects anew, so that it hears at once when nobody is there.
    pub(super) fn forget(&self, leader: &Peer) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.take_if(|(address, _)| *address == leader.address);
    }

    fn kept(&self, address: &str) -> Option<Channel> {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.as_ref().filter(|(to, _)| to == address).map(|(_, channel)| channel.clone())
    }
}
