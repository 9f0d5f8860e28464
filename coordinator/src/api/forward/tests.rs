//! Coordinators that serve in this process, over real connections; the test decides who leads, and whom it is said to be.

mod cast;

use std::time::Duration;

use shardlift_domain::failure::ErrorCode;
use shardlift_proto::status::{failures_of, leader_of};
use shardlift_proto::v1::{self, to_worker};
use tokio::time::{Instant, timeout};
use tonic::metadata::AsciiMetadataKey;
use tonic::{Code, Request, Status};

use super::FORWARDED;
use cast::{Ballot, Echo, Player, get, watch};

/// Everything that is waited for comes within this time.
const WITHIN: Duration = Duration::from_secs(20);
/// A deadline of callers that is to run out. A tenth of it is left for the refusal, which must be heard on a busy machine as well.
const SHORT: Duration = Duration::from_secs(3);

fn code(status: &Status) -> ErrorCode {
    failures_of(status)[0].code
}

fn within<T>(limit: Duration, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(limit);
    request
}

#[tokio::test]
async fn a_follower_answers_as_the_leader_does() {
    let ballot = Ballot::new();
    let (leader, follower) = (ballot.coordinator("c1").await, ballot.coordinator("c2").await);
    ballot.elect(&leader).await;
    let player = Player::join(&leader).await;
    leader.submit("m1").await;
    let mut door = follower.migrations().await;
    assert_eq!(door.list(v1::ListRequest::default()).await.expect("a list").into_inner().migrations.len(), 1);
    let view = door.get(get("m1")).await.expect("a view").into_inner().migration.expect("told");
    assert_eq!(view.id, "m1");
    let paused = door.start(v1::VerbRequest { id: "m1".into() }).await.expect("an answer").into_inner();
    assert!(paused.changed);
    let named = follower.cluster().await.leader(v1::LeaderRequest {}).await.expect("a leader").into_inner();
    assert_eq!(named.name, "c1");
    // The refusals are the same, with all their details.
    let here = leader.migrations().await.get(get("absent")).await.expect_err("not there");
    let there = door.get(get("absent")).await.expect_err("not there");
    assert_eq!(
        (there.code(), there.message(), there.details()),
        (here.code(), here.message(), here.details())
    );
    assert_eq!((there.code(), code(&there)), (Code::NotFound, ErrorCode::RequestNotFound));
    drop(player);
}

#[tokio::test]
async fn a_request_that_reaches_a_coordinator_without_any_leader_waits_and_then_says_so() {
    let ballot = Ballot::new();
    let follower = ballot.coordinator("c1").await;
    let began = Instant::now();
    let limit = SHORT;
    let refused = follower.migrations().await.list(within(limit, v1::ListRequest::default())).await;
    let refused = refused.expect_err("nobody leads");
    assert_eq!((refused.code(), code(&refused)), (Code::Unavailable, ErrorCode::CoordinatorNotReady));
    assert!(failures_of(&refused)[0].retryable() && !failures_of(&refused)[0].next.is_empty());
    assert!(began.elapsed() >= limit / 2, "it did not wait: {:?}", began.elapsed());
}

#[tokio::test]
async fn a_request_that_waits_is_answered_as_soon_as_somebody_leads() {
    let ballot = Ballot::new();
    let (first, second) = (ballot.coordinator("c1").await, ballot.coordinator("c2").await);
    let (mut here, mut there) = (first.migrations().await, second.migrations().await);
    let (one, other, ()) = tokio::join!(
        here.list(v1::ListRequest::default()),
        there.list(v1::ListRequest::default()),
        ballot.elect(&first),
    );
    one.expect("by itself, once it leads");
    other.expect("through the new leader");
}

#[tokio::test]
async fn a_request_is_passed_on_once() {
    let ballot = Ballot::new();
    let follower = ballot.coordinator("c1").await;
    ballot.say("c9", "127.0.0.1:9");
    let mut request = Request::new(v1::ListRequest::default());
    let forwarded = AsciiMetadataKey::from_bytes(FORWARDED.as_str().as_bytes()).expect("a name");
    request.metadata_mut().insert(forwarded, "1".parse().expect("a value"));
    let refused = follower.migrations().await.list(request).await.expect_err("refused");
    assert_eq!(code(&refused), ErrorCode::CoordinatorNotLeader);
    assert_eq!(leader_of(&refused), Some(v1::Peer { name: "c9".into(), address: "127.0.0.1:9".into() }));
}

#[tokio::test]
async fn a_hint_that_is_wrong_makes_no_circle_and_is_tried_again_until_it_is_right() {
    let ballot = Ballot::new();
    let (first, second) = (ballot.coordinator("c1").await, ballot.coordinator("c2").await);
    ballot.say("c2", &second.address);
    let refused = first.migrations().await.list(within(SHORT, v1::ListRequest::default())).await;
    assert_eq!(code(&refused.expect_err("c2 does not lead")), ErrorCode::CoordinatorNotReady);
    // Nobody listens there; then the right one is named.
    ballot.say("c9", "127.0.0.1:9");
    let mut door = first.migrations().await;
    let (answer, ()) = tokio::join!(door.list(v1::ListRequest::default()), ballot.elect(&second));
    answer.expect("answered by who leads");
}

