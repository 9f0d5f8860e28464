//! What MongoDB alone can get wrong when a transform is evaluated anew: whole documents, types, collations, documents on
//! which a pipeline fails.

use anyhow::{Result, ensure};
use bson::{Document, doc};
use shardlift_domain::ids::{MigrationId, MigrationKey, Version};
use shardlift_domain::mismatch::{Compared, Difference, MismatchesPage, MismatchesRequest};
use shardlift_domain::spec::{Leeway, SpecFile, VerifyCheck};
use shardlift_worker::engine::{DataJob, ShardEngine};

use super::{Stage, job};

async fn changed(stage: &Stage, job: &std::sync::Arc<DataJob>) {
    let pass = stage.split(job, 2).await;
    stage.walk(job, &pass, 16).await;
}

async fn compared(stage: &Stage, job: &DataJob) -> Result<MismatchesPage> {
    let file = SpecFile { name: "m.yaml".into(), text: String::new() };
    let migration = MigrationKey { id: MigrationId::new("m")?, version: Version::FIRST };
    let request = MismatchesRequest { migration, file, after: None, limit: 10_000 };
    let page = stage.engine.mismatches(&request, job).await?;
    ensure!(page.next.is_none(), "one page is enough: {page:?}");
    Ok(page)
}

fn keys(page: &MismatchesPage, difference: Difference) -> Vec<String> {
    page.rows.iter().filter(|row| row.difference == difference).map(|row| row.key.clone()).collect()
}

const CAPTURE: &str = "\nundo: capture\nverify: [remaining, { transform: all }]";

async fn compared_by_digest(stage: &Stage, job: &DataJob) -> Result<MismatchesPage> {
    let mut data = job.data.clone();
    data.verify = vec![VerifyCheck::Digest(Leeway::NONE)];
    let job = DataJob { spec: job.spec.clone(), data, transformer: job.transformer.clone() };
    compared(stage, &job).await
}

/// Also of fields that were there before and are gone, and in another order: the server sends them in that of the document.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_clock_has_written_is_looked_for_by_its_digest() -> Result<()> {
    let stage = Stage::set().await;
    stage.load((0..40).map(|n| doc! { "_id": n, "v": 1, "z": n, "text": "x", "rest": "y" })).await;
    let list = "  where: { v: 1 }\ntransform:\n  pipeline:\n    - $set: { at: $$NOW, z: { a: $z, b: $$NOW }, v: 2 }\n    - $unset: text";
    let job = job(&format!("{list}\nundo: capture\nverify: [remaining, digest]"));
    changed(&stage, &job).await;
    let page = compared(&stage, &job).await?;
    ensure!(page.compared == Compared { verified: 40, ..Compared::default() }, "{page:?}");
    let documents = stage.documents();
    documents.update_many(doc! {}, doc! { "$set": { "rest": "of the application" } }).await?;
    documents.update_one(doc! { "_id": 3 }, doc! { "$set": { "z.a": 3_i64 } }).await?;
    documents.update_one(doc! { "_id": 4 }, doc! { "$set": { "text": "x" } }).await?;
    documents.update_one(doc! { "_id": 5 }, doc! { "$unset": { "at": "" } }).await?;
    documents.delete_one(doc! { "_id": 6 }).await?;
    let page = compared(&stage, &job).await?;
    ensure!(
        page.compared == Compared { verified: 36, changed: 3, gone: 1, ..Compared::default() },
        "types and absent fields count, other fields do not: {page:?}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn documents_that_are_built_anew_are_compared_as_a_whole() -> Result<()> {
    let stage = Stage::set().await;
    stage.load((0..50).map(|n| doc! { "_id": n, "v": 1, "a": { "z": n, "y": 1.5 }, "text": "x" })).await;
    for (from, stages) in [
        (1, "- $replaceWith: { v: 2, all: $$ROOT, n: { $add: [$a.z, 1] } }"),
        (2, "- $project: { v: { $literal: 3 }, n: 1, all: 1 }"),
        (3, "- $set: { v: 4, all.more: $n }\n    - $unset: n"),
    ] {
        stage.client.database("shardlift").collection::<Document>("undo").delete_many(doc! {}).await?;
        stage.client.database("shardlift").collection::<Document>("checkpoint").delete_many(doc! {}).await?;
        let job = job(&format!("  where: {{ v: {from} }}\ntransform:\n  pipeline:\n    {stages}{CAPTURE}"));
        changed(&stage, &job).await;
        let page = compared(&stage, &job).await?;
        ensure!(page.compared == Compared { verified: 50, ..Compared::default() }, "{stages}: {page:?}");
        let page = compared_by_digest(&stage, &job).await?;
        ensure!(page.compared == Compared { verified: 50, ..Compared::default() }, "{stages}: {page:?}");
        if from < 3 {
            continue;
        }
        stage.documents().update_one(doc! { "_id": 7 }, doc! { "$set": { "all.more": 9_i64 } }).await?;
        for page in [compared(&stage, &job).await?, compared_by_digest(&stage, &job).await?] {
            ensure!(
                page.compared == Compared { verified: 49, changed: 1, ..Compared::default() },
                "{page:?}"
            );
        }
    }
    Ok(())
}

