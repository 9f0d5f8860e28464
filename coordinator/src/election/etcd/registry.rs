//! The leader's list of connected workers, for whoever looks into etcd. Never authority.
//!
//! Changes are gathered before they are written, and only so many keys are written at once: a thousand workers that
//! come back together must not keep etcd from renewing leases. All keys hang on the leader's lease: they end with its lead.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use etcd_client::{PutOptions, Txn, TxnOp};
use tokio::sync::watch;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::super::Registered;
use super::ballot::Ballot;
use super::keys::{Keys, worker_to_value};
use super::link::Link;
use super::options::EtcdOptions;

/// Changes within this time are written together.
const GATHERING: Duration = Duration::from_millis(500);
/// Keys in one transaction; with the pause, at most 200 in a second.
const AT_ONCE: usize = 50;
/// Between two transactions.
const PAUSE: Duration = Duration::from_millis(250);

/// Writes what the leader tells.
pub(super) struct Registry {
    pub(super) link: Arc<Link>,
    pub(super) options: Arc<EtcdOptions>,
    pub(super) keys: Keys,
    pub(super) ballot: Ballot,
    pub(super) lease: i64,
}

impl Registry {
    /// Writes until the lead is lost.
    pub(super) async fn run(self, mut told: watch::Receiver<Vec<Registered>>, lost: CancellationToken) {
        let mut written = BTreeMap::new();
        let write = async {
            while told.changed().await.is_ok() {
                sleep(GATHERING).await;
                let wanted: BTreeMap<_, _> = told
                    .borrow_and_update()
                    .iter()
                    .map(|worker| (self.keys.worker(worker), worker_to_value(worker)))
                    .collect();
                if !self.reconcile(&mut written, wanted).await {
                    return;
                }
            }
        };
        tokio::select! {
            () = lost.cancelled() => {}
            () = write => {}
        }
    }

    /// Makes etcd hold what is wanted. `false`: the key of this leader is gone.
    async fn reconcile(
        &self,
        written: &mut BTreeMap<String, String>,
        wanted: BTreeMap<String, String>,
    ) -> bool {
        let put = |key: &String, value: &String| {
            let options = PutOptions::new().with_lease(self.lease);
            TxnOp::put(key.as_str(), value.as_str(), Some(options))
        };
        let changed = wanted.iter().filter(|(key, value)| written.get(*key) != Some(value));
        let gone = written.keys().filter(|key| !wanted.contains_key(*key));
        let ops: Vec<TxnOp> = changed
            .map(|(key, value)| put(key, value))
            .chain(gone.map(|key| TxnOp::delete(key.as_str(), None)))
            .collect();
        for some in ops.chunks(AT_ONCE) {
            let write = Txn::new().when([self.ballot.still_there()]).and_then(some);
            loop {
                let done = self.link.call(self.options.ttl, |mut client| {
                    let write = write.clone();
                    async move { client.txn(write).await }
                });
                match done.await {
                    Ok(answer) if answer.succeeded() => break,
                    Ok(_) => return false,
                    Err(error) => tracing::debug!(%error, "the list of workers was not written; tried again"),
                }
                sleep(PAUSE).await;
            }
            sleep(PAUSE).await;
        }
        *written = wanted;
        true
    }
}
