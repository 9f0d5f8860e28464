//! The MongoDB half of the library, by hand.

use bson::{Bson, Document, doc};
use futures::TryStreamExt;
use mongodb::{Client, Database};

use super::{assert_nothing_lost, spec, use_and_stop};
use crate::dataset::{DatasetSize, check_mongodb, load_mongodb};
use crate::servers::shared_mongod;
use crate::writer::Writer;

const SIZE: DatasetSize = DatasetSize { postgres_rows: 0, mongodb_documents: 6_000 };

async fn database(dsn: &str) -> Database {
    Client::with_uri_str(dsn).await.unwrap().default_database().unwrap()
}

async fn change_schema(database: &Database, id: &str) {
    for command in spec(id).get_array("up").unwrap() {
        let command = command.as_document().unwrap().clone();
        database.run_command(command).await.unwrap_or_else(|error| panic!("{id}: {error}"));
    }
}

/// Runs a data spec's pipeline until nothing is pending, as the final sweep would.
async fn change_data(database: &Database, id: &str) {
    let spec = spec(id);
    let source = spec.get_document("source").unwrap();
    let pending = source.get_document("where").unwrap();
    let pipeline: Vec<Document> = spec
        .get_document("transform")
        .and_then(|transform| transform.get_array("pipeline"))
        .unwrap()
        .iter()
        .map(|stage| stage.as_document().unwrap().clone())
        .collect();
    let target = database.collection::<Document>(source.get_str("collection").unwrap());
    loop {
        let done = target.update_many(pending.clone(), pipeline.clone()).await;
        if done.unwrap_or_else(|error| panic!("{id}: {error}")).modified_count == 0 {
            break;
        }
    }
}

/// What the worker's transformers do, as plain Rust: a document is written only if it still is what was read.
async fn change_in_the_worker(database: &Database) {
    let each = async |collection: &str, pending: Document, change: fn(&Document) -> Document| {
        let target = database.collection::<Document>(collection);
        loop {
            let found: Vec<Document> =
                target.find(pending.clone()).await.unwrap().try_collect().await.unwrap();
            if found.is_empty() {
                break;
            }
            for document in found {
                let change = change(&document);
                let unchanged = doc! { "$expr": { "$eq": ["$$ROOT", { "$literal": document } ] } };
                target.update_one(unchanged, change).await.unwrap();
            }
        }
    };
    each("drafts", doc! { "schema_version": { "$ne": 2 } }, |draft| {
        let plain = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        let body = draft.get_document("body").ok();
        let own = body.and_then(|body| body.get_str("text").ok()).map(plain);
        let blocks = body.and_then(|body| body.get_array("blocks").ok()).map(|blocks| {
            let texts = blocks.iter().filter_map(|block| block.as_document()?.get_str("text").ok());
            texts.map(plain).collect::<Vec<_>>().join("\n")
        });
        doc! { "$set": { "body_text": own.or(blocks), "schema_version": 2 }, "$inc": { "applied": 1 } }
    })
    .await;
    each("tenants", doc! { "live": false, "applied": { "$exists": false } }, |tenant| {
        let mut settings = doc! { "plan": "free", "retention_days": 365, "limits": { "seats": 10 } };
        settings.extend(tenant.get_document("settings").cloned().unwrap_or_default());
        if let Ok(plan) = settings.get_str("plan").map(str::to_lowercase) {
            settings.insert("plan", plan);
        }
        doc! { "$set": { "settings": settings, "settings_version": 2 }, "$inc": { "applied": 1 } }
    })
    .await;
    each("imports", doc! { "migrated": { "$ne": true } }, |import| {
        let title = import.get_str("legacy_name").map(str::trim).ok().filter(|name| !name.is_empty());
        doc! {
            "$set": { "title": title.unwrap_or("untitled"), "migrated": true },
            "$unset": { "legacy_name": "" }, "$inc": { "applied": 1 },
        }
    })
    .await;
}

async fn run_the_library(database: &Database) {
    for id in ["0005_message_rules", "0006_message_timeline_index", "0007_delivery_audit"] {
        change_schema(database, id).await;
    }
    for id in ["0014_message_documents", "0015_channel_members", "0019_delivery_documents"] {
        change_data(database, id).await;
    }
    change_in_the_worker(database).await;
    change_schema(database, "0023_message_rules_strict").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_mongodb_library_changes_every_document_once_beside_a_live_application() {
    let dsn = shared_mongod().await.unwrap();
    load_mongodb(&dsn, 1, 2, &SIZE).await.unwrap();
    let writer = Writer::start_mongodb(dsn.clone(), 7);
    run_the_library(&database(&dsn).await).await;
    let report = use_and_stop(writer, 150).await;
    assert_eq!(check_mongodb(&dsn).await.unwrap(), Vec::<String>::new());
    assert_nothing_lost(&report, &dsn).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_mongodb_check_tells_of_documents_that_are_pending_changed_twice_or_damaged() {
    let dsn = shared_mongod().await.unwrap();
    load_mongodb(&dsn, 0, 1, &DatasetSize { postgres_rows: 0, mongodb_documents: 400 }).await.unwrap();
    let database = database(&dsn).await;
    let pending = check_mongodb(&dsn).await.unwrap();
    for collection in ["messages", "drafts", "channels", "deliveries", "imports"] {
        assert!(pending.iter().any(|line| line.starts_with(&format!("{collection}: "))), "{pending:#?}");
    }
    run_the_library(&database).await;
    assert_eq!(check_mongodb(&dsn).await.unwrap(), Vec::<String>::new());
    let damages = [
        ("messages", doc! { "$inc": { "applied": 1 } }, "messages: not changed exactly once: 1"),
        (
            "messages",
            doc! { "$set": { "body_text": "another" } },
            "messages: body_text is not the body's text: 1",
        ),
        ("drafts", doc! { "$unset": { "applied": "" } }, "drafts: not changed exactly once: 1"),
        (
            "channels",
            doc! { "$set": { "members": [{ "u": "old" }] } },
            "channels: a member is left in the old form: 1",
        ),
        ("deliveries", doc! { "$set": { "state": "Sent" } }, "deliveries: state is not in lower case: 1"),
        ("tenants", doc! { "$set": { "applied": 2 } }, "tenants: changed twice: 1"),
        ("imports", doc! { "$set": { "values.long": 1_i32 } }, "imports: an untouched field changed"),
    ];
    for (collection, damage, expected) in damages {
        let target = database.collection::<Document>(collection);
        let first = target.find_one(doc! {}).sort(doc! { "_id": 1 }).await.unwrap().unwrap();
        let id = first.get("_id").cloned().unwrap_or(Bson::Null);
        target.update_one(doc! { "_id": id }, damage).await.unwrap();
        let told = check_mongodb(&dsn).await.unwrap();
        assert!(told.iter().any(|line| line.starts_with(expected)), "{expected}: {told:#?}");
    }
}
