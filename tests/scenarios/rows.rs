//! Rows and keys of every kind (faults 21 to 24, 27): each is visited once, kept as it was, or told by its key.

use bson::{Bson, Document, doc};
use futures::TryStreamExt;
use serde_json::Value;
use shardlift_harness::dataset::items::{IdKind, KeyKind};
use shardlift_harness::installation::WorkerSpec;

use crate::stage::{
    DEADLINE, Engine, Form, Items, ItemsSpec, Play, Specs, VRL, Witness, assert_agreed, assert_exactly_once,
    assert_nothing_left, checkpoints, collection, curtain, execute, learns, scalar,
};

const ID: &str = "0001_items";
const NONE: Vec<String> = Vec::new();
/// The bad row of a PostgreSQL shard; its keys are 2, 4, 6, …
const BAD: i64 = 1_234;
/// The bad document of a MongoDB shard; its keys are -1000, -990, …
const BAD_ID: i64 = 5_170;

/// One range, so that all rows before the bad one come before it.
fn strict(engine: Engine, transform: &str) -> ItemsSpec {
    ItemsSpec::new(ID, engine, Form::WithWhere).transform(transform).parallel("{ ranges: 1, workers: 1 }")
}

/// The migration fails, tells this code and key, and can be retried once somebody has mended the row.
async fn told_and_retried(play: &Play, spec: ItemsSpec, code: &str, key: &str, mend: impl AsyncFnOnce()) {
    let specs = Specs::of(&[spec.text()]);
    let output = play.installation.cli(&["apply", specs.as_str(), "--yes"]).await.unwrap();
    assert_eq!(output.code, Some(3), "{output:#?}\n{}", play.installation.log_tails(20));
    assert!(output.stderr.contains(key) && output.stderr.contains(code), "{output:#?}");
    let status = play.status(ID).await;
    let error = &status["error"];
    assert_eq!((&status["status"], &error["code"]), (&"failed".into(), &code.into()), "{status:#}");
    assert_eq!((&error["key"], &error["step"]), (&key.into(), &"backfill".into()), "{status:#}");
    assert!(error["next"].as_str().is_some_and(|next| !next.is_empty()), "{status:#}");
    let illegal = play.refused(&["resume", ID], 7).await;
    assert!(illegal.contains("retry"), "{illegal}");
    mend().await;
    let retried = play.installation.cli(&["retry", ID]).await.unwrap();
    assert_eq!(retried.code, Some(0), "{retried:#?}");
    play.completed(ID).await;
}

