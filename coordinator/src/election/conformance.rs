//! What every election must do, asked of each backend.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use shardlift_harness::servers::shared_etcd;

use super::{Election, Etcd, EtcdOptions, Leadership, Peer, Standalone};

/// Long enough for any backend to answer.
const DEADLINE: Duration = Duration::from_secs(20);
/// Long enough to notice a second winner.
const A_WHILE: Duration = Duration::from_millis(300);

/// Two coordinators in the same election.
type Rivals = (Arc<dyn Election>, Arc<dyn Election>);

async fn elected(election: &Arc<dyn Election>) -> Leadership {
    timeout(DEADLINE, election.campaign()).await.expect("elected in time").expect("elected")
}

fn peer(name: &str) -> Peer {
    Peer { name: name.to_owned(), address: "127.0.0.1:7400".to_owned() }
}

async fn one_leads_at_a_time((first, second): Rivals) {
    let leader = elected(&first).await;
    leader.confirm().await.expect("it leads");
    assert!(timeout(A_WHILE, second.campaign()).await.is_err(), "two coordinators lead");
    assert!(timeout(A_WHILE, leader.lost()).await.is_err(), "the lead was lost for no reason");
}

async fn the_next_is_elected_when_the_leader_resigns((first, second): Rivals) {
    elected(&first).await.resign().await;
    elected(&second).await.confirm().await.expect("it leads");
}

async fn the_next_is_elected_when_the_leader_is_gone((first, second): Rivals) {
    drop(elected(&first).await);
    elected(&second).await.confirm().await.expect("it leads");
}

async fn everybody_hears_who_leads((first, second): Rivals) {
    let (mut here, mut there) = (first.leader(), second.leader());
    for election in [&first, &second] {
        let leader = elected(election).await;
        for side in [&mut here, &mut there] {
            timeout(DEADLINE, side.wait_for(Option::is_some)).await.expect("in time").expect("it is told");
        }
        assert_eq!(*here.borrow(), *there.borrow());
        leader.resign().await;
        for side in [&mut here, &mut there] {
            timeout(DEADLINE, side.wait_for(Option::is_none)).await.expect("in time").expect("it is told");
        }
    }
}

async fn a_withdrawn_candidate_does_not_win((first, second): Rivals) {
    let leader = elected(&first).await;
    assert!(timeout(A_WHILE, second.campaign()).await.is_err(), "two coordinators lead");
    leader.resign().await;
    elected(&first).await.confirm().await.expect("the seat is free again");
}

macro_rules! suite {
    ($backend:ident, $rivals:expr) => {
        mod $backend {
            use super::*;

            #[tokio::test]
            async fn one_leads_at_a_time() {
                super::one_leads_at_a_time($rivals).await;
            }

            #[tokio::test]
            async fn the_next_is_elected_when_the_leader_resigns() {
                super::the_next_is_elected_when_the_leader_resigns($rivals).await;
            }

            #[tokio::test]
            async fn the_next_is_elected_when_the_leader_is_gone() {
                super::the_next_is_elected_when_the_leader_is_gone($rivals).await;
            }

            #[tokio::test]
            async fn everybody_hears_who_leads() {
                super::everybody_hears_who_leads($rivals).await;
            }

            #[tokio::test]
            async fn a_withdrawn_candidate_does_not_win() {
                super::a_withdrawn_candidate_does_not_win($rivals).await;
            }
        }
    };
}

suite!(standalone, {
    let election = Standalone::new(peer("alone"));
    (Arc::new(election.clone()) as Arc<dyn Election>, Arc::new(election) as Arc<dyn Election>)
});

suite!(etcd, {
    let server = shared_etcd().await.expect("an etcd");
    let options = EtcdOptions {
        endpoints: server.endpoints(),
        prefix: format!("/conformance/{}", shardlift_runtime::random::uuid()),
        // So long that a busy machine costs nobody the lead: nothing here waits for a lease to run out.
        ttl: Duration::from_secs(10),
        tls: None,
        login: None,
    };
    let first = Etcd::start(options.clone(), peer("first")).await.expect("valid settings");
    let second = Etcd::start(options, peer("second")).await.expect("valid settings");
    (Arc::new(first) as Arc<dyn Election>, Arc::new(second) as Arc<dyn Election>)
});