/// The application has made of an input what the pipeline cannot work with: that document is its own, the others are judged.
#[tokio::test(flavor = "multi_thread")]
async fn a_document_on_which_the_pipeline_fails_now_does_not_hide_the_others() -> Result<()> {
    let stage = Stage::set().await;
    stage.load((0..60).map(|n| doc! { "_id": n, "v": 1, "n": n.to_string() })).await;
    let list = "  where: { v: 1 }\ntransform:\n  pipeline:\n    - $set: { v: 2, number: { $toInt: $n } }";
    let job = job(&format!("{list}{CAPTURE}"));
    changed(&stage, &job).await;
    let documents = stage.documents();
    documents.update_one(doc! { "_id": 3 }, doc! { "$set": { "n": "no number" } }).await?;
    documents.update_one(doc! { "_id": 41 }, doc! { "$set": { "n": 9 } }).await?;
    documents.update_many(doc! {}, doc! { "$set": { "seen": true } }).await?;
    let page = compared(&stage, &job).await?;
    ensure!(page.compared == Compared { verified: 58, changed: 2, ..Compared::default() }, "{page:?}");
    ensure!(keys(&page, Difference::Changed).len() == 2, "{page:?}");
    documents.update_one(doc! { "_id": 5 }, doc! { "$set": { "number": 5_i64 } }).await?;
    let page = compared(&stage, &job).await?;
    ensure!(page.compared.changed == 3 && page.compared.mismatches == 0, "types count: {page:?}");
    documents.delete_many(doc! {}).await?;
    let page = compared(&stage, &job).await?;
    ensure!(page.compared == Compared { gone: 60, ..Compared::default() }, "{page:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_collation_of_the_collection_decides_anew_as_it_did() -> Result<()> {
    let stage = Stage::set().await;
    let collation = mongodb::options::Collation::builder()
        .locale("en")
        .strength(mongodb::options::CollationStrength::Secondary)
        .build();
    stage.client.database("chat").create_collection("messages").collation(collation).await?;
    stage
        .load((0..20).map(|n| doc! { "_id": n, "v": 1, "word": if n % 2 == 0 { "YES" } else { "no" } }))
        .await;
    let list =
        "  where: { v: 1 }\ntransform:\n  pipeline:\n    - $set: { v: 2, agreed: { $eq: [$word, \"yes\"] } }";
    let job = job(&format!("{list}{CAPTURE}"));
    changed(&stage, &job).await;
    let page = compared(&stage, &job).await?;
    ensure!(page.compared == Compared { verified: 20, ..Compared::default() }, "{page:?}");
    Ok(())
}

/// A program sees fewer types than there are: what it leaves alone, and what it renames, keeps its own.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_program_leaves_alone_keeps_its_types_and_is_verified() -> Result<()> {
    let stage = Stage::set().await;
    let decimal: bson::Decimal128 = "1.50".parse().expect("digits");
    let document = |n: i32| {
        doc! { "_id": n, "v": 1, "who": bson::oid::ObjectId::from_bytes([7; 12]), "deep": { "price": decimal, "n": 5_i64 },
        "bin": bson::Binary { subtype: bson::spec::BinarySubtype::Generic, bytes: b"text".to_vec() },
        "at": bson::DateTime::from_millis(1_700_000_000_123_i64 + i64::from(n)), "list": [1, { "a": 2.5 }] }
    };
    stage.load((0..40).map(document)).await;
    let program = "  where: { v: 1 }\ntransform:\n  vrl: |\n    .v = 2\n    .author = del(.who)\n    .deep.n = 6\n    .list[0] = 9\n    .when = parse_timestamp!(\"2024-01-02T03:04:05.123456Z\", \"%+\")";
    let job = job(&format!("{program}{CAPTURE}"));
    changed(&stage, &job).await;
    let page = compared(&stage, &job).await?;
    ensure!(page.compared == Compared { verified: 40, ..Compared::default() }, "{page:?}");
    stage.documents().update_one(doc! { "_id": 4 }, doc! { "$set": { "deep.n": 7_i64 } }).await?;
    let page = compared(&stage, &job).await?;
    ensure!(page.compared == Compared { verified: 39, changed: 1, ..Compared::default() }, "{page:?}");
    Ok(())
}
