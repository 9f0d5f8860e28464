//! Atomic changes: nobody commits before everybody has prepared, and a vote that makes no progress ends.

use shardlift_domain::migration::Phase;
use tokio::task::JoinHandle;

use super::*;

const ATOMIC: &str = "id: m1_atomic\nkind: schema\nengine: postgres\ncluster: chat\natomic: true\nup: [\"ALTER TABLE items ADD COLUMN migrated boolean\"]\n";

fn steps(done: Vec<TaskId>) -> Vec<Step> {
    done.into_iter().map(|task| task.step).collect()
}

/// Does what it is given, but never ends these tasks.
fn never_ends(mut player: Player, which: fn(&TaskId) -> bool) -> JoinHandle<()> {
    tokio::spawn(async move {
        loop {
            tokio::select! {
                order = player.orders.recv() => match order {
                    None => return,
                    Some(Order::Assign { task, .. }) if which(&task) => {}
                    Some(Order::Assign { task, token, .. }) => player.finish(task, token).await,
                    Some(Order::Withdraw { task, token }) => player.say(Report::Released(task, token)).await,
                    Some(Order::Ask { query, shard, question: Question::Facts(request) }) => {
                        player.say(facts(query, shard, &request.relations)).await;
                    }
                    Some(_) => {}
                },
                () = sleep(Duration::from_millis(200)) => player.beat(),
            }
        }
    })
}

#[tokio::test]
async fn every_shard_prepares_before_any_commits() {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let coordinator = Coordinator::start(&store);
    let worker = Player::joined(coordinator.handle(), "w").await.work();
    coordinator.apply(&[ATOMIC]).await;
    coordinator.until("m1_atomic", Status::Completed).await;
    coordinator.crash().await;
    let expected = [Step::Precheck, Step::Prepare, Step::Commit, Step::Verify].map(|step| [step, step]);
    assert_eq!(steps(worker.await.expect("it worked")), expected.concat());
}

#[tokio::test(start_paused = true)]
async fn a_shard_that_does_not_prepare_in_time_lets_all_roll_back() {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let coordinator = Coordinator::start(&store);
    let one = Player::joined_with(coordinator.handle(), "w1", &["s1"]).await.work();
    let other = Player::joined_with(coordinator.handle(), "w2", &["s2"]).await;
    let other = never_ends(other, |task| task.step == Step::Prepare);
    coordinator.apply(&[ATOMIC]).await;
    coordinator
        .until_view("m1_atomic", |view| {
            view.migration.shards[&name::<ShardId>("s1")].todo == Some(Step::Commit)
        })
        .await;
    // lock_timeout, hold_timeout, and 20 s more.
    sleep(Duration::from_secs(26)).await;
    assert!(coordinator.status("m1_atomic").await.migration.votes(), "it has time until then");
    let failed = coordinator.until("m1_atomic", Status::Failed).await.migration;
    let failure = failed.failure().expect("told");
    assert_eq!(failure.code, ErrorCode::SchemaNotPrepared, "{failure:?}");
    assert!(failure.message.starts_with("s2 did not prepare"), "{failure:?}");
    coordinator.crash().await;
    assert_eq!(steps(one.await.expect("it worked")), [Step::Precheck, Step::Prepare, Step::Abort]);
    other.await.expect("it worked");
}

#[tokio::test]
async fn what_others_hold_locks_for_does_not_wait_for_a_slot_that_other_work_has() {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let mut declared = topology();
    let chat = declared.clusters[&name::<ClusterName>("chat")].clone();
    let billing = Cluster { name: name("billing"), shards: vec![name("s3")], ..chat };
    declared.clusters.insert(billing.name.clone(), billing);
    let coordinator = Coordinator::of(&store, declared);
    Player::joined(coordinator.handle(), "first").await;
    let knows = Capabilities::of_this_release([]);
    let player = Player::joining_with(coordinator.handle(), "w", 1, &["s1", "s2", "s3"], None, knows).await;
    // Its only slot is taken for good by the other cluster, once the prechecks are through.
    let worker = never_ends(player.expect("welcome"), |task| task.shard.as_str() == "s3");
    let other = DATA.replace("m2_data", "m2_other").replace("cluster: chat", "cluster: billing");
    coordinator.apply(&[ATOMIC, &other]).await;
    let committed = |view: &MigrationView| view.migration.phase == Phase::Verify;
    coordinator.until_view("m1_atomic", committed).await;
    coordinator.crash().await;
    worker.await.expect("it worked");
}
