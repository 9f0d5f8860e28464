//! What every store must do, asked of each backend.

mod chain;
mod outbox;
mod random;
pub(in crate::store) mod samples;

use std::collections::{BTreeMap, BTreeSet};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use async_trait::async_trait;
use shardlift_domain::migration::{Decision, Event, Migration, Outcome, Resource, Step, Verb};
use shardlift_domain::routing::{Directory, DirectoryEntry};
use shardlift_domain::spec::Kind;
use shardlift_domain::{Epoch, ErrorCode, Failure, Fence, MigrationKey, Nonce, Version};

use shardlift_harness::servers::{shared_mongod, shared_postgres};
use shardlift_runtime::config::Secret;

use super::{
    Change, HistoryEvent, LeaderPermit, MemoryStore, MongodbStore, Moved, PostgresStore, Snapshot,
    SqliteStore, Store, StoreError,
};
use chain::{
    entries_of_the_chain_are_found_by_what_they_say, the_history_is_a_chain_from_the_first_entry_to_the_head,
};
use outbox::{
    a_request_is_carried_out_once_with_its_commit, a_sink_keeps_its_place_and_never_goes_back,
    no_entry_appears_behind_one_that_was_read, what_is_to_be_told_is_read_on_over_all_migrations,
};
use samples::{entry, id, stored, topology};

/// One metadata database, empty at first.
#[async_trait]
trait Place: Send + Sync {
    /// Another handle to it, as another coordinator would have.
    async fn open(&self) -> Arc<dyn Store>;
}

#[async_trait]
impl Place for MemoryStore {
    async fn open(&self) -> Arc<dyn Store> {
        Arc::new(self.clone())
    }
}

struct SqliteFile(tempfile::TempDir);

#[async_trait]
impl Place for SqliteFile {
    async fn open(&self) -> Arc<dyn Store> {
        Arc::new(SqliteStore::open(&self.0.path().join("coordinator.db")).await.expect("opens"))
    }
}

/// A database of its own on the server of this test process.
struct PostgresDatabase(Secret);

impl PostgresDatabase {
    async fn new() -> Self {
        Self(Secret::new(shared_postgres().await.expect("a database")))
    }
}

#[async_trait]
impl Place for PostgresDatabase {
    async fn open(&self) -> Arc<dyn Store> {
        Arc::new(PostgresStore::open(&self.0).await.expect("opens"))
    }
}

/// A database of its own on the replica set of this test process.
struct MongodbDatabase(Secret, String);

impl MongodbDatabase {
    async fn new() -> Self {
        let url = shared_mongod().await.expect("a database");
        let path = url.rsplit('/').next().unwrap_or_default();
        let name = path.split('?').next().unwrap_or_default().to_owned();
        Self(Secret::new(url), name)
    }
}

#[async_trait]
impl Place for MongodbDatabase {
    async fn open(&self) -> Arc<dyn Store> {
        Arc::new(MongodbStore::open(&self.0, &self.1).await.expect("opens"))
    }
}

fn nonce(text: &str) -> Nonce {
    Nonce(text.to_owned())
}

async fn lead(store: &Arc<dyn Store>, who: &str) -> LeaderPermit {
    loop {
        let seen = store.fence().await.expect("reads the fence");
        match store.take_over(&seen, None, nonce(who), who).await {
            Ok(permit) => return permit,
            // Another one was faster: look again, as an elected coordinator does.
            Err(StoreError::Fenced { .. }) => {}
            Err(error) => panic!("cannot take over: {error}"),
        }
    }
}

async fn submit(store: &Arc<dyn Store>, permit: &LeaderPermit, name: &str) {
    let new = stored(name, Version::FIRST);
    let history = vec![entry(&new.migration.key, HistoryEvent::Submitted)];
    let change = Change { new: vec![new], history, ..Change::default() };
    store.commit(permit, change).await.expect("stores a new migration");
}

async fn names(store: &Arc<dyn Store>) -> Vec<String> {
    let snapshot = store.load().await.expect("loads");
    snapshot.migrations.iter().map(|stored| stored.migration.key.to_string()).collect()
}