#[tokio::test]
async fn the_callers_deadline_goes_with_the_request() {
    let ballot = Ballot::new();
    let follower = ballot.coordinator("c1").await;
    let echo = Echo::start().await;
    ballot.say("echo", &echo.address);
    let limit = Duration::from_secs(30);
    follower.cluster().await.leader(within(limit, v1::LeaderRequest {})).await.expect("an answer");
    let (left, forwarded) = echo.heard();
    let left: u64 =
        left.expect("a deadline").strip_suffix('u').expect("microseconds").parse().expect("a number");
    assert!((20_000_000..30_000_000).contains(&left), "{left}");
    assert!(forwarded, "it does not say that it was passed on");
}

#[tokio::test]
async fn a_watch_through_a_follower_ends_with_who_leads_now() {
    let ballot = Ballot::new();
    let (old, follower, new) =
        (ballot.coordinator("c1").await, ballot.coordinator("c2").await, ballot.coordinator("c3").await);
    ballot.elect(&old).await;
    let player = Player::join(&old).await;
    old.submit("m1").await;
    let mut far = follower.migrations().await.watch(watch("m1")).await.expect("a watch").into_inner();
    let mut near = old.migrations().await.watch(watch("m1")).await.expect("a watch").into_inner();
    for stream in [&mut far, &mut near] {
        assert!(stream.message().await.expect("a view").is_some());
    }
    ballot.elect(&new).await;
    for stream in [&mut far, &mut near] {
        let last = timeout(WITHIN, async {
            while stream.message().await?.is_some() {}
            Ok::<_, Status>(())
        });
        let last = last.await.expect("ended in time").expect_err("with the reason");
        assert_eq!(code(&last), ErrorCode::CoordinatorNotLeader);
        assert_eq!(leader_of(&last).map(|leader| leader.name), Some("c3".to_owned()));
    }
    let mut again = follower.migrations().await.watch(watch("m1")).await.expect("a watch").into_inner();
    assert!(again.message().await.expect("a view").is_some());
    drop(player);
}

#[tokio::test]
async fn a_watch_does_not_stay_with_a_leader_that_has_fallen_silent() {
    let ballot = Ballot::new();
    let (old, follower) = (ballot.coordinator("c1").await, ballot.coordinator("c2").await);
    ballot.elect(&old).await;
    let player = Player::join(&old).await;
    old.submit("m1").await;
    let mut far = follower.migrations().await.watch(watch("m1")).await.expect("a watch").into_inner();
    assert!(far.message().await.expect("a view").is_some());
    // The old one has not heard of it, as if it were paused: it ends nothing by itself.
    ballot.say("c9", "127.0.0.1:9");
    let last = timeout(WITHIN, async {
        while far.message().await?.is_some() {}
        Ok::<_, Status>(())
    });
    let last = last.await.expect("ended in time").expect_err("with the reason");
    assert_eq!(leader_of(&last).map(|leader| leader.name), Some("c9".to_owned()));
    drop(player);
}

#[tokio::test]
async fn a_worker_that_comes_to_a_follower_is_told_where_to_go() {
    let ballot = Ballot::new();
    let (leader, follower) = (ballot.coordinator("c1").await, ballot.coordinator("c2").await);
    ballot.elect(&leader).await;
    let refused = follower.session().await.expect_err("it does not lead");
    assert_eq!(code(&refused), ErrorCode::CoordinatorNotLeader);
    assert_eq!(leader_of(&refused).map(|leader| leader.address), Some(leader.address.clone()));
    let mut orders = leader.session().await.expect("a session").1;
    let welcome = orders.message().await.expect("a word").expect("open").message;
    assert!(matches!(welcome, Some(to_worker::Message::Welcome(_))), "{welcome:?}");
}

#[tokio::test]
async fn a_leader_that_is_told_to_stop_hands_over_and_sends_everybody_on() {
    let ballot = Ballot::new();
    let (old, new) = (ballot.coordinator("c1").await, ballot.coordinator("c2").await);
    ballot.elect(&old).await;
    ballot.succeed(&new);
    let (_reports, mut orders) = old.session().await.expect("a session");
    let mut watched = {
        let player = Player::join(&old).await;
        old.submit("m1").await;
        drop(player);
        old.migrations().await.watch(watch("m1")).await.expect("a watch").into_inner()
    };
    let began = Instant::now();
    let address = new.address.clone();
    let (ended, ()) = tokio::join!(old.stop(), new.led());
    let took = began.elapsed();
    ended.expect("it ended well");
    assert!(took < Duration::from_millis(2_500), "the hand-over took {took:?}");
    let last = async {
        while orders.message().await?.is_some() {}
        Ok::<_, Status>(())
    };
    let last = timeout(WITHIN, last).await.expect("ended in time").expect_err("with the reason");
    assert_eq!(leader_of(&last).map(|leader| leader.address), Some(address.clone()));
    let last = async {
        while watched.message().await?.is_some() {}
        Ok::<_, Status>(())
    };
    let last = timeout(WITHIN, last).await.expect("ended in time").expect_err("with the reason");
    assert_eq!(leader_of(&last).map(|leader| leader.address), Some(address));
}

#[tokio::test]
async fn readiness_tells_whether_a_request_would_be_answered() {
    let ballot = Ballot::new();
    let (first, second) = (ballot.coordinator("c1").await, ballot.coordinator("c2").await);
    assert!(first.standing().ready().is_err() && second.standing().ready().is_err());
    ballot.elect(&first).await;
    assert_eq!((first.standing().ready(), second.standing().ready()), (Ok(()), Ok(())));
}
