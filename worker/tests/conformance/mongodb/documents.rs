//! Documents keep what was not touched, and a document that cannot be changed is named.

use bson::spec::BinarySubtype;
use bson::{Binary, Bson, Document, doc};
use shardlift_domain::ErrorCode;
use shardlift_domain::migration::Step;
use shardlift_worker::engine::EngineError;

use super::{Stage, job, lease, numbered, programmed, row};

fn every_type() -> Document {
    let decimal: bson::Decimal128 = "12345678901234567890.10".parse().expect("digits");
    doc! {
        "double": 3.0, "nan": f64::NAN, "zero": -0.0, "int": 5, "long": 5_i64, "decimal": decimal, "text": "ü👩‍👧",
        "bool": false, "null": null, "date": bson::DateTime::from_millis(-62_135_596_800_001),
        "far": bson::DateTime::MAX, "stamp": bson::Timestamp { time: 1, increment: 1 },
        "oid": bson::oid::ObjectId::from_bytes([9; 12]), "min": Bson::MinKey, "max": Bson::MaxKey,
        "md5": Binary { subtype: BinarySubtype::Md5, bytes: vec![0xff; 16] }, "symbol": Bson::Symbol("s".into()),
        "code": Bson::JavaScriptCode("f()".into()), "undefined": Bson::Undefined,
        "list": [1, 1_i64, 1.0, [null, { "x": 1_i64 }], {}], "dotted.key": { "$dollar": 1_i64 }, "empty": {},
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_in_the_worker_changes_nothing_that_it_does_not_touch() {
    let stage = Stage::set().await;
    let mut old = doc! { "_id": 1 };
    old.extend(every_type());
    old.insert("nested", every_type());
    old.insert("applied", 41_i64);
    stage.load([old.clone()]).await;
    let job = job(
        "  where: { migrated: { $ne: true } }\ntransform:\n  vrl: |\n    .migrated = true\n    .applied = int!(.applied) + 1\n    .nested.int = 6\n    .list = push(array!(.list), \"new\")\n    .author = del(.oid)\nverify: [remaining]",
    );
    stage.run(&job, 1, 100).await;
    let mut expected = old;
    expected.insert("migrated", true);
    expected.insert("applied", 42_i64);
    expected.get_document_mut("nested").expect("an object").insert("int", 6);
    expected.get_array_mut("list").expect("an array").push("new".into());
    let oid = expected.remove("oid").expect("it was there");
    expected.insert("author", oid);
    let found = stage.all().await.remove(0);
    assert_eq!(found.len(), expected.len());
    for (name, value) in &expected {
        // As text, since NaN does not equal itself.
        assert_eq!(found.get(name).map(ToString::to_string), Some(value.to_string()), "{name}");
    }
    let order: Vec<_> = found.keys().take(20).cloned().collect();
    assert_eq!(order, expected.keys().take(20).cloned().collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn large_documents_are_read_in_parts_and_all_are_done() {
    let stage = Stage::set().await;
    for number in 0..12 {
        stage.load([doc! { "_id": number, "pad": "x".repeat(6 << 20) }]).await;
    }
    let job = programmed();
    let pass = stage.split(&job, 1).await;
    let mut writer = stage.writer(&job, 0, 1).await;
    let report = writer.run_batch(&lease(1, 1, Step::Backfill, Some(0)), 1000).await.expect("a batch");
    assert_eq!((report.changed, report.range.done), (5, false), "32 MiB hold five documents of 6 MiB");
    drop(writer);
    stage.walk(&job, &pass, 1000).await;
    assert_eq!(stage.once().await, 12);
    assert_eq!(stage.split(&job, 1).await.totals().seen, 12);
}

/// Narrows until the document is alone, as the executor does.
async fn named(stage: &Stage, job: &std::sync::Arc<super::DataJob>) -> shardlift_domain::Failure {
    stage.split(job, 1).await;
    let lease = lease(1, 1, Step::Backfill, Some(0));
    let mut writer = stage.writer(job, 0, 1).await;
    let mut rows = 64;
    loop {
        match writer.run_batch(&lease, rows).await {
            Ok(report) => assert!(!report.range.done, "no document was refused"),
            Err(EngineError::Row(failure)) if rows == 1 => return failure,
            Err(EngineError::Row(_)) => rows /= 2,
            Err(other) => panic!("{other:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_document_that_breaks_a_unique_index_is_named_without_its_values() {
    let stage = Stage::set().await;
    stage.load(numbered(40).chain([doc! { "_id": 77, "text": "secret", "slug": "secret" }])).await;
    let unique = mongodb::options::IndexOptions::builder().unique(true).sparse(true).build();
    let index = mongodb::IndexModel::builder().keys(doc! { "slug": 1 }).options(unique).build();
    stage.documents().create_index(index).await.expect("an index");
    stage.load([doc! { "_id": 78, "text": "secret" }]).await;
    let job = job(
        "  where: { _id: { $gte: 78 }, slug: null }\ntransform:\n  pipeline: [{ $set: { slug: $text } }]\nverify: [remaining]",
    );
    let failure = named(&stage, &job).await;
    assert_eq!(failure.code, ErrorCode::RowRejected);
    assert_eq!(failure.place.key.as_deref(), Some(r#"{"$numberInt":"78"}"#));
    assert!(failure.message.contains("11000") && !failure.message.contains("secret"), "{failure:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_value_that_a_pipeline_cannot_convert_names_its_document() {
    let stage = Stage::set().await;
    stage.load(numbered(30)).await;
    stage.load([doc! { "_id": 30, "n": "seven" }]).await;
    let job = job(
        "  where: { done: { $ne: true } }\ntransform:\n  pipeline: [{ $set: { n: { $toInt: $n }, done: true } }]\nverify: [remaining]",
    );
    let failure = named(&stage, &job).await;
    assert_eq!(
        (failure.code, failure.place.key.as_deref()),
        (ErrorCode::RowRejected, Some(r#"{"$numberInt":"30"}"#))
    );
    assert!(!failure.message.contains("seven"), "{failure:?}");
    let done = stage.documents().count_documents(doc! { "done": true }).await.expect("a count");
    assert_eq!(done, 30, "what comes before it is done, and it is not");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_document_that_would_become_too_large_is_named() {
    let stage = Stage::set().await;
    stage.load(numbered(3)).await;
    stage.load([doc! { "_id": 3, "pad": "x".repeat(9 << 20) }]).await;
    let pipeline = "  where: { copy: { $exists: false } }\ntransform:\n  pipeline: [{ $set: { copy: { $ifNull: [$pad, 1] } } }]\nverify: [remaining]";
    let program = "  where: { copy: { $exists: false } }\ntransform:\n  vrl: |\n    .copy = .pad\n    if .copy == null { .copy = 1 }\nverify: [remaining]";
    for text in [pipeline, program] {
        let failure = named(&stage, &job(text)).await;
        assert_eq!(failure.code, ErrorCode::RowRejected);
        assert_eq!(failure.place.key.as_deref(), Some(r#"{"$numberInt":"3"}"#));
        stage
            .client
            .database("shardlift")
            .collection::<Document>("checkpoint")
            .delete_many(doc! {})
            .await
            .expect("gone");
        stage.documents().update_many(doc! {}, doc! { "$unset": { "copy": "" } }).await.expect("as before");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transform_that_leaves_a_document_pending_is_told_with_its_key() {
    let stage = Stage::set().await;
    stage.load((0..10).map(|number| doc! { "_id": number, "state": number })).await;
    let text = "  where: { state: { $ne: 5 } }\ntransform:\n  pipeline: [{ $set: { state: { $cond: [{ $eq: [$_id, 7] }, 6, 5] } } }]\nverify: [remaining]";
    let failure = named(&stage, &job(text)).await;
    assert_eq!(
        (failure.code, failure.place.key.as_deref()),
        (ErrorCode::RowStillPending, Some(r#"{"$numberInt":"7"}"#))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_constant_that_where_still_finds_is_told_as_well() {
    let stage = Stage::set().await;
    stage.load(numbered(5)).await;
    let text = "  where: { state: { $ne: 5 } }\ntransform:\n  pipeline: [{ $set: { state: 6 } }]\nverify: [remaining]";
    assert_eq!(named(&stage, &job(text)).await.code, ErrorCode::RowStillPending);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_changes_the_key_or_fails_names_the_document() {
    let stage = Stage::set().await;
    stage.load([doc! { "_id": 1, "n": 1 }, doc! { "_id": 2, "n": "x" }]).await;
    let text = "  where: { done: { $ne: true } }\ntransform:\n  vrl: |\n    .n = int!(.n)\n    .done = true\nverify: [remaining]";
    let failure = named(&stage, &job(text)).await;
    assert_eq!(
        (failure.code, failure.place.key.as_deref()),
        (ErrorCode::RowTransform, Some(r#"{"$numberInt":"2"}"#))
    );
    let stage = Stage::set().await;
    stage.load([doc! { "_id": 1 }]).await;
    let text = "  where: { done: { $ne: true } }\ntransform:\n  vrl: |\n    ._id = 2\n    .done = true\nverify: [remaining]";
    assert_eq!(row(EngineError::Row(named(&stage, &job(text)).await)).code, ErrorCode::RowTransform);
}