async fn a_new_store_is_empty(place: impl Place) {
    let store = place.open().await;
    assert_eq!(store.load().await.expect("loads"), Snapshot::default());
    assert_eq!(store.history(&id("nothing"), 10).await.expect("reads"), []);
}

async fn every_take_over_raises_the_epoch(place: impl Place) {
    let (one, other) = (place.open().await, place.open().await);
    let mut last = Epoch::NONE;
    for (store, who) in [(&one, "a"), (&other, "b"), (&one, "c")] {
        let permit = lead(store, who).await;
        assert!(permit.fence().epoch > last, "{:?} after {last}", permit.fence());
        assert_eq!(permit.fence().nonce, nonce(who));
        last = permit.fence().epoch;
    }
}

async fn take_overs_at_the_same_time_get_different_epochs(place: impl Place) {
    let mut racing = tokio::task::JoinSet::new();
    for number in 0..8 {
        let store = place.open().await;
        racing.spawn(async move { lead(&store, &number.to_string()).await.fence().epoch });
    }
    let mut epochs = racing.join_all().await;
    epochs.sort_unstable();
    epochs.dedup();
    assert_eq!(epochs.len(), 8, "{epochs:?}");
}

async fn a_fenced_leader_changes_nothing(place: impl Place) {
    let (old, new) = (place.open().await, place.open().await);
    let former = lead(&old, "former").await;
    submit(&old, &former, "first").await;
    let leader = lead(&new, "leader").await;

    let refused = old.commit(&former, Change { topology: Some(topology(9)), ..Change::default() }).await;
    let Err(StoreError::Fenced { held, current }) = refused else { panic!("{refused:?}") };
    assert_eq!((held, current), (former.fence().epoch, leader.fence().epoch));
    let mut change = Change { new: vec![stored("second", Version::FIRST)], ..Change::default() };
    change.history.push(entry(&stored("first", Version::FIRST).migration.key, HistoryEvent::Started));
    assert!(matches!(old.commit(&former, change).await, Err(StoreError::Fenced { .. })));
    assert!(matches!(old.commit(&former, Change::default()).await, Err(StoreError::Fenced { .. })));

    assert_eq!(names(&new).await, ["first@1"]);
    assert_eq!(new.load().await.expect("loads").topology, Snapshot::default().topology);
    assert_eq!(new.history(&id("first"), 10).await.expect("reads").len(), 1);
    submit(&new, &leader, "second").await;
}

async fn a_take_over_names_the_fence_that_it_saw(place: impl Place) {
    let (one, other) = (place.open().await, place.open().await);
    let seen = one.fence().await.expect("reads the fence");
    assert_eq!(seen.epoch, Epoch::NONE);
    let leader = lead(&other, "faster").await;
    let refused = one.take_over(&seen, None, nonce("slower"), "slower").await;
    let Err(StoreError::Fenced { held, current }) = refused else { panic!("{refused:?}") };
    assert_eq!((held, current), (seen.epoch, leader.fence().epoch));
    assert_eq!(one.fence().await.expect("reads the fence"), *leader.fence(), "nothing was changed");
    let forged = Fence { epoch: leader.fence().epoch, nonce: nonce("forged") };
    assert!(matches!(one.take_over(&forged, None, nonce("x"), "x").await, Err(StoreError::Fenced { .. })));
    submit(&other, &leader, "still-leads").await;
}

async fn a_leader_rises_above_what_a_shard_has_seen(place: impl Place) {
    let store = place.open().await;
    let first = lead(&store, "leader").await;
    let rise = async |seen: &LeaderPermit, above: u64, with: &str| {
        store.take_over(seen.fence(), Some(Epoch(above)), nonce(with), "leader").await
    };
    let second = rise(&first, 500, "risen").await.expect("rises");
    assert_eq!(second.fence().epoch, Epoch(501));
    assert_eq!(second.fence().nonce, nonce("risen"));
    assert!(matches!(store.commit(&first, Change::default()).await, Err(StoreError::Fenced { .. })));
    assert!(matches!(rise(&first, 1, "x").await, Err(StoreError::Fenced { .. })));
    // The same epoch was seen with another nonce, or a lower one: it rises all the same.
    let third = rise(&second, 3, "again").await.expect("rises");
    assert_eq!(third.fence().epoch, Epoch(502));
    let refused = rise(&third, u64::MAX, "x").await;
    assert!(matches!(refused, Err(StoreError::NoEpochAbove(Epoch(u64::MAX)))), "{refused:?}");
    submit(&store, &third, "still-leads").await;
}

