//! Leases revoked, keys taken away, members killed and paused, everything lost.

use shardlift_harness::proxy::Proxy;

use super::*;
use crate::election::ElectionError;

/// What etcd needs to notice that a majority is gone, with some room for a busy machine.
const MEMBERS_NOTICE: Duration = Duration::from_secs(2);

/// Whether it is elected within the time of a lease.
async fn wins(election: &Etcd) -> bool {
    matches!(timeout(TTL, election.campaign()).await, Ok(Ok(_)))
}

#[tokio::test]
async fn a_lease_revoked_behind_its_back_is_a_lead_lost() {
    let (server, options) = (shared().await, options(shared().await));
    let (one, two) = (coordinator(&options, "one").await, coordinator(&options, "two").await);
    let leadership = elected(&one).await;
    let key = leading_key(server, &options).await;
    let lease = key.rsplit('/').next().expect("the last part").to_owned();
    let command = ["lease", "revoke", &lease];
    let (revoked, noticed) = tokio::join!(server.ctl(&command), lost(&leadership));
    revoked.expect("revoked");
    assert_eq!(leadership.confirm().await, Err(ElectionError::Lost));
    println!("a revoked lease was noticed after {noticed:?}");
    elected(&two).await.confirm().await.expect("the other leads");
}

#[tokio::test]
async fn a_key_taken_away_is_a_lead_lost_although_the_lease_lives() {
    let (server, options) = (shared().await, options(shared().await));
    let (one, two) = (coordinator(&options, "one").await, coordinator(&options, "two").await);
    let leadership = elected(&one).await;
    let key = leading_key(server, &options).await;
    server.ctl(&["del", &key]).await.expect("deleted");
    lost(&leadership).await;
    elected(&two).await.confirm().await.expect("the other leads");
}

#[tokio::test]
async fn a_key_of_the_same_name_made_anew_is_not_the_leaders() {
    let (server, options) = (shared().await, options(shared().await));
    let one = coordinator(&options, "one").await;
    let leadership = elected(&one).await;
    let key = leading_key(server, &options).await;
    server.ctl(&["del", &key]).await.expect("deleted");
    server.ctl(&["put", &key, "{}"]).await.expect("written");
    assert_eq!(leadership.confirm().await, Err(ElectionError::Lost));
    assert!(leadership.is_lost());
}

#[tokio::test]
async fn a_silent_etcd_is_a_lead_lost_within_its_time_and_heals() {
    let server = three().await;
    let options = options(&server);
    let (one, two) = (coordinator(&options, "one").await, coordinator(&options, "two").await);
    let leadership = elected(&one).await;
    server.pause_all();
    let after = lost(&leadership).await;
    println!("a silent etcd was noticed after {after:?} of {TTL:?}");
    assert!(after <= TTL, "the lead counted for {after:?}");
    assert!(!wins(&two).await, "elected without etcd");
    server.resume_all();
    drop(leadership);
    elected(&two).await.confirm().await.expect("it leads");
}

#[tokio::test]
async fn members_killed_one_after_another_cost_nobody_the_lead() {
    let server = three().await;
    // The members need about 2 s to agree on a leader of their own: a lease must be longer than that.
    let options = EtcdOptions { ttl: Duration::from_secs(8), ..options(&server) };
    let (one, two) = (coordinator(&options, "one").await, coordinator(&options, "two").await);
    let leadership = elected(&one).await;
    let waits = tokio::spawn(async move { elected(&two).await.confirm().await });
    // First the member that leads the others, which costs them most; then the rest.
    let first = server.leader().await.expect("a member leads");
    for member in [first, (first + 1) % 3, (first + 2) % 3] {
        server.member(member).kill9();
        assert!(timeout(options.ttl, leadership.lost()).await.is_err(), "lost with two of three members");
        leadership.confirm().await.expect("it leads");
        server.restart_member(member).await.expect("the member is back");
    }
    leadership.resign().await;
    timeout(DEADLINE, waits).await.expect("in time").expect("no panic").expect("the other leads");
}

#[tokio::test]
async fn a_leader_without_a_majority_steps_down_and_nobody_follows_until_it_is_back() {
    let server = three().await;
    let options = options(&server);
    let (one, two) = (coordinator(&options, "one").await, coordinator(&options, "two").await);
    let leadership = elected(&one).await;
    server.member(0).kill9();
    server.member(1).kill9();
    // The member that led them renews leases until it notices that it leads no more, which takes its election timeout.
    let after = lost(&leadership).await;
    assert!(after <= TTL + MEMBERS_NOTICE, "the lead counted for {after:?}");
    drop(leadership);
    assert!(!wins(&two).await, "elected by a minority");
    server.restart_member(0).await.expect("the member is back");
    elected(&two).await.confirm().await.expect("it leads");
}

