//! The heart under elections that are lost, repeated, or of no use.

use shardlift_harness::servers::{Etcd as Server, EtcdOptions as Servers, shared_etcd};
use tokio::time::Instant;

use super::*;
use crate::election::{Etcd, EtcdOptions};
use crate::store::{HistoryEvent, Wanted};

fn options(server: &Server) -> EtcdOptions {
    EtcdOptions {
        endpoints: server.endpoints(),
        prefix: format!("/heart/{}", shardlift_runtime::random::uuid()),
        ttl: Duration::from_secs(3),
        tls: None,
        login: None,
    }
}

async fn coordinator(store: &Arc<dyn Store>, options: &EtcdOptions, name: &str) -> Coordinator {
    let me = Peer { name: name.into(), address: format!("{name}.example:7400") };
    let election = Etcd::start(options.clone(), me).await.expect("valid settings");
    Coordinator::elected_by(store, Arc::new(election), topology())
}

/// Polls until one of them leads in an epoch above this one.
async fn leads(coordinators: &[&Coordinator], above: Epoch) -> Epoch {
    let poll = async {
        loop {
            for coordinator in coordinators {
                if let Ok(leader) = coordinator.handle().leader().await
                    && leader.epoch > above
                {
                    return leader.epoch;
                }
            }
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(WITHIN, poll).await.unwrap_or_else(|_| panic!("nobody leads above epoch {above}"))
}

/// Polls until it says that it does not lead.
async fn steps_down(coordinator: &Coordinator) {
    let poll = async {
        while coordinator.handle().leader().await.is_ok() {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(WITHIN, poll).await.expect("it steps down");
}

fn memory() -> Arc<dyn Store> {
    Arc::new(MemoryStore::new())
}

#[tokio::test]
async fn a_coordinator_that_ends_hands_the_lead_over_at_once() {
    // How soon it is, is measured by the bench R2; here nobody may wait for the lease to run out.
    const LONG: Duration = Duration::from_secs(60);
    let options = EtcdOptions { ttl: LONG, ..options(shared_etcd().await.expect("an etcd")) };
    let store = memory();
    let one = coordinator(&store, &options, "one").await;
    let epoch = leads(&[&one], Epoch::NONE).await;
    let two = coordinator(&store, &options, "two").await;
    let server = shared_etcd().await.expect("an etcd");
    let candidates = format!("{}/election/", options.prefix);
    let both = async {
        while server
            .ctl(&["get", "--prefix", "--keys-only", &candidates])
            .await
            .expect("read")
            .matches('/')
            .count()
            < 8
        {}
    };
    timeout(WITHIN, both).await.expect("both stand for election");
    let began = Instant::now();
    one.shutdown.cancel();
    leads(&[&two], epoch).await;
    let took = began.elapsed();
    println!("hand-over to a leader that answers took {took:?}");
    assert!(took < LONG / 6, "hand-over took {took:?}");
}

#[tokio::test]
async fn sessions_end_with_the_lead() {
    let server = Server::start().await.expect("an etcd");
    let (store, options) = (memory(), options(&server));
    let one = coordinator(&store, &options, "one").await;
    leads(&[&one], Epoch::NONE).await;
    let mut player = Player::joined(one.handle(), "w1").await;
    server.pause_all();
    // It is not silent, so only the end of the lead ends its session.
    let mut beats = tokio::time::interval(Duration::from_millis(200));
    let ended = async {
        loop {
            tokio::select! {
                order = player.orders.recv() => if order.is_none() { return },
                _ = beats.tick() => player.beat(),
            }
        }
    };
    timeout(Duration::from_secs(4), ended).await.expect("the session ends");
    assert!(one.handle().leader().await.is_err(), "it leads without an election");
    server.resume_all();
}

#[tokio::test]
async fn an_etcd_that_was_wiped_or_restored_repeats_no_epoch() {
    let server =
        Server::start_with(Servers { members: 3, ..Servers::default() }).await.expect("three members");
    let (store, options) = (memory(), options(&server));
    let (one, two) = (coordinator(&store, &options, "one").await, coordinator(&store, &options, "two").await);
    let all = [&one, &two];
    let mut epoch = leads(&all, Epoch::NONE).await;
    let snapshot = server.save("first").await.expect("saved");
    for _ in 0..2 {
        server.wipe().await.expect("wiped");
        epoch = leads(&all, epoch).await;
        server.restore(&snapshot).await.expect("restored");
        epoch = leads(&all, epoch).await;
    }
    assert!(epoch >= Epoch(5), "{epoch}");
    assert_eq!(store.fence().await.expect("the fence").epoch, epoch);
    let leader = if one.handle().leader().await.is_ok() { &one } else { &two };
    let _worker = Player::joined(leader.handle(), "w1").await;
    // Whoever leads tells of it with the first thing that happens.
    leader.handle().drain(name("w1"), true, "olaf".into()).await.expect("connected");
    let told = take_overs(&store).await;
    assert_eq!(told.last().expect("a leader").1, store.fence().await.expect("the fence").epoch.0, "{told:?}");
    assert!(told.iter().all(|(before, after)| before < after), "{told:?}");
    assert!(told.windows(2).all(|pair| pair[0].1 <= pair[1].0), "in their order: {told:?}");
}

/// What the history tells of take-overs: the epoch before, and the new one.
async fn take_overs(store: &Arc<dyn Store>) -> Vec<(u64, u64)> {
    let all = Wanted { after: Some(0), limit: 1000, ..Wanted::default() };
    let entries =
        store.links(&all).await.expect("a history").into_iter().map(|link| link.entry.expect("readable"));
    let epoch = |value: &serde_json::Value| value.as_u64().expect("a number");
    entries
        .filter(|entry| entry.event == HistoryEvent::TakenOver)
        .map(|entry| (epoch(&entry.detail["before"]["epoch"]), epoch(&entry.detail["epoch"])))
        .collect()
}

#[tokio::test]
async fn nobody_leads_without_etcd_and_somebody_when_it_is_back() {
    let server = Server::start().await.expect("an etcd");
    let (store, options) = (memory(), options(&server));
    let (one, two) = (coordinator(&store, &options, "one").await, coordinator(&store, &options, "two").await);
    let epoch = leads(&[&one, &two], Epoch::NONE).await;
    server.kill_all();
    steps_down(&one).await;
    steps_down(&two).await;
    assert_eq!(store.fence().await.expect("the fence").epoch, epoch, "somebody took over without etcd");
    server.restart().await.expect("etcd is back");
    leads(&[&one, &two], epoch).await;
}

#[tokio::test]
async fn a_coordinator_fenced_by_one_of_another_election_does_not_fight_for_the_store() {
    let store = memory();
    let one = Coordinator::start(&store);
    let mut epoch = leads(&[&one], Epoch::NONE).await;
    let mut waits = Vec::new();
    for round in 0..3 {
        let seen = store.fence().await.expect("the fence");
        let rival =
            store.take_over(&seen, None, Nonce(format!("rival {round}")), "rival").await.expect("taken");
        // It notices when it writes.
        let began = Instant::now();
        let _worker = Player::joined(one.handle(), "w1").await.work();
        let spec = SCHEMA.replace("m1_schema", &format!("m{round}_schema"));
        let submits = tokio::spawn({
            let services = one.services.clone();
            async move { services.submit(vec![file(&spec)], true, None, "person").await.map(drop) }
        });
        steps_down(&one).await;
        submits.abort();
        epoch = leads(&[&one], epoch.max(rival.fence().epoch)).await;
        waits.push(began.elapsed());
    }
    println!("it waited {waits:?}");
    assert!(waits[0] >= Duration::from_millis(900), "{waits:?}");
    assert!(waits[2] > Duration::from_secs(3), "the waits do not grow: {waits:?}");
}