async fn a_commit_is_all_or_nothing(place: impl Place) {
    let store = place.open().await;
    let permit = lead(&store, "leader").await;
    submit(&store, &permit, "first").await;
    let before = store.load().await.expect("loads");
    let key = &before.migrations[0].migration.key;
    let good = || Change {
        topology: Some(topology(2)),
        new: vec![stored("second", Version::FIRST)],
        history: vec![entry(key, HistoryEvent::Started)],
        ..Change::default()
    };
    let absent = stored("absent", Version::FIRST);

    let mut repeated = good();
    repeated.new.push(stored("first", Version::FIRST));
    let mut unknown = good();
    unknown.moved.push(Moved::between(&absent.migration, absent.migration.clone(), absent.times));
    let mut elsewhere = good();
    elsewhere.progress.push((key.clone(), samples::shard(99), Default::default()));
    let mut unheard = good();
    unheard.history.push(entry(&absent.migration.key, HistoryEvent::Failed));
    let mut other_shards = good();
    let mut less = before.migrations[0].clone();
    less.migration.shards.pop_first();
    other_shards.moved.push(Moved::between(&less.migration, less.migration.clone(), less.times));

    for (what, change) in [
        ("repeated", repeated),
        ("unknown", unknown),
        ("elsewhere", elsewhere),
        ("unheard", unheard),
        ("other shards", other_shards),
    ] {
        let refused = store.commit(&permit, change).await;
        let expected = matches!(refused, Err(StoreError::AlreadyStored(_) | StoreError::Unknown(_)));
        assert!(expected, "{what}: {refused:?}");
        assert_eq!(store.load().await.expect("loads"), before, "{what}");
        assert_eq!(store.history(&key.id, 10).await.expect("reads").len(), 1, "{what}");
    }
    store.commit(&permit, good()).await.expect("the same without the mistake");
}

/// Polls a future so many times, then drops it wherever it is: what a crash or a cancelled task does to it.
async fn abandoned<F: Future>(future: F, mut polls: usize) -> Option<F::Output> {
    let mut future = pin!(future);
    std::future::poll_fn(move |context| match polls.checked_sub(1) {
        None => Poll::Ready(None),
        Some(left) => {
            polls = left;
            future.as_mut().poll(context).map(Some)
        }
    })
    .await
}

async fn an_abandoned_commit_leaves_nothing_half(place: impl Place) {
    let store = place.open().await;
    let permit = lead(&store, "leader").await;
    for polls in 0..1000 {
        let before = store.load().await.expect("loads");
        let new = stored(&format!("m-{polls}"), Version::FIRST);
        let mut after = before.clone();
        after.topology = topology(polls + 1);
        after.migrations.push(new.clone());
        let change = Change { topology: Some(topology(polls + 1)), new: vec![new], ..Change::default() };
        let ended = abandoned(store.commit(&permit, change), polls.try_into().expect("small")).await;
        let seen = place.open().await.load().await.expect("loads");
        match ended {
            Some(result) => {
                result.expect("commits");
                assert_eq!(seen, after);
                return;
            }
            None => assert!(seen == before || seen == after, "half of it was stored after {polls} polls"),
        }
        store.commit(&permit, Change::default()).await.expect("the store is usable after that");
    }
    panic!("the commit never ended by itself");
}

