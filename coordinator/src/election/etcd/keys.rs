//! Which keys there are, and what they hold.
//!
//! | key | value | lives as long as |
//! |---|---|---|
//! | `PREFIX/election/LEASE` | a candidate: name and address; the oldest one leads | its candidacy |
//! | `PREFIX/coordinators/NAME` | a coordinator: name and address | its process |
//! | `PREFIX/workers/WORKER` | a worker with a session: version and shards | the leader's candidacy |
//!
//! Nothing here is authority, and nothing is written per batch.

use etcd_client::KeyValue;
use serde_json::json;

use super::super::{Peer, Registered};

/// The names of all keys of one election.
#[derive(Debug, Clone)]
pub(super) struct Keys {
    prefix: String,
}

impl Keys {
    pub(super) fn new(prefix: &str) -> Self {
        Self { prefix: prefix.trim_end_matches('/').to_owned() }
    }

    /// What the keys of all candidates begin with.
    pub(super) fn candidates(&self) -> String {
        format!("{}/election/", self.prefix)
    }

    /// The key of the candidate with this lease.
    pub(super) fn candidate(&self, lease: i64) -> String {
        format!("{}{lease:x}", self.candidates())
    }

    /// What the keys of all coordinators begin with.
    pub(super) fn coordinators(&self) -> String {
        format!("{}/coordinators/", self.prefix)
    }

    pub(super) fn coordinator(&self, name: &str) -> String {
        format!("{}{name}", self.coordinators())
    }

    pub(super) fn worker(&self, worker: &Registered) -> String {
        format!("{}/workers/{}", self.prefix, worker.worker)
    }
}

/// The value of a candidate or coordinator.
pub(super) fn peer_to_value(peer: &Peer) -> String {
    json!({ "name": peer.name, "address": peer.address }).to_string()
}

/// `None` for what no release of ours wrote.
pub(super) fn peer_from(pair: &KeyValue) -> Option<Peer> {
    serde_json::from_slice(pair.value()).ok()
}

/// The value of a worker.
pub(super) fn worker_to_value(worker: &Registered) -> String {
    json!({ "version": worker.version, "shards": worker.shards }).to_string()
}
