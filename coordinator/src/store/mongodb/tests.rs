//! What only a server can be asked.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bson::doc;
use futures::future::join_all;
use shardlift_domain::migration::{Migration, ShardMigration, Step};
use shardlift_domain::{ErrorCode, Failure, MigrationId, Nonce, ShardId, Version};
use shardlift_harness::servers::{Mongod, exclusive_mongod};
use shardlift_runtime::config::Secret;

use super::super::conformance::samples;
use super::super::{Change, LeaderPermit, Store, StoreError, StoredMigration};
use super::{MongodbStore, client, fence};

async fn open(url: &str) -> MongodbStore {
    MongodbStore::open(&Secret::new(url), "metadata").await.expect("opens")
}

async fn lead(store: &MongodbStore, who: &str) -> LeaderPermit {
    let seen = store.fence().await.expect("reads the fence");
    store.take_over(&seen, None, Nonce(who.to_owned()), who).await.expect("takes over")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_hangs_is_told_unavailable_in_time() {
    let server = exclusive_mongod().await.expect("a server");
    let store = open(&server.dsn("metadata")).await;
    let permit = lead(&store, "leader").await;
    store.commit(&permit, Change::default()).await.expect("commits");

    server.pause();
    let told = join_all(["commit", "fence", "load", "history"].map(async |what| {
        let begun = Instant::now();
        let answer = match what {
            "commit" => store.commit(&permit, Change::default()).await,
            "fence" => store.fence().await.map(drop),
            "load" => store.load().await.map(drop),
            _ => store.history(&MigrationId::new("first").expect("a name"), 1).await.map(drop),
        };
        (what, answer, begun.elapsed())
    }));
    for (what, answer, took) in told.await {
        assert!(matches!(answer, Err(StoreError::Unavailable { .. })), "{what}: {answer:?}");
        assert!(took < Duration::from_secs(15), "{what} took {took:?}");
    }
    server.resume();
    let again = async || store.commit(&permit, Change::default()).await;
    shardlift_harness::wait::wait_for_ok("the store to be back", Duration::from_secs(30), again)
        .await
        .expect("commits");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_stops_in_the_middle_of_a_commit_does_not_keep_the_lead() {
    let server = exclusive_mongod().await.expect("a server");
    let url = server.dsn("metadata");
    let (old, new) = (open(&url).await, open(&url).await);
    let permit = lead(&old, "old").await;
    let mut session = old.database.client().start_session().await.expect("a session");
    fence::bind(&old.database, permit.fence(), session.id()).await.expect("names it");
    client::begin(&mut session).await.expect("begins");
    fence::hold(&old.database, &mut session, permit.fence()).await.expect("holds the fence");

    let begun = Instant::now();
    let leader = lead(&new, "new").await;
    assert!(begun.elapsed() < Duration::from_secs(10), "it took {:?}", begun.elapsed());
    assert!(leader.fence().epoch > permit.fence().epoch);
    session.commit_transaction().await.expect_err("its session was ended");
    let refused = old.commit(&permit, Change::default()).await;
    assert!(matches!(refused, Err(StoreError::Fenced { .. })), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_that_its_leader_has_given_up_does_not_keep_it_from_the_next_one() {
    let server = exclusive_mongod().await.expect("a server");
    let store = open(&server.dsn("metadata")).await;
    let permit = lead(&store, "leader").await;
    // As a commit that was dropped on its way leaves it, where the server has not heard of its end.
    let mut session = store.database.client().start_session().await.expect("a session");
    fence::bind(&store.database, permit.fence(), session.id()).await.expect("names it");
    client::begin(&mut session).await.expect("begins");
    fence::hold(&store.database, &mut session, permit.fence()).await.expect("holds the fence");

    store.commit(&permit, Change::default()).await.expect("commits");
    session.commit_transaction().await.expect_err("its session was ended");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_comes_back_names_its_session_again() {
    let server = exclusive_mongod().await.expect("a server");
    let url = server.dsn("metadata");
    let (store, other) = (open(&url).await, open(&url).await);
    let named = async || {
        let fences = store.database.collection::<bson::Document>("fence");
        let fence = fences.find_one(doc! {}).await.expect("answers").expect("is there");
        fence.get_document("session").ok().cloned()
    };
    for who in ["first", "again"] {
        let permit = lead(&store, who).await;
        assert_eq!(named().await, None, "a take-over forgets the session of the former leader");
        store.commit(&permit, Change::default()).await.expect("commits");
        assert!(named().await.is_some(), "nobody could end a commit of the leader {who}");
        lead(&other, "between").await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_whose_answer_is_lost_is_told_as_unknown() {
    let server = exclusive_mongod().await.expect("a server");
    let url = server.dsn("metadata");
    let store = open(&url).await;
    let permit = lead(&store, "leader").await;
    // Made, but the answer says that the majority was not heard.
    let lost = doc! { "failCommands": ["commitTransaction"],
    "writeConcernError": { "code": 64, "errmsg": "waiting for replication timed out" } };
    server.fail_command(doc! { "times": 1 }, lost).await.expect("fails commits");
    let change = Change { new: vec![samples::stored("first", Version::FIRST)], ..Change::default() };
    let answer = store.commit(&permit, change).await;
    assert!(matches!(answer, Err(StoreError::Unavailable { .. })), "{answer:?}");
    let next = open(&url).await;
    lead(&next, "next").await;
    assert_eq!(next.load().await.expect("loads").migrations.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_cannot_be_used_is_refused_with_the_reason_and_without_the_password() {
    let refused = async |url: String| {
        let error = MongodbStore::open(&Secret::new(url), "metadata").await.expect_err("it was opened");
        assert!(matches!(error, StoreError::Location { .. }), "{error:?}");
        let failure = Failure::from(error);
        assert_eq!(failure.code, ErrorCode::ConfigInvalid);
        failure.message
    };
    let told = refused("mongo://u:hunter2@host".to_owned()).await;
    assert!(told.contains("not an address") && !told.contains("hunter2"), "{told}");
    let alone = Mongod::start(false).await.expect("a standalone server");
    assert!(refused(alone.dsn("metadata")).await.contains("standalone"));
    let server = exclusive_mongod().await.expect("a server");
    let store = open(&server.dsn("metadata")).await;
    let numbers = store.database.collection("numbers");
    numbers.insert_one(doc! { "_id": 9000, "checksum": "" }).await.expect("writes");
    assert!(refused(server.dsn("metadata")).await.contains("a newer release has used it"));
}

/// The promise of 10,000 shards: names of full length, every figure at its largest.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_shards_are_one_document_far_below_the_limit() {
    let server = exclusive_mongod().await.expect("a server");
    let store = open(&server.dsn("metadata")).await;
    let permit = lead(&store, "leader").await;
    let shard = |number: usize| ShardId::new(format!("{number:0>63}")).expect("a name");
    let part = ShardMigration { todo: Some(Step::Backfill), ..ShardMigration::fresh(0) };
    let sample = samples::stored("wide", Version::FIRST);
    let shards: BTreeMap<_, _> = (0..10_000).map(|number| (shard(number), part.clone())).collect();
    let progress = shards.keys().map(|shard| (shard.clone(), samples::figures(u32::MAX - 9))).collect();
    let migration = Migration { shards, ..sample.migration };
    let wide = StoredMigration { migration, progress, ..sample };
    let key = wide.migration.key.clone();
    let change = Change { new: vec![wide.clone()], ..Change::default() };
    store.commit(&permit, change).await.expect("stores it");

    let figures = samples::figures(7);
    let begun = Instant::now();
    let change = Change {
        progress: wide
            .migration
            .shards
            .keys()
            .map(|shard| (key.clone(), shard.clone(), figures.clone()))
            .collect(),
        ..Change::default()
    };
    store.commit(&permit, change).await.expect("all shards report at once");
    let flush = begun.elapsed();
    let size = [doc! { "$project": { "size": { "$bsonSize": "$$ROOT" } } }];
    let mut sizes =
        store.database.collection::<bson::Document>("migration_state").aggregate(size).await.expect("asks");
    assert!(sizes.advance().await.expect("answers"));
    let size = sizes.deserialize_current().expect("a document").get_i32("size").expect("a number");
    assert!(size < 4_000_000, "{size} bytes, and {flush:?} for a flush of all");
    let loaded = store.load().await.expect("loads");
    assert!(loaded.migrations[0].progress.values().all(|progress| *progress == figures));
}