async fn what_was_committed_is_there_for_the_next_one(place: impl Place) {
    let store = place.open().await;
    let permit = lead(&store, "leader").await;
    let change = Change { topology: Some(topology(3)), ..Change::default() };
    store.commit(&permit, change).await.expect("commits");
    submit(&store, &permit, "zebra").await;
    submit(&store, &permit, "apple").await;
    let again = Change { new: vec![stored("zebra", Version(2))], ..Change::default() };
    store.commit(&permit, again).await.expect("commits");
    drop(store);
    let next = place.open().await;
    assert_eq!(names(&next).await, ["zebra@1", "apple@1", "zebra@2"], "in the order of submission");
    assert_eq!(next.load().await.expect("loads").topology, topology(3));
}

async fn the_history_is_in_order_and_spans_versions(place: impl Place) {
    let store = place.open().await;
    let permit = lead(&store, "leader").await;
    submit(&store, &permit, "one").await;
    submit(&store, &permit, "two").await;
    let again = stored("one", Version(2));
    let mut change = Change { new: vec![again.clone()], ..Change::default() };
    for event in HistoryEvent::ALL {
        change.history.push(entry(&again.migration.key, *event));
    }
    let expected = change.history.clone();
    store.commit(&permit, change).await.expect("commits");

    let all = store.history(&id("one"), 100).await.expect("reads");
    assert_eq!(all[0], entry(&stored("one", Version::FIRST).migration.key, HistoryEvent::Submitted));
    assert_eq!(all[1..], expected);
    let newest = store.history(&id("one"), 3).await.expect("reads");
    assert_eq!(newest, expected[expected.len() - 3..]);
    assert_eq!(store.history(&id("two"), 100).await.expect("reads").len(), 1);
}

async fn the_history_is_read_on_without_loss_or_repeat(place: impl Place) {
    let store = place.open().await;
    let permit = lead(&store, "leader").await;
    for name in ["one", "two"] {
        submit(&store, &permit, name).await;
    }
    for event in HistoryEvent::ALL {
        let keys = ["one", "two", "one"].map(|name| stored(name, Version::FIRST).migration.key);
        let history = keys.iter().map(|key| entry(key, *event)).collect();
        store.commit(&permit, Change { history, ..Change::default() }).await.expect("commits");
    }
    let all = store.events(&id("one"), None, 1000).await.expect("reads");
    assert_eq!(all.len(), 2 * HistoryEvent::ALL.len() + 1);
    assert!(all.is_sorted_by(|one, next| one.sequence < next.sequence), "{all:#?}");
    assert!(all.iter().all(|recorded| recorded.sequence < 1 << 53), "{all:#?}");
    let (mut read, mut after) = (Vec::new(), 0);
    loop {
        let page = store.events(&id("one"), Some(after), 3).await.expect("reads");
        assert!(page.len() <= 3, "{page:#?}");
        let Some(last) = page.last() else { break };
        after = last.sequence;
        read.extend(page);
    }
    assert_eq!(read, all);
    assert_eq!(store.events(&id("one"), Some(u64::MAX), 3).await.expect("reads"), []);
}

async fn figures_and_states_are_replaced(place: impl Place) {
    let store = place.open().await;
    let permit = lead(&store, "leader").await;
    submit(&store, &permit, "first").await;
    let mut expected = store.load().await.expect("loads");
    let known = &mut expected.migrations[0];
    let before = known.migration.clone();
    for event in [Event::Asked(Verb::Start), Event::Ready] {
        known.migration = known.migration.on(&event).expect("legal").migration;
    }
    known.times.started_at = Some(samples::moment(60));
    let figures = samples::figures(7);
    known.progress.insert(samples::shard(1), figures.clone());
    let change = Change {
        moved: vec![Moved::between(&before, known.migration.clone(), known.times)],
        progress: vec![(known.migration.key.clone(), samples::shard(1), figures)],
        ..Change::default()
    };
    store.commit(&permit, change).await.expect("commits");
    assert_eq!(place.open().await.load().await.expect("loads"), expected);
}

