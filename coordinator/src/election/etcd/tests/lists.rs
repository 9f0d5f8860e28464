//! Who is there: coordinators and workers, as etcd tells it.

use super::*;
use crate::election::Registered;

fn worker(number: usize) -> Registered {
    let name = |text: String| text.parse().expect("a name");
    let shard = format!("s{number}").parse().expect("a name");
    Registered { worker: name(format!("w{number}")), version: "1".into(), shards: vec![shard] }
}

/// Polls until so many keys begin with this, and returns them with their values.
async fn until(server: &Server, prefix: &str, count: usize) -> String {
    let poll = async {
        loop {
            let found = server.ctl(&["get", "--prefix", prefix]).await.expect("read");
            if found.lines().count() == 2 * count {
                return found;
            }
        }
    };
    timeout(DEADLINE, poll).await.unwrap_or_else(|_| panic!("never {count} keys below {prefix}"))
}

#[tokio::test]
async fn coordinators_know_each_other_until_they_leave() {
    let options = options(shared().await);
    let (one, two) = (coordinator(&options, "one").await, coordinator(&options, "two").await);
    for side in [&one, &two] {
        let mut known = side.coordinators();
        let both = |known: &Vec<Peer>| *known == [peer("one"), peer("two")];
        timeout(DEADLINE, known.wait_for(both)).await.expect("in time").expect("it is told");
    }
    two.leave().await;
    let mut known = one.coordinators();
    let alone = |known: &Vec<Peer>| *known == [peer("one")];
    timeout(DEADLINE, known.wait_for(alone)).await.expect("in time").expect("it is told");
}

#[tokio::test]
async fn a_coordinator_whose_key_was_taken_away_is_back() {
    let (server, options) = (shared().await, options(shared().await));
    let _one = coordinator(&options, "one").await;
    let prefix = format!("{}/coordinators/", options.prefix);
    until(server, &prefix, 1).await;
    server.ctl(&["del", "--prefix", &prefix]).await.expect("deleted");
    until(server, &prefix, 1).await;
}

#[tokio::test]
async fn a_coordinator_that_starts_again_takes_its_key_over_and_keeps_it() {
    let (server, options) = (shared().await, options(shared().await));
    let key = format!("{}/coordinators/one", options.prefix);
    // What a former life leaves: the same words on a lease that nobody keeps alive.
    let granted = server.ctl(&["lease", "grant", "60"]).await.expect("granted");
    let lease = granted.split_whitespace().nth(1).expect("the id").to_owned();
    let words = serde_json::to_string(&peer("one")).expect("text");
    server.ctl(&["put", "--lease", &lease, &key, &words]).await.expect("written");
    let _one = coordinator(&options, "one").await;
    let poll = async {
        loop {
            let detail = server.ctl(&["lease", "timetolive", &lease, "--keys"]).await.expect("read");
            if detail.contains("keys([])") {
                return;
            }
        }
    };
    timeout(DEADLINE, poll).await.expect("the key hangs on the new lease");
    server.ctl(&["lease", "revoke", &lease]).await.expect("revoked");
    until(server, &key, 1).await;
}

#[tokio::test]
async fn the_leaders_workers_are_listed_while_it_leads() {
    let (server, options) = (shared().await, options(shared().await));
    let one = coordinator(&options, "one").await;
    let prefix = format!("{}/workers/", options.prefix);
    let leadership = elected(&one).await;
    let registry = leadership.registry().expect("etcd keeps a list");
    registry.send_replace((0..120).map(worker).collect());
    let listed = until(server, &prefix, 120).await;
    assert!(listed.contains(r#"{"version":"1","shards":["s7"]}"#), "{listed}");
    registry.send_replace(vec![worker(3), worker(4)]);
    until(server, &prefix, 2).await;
    leadership.resign().await;
    until(server, &prefix, 0).await;
}

#[tokio::test]
async fn a_leader_that_is_none_any_more_writes_no_list() {
    let (server, options) = (shared().await, options(shared().await));
    let (one, two) = (coordinator(&options, "one").await, coordinator(&options, "two").await);
    let prefix = format!("{}/workers/", options.prefix);
    let first = elected(&one).await;
    let key = leading_key(server, &options).await;
    server.ctl(&["del", &key]).await.expect("deleted");
    first.registry().expect("a list").send_replace(vec![worker(1)]);
    let second = elected(&two).await;
    second.registry().expect("a list").send_replace(vec![worker(2)]);
    let listed = until(server, &prefix, 1).await;
    assert!(listed.contains("/w2\n"), "{listed}");
}
