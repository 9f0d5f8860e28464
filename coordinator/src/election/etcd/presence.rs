//! Tells the other coordinators that this one is there, and where.

use std::sync::Arc;

use etcd_client::{Compare, CompareOp, PutOptions, Txn, TxnOp, TxnOpResponse};
use shardlift_runtime::retry::{Delays, Policy};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::super::Peer;
use super::ballot::put_once;
use super::error::EtcdError;
use super::keys::{Keys, peer_from, peer_to_value};
use super::lease::Lease;
use super::link::Link;
use super::options::EtcdOptions;

/// One coordinator's own key.
pub(super) struct Presence {
    pub(super) link: Arc<Link>,
    pub(super) options: Arc<EtcdOptions>,
    pub(super) keys: Keys,
    pub(super) me: Peer,
}

impl Presence {
    /// Keeps the key there until it is cancelled, then takes it away.
    pub(super) async fn run(self, cancel: CancellationToken) {
        let mut delays = Delays::new(&Policy::FOREVER);
        loop {
            let lease = tokio::select! {
                () = cancel.cancelled() => return,
                lease = Lease::grant(&self.link, &self.options) => lease,
            };
            match lease {
                Ok(lease) => {
                    delays.reset();
                    tokio::select! {
                        () = self.hold(&lease) => {}
                        () = cancel.cancelled() => return lease.revoke().await,
                    }
                }
                Err(error) => tracing::warn!(%error, "etcd cannot be told that this coordinator is here"),
            }
            tokio::select! {
                () = cancel.cancelled() => return,
                () = sleep(delays.next().unwrap_or_default()) => {}
            }
        }
    }

    /// Writes the key again and again, in case somebody takes it away, until the lease ends.
    async fn hold(&self, lease: &Lease) {
        while !lease.is_over() {
            match self.announce(lease.id()).await {
                Ok(None) => {}
                Ok(Some(other)) => tracing::error!(
                    name = self.me.name,
                    other = other.address,
                    "two coordinators have the same name: give each its own (`name`)"
                ),
                Err(error) => tracing::debug!(%error, "the key of this coordinator was not written"),
            }
            tokio::select! {
                () = lease.ended().cancelled() => {}
                () = sleep(self.options.ttl) => {}
            }
        }
    }

    /// Writes the key unless it is there. `Some`: it is another coordinator's.
    async fn announce(&self, lease: i64) -> Result<Option<Peer>, EtcdError> {
        let (key, value) = (self.keys.coordinator(&self.me.name), peer_to_value(&self.me));
        let answer = self.ask(put_once(&key, &value, lease)).await?;
        let Some(TxnOpResponse::Get(found)) = answer.op_responses().into_iter().next() else {
            return Ok(None);
        };
        let Some(pair) = found.kvs().first().filter(|pair| pair.lease() != lease) else { return Ok(None) };
        match peer_from(pair) {
            Some(other) if other != self.me => Ok(Some(other)),
            // What a former life of this process has left: its lease is about to end, and must not take the key with it.
            _ => {
                let unchanged = Compare::mod_revision(key.as_str(), CompareOp::Equal, pair.mod_revision());
                let put = TxnOp::put(key, value, Some(PutOptions::new().with_lease(lease)));
                self.ask(Txn::new().when([unchanged]).and_then([put])).await?;
                Ok(None)
            }
        }
    }

    async fn ask(&self, txn: Txn) -> Result<etcd_client::TxnResponse, EtcdError> {
        self.link
            .call(self.options.ttl, |mut client| {
                let txn = txn.clone();
                async move { client.txn(txn).await }
            })
            .await
    }
}