async fn what_one_migration_holds_no_other_gets(place: impl Place) {
    let store = place.open().await;
    let permit = lead(&store, "leader").await;
    let [first, second, other] =
        ["first", "second", "other"].map(|name| stored(name, Version::FIRST).migration);
    for name in ["first", "second", "other"] {
        submit(&store, &permit, name).await;
    }
    let on = |relation: Option<&str>, of: &Migration| {
        let migration = Migration { relation: relation.map(str::to_owned), ..of.clone() };
        (of.key.clone(), migration.resources().collect::<BTreeSet<_>>())
    };
    let lock = async |wanted: (MigrationKey, BTreeSet<Resource>)| {
        let history = vec![entry(&wanted.0, HistoryEvent::Ready)];
        store.commit(&permit, Change { locked: vec![wanted], history, ..Change::default() }).await
    };
    lock(on(Some("messages"), &first)).await.expect("nobody holds it");
    lock(on(Some("drafts"), &other)).await.expect("another table");
    lock(on(Some("messages"), &first)).await.expect("again, by the same one");
    for wanted in [on(Some("public.messages"), &second), on(None, &second)] {
        let refused = lock(wanted).await;
        let Err(StoreError::Locked { holder, .. }) = refused else { panic!("{refused:?}") };
        assert!(holder == first.key || holder == other.key, "{holder}");
    }
    let absent = stored("absent", Version::FIRST).migration;
    assert!(matches!(lock(on(Some("x"), &absent)).await, Err(StoreError::Unknown(_))));
    assert_eq!(store.history(&second.key.id, 10).await.expect("reads").len(), 1, "refused as a whole");
    let held = BTreeMap::from([on(Some("messages"), &first), on(Some("drafts"), &other)]);
    assert_eq!(place.open().await.load().await.expect("loads").locks, held);

    // A fenced leader frees nothing, the next one does, and acquires in the same commit.
    let next = lead(&store, "next").await;
    let hand_over = || Change {
        freed: vec![first.key.clone(), absent.key.clone()],
        locked: vec![on(Some("messages"), &second)],
        ..Change::default()
    };
    assert!(matches!(store.commit(&permit, hand_over()).await, Err(StoreError::Fenced { .. })));
    store.commit(&next, hand_over()).await.expect("frees and acquires");
    let held = BTreeMap::from([on(Some("messages"), &second), on(Some("drafts"), &other)]);
    assert_eq!(place.open().await.load().await.expect("loads").locks, held);
}

async fn what_was_decided_is_there_for_the_next_leader(place: impl Place) {
    let store = place.open().await;
    let mut permit = lead(&store, "leader").await;
    let mut new = stored("all-or-none", Version::FIRST);
    (new.migration.kind, new.migration.atomic) = (Kind::Schema, true);
    store.commit(&permit, Change { new: vec![new], ..Change::default() }).await.expect("commits");
    let mut decided = Vec::new();
    let failure = Failure::new(ErrorCode::SchemaFailed, "it broke ✓", "mend it");
    let step = |step| Event::StepDone { shard: samples::shard(0), step, outcome: Outcome::Done };
    let cannot = Event::StepFailed { shard: samples::shard(1), step: Step::Prepare, failure };
    let all = |step| {
        (0..3).map(move |n| Event::StepDone { shard: samples::shard(n), step, outcome: Outcome::Done })
    };
    let events = [Event::Asked(Verb::Start), Event::Ready].into_iter().chain(all(Step::Precheck));
    let events = events.chain([step(Step::Prepare), cannot]).chain(all(Step::Abort));
    let events = events.chain([Event::Asked(Verb::Retry)]).chain(all(Step::Prepare)).chain(all(Step::Commit));
    for event in events {
        let mut expected = store.load().await.expect("loads");
        let known = &mut expected.migrations[0];
        let before = known.migration.clone();
        known.migration = before.on(&event).expect("legal").migration;
        let moved = vec![Moved::between(&before, known.migration.clone(), known.times)];
        store.commit(&permit, Change { moved, ..Change::default() }).await.expect("commits");
        let word = known.migration.decision.as_ref().map(Decision::as_str);
        assert_eq!(place.open().await.load().await.expect("loads"), expected, "after {event:?}");
        if decided.last() != Some(&word) {
            decided.push(word);
            permit = lead(&store, "next").await;
        }
    }
    assert_eq!(decided, [None, Some("abort"), None, Some("commit")]);
}

