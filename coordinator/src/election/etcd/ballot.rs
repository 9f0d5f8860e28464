//! A candidate's key, and where it stands. The oldest key leads: age is etcd's own count, not a clock.

use std::sync::Arc;

use etcd_client::{Compare, CompareOp, GetOptions, SortOrder, SortTarget, Txn, TxnOp, TxnOpResponse};

use super::super::Peer;
use super::error::EtcdError;
use super::keys::{Keys, peer_to_value};
use super::lease::Lease;
use super::link::Link;
use super::options::EtcdOptions;

/// A candidate's key.
#[derive(Clone)]
pub(super) struct Ballot {
    key: String,
    /// When the key was made, as etcd counts. A key of the same name that was made later is not this one.
    revision: i64,
    candidates: String,
    link: Arc<Link>,
    options: Arc<EtcdOptions>,
}

/// Where a candidate stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// It leads.
    First,
    /// Others came before it.
    Waits,
    /// Its key is gone.
    Gone,
}

impl Ballot {
    /// Stands for election: writes the key, bound to the lease.
    pub(super) async fn cast(
        link: &Arc<Link>,
        options: &Arc<EtcdOptions>,
        keys: &Keys,
        lease: &Lease,
        me: &Peer,
    ) -> Result<Self, EtcdError> {
        let (key, candidates) = (keys.candidate(lease.id()), keys.candidates());
        let put = put_once(&key, &peer_to_value(me), lease.id());
        let answer = link
            .call(options.ttl, |mut client| {
                let put = put.clone();
                async move { client.txn(put).await }
            })
            .await?;
        let revision = match answer.op_responses().first() {
            // It was there: an earlier try whose answer was lost.
            Some(TxnOpResponse::Get(found)) => {
                found.kvs().first().map(etcd_client::KeyValue::create_revision)
            }
            _ => answer.header().map(etcd_client::ResponseHeader::revision),
        };
        let revision = revision.unwrap_or_default();
        Ok(Self { key, revision, candidates, link: Arc::clone(link), options: Arc::clone(options) })
    }

    /// Asks etcd where this candidate stands now: a linearizable read, so a majority of members has agreed.
    pub(super) async fn standing(&self) -> Result<Standing, EtcdError> {
        let answer = self
            .link
            .call(self.options.ttl / 2, |mut client| {
                let (candidates, oldest_first) = (self.candidates.clone(), oldest_first());
                async move { client.get(candidates, Some(oldest_first)).await }
            })
            .await?;
        let mine = |pair: &etcd_client::KeyValue| {
            pair.key() == self.key.as_bytes() && pair.create_revision() == self.revision
        };
        Ok(match answer.kvs().iter().position(mine) {
            Some(0) => Standing::First,
            Some(_) => Standing::Waits,
            None => Standing::Gone,
        })
    }

    /// How long to wait before asking again after an error.
    pub(super) fn pause(&self) -> std::time::Duration {
        self.options.patience()
    }

    /// For a write that only the leader may make.
    pub(super) fn still_there(&self) -> Compare {
        Compare::create_revision(self.key.as_str(), CompareOp::Equal, self.revision)
    }
}

/// How candidates are read: the leader first.
pub(super) fn oldest_first() -> GetOptions {
    GetOptions::new().with_prefix().with_sort(SortTarget::Create, SortOrder::Ascend)
}

/// Writes a key that is not there yet, else reads it. May be asked twice.
pub(super) fn put_once(key: &str, value: &str, lease: i64) -> Txn {
    let options = etcd_client::PutOptions::new().with_lease(lease);
    Txn::new()
        .when([Compare::create_revision(key, CompareOp::Equal, 0)])
        .and_then([TxnOp::put(key, value, Some(options))])
        .or_else([TxnOp::get(key, None)])
}

#[cfg(test)]
mod tests {
    use shardlift_harness::servers::shared_etcd;

    use super::*;

    #[tokio::test]
    async fn a_key_of_the_same_name_but_another_age_is_not_its_own() {
        let options = Arc::new(EtcdOptions {
            endpoints: shared_etcd().await.expect("an etcd").endpoints(),
            prefix: format!("/ballot/{}", shardlift_runtime::random::uuid()),
            ttl: std::time::Duration::from_secs(5),
            tls: None,
            login: None,
        });
        let (link, keys) = (Arc::new(Link::new(&options)), Keys::new(&options.prefix));
        let me = Peer { name: "one".into(), address: "one.example:7400".into() };
        let lease = Lease::grant(&link, &options).await.expect("granted");
        let ballot = Ballot::cast(&link, &options, &keys, &lease, &me).await.expect("cast");
        assert_eq!(ballot.standing().await.expect("read"), Standing::First);
        let again = Ballot::cast(&link, &options, &keys, &lease, &me).await.expect("cast twice");
        assert_eq!(again.revision, ballot.revision, "asking twice finds the same key");
        let older = Ballot { revision: ballot.revision - 1, ..ballot };
        assert_eq!(older.standing().await.expect("read"), Standing::Gone);
    }
}