#[tokio::test]
async fn a_wiped_etcd_elects_again() {
    let server = Server::start().await.expect("an etcd");
    let options = options(&server);
    let one = coordinator(&options, "one").await;
    let leadership = elected(&one).await;
    let (wiped, _) = tokio::join!(server.wipe(), lost(&leadership));
    wiped.expect("wiped");
    drop(leadership);
    elected(&one).await.confirm().await.expect("it leads again");
}

#[tokio::test]
async fn a_restored_etcd_elects_again_whatever_the_snapshot_says() {
    let server = Server::start().await.expect("an etcd");
    let options = options(&server);
    let (one, two) = (coordinator(&options, "one").await, coordinator(&options, "two").await);
    let first = elected(&one).await;
    let snapshot = server.save("leader-one").await.expect("saved");
    first.resign().await;
    let second = elected(&two).await;
    server.restore(&snapshot).await.expect("restored");
    // The old leader's key is back, on a lease that nobody keeps alive; the present leader's is gone.
    lost(&second).await;
    drop(second);
    let third = elected(&one).await;
    third.confirm().await.expect("it leads");
}

#[tokio::test]
async fn an_etcd_without_room_keeps_its_leader_elects_nobody_and_heals() {
    let server = Server::start_with(Servers { quota: Some(1 << 20), ..Servers::default() });
    let server = server.await.expect("an etcd");
    let options = options(&server);
    let (one, two) = (coordinator(&options, "one").await, coordinator(&options, "two").await);
    let leadership = elected(&one).await;
    server.fill().await.expect("no room is left");
    assert!(timeout(TTL, leadership.lost()).await.is_err(), "a lease is renewed without room");
    leadership.confirm().await.expect("it leads");
    leadership.resign().await;
    assert!(!wins(&two).await, "elected with a key that there is no room for");
    server.make_room().await.expect("there is room again");
    elected(&two).await.confirm().await.expect("it leads");
}

#[tokio::test]
async fn revisions_that_are_forgotten_cost_nobody_the_lead_and_hide_no_change_of_it() {
    let server = Server::start().await.expect("an etcd");
    // Longer than it takes to start it again.
    let options = EtcdOptions { ttl: Duration::from_secs(15), ..options(&server) };
    let (one, two) = (coordinator(&options, "one").await, coordinator(&options, "two").await);
    let leadership = elected(&one).await;
    let mut told = two.leader();
    server.compact().await.expect("compacted");
    // Whoever watches connects anew, to an etcd that remembers nothing of the past.
    server.restart().await.expect("it is back");
    server.ctl(&["put", "/something", "new"]).await.expect("written");
    server.compact().await.expect("compacted");
    leadership.confirm().await.expect("it leads");
    assert!(!leadership.is_lost());
    let (next, ()) = tokio::join!(elected(&two), leadership.resign());
    next.confirm().await.expect("the other leads");
    let named = told.wait_for(|leader| leader.as_ref().is_some_and(|leader| leader.name == "two"));
    timeout(DEADLINE, named).await.expect("told in time").expect("it looks out");
}

#[tokio::test]
async fn a_leader_whose_renewals_come_late_has_lost_the_lead_before_anybody_else_has_it() {
    let server = Server::start().await.expect("an etcd");
    let direct = options(&server);
    let proxy = Proxy::start(server.endpoint().trim_start_matches("http://")).await.expect("a proxy");
    let behind = EtcdOptions { endpoints: vec![format!("http://{}", proxy.address())], ..direct.clone() };
    let (one, two) = (coordinator(&behind, "one").await, coordinator(&direct, "two").await);
    let leadership = elected(&one).await;
    // Late, but in time: round trips of a tenth of a second.
    proxy.latency(Duration::from_millis(50));
    assert!(timeout(TTL, leadership.lost()).await.is_err(), "lost by renewals that were answered in time");
    leadership.confirm().await.expect("it leads");
    // Too late: each arrives, and prolongs the lease in etcd, but no answer comes in the time that counts here.
    proxy.latency(TTL);
    let next = async {
        let next = elected(&two).await;
        assert!(leadership.is_lost(), "two lead at the same time");
        next
    };
    let (next, after) = tokio::join!(next, lost(&leadership));
    println!("a leader whose renewals came late has stepped down after {after:?} of {TTL:?}");
    assert!(after <= TTL, "the lead counted for {after:?}");
    next.confirm().await.expect("the other leads");
}