async fn several_may_open_it_at_once_when_it_is_new(place: impl Place) {
    let opened = futures::future::join_all((0..4).map(|_| place.open())).await;
    for store in &opened {
        assert_eq!(store.fence().await.expect("reads").epoch, Epoch::NONE);
    }
    let permit = lead(&opened[3], "leader").await;
    submit(&opened[3], &permit, "first").await;
    assert_eq!(names(&opened[0]).await, ["first@1"]);
}

async fn entries_of_directories_are_set_and_removed_with_the_topology(place: impl Place) {
    let store = place.open().await;
    let permit = lead(&store, "leader").await;
    let entry = |name: &str, key: &str, at: Option<usize>| DirectoryEntry {
        cluster: samples::cluster(name),
        key: key.into(),
        shard: at.map(samples::shard),
    };
    let first = vec![
        entry("chat", "a 'b' ✓", Some(1)),
        entry("chat", "7", Some(1)),
        entry("chat-docs", "7", Some(3)),
        entry("chat", "7", Some(2)),
    ];
    let change = Change { topology: Some(topology(4)), directory: first.clone(), ..Change::default() };
    store.commit(&permit, change).await.expect("commits");
    let mut expected = Directory::default();
    first.iter().for_each(|entry| expected.apply(entry));
    let seen = place.open().await.load().await.expect("loads");
    assert_eq!((&seen.directory, seen.directory.iter().count()), (&expected, 3));
    let second = vec![entry("chat", "7", None), entry("chat", "absent", None)];
    second.iter().for_each(|entry| expected.apply(entry));
    let change = Change { topology: Some(topology(5)), directory: second, ..Change::default() };
    store.commit(&permit, change).await.expect("commits");
    let seen = place.open().await.load().await.expect("loads");
    assert_eq!((seen.directory, seen.topology), (expected.clone(), topology(5)));

    lead(&place.open().await, "next").await;
    let late = Change { directory: vec![entry("chat", "late", Some(1))], ..Change::default() };
    assert!(matches!(store.commit(&permit, late).await, Err(StoreError::Fenced { .. })));
    assert_eq!(place.open().await.load().await.expect("loads").directory, expected, "a fenced leader wrote");
}

macro_rules! suite {
    ($($name:ident,)*) => {
        mod memory {
            use super::MemoryStore;
            $(#[tokio::test] async fn $name() { super::$name(MemoryStore::new()).await; })*
        }
        mod sqlite {
            use super::SqliteFile;
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)] async fn $name() {
                super::$name(SqliteFile(tempfile::tempdir().expect("a directory"))).await;
            })*
        }
        mod postgres {
            use super::PostgresDatabase;
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)] async fn $name() {
                super::$name(PostgresDatabase::new().await).await;
            })*
        }
        mod mongodb {
            use super::MongodbDatabase;
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)] async fn $name() {
                super::$name(MongodbDatabase::new().await).await;
            })*
        }
    };
}

suite! {
    a_new_store_is_empty,
    every_take_over_raises_the_epoch,
    take_overs_at_the_same_time_get_different_epochs,
    a_fenced_leader_changes_nothing,
    a_take_over_names_the_fence_that_it_saw,
    a_leader_rises_above_what_a_shard_has_seen,
    a_commit_is_all_or_nothing,
    an_abandoned_commit_leaves_nothing_half,
    what_was_committed_is_there_for_the_next_one,
    the_history_is_in_order_and_spans_versions,
    the_history_is_read_on_without_loss_or_repeat,
    the_history_is_a_chain_from_the_first_entry_to_the_head,
    entries_of_the_chain_are_found_by_what_they_say,
    figures_and_states_are_replaced,
    what_one_migration_holds_no_other_gets,
    what_was_decided_is_there_for_the_next_leader,
    several_may_open_it_at_once_when_it_is_new,
    entries_of_directories_are_set_and_removed_with_the_topology,
    a_sink_keeps_its_place_and_never_goes_back,
    what_is_to_be_told_is_read_on_over_all_migrations,
    no_entry_appears_behind_one_that_was_read,
    a_request_is_carried_out_once_with_its_commit,
}
