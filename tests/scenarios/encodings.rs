//! A PostgreSQL database that holds bytes which are no text in UTF-8 (fault 22): SQL_ASCII takes whatever it is given.

use std::sync::atomic::{AtomicU32, Ordering};

use shardlift_harness::servers::shared_postgres_server;

use crate::stage::{Engine, Form, Items, ItemsSpec, Play, Specs, VRL, curtain, execute, scalar};

const ID: &str = "0001_items";
/// The key of the row that holds them; keys are 2, 4, 6, …
const BAD: i64 = 1_234;
/// `café` as a machine of the last century wrote it.
const BYTES: &str = "636166e9";

/// A shard in SQL_ASCII with one such row.
async fn shard() -> Items {
    static NUMBER: AtomicU32 = AtomicU32::new(1);
    let server = shared_postgres_server().await.unwrap();
    let name = format!("sql_ascii_{}", NUMBER.fetch_add(1, Ordering::Relaxed));
    let create =
        format!("CREATE DATABASE {name} TEMPLATE template0 ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C'");
    server.execute(&create).await.unwrap();
    let items = Items::database("pg-01", server.dsn(&name), 1_000).await;
    let spoil = format!(
        "ALTER TABLE items ADD COLUMN old text;
         UPDATE items SET old = convert_from('\\x{BYTES}'::bytea, 'SQL_ASCII') WHERE id = {BAD}"
    );
    execute(&items.dsn, &spoil).await;
    items
}

/// The bytes of that row, as they are now.
async fn bytes(items: &Items) -> String {
    let hex = format!("SELECT encode(convert_to(old, 'SQL_ASCII'), 'hex') FROM items WHERE id = {BAD}");
    scalar(&items.dsn, &hex).await
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_that_are_no_text_survive_a_change_that_runs_in_the_shard() {
    let (items, form) = (shard().await, Form::WithWhere);
    let play = Play::start(&[&items]).await;
    play.apply(&[ItemsSpec::new(ID, Engine::Postgres, form).text()]).await;
    play.completed(ID).await;
    assert_eq!(bytes(&items).await, BYTES);
    curtain(&play, ID, &items, form, None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_that_are_no_text_are_told_by_the_key_of_their_row_when_a_program_would_read_them() {
    let (items, form) = (shard().await, Form::WithWhere);
    let play = Play::start(&[&items]).await;
    let specs = Specs::of(&[ItemsSpec::new(ID, Engine::Postgres, form).transform(VRL).text()]);
    let complaint = play.refused(&["apply", specs.as_str(), "--yes"], 3).await;
    assert!(complaint.contains("row.rejected") && !complaint.contains("0xe9"), "{complaint}");
    let error = play.status(ID).await["error"].clone();
    assert_eq!(
        (&error["code"], &error["key"]),
        (&"row.rejected".into(), &BAD.to_string().into()),
        "{error:#}"
    );
    assert!(error["message"].as_str().unwrap().contains("bytes that are not text in UTF-8"), "{error:#}");
    assert_eq!(bytes(&items).await, BYTES, "the row is as it was");
    execute(&items.dsn, &format!("UPDATE items SET old = 'coffee' WHERE id = {BAD}")).await;
    assert_eq!(play.installation.cli(&["retry", ID]).await.unwrap().code, Some(0));
    play.completed(ID).await;
    curtain(&play, ID, &items, form, None).await;
}