async fn bad_row(prepare: &str, set: &str, code: &str) {
    let items = Items::of(Engine::Postgres, 1_000).await;
    let columns = "ALTER TABLE items ADD COLUMN word text, ADD COLUMN value integer; UPDATE items SET word = id::text, value = -id;";
    execute(&items.dsn, &format!("{columns} UPDATE items SET word = 'bad' WHERE id = {BAD}; {prepare}"))
        .await;
    let play = Play::start(&[&items]).await;
    let count =
        async |of: &str| scalar(&items.dsn, &format!("SELECT count(*)::text FROM items WHERE {of}")).await;
    told_and_retried(&play, strict(Engine::Postgres, set), code, &BAD.to_string(), async || {
        assert_eq!(
            count(&format!("migrated AND applied = 1 AND id < {BAD}")).await,
            "616",
            "what was before it is done"
        );
        assert_eq!(
            count(&format!("(migrated OR applied <> 0) AND id >= {BAD}")).await,
            "0",
            "nothing after it"
        );
        execute(&items.dsn, &format!("UPDATE items SET word = id::text WHERE id = {BAD}")).await;
    })
    .await;
    curtain(&play, ID, &items, Form::WithWhere, None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_whose_value_cannot_be_cast_is_told_by_its_key_and_retried() {
    let set = "sql: { value: \"word::integer\", applied: applied + 1, migrated: \"true\" }";
    bad_row("", set, "row.rejected").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_would_become_null_is_told_by_its_key_and_retried() {
    let set =
        "sql: { value: \"CASE WHEN word <> 'bad' THEN 1 END\", applied: applied + 1, migrated: \"true\" }";
    bad_row("ALTER TABLE items ALTER COLUMN value SET NOT NULL", set, "row.rejected").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_breaks_a_check_is_told_by_its_key_and_retried() {
    let set = "sql: { value: \"CASE WHEN word = 'bad' THEN 7 ELSE -1 END\", applied: applied + 1, migrated: \"true\" }";
    bad_row("ALTER TABLE items ADD CHECK (value < 0)", set, "row.rejected").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_would_be_a_duplicate_is_told_by_its_key_and_retried() {
    let set = "sql: { value: \"CASE WHEN word = 'bad' THEN 2 ELSE id::integer END\", applied: applied + 1, migrated: \"true\" }";
    bad_row("ALTER TABLE items ADD UNIQUE (value)", set, "row.rejected").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_a_program_refuses_is_told_by_its_key_and_retried() {
    let set = "vrl: |\n    .value = to_int!(.word)\n    .applied = int!(.applied) + 1\n    .migrated = true";
    bad_row("", set, "row.transform").await;
}

async fn bad_document(prepare: impl AsyncFnOnce(&mongodb::Collection<Document>), set: &str, code: &str) {
    let items = Items::mongodb("mg-01", 1_000, IdKind::Int).await;
    let documents = collection(&items.dsn).await;
    let all =
        doc! { "$set": { "word": { "$toString": "$_id" }, "value": { "$subtract": [-50_000, "$_id"] } } };
    documents.update_many(doc! {}, vec![all]).await.unwrap();
    let bad = doc! { "_id": BAD_ID };
    documents.update_one(bad.clone(), doc! { "$set": { "word": "bad" } }).await.unwrap();
    prepare(&documents).await;
    let play = Play::start(&[&items]).await;
    let count = async |of: Document| documents.count_documents(of).await.unwrap();
    let key = format!("{{\"$numberLong\":\"{BAD_ID}\"}}");
    told_and_retried(&play, strict(Engine::Mongodb, set), code, &key, async || {
        let before = doc! { "_id": { "$lt": BAD_ID }, "migrated": true, "applied": 1 };
        assert_eq!(count(before).await, 617, "what was before it is done");
        assert_eq!(
            count(doc! { "_id": { "$gte": BAD_ID }, "applied": { "$ne": 0 } }).await,
            0,
            "nothing after it"
        );
        documents.update_one(bad, doc! { "$set": { "word": BAD_ID.to_string() } }).await.unwrap();
    })
    .await;
    curtain(&play, ID, &items, Form::WithWhere, None).await;
}

const COUNTED: &str = "applied: { $add: [$applied, 1] }, migrated: true";

#[tokio::test(flavor = "multi_thread")]
async fn a_document_whose_value_cannot_be_converted_is_told_by_its_key_and_retried() {
    let set = format!("pipeline: [{{ $set: {{ value: {{ $toInt: $word }}, {COUNTED} }} }}]");
    bad_document(async |_| {}, &set, "row.rejected").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_document_that_would_be_a_duplicate_is_told_by_its_key_and_retried() {
    let value = "{ $cond: [{ $eq: [$word, bad] }, -1000, $_id] }";
    let set = format!("pipeline: [{{ $set: {{ value: {value}, {COUNTED} }} }}]");
    let unique = async |documents: &mongodb::Collection<Document>| {
        let options = mongodb::options::IndexOptions::builder().unique(true).build();
        let index = mongodb::IndexModel::builder().keys(doc! { "value": 1 }).options(options).build();
        documents.create_index(index).await.unwrap();
    };
    bad_document(unique, &set, "row.rejected").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_document_that_a_program_refuses_is_told_by_its_key_and_retried() {
    let set = "vrl: |\n    .value = to_int!(.word)\n    .applied = int!(.applied) + 1\n    .migrated = true";
    bad_document(async |_| {}, set, "row.transform").await;
}

/// Half of what a document may hold, in the bad one.
async fn half_full(documents: &mongodb::Collection<Document>) {
    let filler = doc! { "$set": { "filler": "x".repeat(9 << 20) } };
    documents.update_one(doc! { "_id": BAD_ID }, filler).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_document_that_would_outgrow_the_server_is_told_by_its_key_and_retried() {
    let grown = "{ $cond: [{ $eq: [$word, bad] }, { $concat: [$filler, $filler] }, small] }";
    let set = format!("pipeline: [{{ $set: {{ grown: {grown}, {COUNTED} }} }}]");
    bad_document(half_full, &set, "row.rejected").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_document_that_a_program_makes_too_large_is_told_by_its_key_and_retried() {
    let set = "vrl: |\n    .grown = if .word == \"bad\" { string!(.filler) + string!(.filler) } else { \"small\" }\n    \
               .applied = int!(.applied) + 1\n    .migrated = true";
    bad_document(half_full, set, "row.rejected").await;
}

async fn still_pending(items: Items, transform: &str, first: &str) {
    let play = Play::start(&[&items]).await;
    play.apply(&[strict(items.engine(), transform).text()]).await;
    let status = play.reached(ID, "failed").await;
    assert_eq!(status["error"]["code"], "row.still-pending", "{status:#}");
    assert_eq!(status["error"]["key"], first, "{status:#}");
    let there = checkpoints(&items, ID).await;
    assert_eq!(
        there.iter().map(|range| range.rows).sum::<u64>(),
        0,
        "nothing of it was committed: {there:#?}"
    );
    assert_nothing_left(&items).await;
    let changed = match items.engine() {
        Engine::Postgres => scalar(&items.dsn, "SELECT sum(applied)::text FROM items").await,
        Engine::Mongodb => {
            let touched = doc! { "applied": { "$ne": 0 } };
            collection(&items.dsn).await.count_documents(touched).await.unwrap().to_string()
        }
    };
    assert_eq!(changed, "0");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transform_that_leaves_rows_pending_is_refused_at_its_first_row_in_postgres() {
    let items = Items::of(Engine::Postgres, 1_000).await;
    still_pending(items, "sql: { applied: applied + 1 }", "2").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transform_that_leaves_documents_pending_is_refused_at_its_first_in_mongodb() {
    let items = Items::mongodb("mg-01", 1_000, IdKind::Int).await;
    let pipeline = "pipeline: [{ $set: { applied: { $add: [$applied, 1] } } }]";
    still_pending(items, pipeline, "{\"$numberLong\":\"-1000\"}").await;
}

/// Values that a careless reader or writer of rows would lose.
const ODD_COLUMNS: &str = r#"
ALTER TABLE items ADD COLUMN n numeric, ADD COLUMN f8 double precision, ADD COLUMN f4 real, ADD COLUMN d date,
  ADD COLUMN ts timestamp, ADD COLUMN tz timestamptz, ADD COLUMN jb jsonb, ADD COLUMN js json, ADD COLUMN b bytea,
  ADD COLUMN a integer[], ADD COLUMN ta text[], ADD COLUMN i interval, ADD COLUMN u uuid, ADD COLUMN net inet,
  ADD COLUMN r int4range, ADD COLUMN bits bit varying, ADD COLUMN ch char(5), ADD COLUMN t time;
UPDATE items SET
  n = (ARRAY['NaN', '0.1', '-99999999999999999999999999999999.000000000000000000001', '1e-100', '7.00'])[id / 2 % 5 + 1]::numeric,
  f8 = (ARRAY['NaN', 'Infinity', '-Infinity', '1.7976931348623157e308', '4.9e-324'])[id / 2 % 5 + 1]::double precision,
  f4 = (ARRAY['NaN', 'Infinity', '-0', '3.4028235e38', '0.1'])[id / 2 % 5 + 1]::real,
  d = (ARRAY['infinity', '-infinity', '0044-03-15 BC', '4713-01-01 BC', '9999-12-31'])[id / 2 % 5 + 1]::date,
  ts = (ARRAY['infinity', '0044-03-15 12:00:00.000001 BC', '294276-12-31 23:59:59.999999', '2024-02-29', '1970-01-01'])[id / 2 % 5 + 1]::timestamp,
  tz = (ARRAY['infinity', '0044-03-15 12:00:00+00 BC', '2024-10-27 02:30:00+02', '2024-10-27 02:30:00+01', '-infinity'])[id / 2 % 5 + 1]::timestamptz,
  jb = (ARRAY['{"n": 123456789012345678901234567890.123456789, "z": null}', '[]', '"\u00e9"', 'null', '{"a": {"b": [1, 1.0, 1e400]}}'])[id / 2 % 5 + 1]::jsonb,
  js = (ARRAY['"\u0000"', '{"b":1, "a":2, "b":3}', ' [1.10]', 'null', '"\ud83d\udc4d"'])[id / 2 % 5 + 1]::json,
  b = decode('00ff5c' || lpad(to_hex(id), 8, '0'), 'hex'), a = ARRAY[NULL, id, -1], ta = ARRAY['', 'NULL', NULL, 'a"b,{}\', '東京'],
  i = (ARRAY['1 mon -3 days 00:00:00.000001', '-178000000 years', '0', '1000000 hours', '1 day'])[id / 2 % 5 + 1]::interval,
  u = md5(id::text)::uuid, net = '2001:db8::1/64', r = CASE WHEN id % 3 = 0 THEN 'empty' ELSE '[1,)' END::int4range,
  bits = B'1011', ch = 'a  ', t = '24:00:00';"#;
const FINGERPRINT: &str =
    "SELECT md5(string_agg(md5((id, payload, n, f8, f4, d, ts, tz, jb, js::text, b, a, ta, i, u, net, r,
  bits, ch, t)::text), '' ORDER BY id)) FROM items";

#[tokio::test(flavor = "multi_thread")]
async fn values_of_every_odd_kind_survive_a_program_that_does_not_touch_them() {
    let items = Items::of(Engine::Postgres, 500).await;
    execute(&items.dsn, ODD_COLUMNS).await;
    let before = scalar(&items.dsn, FINGERPRINT).await;
    let play = Play::start(&[&items]).await;
    play.apply(&[ItemsSpec::new(ID, Engine::Postgres, Form::WithWhere).transform(VRL).text()]).await;
    play.completed(ID).await;
    assert_eq!(scalar(&items.dsn, FINGERPRINT).await, before);
    curtain(&play, ID, &items, Form::WithWhere, None).await;
}

async fn all_kinds(shards: Vec<Items>, spec: ItemsSpec, form: Form) {
    let all: Vec<&Items> = shards.iter().collect();
    let names: Vec<&str> = shards.iter().map(|items| items.shard.as_str()).collect();
    let play = Play::of(Play::builder(&all).worker(WorkerSpec::new("all", &names).slots(8))).await;
    let mut witnesses = Vec::new();
    for items in &shards {
        witnesses.push(Witness::of(items).await);
    }
    let writers: Vec<_> = shards.iter().map(|items| items.writer(form)).collect();
    play.apply(&[spec.batch("{ target: 100ms, min: 20, max: 50 }").rows_per_second(800).text()]).await;
    play.until_rows(ID, 300).await;
    writers.iter().for_each(|writer| learns(writer, form));
    play.completed(ID).await;
    for (items, writer) in shards.iter().zip(writers) {
        let report = writer.stop().await.unwrap();
        assert_exactly_once(items, form, Some(&report)).await;
        assert_nothing_left(items).await;
    }
    for witness in &witnesses {
        assert_eq!(witness.complaints().await, NONE);
    }
    assert_agreed(&play, ID, &all).await;
}

async fn every_kind_of_key(form: Form) {
    let kinds =
        [KeyKind::Bigint, KeyKind::BigintSparse, KeyKind::Uuid, KeyKind::CompositeTextInt, KeyKind::TextIcu];
    let mut shards = Vec::new();
    for (number, kind) in kinds.into_iter().enumerate() {
        shards.push(Items::postgres(&format!("pg-{number:02}"), 1_200, kind).await);
    }
    all_kinds(shards, ItemsSpec::new(ID, Engine::Postgres, form), form).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_row_is_visited_once_whatever_its_key_is() {
    every_kind_of_key(Form::WithWhere).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_row_is_visited_once_whatever_its_key_is_without_where() {
    every_kind_of_key(Form::WithoutWhere).await;
}

async fn every_kind_of_id(spec: ItemsSpec, form: Form) {
    let mut shards = Vec::new();
    for (number, kind) in [IdKind::Mixed, IdKind::Int].into_iter().enumerate() {
        shards.push(Items::mongodb(&format!("mg-{number:02}"), 1_200, kind).await);
    }
    all_kinds(shards, spec, form).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_document_is_visited_once_whatever_its_id_is() {
    every_kind_of_id(ItemsSpec::new(ID, Engine::Mongodb, Form::WithWhere), Form::WithWhere).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_document_is_visited_once_whatever_its_id_is_by_a_program_without_where() {
    let spec = ItemsSpec::new(ID, Engine::Mongodb, Form::WithoutWhere).transform(VRL);
    every_kind_of_id(spec, Form::WithoutWhere).await;
}

/// A document of `levels` documents within one another.
fn deep(levels: u32) -> Document {
    (0..levels).fold(
        doc! { "end": "here" },
        |inner, level| doc! { "level": level, "in": [Bson::Null, Bson::Document(inner)] },
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn deep_and_large_documents_survive_a_program_that_does_not_touch_them() {
    let items = Items::mongodb("mg-01", 300, IdKind::Int).await;
    let documents = collection(&items.dsn).await;
    let odd = doc! {
        "deep": deep(49), "large": "ä".repeat(2_000_000), "none": Bson::Null, "date": bson::DateTime::MAX,
        "decimal": "-0E+10".parse::<bson::Decimal128>().unwrap(), "long": 5_i64, "int": 5_i32, "double": 5.0,
        "code": Bson::JavaScriptCode("x".into()), "regex": bson::Regex { pattern: "a".try_into().unwrap(), options: "i".try_into().unwrap() },
        "stamp": bson::Timestamp { time: 1, increment: 2 }, "least": Bson::MinKey, "nan": f64::NAN, "": "no name", "a$b": 1,
    };
    documents.update_one(doc! { "_id": 0_i64 }, doc! { "$set": odd_without_empty(&odd) }).await.unwrap();
    let bytes = async || {
        let found = documents.find(doc! { "_id": 0_i64 }).projection(doc! { "applied": 0, "migrated": 0 });
        let found: Vec<Document> = found.await.unwrap().try_collect().await.unwrap();
        found[0].to_vec().unwrap()
    };
    let before = bytes().await;
    let play = Play::start(&[&items]).await;
    play.apply(&[ItemsSpec::new(ID, Engine::Mongodb, Form::WithWhere).transform(VRL).text()]).await;
    play.completed(ID).await;
    assert!(bytes().await == before, "a field that was not touched has changed");
    curtain(&play, ID, &items, Form::WithWhere, None).await;
}

/// `$set` takes neither an empty name nor a name with a dollar in front.
fn odd_without_empty(odd: &Document) -> Document {
    odd.iter()
        .filter(|(name, _)| !name.is_empty())
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_vacuum_moves_behind_the_cursor_are_not_missed() {
    let items = Items::of(Engine::Postgres, 4_000).await;
    let play = Play::start(&[&items]).await;
    let spec = ItemsSpec::new(ID, Engine::Postgres, Form::WithoutWhere).rows_per_second(1_500);
    play.apply(&[spec.text()]).await;
    play.until_rows(ID, 100).await;
    for round in 0..6 {
        execute(&items.dsn, &format!("UPDATE items SET origin = origin WHERE id % 7 = {round}")).await;
        execute(&items.dsn, if round == 3 { "VACUUM FULL items" } else { "VACUUM items" }).await;
    }
    play.completed(ID).await;
    curtain(&play, ID, &items, Form::WithoutWhere, None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_whose_last_row_is_deleted_meanwhile_ends() {
    for form in [Form::WithWhere, Form::WithoutWhere] {
        let items = Items::of(Engine::Postgres, 2_000).await;
        let play = Play::start(&[&items]).await;
        play.apply(&[ItemsSpec::new(ID, Engine::Postgres, form).rows_per_second(1_500).text()]).await;
        play.until_rows(ID, 100).await;
        let last = "DELETE FROM items WHERE id = (SELECT max(id) FROM items) AND NOT migrated RETURNING id";
        execute(&items.dsn, last).await;
        let status: Value = play.installation.wait_status(ID, "completed", DEADLINE).await.unwrap();
        let told = items.violations(form, None).await;
        assert_eq!(told, ["items: a row was lost: 1, such as (4000)"], "{status:#}");
    }
}
