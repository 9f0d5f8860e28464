//! The table `items` and its writer, with a plain script in Shardlift's place.

use std::time::Duration;

use bson::{Document, doc};
use futures::future::join_all;
use mongodb::Client;
use sqlx::{Connection, Executor, PgConnection};

use super::writes_more;
use crate::dataset::items::{
    Form, IdKind, KeyKind, items_lost_writes_mongodb, items_lost_writes_postgres, items_violations_mongodb,
    items_violations_postgres, load_items_mongodb, load_items_postgres,
};
use crate::servers::{Mongod, MongodOptions, Postgres, shared_mongod, shared_postgres};
use crate::wait::wait_for;
use crate::writer::{ItemsOptions, ItemsWriter};

const ROWS: u64 = 2_000;
const NONE: Vec<String> = Vec::new();
const BUSY: ItemsOptions = ItemsOptions { rate_per_second: 500, new_form: false, key_updates: true };

/// One pass: every pending row is changed once.
const PASS: &str = "UPDATE items SET applied = applied + 1, migrated = true WHERE migrated = false";

/// Writes between two events of a test: enough for some of each kind.
const SOME: u64 = 150;

async fn some_writes(writer: &ItemsWriter) {
    writes_more(|| writer.acknowledged(), SOME).await;
}

/// Until the writer has felt that its server is gone.
async fn a_failure(writer: &ItemsWriter) {
    let felt = async || (writer.failed() > 0).then_some(());
    wait_for("the writer to meet the dead server", Duration::from_secs(60), felt).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn items_of_every_kind_of_key_end_changed_once_beside_a_writer_that_moves_keys() {
    let kinds =
        [KeyKind::Bigint, KeyKind::BigintSparse, KeyKind::Uuid, KeyKind::CompositeTextInt, KeyKind::TextIcu];
    let each = async |kind: KeyKind| {
        let dsn = shared_postgres().await.unwrap();
        load_items_postgres(&dsn, ROWS, kind).await.unwrap();
        assert_eq!(items_lost_writes_postgres(&dsn, ROWS, kind, None).await.unwrap(), NONE, "{kind:?}");
        let mut session = PgConnection::connect(&dsn).await.unwrap();
        let writer = ItemsWriter::start_postgres(dsn.clone(), 1, kind, BUSY);
        some_writes(&writer).await;
        session.execute(PASS).await.unwrap();
        some_writes(&writer).await;
        let old_form = items_violations_postgres(&dsn, Form::WithWhere).await.unwrap();
        assert!(
            old_form.iter().any(|line| line.starts_with("items: not migrated")),
            "{kind:?}: {old_form:?}"
        );
        writer.deploy_new_form();
        some_writes(&writer).await;
        session.execute(PASS).await.unwrap();
        let report = writer.stop().await.unwrap();
        assert_eq!(items_violations_postgres(&dsn, Form::WithWhere).await.unwrap(), NONE, "{kind:?}");
        let lost = items_lost_writes_postgres(&dsn, ROWS, kind, Some(&report)).await.unwrap();
        assert_eq!(lost, NONE, "{kind:?}");
        assert!(report.key_moves > 0 && report.deleted > 0 && report.errors == 0, "{kind:?}: {report:?}");
    };
    join_all(kinds.map(each)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn items_of_every_kind_of_id_end_changed_once_beside_a_writer_that_moves_keys() {
    let each = async |kind: IdKind| {
        let dsn = shared_mongod().await.unwrap();
        load_items_mongodb(&dsn, ROWS, kind).await.unwrap();
        assert_eq!(items_lost_writes_mongodb(&dsn, ROWS, kind, None).await.unwrap(), NONE, "{kind:?}");
        let items = Client::with_uri_str(&dsn).await.unwrap().default_database().unwrap();
        let items = items.collection::<Document>("items");
        let pass = async || {
            let change = doc! { "$inc": { "applied": 1 }, "$set": { "migrated": true } };
            items.update_many(doc! { "migrated": false }, change).await.unwrap();
        };
        let writer = ItemsWriter::start_mongodb(dsn.clone(), 1, kind, BUSY);
        some_writes(&writer).await;
        pass().await;
        writer.deploy_new_form();
        some_writes(&writer).await;
        pass().await;
        let report = writer.stop().await.unwrap();
        assert_eq!(items_violations_mongodb(&dsn, Form::WithWhere).await.unwrap(), NONE, "{kind:?}");
        let lost = items_lost_writes_mongodb(&dsn, ROWS, kind, Some(&report)).await.unwrap();
        assert_eq!(lost, NONE, "{kind:?}");
        assert!(report.key_moves > 0 && report.deleted > 0 && report.inserted > 0, "{kind:?}: {report:?}");
    };
    join_all([IdKind::ObjectId, IdKind::Int, IdKind::Mixed].map(each)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_where_rows_present_throughout_are_told_from_inserted_ones() {
    let dsn = shared_postgres().await.unwrap();
    load_items_postgres(&dsn, ROWS, KeyKind::Uuid).await.unwrap();
    let options = ItemsOptions { key_updates: false, ..BUSY };
    let writer = ItemsWriter::start_postgres(dsn.clone(), 3, KeyKind::Uuid, options);
    some_writes(&writer).await;
    let mut session = PgConnection::connect(&dsn).await.unwrap();
    session.execute("UPDATE items SET applied = applied + 1, migrated = true").await.unwrap();
    some_writes(&writer).await;
    let report = writer.stop().await.unwrap();
    assert_eq!(report.key_moves, 0);
    assert_eq!(items_violations_postgres(&dsn, Form::WithoutWhere).await.unwrap(), NONE);
    session.execute("UPDATE items SET applied = 2 WHERE id = (SELECT id FROM items LIMIT 1)").await.unwrap();
    assert!(!items_violations_postgres(&dsn, Form::WithoutWhere).await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_postgres_writer_lives_through_a_kill_and_still_knows_what_it_wrote() {
    let server = Postgres::start().await.unwrap();
    let dsn = server.create_database("app").await.unwrap();
    load_items_postgres(&dsn, ROWS, KeyKind::Bigint).await.unwrap();
    let writer = ItemsWriter::start_postgres(dsn.clone(), 5, KeyKind::Bigint, BUSY);
    some_writes(&writer).await;
    server.kill9();
    a_failure(&writer).await;
    server.restart().await.unwrap();
    some_writes(&writer).await;
    let report = writer.stop().await.unwrap();
    assert!(report.errors > 0 && report.max_stall_ms > report.p99_ms, "{report:?}");
    let lost = items_lost_writes_postgres(&dsn, ROWS, KeyKind::Bigint, Some(&report)).await.unwrap();
    assert_eq!(lost, NONE);
    let mut session = PgConnection::connect(&dsn).await.unwrap();
    session.execute("UPDATE items SET payload = 'stale' WHERE id = 2").await.unwrap();
    let lost = items_lost_writes_postgres(&dsn, ROWS, KeyKind::Bigint, Some(&report)).await.unwrap();
    assert_eq!(lost.len(), 1, "{lost:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mongodb_writer_lives_through_a_kill_and_still_knows_what_it_wrote() {
    let server = Mongod::start_with(MongodOptions::default()).await.unwrap();
    let dsn = server.dsn("app");
    load_items_mongodb(&dsn, ROWS, IdKind::Mixed).await.unwrap();
    let writer = ItemsWriter::start_mongodb(dsn.clone(), 5, IdKind::Mixed, BUSY);
    some_writes(&writer).await;
    server.kill9();
    a_failure(&writer).await;
    server.restart().await.unwrap();
    some_writes(&writer).await;
    let report = writer.stop().await.unwrap();
    assert!(report.errors > 0 && report.max_stall_ms > report.p99_ms, "{report:?}");
    let lost = items_lost_writes_mongodb(&dsn, ROWS, IdKind::Mixed, Some(&report)).await.unwrap();
    assert_eq!(lost, NONE, "{:?}", report.first_errors);
}
