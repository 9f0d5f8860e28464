//! A throttle that an operator changes while ranges are walked.

use shardlift_domain::capability::THROTTLE;
use shardlift_domain::migration::{Limit, Pace, ThrottleChange};
use shardlift_domain::spec::Throttle;

use super::*;

fn rate(limit: Limit<u32>) -> Verb {
    Verb::Throttle(ThrottleChange { rows_per_second: Some(limit), window: None })
}

fn slow(rows_per_second: u32) -> Option<Throttle> {
    Some(Throttle { rows_per_second: Some(rows_per_second), window: None })
}

/// Asks for it; whether anything changed.
async fn ask(coordinator: &Coordinator, verb: Verb) -> bool {
    coordinator.handle().asked(name("m2_data"), verb, "olaf".into()).await.expect("legal").1
}

impl Only {
    /// The order to go on otherwise that comes next: for which hand-out, and at which pace.
    async fn told(&mut self) -> (TaskId, Token, Pace) {
        loop {
            match self.next().await {
                Order::Adjust { task, token, pace, share: false } => return (task, token, pace),
                Order::Adjust { share: true, .. } => {}
                other => panic!("{other:?} instead of another pace"),
            }
        }
    }

    /// Finishes what is given until a range is; the pace that it is given with.
    async fn paced(&mut self) -> Pace {
        loop {
            match self.next().await {
                Order::Assign { task, pace, .. } if task.step == Step::Backfill => return pace,
                Order::Assign { task, token, .. } => {
                    let outcome = TaskOutcome::Split(pass(&[false]));
                    self.player.say(Report::Finished(task, token, outcome)).await;
                }
                other => panic!("{other:?} instead of a task"),
            }
        }
    }
}

#[tokio::test]
async fn a_running_range_is_told_once_and_the_next_leader_tells_the_same() {
    let store = memory();
    let (coordinator, mut owner, (task, token)) = walking(&store).await;
    assert!(ask(&coordinator, rate(Limit::Of(7))).await);
    assert_eq!(owner.told().await, (task.clone(), token, Pace { sharers: 1, throttle: slow(7) }));
    assert!(!ask(&coordinator, rate(Limit::Of(7))).await, "twice is once");
    assert!(ask(&coordinator, rate(Limit::Of(9))).await);
    assert_eq!(owner.told().await.2.throttle, slow(9), "nothing was said in between");
    coordinator.crash().await;

    let coordinator = Coordinator::of(&store, one_shard());
    leads(&coordinator).await;
    let mut owner = Only::join(coordinator.handle(), "w1", all()).await;
    assert_eq!(owner.paced().await.throttle, slow(9));
    let shown = coordinator.status("m2_data").await.throttle.expect("it is walked");
    assert_eq!((Some(shown.now), shown.in_spec), (slow(9), Some(Throttle::default())));
    assert!(ask(&coordinator, Verb::Throttle(ThrottleChange::AS_IN_SPEC)).await);
    assert_eq!(owner.told().await.2, Pace::default());
    let entries = coordinator.handle().events(name("m2_data"), Some(0), 1000).await.expect("a history");
    let told: Vec<_> = entries
        .iter()
        .filter(|recorded| recorded.entry.event.as_str() == "throttled")
        .map(|recorded| {
            let detail = &recorded.entry.detail;
            let rate = |value: &serde_json::Value| value["throttle"]["rows_per_second"].as_u64();
            (recorded.entry.actor.as_str(), rate(&detail["before"]), rate(detail))
        })
        .collect();
    assert_eq!(told, [("olaf", None, Some(7)), ("olaf", Some(7), Some(9)), ("olaf", Some(9), None)]);
    coordinator.crash().await;
}

#[tokio::test]
async fn a_worker_that_does_not_know_throttles_gives_its_range_to_one_that_does() {
    let store = memory();
    let coordinator = Coordinator::of(&store, one_shard());
    leads(&coordinator).await;
    let before: Capabilities = all().words().filter(|word| *word != THROTTLE).map(str::to_owned).collect();
    let mut old = Only::join(coordinator.handle(), "old", before).await;
    let services = coordinator.services.clone();
    let submitted =
        tokio::spawn(async move { services.submit(vec![file(DATA)], true, None, "person").await });
    let (task, token) = old.walking().await;
    submitted.await.expect("not cancelled").expect("submitted");
    assert!(ask(&coordinator, rate(Limit::Of(7))).await);
    match old.next().await {
        Order::Withdraw { task: which, token: right } => assert_eq!((&which, right), (&task, token)),
        other => panic!("{other:?} instead of a withdrawal"),
    }
    old.player.say(Report::Released(task.clone(), token)).await;
    let view = coordinator.until_view("m2_data", |view| view.shards[&name("s1")].trouble.is_some()).await;
    let trouble = view.shards[&name("s1")].trouble.clone().expect("told");
    assert!(trouble.code == ErrorCode::WorkerUnfit && trouble.message.contains(THROTTLE), "{trouble:?}");
    let mut new = Only::join(coordinator.handle(), "new", all()).await;
    assert_eq!(new.paced().await.throttle, slow(7));
    coordinator.crash().await;
}
