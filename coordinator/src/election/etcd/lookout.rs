//! Keeps an eye on who leads and who is there.
//!
//! A watch only says that it is time to look; what is told is always read, linearizably. If the watch is silent for no good
//! reason, the next periodic read finds what it did not say.

use std::sync::Arc;
use std::time::Duration;

use etcd_client::{GetOptions, Txn, TxnOp, TxnOpResponse, WatchOptions, WatchStream};
use shardlift_runtime::random;
use shardlift_runtime::retry::{Delays, Policy};
use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::super::Peer;
use super::ballot::oldest_first;
use super::error::EtcdError;
use super::keys::{Keys, peer_from};
use super::link::Link;
use super::options::EtcdOptions;

/// The pauses after which a watch that broke is opened anew.
const ANEW: Policy =
    Policy { first: Duration::from_millis(20), longest: Duration::from_secs(2), total: None };

/// Tells what changes.
pub(super) struct Lookout {
    pub(super) link: Arc<Link>,
    pub(super) options: Arc<EtcdOptions>,
    pub(super) keys: Keys,
    /// The revision of the leader's key: changes with every change of the lead, also back to the same coordinator.
    pub(super) turns: watch::Sender<Option<i64>>,
    pub(super) leader: watch::Sender<Option<Peer>>,
    pub(super) coordinators: watch::Sender<Vec<Peer>>,
}

struct Seen {
    turn: Option<i64>,
    leader: Option<Peer>,
    coordinators: Vec<Peer>,
}

impl Lookout {
    /// Looks until it is cancelled.
    pub(super) async fn run(self, cancel: CancellationToken) {
        tokio::select! {
            () = cancel.cancelled() => {}
            () = self.look() => {}
        }
    }

    async fn look(&self) {
        let mut stream: Option<(u64, WatchStream)> = None;
        let mut anew = Delays::new(&ANEW);
        let mut heard = Instant::now();
        loop {
            // The watch is opened before the read, so that no change falls between them.
            if stream.as_ref().is_none_or(|(number, _)| *number != self.link.number()) {
                stream = self.open().await.ok();
            }
            match self.read().await {
                Ok(seen) => {
                    heard = Instant::now();
                    self.tell(seen);
                }
                Err(error) => {
                    tracing::debug!(%error, "who leads cannot be read");
                    // A leader that does not reach etcd either has stepped down by now.
                    if heard.elapsed() > self.options.ttl {
                        self.leader.send_if_modified(|known| known.take().is_some());
                    }
                }
            }
            let pause = random::jitter(self.options.reconciliation(), 0.2);
            tokio::select! {
                () = sleep(pause) => {}
                whole = next(stream.as_mut()) => {
                    if whole {
                        anew.reset();
                    } else {
                        stream = None;
                        sleep(anew.next().unwrap_or(ANEW.longest)).await;
                    }
                }
            }
        }
    }

    async fn open(&self) -> Result<(u64, WatchStream), EtcdError> {
        // Asked before: should the call go on to another member, the watch is opened once more than needed.
        let number = self.link.number();
        let stream = self
            .link
            .call(self.options.patience(), |mut client| {
                let candidates = self.keys.candidates();
                async move { client.watch(candidates, Some(WatchOptions::new().with_prefix())).await }
            })
            .await?;
        Ok((number, stream))
    }

    async fn read(&self) -> Result<Seen, EtcdError> {
        let both = Txn::new().and_then([
            TxnOp::get(self.keys.candidates(), Some(oldest_first())),
            TxnOp::get(self.keys.coordinators(), Some(GetOptions::new().with_prefix())),
        ]);
        let answer = self
            .link
            .call(self.options.ttl, |mut client| {
                let both = both.clone();
                async move { client.txn(both).await }
            })
            .await?;
        let mut seen = Seen { turn: None, leader: None, coordinators: Vec::new() };
        if let [TxnOpResponse::Get(candidates), TxnOpResponse::Get(coordinators)] =
            answer.op_responses().as_slice()
        {
            let first = candidates.kvs().first();
            seen.turn = first.map(etcd_client::KeyValue::create_revision);
            seen.leader = first.and_then(peer_from);
            seen.coordinators = coordinators.kvs().iter().filter_map(peer_from).collect();
        }
        Ok(seen)
    }

    fn tell(&self, seen: Seen) {
        if change(&self.leader, seen.leader.clone()) {
            match &seen.leader {
                Some(leader) => tracing::info!(name = leader.name, address = leader.address, "is elected"),
                None => tracing::info!("nobody is elected"),
            }
        }
        change(&self.coordinators, seen.coordinators);
        change(&self.turns, seen.turn);
    }
}

fn change<T: PartialEq>(told: &watch::Sender<T>, value: T) -> bool {
    told.send_if_modified(|known| {
        let differs = *known != value;
        *known = value;
        differs
    })
}

/// Waits until the watch says something. `false`: it broke. Without a watch it waits for ever.
async fn next(stream: Option<&mut (u64, WatchStream)>) -> bool {
    match stream {
        Some((_, stream)) => matches!(stream.message().await, Ok(Some(said)) if !said.canceled()),
        None => std::future::pending().await,
    }
}
