//! Every document is visited exactly once, whatever its key.

use std::str::FromStr;

use bson::spec::BinarySubtype;
use bson::{Binary, Bson, DateTime, Decimal128, Document, Timestamp, doc};
use mongodb::options::Collation;
use shardlift_domain::verdict::Sweep;

use super::{Stage, job, marked, numbered, programmed, unmarked};

/// Several keys of each type that can be an `_id`, and the keys that no comparison finds.
fn keys() -> Vec<Bson> {
    let mut keys = vec![Bson::Null, Bson::MinKey, Bson::MaxKey, Bson::Double(f64::NAN)];
    keys.extend([f64::NEG_INFINITY, f64::INFINITY, -0.5].map(Bson::Double));
    keys.extend([Bson::Int64(i64::MIN), Bson::Int64(i64::MAX), Bson::Boolean(false), Bson::Boolean(true)]);
    keys.extend((0..40).map(Bson::Int32));
    keys.extend((0..5).map(|n| Bson::Decimal128(Decimal128::from_str(&format!("{n}.25")).expect("digits"))));
    keys.extend(["", "a", "A", "é", "東"].map(Bson::from));
    keys.push(Bson::Symbol("b".into()));
    keys.extend([doc! {}, doc! { "a": 1, "b": null }, doc! { "a": [1, 2] }].map(Bson::Document));
    for subtype in [BinarySubtype::Generic, BinarySubtype::Uuid] {
        keys.push(Bson::Binary(Binary { subtype, bytes: vec![7; 16] }));
    }
    keys.extend((0..30_u8).map(|n| Bson::ObjectId(bson::oid::ObjectId::from_bytes([n; 12]))));
    keys.extend([i64::MIN, -1, 0, i64::MAX].map(|ms| Bson::DateTime(DateTime::from_millis(ms))));
    keys.push(Bson::Timestamp(Timestamp { time: 1, increment: 2 }));
    keys.push(Bson::JavaScriptCode("x".into()));
    keys
}

fn documents() -> impl Iterator<Item = Document> {
    keys().into_iter().map(|key| doc! { "_id": key, "text": "x" })
}

#[tokio::test(flavor = "multi_thread")]
async fn every_document_is_transformed_once_whatever_the_type_of_its_key() {
    for (job, ranges, rows) in
        [(marked(), 4, 7), (unmarked(), 1, 1), (unmarked(), 8, 1000), (programmed(), 3, 5)]
    {
        let stage = Stage::set().await;
        stage.load(documents()).await;
        stage.run(&job, ranges, rows).await;
        let other: Vec<_> =
            stage.all().await.into_iter().filter(|all| all.get_i32("applied").ok() != Some(1)).collect();
        assert!(other.is_empty(), "{ranges} ranges, {rows} rows: {other:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_document_is_transformed_once_though_ranges_of_any_type_of_key_are_split() {
    let (stage, job) = (Stage::set().await, unmarked());
    stage.load(documents()).await;
    let pass = stage.split(&job, 1).await;
    assert!(stage.walk_sharing(&job, &pass, 2).await > 20);
    stage.run(&job, 1, 10).await;
    let all = stage.all().await;
    assert!(all.len() > 80 && all.iter().all(|one| one.get_i32("applied").ok() == Some(1)), "{all:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_appears_during_the_run_in_any_bracket_is_found_by_the_sweep() {
    let stage = Stage::set().await;
    stage.load(numbered(100)).await;
    let job = marked();
    let pass = stage.split(&job, 2).await;
    stage.load(documents().filter(|document| !matches!(document.get("_id"), Some(Bson::Int32(_))))).await;
    stage.walk(&job, &pass, 10).await;
    let Sweep::Found { pending, pass } = stage.sweep(&job).await else { panic!("documents are pending") };
    assert!(pending > 0);
    assert_eq!(pass.number, 2);
    assert_eq!(pass.ranges[0].index, 2, "numbers of ranges go on: {pass:?}");
    stage.run(&job, 2, 10).await;
    let there = stage.documents().count_documents(doc! {}).await.expect("a count");
    assert_eq!(stage.once().await, there);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collation_orders_keys_and_none_is_missed() {
    let stage = Stage::set().await;
    let collation = Collation::builder().locale("en").build();
    let database = stage.client.database("chat");
    database.create_collection("messages").collation(collation).await.expect("a collection");
    let words = ["a", "B", "c", "D", "é", "E", "f", "_", "Z", "z1", "Z2", "10", "9"];
    stage.load(words.map(|word| doc! { "_id": word })).await;
    stage.run(&marked(), 3, 2).await;
    assert_eq!(stage.once().await, words.len() as u64);
}

#[tokio::test(flavor = "multi_thread")]
async fn ranges_are_laid_out_once_and_divide_a_large_collection_evenly() {
    let stage = Stage::set().await;
    stage.load(numbered(20_000)).await;
    let job = marked();
    let (one, two) = tokio::join!(stage.split(&job, 4), stage.split(&job, 4));
    assert_eq!(one, two);
    assert_eq!(one.ranges.len(), 4);
    stage.walk(&job, &one, 1000).await;
    let pass = stage.split(&job, 9).await;
    for range in &pass.ranges {
        assert!((2_000..9_000).contains(&range.seen), "{pass:?}");
        assert_eq!(range.rows, range.seen);
    }
    assert_eq!(pass.totals().rows, 20_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_collection_is_one_finished_range() {
    let stage = Stage::set().await;
    let job = marked();
    let pass = stage.split(&job, 4).await;
    assert!(pass.done());
    stage.load(numbered(3)).await;
    assert_eq!(stage.split(&job, 4).await, pass);
    stage.run(&job, 4, 10).await;
    assert_eq!(stage.once().await, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_where_what_is_inserted_later_is_done_at_most_once() {
    let stage = Stage::set().await;
    stage.load((0..100).map(|number| doc! { "_id": number * 10 })).await;
    let job = unmarked();
    let pass = stage.split(&job, 3).await;
    stage.load((0..300).map(|number| doc! { "_id": number * 10 + 5 })).await;
    stage.walk(&job, &pass, 17).await;
    let present = stage.documents().count_documents(doc! { "_id": { "$mod": [10, 0] }, "applied": 1 }).await;
    assert_eq!(present.expect("a count"), 100);
    let twice = stage.documents().count_documents(doc! { "applied": { "$gt": 1 } }).await;
    assert_eq!(twice.expect("a count"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_where_that_finds_few_documents_still_walks_all_keys_in_order() {
    let stage = Stage::set().await;
    stage.load((0..1000).map(|number| doc! { "_id": number, "migrated": number % 10 != 0 })).await;
    let job = job(
        "  where: { migrated: false }\ntransform:\n  pipeline:\n    - $set: { migrated: true, applied: 1 }\nverify: [remaining, { count: { tolerance: 0.01 } }]",
    );
    stage.run(&job, 2, 64).await;
    assert_eq!(stage.once().await, 100);
    let pass = stage.split(&job, 2).await;
    assert_eq!((pass.totals().rows, pass.totals().seen), (100, 1000));
}
