//! Uniqueness over all shards: what the digests that workers tell lead to.

use std::sync::Mutex;

use shardlift_domain::unique::{
    Collected, Counted, Digest, DigestSlice, KeyedDigest, UniqueAnswer, UniqueAsk,
};

use super::*;

/// What a shard tells.
#[derive(Clone)]
struct Played {
    form: &'static str,
    /// So many it says that it has collected.
    collected: u64,
    digests: Vec<Counted>,
    /// Rows that still have a digest of theirs.
    rows: Vec<KeyedDigest>,
}

impl Played {
    /// A row of its own for each digest.
    fn with(digests: &[Digest]) -> Self {
        let counted = digests.iter().map(|digest| Counted { digest: *digest, rows: 1 });
        let row = |digest: &Digest| KeyedDigest { digest: *digest, check: 0, key: format!("k{digest}") };
        Self {
            form: "number",
            collected: digests.len() as u64,
            digests: counted.collect(),
            rows: digests.iter().map(row).collect(),
        }
    }

    fn answer(&self, ask: &UniqueAsk) -> UniqueAnswer {
        match ask {
            UniqueAsk::Summary => {
                UniqueAnswer::Summary(Collected { digests: self.collected, form: self.form.into() })
            }
            UniqueAsk::Slice(DigestSlice { from, below, .. }) => {
                let here = |digest: Digest| digest >= *from && below.is_none_or(|below| digest < below);
                UniqueAnswer::Slice(self.digests.iter().copied().filter(|told| here(told.digest)).collect())
            }
            UniqueAsk::Rows(wanted) => {
                let rows = self.rows.iter().filter(|row| wanted.contains(&row.digest));
                UniqueAnswer::Rows(rows.cloned().collect())
            }
            UniqueAsk::Clear => UniqueAnswer::Cleared(false),
        }
    }
}

/// What both shards tell now.
type Shards = Arc<Mutex<BTreeMap<ShardId, Played>>>;

fn shards(one: Played, two: Played) -> Shards {
    Arc::new(Mutex::new(BTreeMap::from([(name("s1"), one), (name("s2"), two)])))
}

/// Does all tasks well, and tells of digests as it is played.
fn work(mut player: Player, shards: &Shards) -> tokio::task::JoinHandle<Vec<(ShardId, UniqueAsk)>> {
    let shards = Arc::clone(shards);
    tokio::spawn(async move {
        let mut asked = Vec::new();
        loop {
            tokio::select! {
                order = player.orders.recv() => match order {
                    None => return asked,
                    Some(Order::Assign { task, token, .. }) => player.finish(task, token).await,
                    Some(Order::Ask { query, shard, question: Question::Facts(request) }) => {
                        player.say(facts(query, shard, &request.relations)).await;
                    }
                    Some(Order::Ask { query, shard, question: Question::Unique(request) }) => {
                        let answer = shards.lock().expect("nobody panics")[&shard].answer(&request.ask);
                        asked.push((shard, request.ask));
                        player.say(Report::Answered(query, Ok(Answer::Unique(answer)))).await;
                    }
                    Some(_) => {}
                },
                () = sleep(Duration::from_millis(200)) => player.beat(),
            }
        }
    })
}

fn asking() -> String {
    format!("{DATA}verify: [ remaining, {{ unique: {{ fields: [external] }} }} ]\n")
}

/// A coordinator that compares, with one worker for both shards.
async fn comparing(
    store: &Arc<dyn Store>,
    shards: &Shards,
) -> (Coordinator, tokio::task::JoinHandle<Vec<(ShardId, UniqueAsk)>>) {
    let coordinator = Coordinator::start(store);
    tokio::spawn(coordinator.services.clone().compare(coordinator.shutdown.clone()));
    let worker = work(Player::joined(coordinator.handle(), "w1").await, shards);
    (coordinator, worker)
}

/// What a comparison of these shards is halted with.
async fn halted(one: Played, two: Played) -> (ErrorCode, String) {
    let (coordinator, _) = comparing(&memory(), &shards(one, two)).await;
    coordinator.apply(&[&asking()]).await;
    let view = coordinator.until("m2_data", Status::Paused).await;
    let reason = view.migration.reason().expect("a reason").clone();
    coordinator.crash().await;
    (reason.code, reason.message)
}

