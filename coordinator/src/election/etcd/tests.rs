//! What befalls an etcd and those who rely on it, on real servers.

mod faults;
mod lists;
mod ways;

use std::time::Duration;

use shardlift_harness::servers::{Etcd as Server, EtcdOptions as Servers, shared_etcd};
use shardlift_runtime::random;
use tokio::time::{Instant, timeout};

use super::{Etcd, EtcdOptions};
use crate::election::{Election, Leadership, Peer};

/// Short, so that tests are, but not so short that a busy machine costs the lead.
const TTL: Duration = Duration::from_secs(3);
/// Long enough for everything, also on a busy machine.
const DEADLINE: Duration = Duration::from_secs(30);

fn peer(name: &str) -> Peer {
    Peer { name: name.into(), address: format!("{name}.example:7400") }
}

fn options(server: &Server) -> EtcdOptions {
    EtcdOptions {
        endpoints: server.endpoints(),
        prefix: format!("/test/{}", random::uuid()),
        ttl: TTL,
        tls: None,
        login: None,
    }
}

async fn coordinator(options: &EtcdOptions, name: &str) -> Etcd {
    Etcd::start(options.clone(), peer(name)).await.expect("valid settings")
}

/// Campaigns until it is elected: while etcd is down a campaign ends with an error.
async fn elected(election: &Etcd) -> Leadership {
    let campaigns = async {
        loop {
            if let Ok(leadership) = election.campaign().await {
                return leadership;
            }
            tokio::task::yield_now().await;
        }
    };
    timeout(DEADLINE, campaigns).await.expect("elected in time")
}

/// How long it took.
async fn lost(leadership: &Leadership) -> Duration {
    let began = Instant::now();
    timeout(DEADLINE, leadership.lost()).await.expect("the lead is lost in time");
    assert!(leadership.is_lost());
    began.elapsed()
}

/// The key of the candidate that leads.
async fn leading_key(server: &Server, options: &EtcdOptions) -> String {
    let prefix = format!("{}/election/", options.prefix);
    let keys =
        server.ctl(&["get", "--prefix", "--keys-only", "--sort-by=CREATE", &prefix]).await.expect("the keys");
    keys.lines().next().expect("a candidate").to_owned()
}

async fn three() -> Server {
    Server::start_with(Servers { members: 3, ..Servers::default() }).await.expect("three members")
}

async fn shared() -> &'static Server {
    shared_etcd().await.expect("an etcd")
}
