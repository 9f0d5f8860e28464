//! Several coordinators, one of which leads; and the lead passes on.

use super::*;

/// An address where nobody listens.
const NOBODY: &str = "http://127.0.0.1:1";

#[tokio::test]
async fn a_worker_that_is_given_only_a_followers_address_finds_the_leader() {
    let (follower, mut leader) = (Coordinator::start().await, Coordinator::start().await);
    follower.points_to(Some(&leader.address));
    let memory = Memory::new(0, ROW);
    let worker = Worker::start(&follower, &memory);
    let mut session = leader.welcome(LONG).await;
    session.assign(Step::Precheck, 1).await;
    assert_eq!(session.finished().await, 1);
    worker.stop().await;
}

#[tokio::test]
async fn a_worker_goes_through_its_list_until_one_answers() {
    let (follower, mut leader) = (Coordinator::start().await, Coordinator::start().await);
    follower.points_to(None);
    let memory = Memory::new(0, ROW);
    let list = vec![NOBODY.to_owned(), follower.address.clone(), leader.address.clone()];
    let worker = Worker::of(list, &memory);
    leader.welcome(LONG).await.answered().await;
    worker.stop().await;
}

#[tokio::test]
async fn a_leader_that_is_named_but_gone_is_left_for_the_list() {
    let (stale, mut leader) = (Coordinator::start().await, Coordinator::start().await);
    stale.points_to(Some(NOBODY));
    let memory = Memory::new(0, ROW);
    let worker = Worker::of(vec![stale.address.clone(), leader.address.clone()], &memory);
    leader.welcome(LONG).await.answered().await;
    worker.stop().await;
}

#[tokio::test]
async fn a_worker_follows_the_lead_finishes_its_open_batch_and_keeps_its_range() {
    let memory = Memory::new(20_000, ROW).closed();
    let (mut old, mut new) = (Coordinator::start().await, Coordinator::start().await);
    let worker = Worker::of(vec![old.address.clone()], &memory);
    let session = old.welcome(LONG).await;
    session.assign(Step::Backfill, 1).await;
    until("a batch is open", || begun(&memory, "batch") == 1).await;
    session.hand_over(&new).await;
    // The list names the old one only: the worker has understood where to go.
    let mut session = new.welcome_in(2, LONG).await;
    session.assign(Step::Backfill, 2).await;
    session.answered().await;
    assert_eq!(memory.table().claims, 1, "the range was claimed anew under its own open batch");
    memory.gate.add_permits(1_000);
    assert_eq!(session.finished().await, 2);
    assert!(memory.table().asked.iter().all(|batch| batch.done), "an open batch was lost");
    memory.assert_exactly_once();
    worker.stop().await;
}

#[tokio::test]
async fn what_finishes_while_nobody_leads_is_done_again_for_the_next_leader() {
    let memory = Memory::new(0, ROW).closed();
    let (mut old, mut new) = (Coordinator::start().await, Coordinator::start().await);
    let worker = Worker::of(vec![old.address.clone(), new.address.clone()], &memory);
    let session = old.welcome(LONG).await;
    session.assign(Step::Split, 1).await;
    until("it runs", || begun(&memory, "split") == 1).await;
    drop(session);
    drop(old);
    memory.gate.add_permits(1);
    let mut session = new.welcome_in(2, LONG).await;
    session.answered().await;
    memory.gate.add_permits(1);
    session.assign(Step::Split, 2).await;
    assert_eq!(session.finished().await, 2);
    assert_eq!(begun(&memory, "split"), 2);
    worker.stop().await;
}
