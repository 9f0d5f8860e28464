//! Several coordinators agree through etcd.
//!
//! A candidate holds a lease ([`lease`]) and a key bound to it ([`ballot`]); the oldest key leads. The [`seat`] is lost when the
//! lease is: by etcd's word, or by this machine's own clock when etcd is silent. [`lookout`] tells who leads and who is there,
//! [`presence`] that this coordinator is, [`registry`] which workers the leader has. [`link`] bounds every call and
//! goes on to the next member when one fails. Epochs do not come from here, so an etcd that was wiped or restored
//! repeats none.

mod ballot;
mod error;
mod keys;
mod lease;
mod link;
mod lookout;
mod options;
mod presence;
mod registry;
mod seat;
#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use etcd_client::{Client, ConnectOptions};
use shardlift_domain::{ErrorCode, Failure};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::sleep;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{Election, ElectionError, Leadership, Peer, Registered};
use ballot::{Ballot, Standing};
use error::EtcdError;
use keys::Keys;
use lease::Lease;
use link::Link;
use lookout::Lookout;
use presence::Presence;
use registry::Registry;
use seat::Taken;

pub use options::{EtcdOptions, EtcdTls};

/// An election among all coordinators with the same etcd and prefix.
pub struct Etcd {
    me: Peer,
    link: Arc<Link>,
    options: Arc<EtcdOptions>,
    keys: Keys,
    turns: watch::Receiver<Option<i64>>,
    leader: watch::Receiver<Option<Peer>>,
    coordinators: watch::Receiver<Vec<Peer>>,
    here: Mutex<Option<JoinHandle<()>>>,
    ends: CancellationToken,
    _end: DropGuard,
}

impl Etcd {
    /// Begins to look who leads and to tell that this coordinator is here. Needs no etcd that answers, only settings that
    /// can work; must be called within the tokio runtime.
    pub async fn start(options: EtcdOptions, me: Peer) -> Result<Self, Failure> {
        check(&options).await?;
        let (options, ends) = (Arc::new(options), CancellationToken::new());
        let (link, keys) = (Arc::new(Link::new(&options)), Keys::new(&options.prefix));
        let (turns, leader) = (watch::Sender::new(None), watch::Sender::new(None));
        let coordinators = watch::Sender::new(vec![me.clone()]);
        let election = Self {
            turns: turns.subscribe(),
            leader: leader.subscribe(),
            coordinators: coordinators.subscribe(),
            here: Mutex::new(None),
            _end: ends.clone().drop_guard(),
            ends: ends.clone(),
            me: me.clone(),
            link: Arc::clone(&link),
            options: Arc::clone(&options),
            keys: keys.clone(),
        };
        let presence =
            Presence { link: Arc::clone(&link), options: Arc::clone(&options), keys: keys.clone(), me };
        *election.presence() = Some(tokio::spawn(presence.run(ends.clone())));
        tokio::spawn(Lookout { link, options, keys, turns, leader, coordinators }.run(ends));
        Ok(election)
    }

    fn presence(&self) -> std::sync::MutexGuard<'_, Option<JoinHandle<()>>> {
        self.here.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until the key is the oldest.
    async fn wait(&self, ballot: &Ballot, lease: &Lease) -> Result<(), EtcdError> {
        let mut turns = self.turns.clone();
        loop {
            // Marked before the question: a change that the answer does not show yet wakes the wait below.
            turns.mark_unchanged();
            match ballot.standing().await? {
                Standing::First => return Ok(()),
                Standing::Gone => return Err(EtcdError::LeaseEnded),
                Standing::Waits => {}
            }
            tokio::select! {
                () = lease.ended().cancelled() => return Err(EtcdError::LeaseEnded),
                changed = turns.changed() => if changed.is_err() { return Err(EtcdError::LeaseEnded) },
                () = sleep(self.options.reconciliation()) => {}
            }
        }
    }

    fn sit(&self, ballot: Ballot, lease: Lease) -> Leadership {
        let lost = lease.ended().clone();
        let workers = Arc::new(watch::Sender::new(Vec::<Registered>::new()));
        let registry = Registry {
            link: Arc::clone(&self.link),
            options: Arc::clone(&self.options),
            keys: self.keys.clone(),
            ballot: ballot.clone(),
            lease: lease.id(),
        };
        tokio::spawn(registry.run(workers.subscribe(), lost.clone()));
        tokio::spawn(seat::guard(ballot.clone(), self.turns.clone(), lost.clone()));
        Leadership::new(Box::new(Taken { ballot, lease, workers }), lost)
    }
}

#[async_trait]
impl Election for Etcd {
    async fn campaign(&self) -> Result<Leadership, ElectionError> {
        // The lease is kept alive from here on. If this future is dropped, so is the lease, and the key with it.
        let lease = Lease::grant(&self.link, &self.options).await?;
        let ballot = Ballot::cast(&self.link, &self.options, &self.keys, &lease, &self.me).await?;
        self.wait(&ballot, &lease).await?;
        if lease.is_over() {
            return Err(ElectionError::Lost);
        }
        Ok(self.sit(ballot, lease))
    }

    fn leader(&self) -> watch::Receiver<Option<Peer>> {
        self.leader.clone()
    }

    fn coordinators(&self) -> watch::Receiver<Vec<Peer>> {
        self.coordinators.clone()
    }

    async fn leave(&self) {
        self.ends.cancel();
        let presence = self.presence().take();
        if let Some(presence) = presence {
            // Each of its calls is bounded; if it has panicked there is nothing to take away.
            let _ = presence.await;
        }
    }
}

/// Certificates and addresses that cannot work are told at the start. Without a user the driver asks nobody yet.
async fn check(options: &EtcdOptions) -> Result<(), Failure> {
    let mut without_user = options.clone();
    without_user.login = None;
    let driver: ConnectOptions = without_user.connect();
    for endpoint in &options.endpoints {
        if let Err(error) = Client::connect([endpoint], Some(driver.clone())).await {
            return Err(Failure::new(
                ErrorCode::ConfigInvalid,
                format!("[election] cannot work: {}", EtcdError::refused(endpoint, error)),
                "mend `endpoints` or [election.tls] in the coordinator's configuration",
            ));
        }
    }
    Ok(())
}