#[tokio::test]
async fn rows_of_two_shards_that_are_the_same_halt_it_until_they_are_mended() {
    let shards = shards(Played::with(&[3, Digest::MAX]), Played::with(&[4, Digest::MAX]));
    let (coordinator, worker) = comparing(&memory(), &shards).await;
    coordinator.apply(&[&asking()]).await;
    let view = coordinator.until("m2_data", Status::Paused).await;
    let told = &view.migration.reason().expect("a reason").message;
    let (one, two) =
        (format!("row k{} of shard s1", Digest::MAX), format!("row k{} of shard s2", Digest::MAX));
    assert!(told.contains(&format!("{one} and {two} have the same external")), "{told}");
    shards.lock().expect("nobody panics").insert(name("s2"), Played::with(&[4, 5]));
    coordinator.handle().asked(name("m2_data"), Verb::Resume, "person".into()).await.expect("legal");
    coordinator.until("m2_data", Status::Completed).await;
    coordinator.until_view("m2_data", |view| view.migration.unique.is_some_and(|unique| !unique.kept)).await;
    coordinator.crash().await;
    let asked = worker.await.expect("the worker played on");
    let cleared = asked.iter().filter(|(_, ask)| *ask == UniqueAsk::Clear).count();
    assert_eq!(cleared, 2, "each shard once: {asked:?}");
}

#[tokio::test]
async fn what_was_changed_since_it_was_walked_over_is_no_finding() {
    let moved = Played { rows: Vec::new(), ..Played::with(&[7]) };
    let (coordinator, _) = comparing(&memory(), &shards(moved, Played::with(&[7]))).await;
    coordinator.apply(&[&asking()]).await;
    coordinator.until("m2_data", Status::Completed).await;
    coordinator.crash().await;
}

#[tokio::test]
async fn what_cannot_be_compared_is_never_taken_for_unique() {
    let fewer = Played { collected: 2, ..Played::with(&[7]) };
    let (code, told) = halted(Played::with(&[8]), fewer).await;
    assert_eq!(code, ErrorCode::VerifyIncomparable);
    assert!(told.contains("shard s2 has told of fewer digests"), "{told}");
    let other = Played { form: "text", ..Played::with(&[7]) };
    let (code, told) = halted(Played::with(&[8]), other).await;
    assert_eq!(code, ErrorCode::VerifyIncomparable);
    assert!(told.contains("on shard s1 the fields are of the kinds number, on shard s2 of text"), "{told}");
    let mut twice = Played::with(&[7]);
    twice.digests[0].rows = 2;
    twice.collected = 2;
    twice.rows = vec![twice.rows[0].clone(), KeyedDigest { key: "other".into(), ..twice.rows[0].clone() }];
    let (code, told) = halted(Played::with(&[8]), twice).await;
    assert_eq!(code, ErrorCode::VerifyMismatch);
    assert!(told.contains("row k7 of shard s2 and row other of shard s2"), "{told}");
}

#[tokio::test]
async fn a_shard_without_a_worker_keeps_the_comparison_waiting_also_under_the_next_leader() {
    let (store, shards) = (memory(), shards(Played::with(&[1]), Played::with(&[2])));
    let first = Coordinator::start(&store);
    let (one, two) = (
        work(Player::joined_with(first.handle(), "w1", &["s1"]).await, &shards),
        work(Player::joined_with(first.handle(), "w2", &["s2"]).await, &shards),
    );
    first.apply(&[&asking()]).await;
    first.until_view("m2_data", |view| view.migration.compares()).await;
    first.crash().await;
    one.await.expect("the worker played on");
    two.await.expect("the worker played on");

    let second = Coordinator::start(&store);
    tokio::spawn(second.services.clone().compare(second.shutdown.clone()));
    let one = work(Player::joined_with(second.handle(), "w1", &["s1"]).await, &shards);
    let waits = |view: &MigrationView| {
        let trouble = view.shards[&name::<ShardId>("s2")].trouble.as_ref();
        trouble.is_some_and(|trouble| trouble.code == ErrorCode::ShardNoWorker)
    };
    let view = second.until_view("m2_data", waits).await;
    assert_eq!(view.migration.status, Status::Running);
    let two = work(Player::joined_with(second.handle(), "w2", &["s2"]).await, &shards);
    second.until("m2_data", Status::Completed).await;
    second.crash().await;
    for worker in [one, two] {
        worker.await.expect("the worker played on");
    }
}
