//! Transforms in the worker: what they do not touch survives, whatever its type, and what they write arrives.

use std::sync::Arc;

use anyhow::{Result, ensure};
use shardlift_domain::failure::ErrorCode;
use shardlift_worker::transformer::{Document, TransformError};
use vrl::value::Value;

use super::bench::{Bench, leader, range_lease};
use super::drive::{bisect, open, split, walk};
use super::postgres::{Change, PostgresBench, data_job, in_worker};

pub(crate) const EVERYTHING: &str = "
    CREATE TYPE mood AS ENUM ('sad', 'happy');
    CREATE TYPE pair AS (a int, b text);
    CREATE DOMAIN code AS text CHECK (length(value) <= 12);
    CREATE TABLE zoo (id int PRIMARY KEY, done boolean NOT NULL DEFAULT false, doc jsonb, label varchar(10),
      raw json, kind mood, size numeric, price numeric(30, 6), cost money, ratio float8, score real, views smallint,
      tags text[], grid numeric[], at timestamptz, local timestamp, day date, clock time, zone timetz, length interval,
      source inet, network cidr, card macaddr, digest bytea, span tstzrange, pages int4multirange, flags varbit(16),
      fixed char(6), place point, words tsvector, paper xml, short code, both_ pair, owner uuid, ref_ oid, wal pg_lsn,
      twice int GENERATED ALWAYS AS (id * 2) STORED, nothing text);
    INSERT INTO zoo (id, doc, label, raw, kind, size, price, cost, ratio, score, views, tags, grid, at, local, day,
      clock, zone, length, source, network, card, digest, span, pages, flags, fixed, place, words, paper, short, both_,
      owner, ref_, wal)
    SELECT n, '{\"n\": 1, \"text\": \"ü\"}', 'old', '{\"b\": 1,  \"a\": 123456789012345678901234567890}', 'happy',
      123456789012345678901234567890.123456789, 0.000001, 12.5, 'NaN', 'Infinity', 7, ARRAY['a,b', NULL, '\"x\"'],
      ARRAY[1.50, NULL], '2024-02-29 23:59:59.123456+02', '0044-03-15 01:02:03 BC', 'infinity', '24:00',
      '12:00+05:30', '1 mon -2 days 03:04:05.678', '10.1.2.3/8', '10.0.0.0/8', '08:00:2b:01:02:03', '\\x00ff',
      '[2024-01-01, infinity)', '{[1,3), [5,9)}', B'1010', 'ab', '(1.5,-2)', 'a fat cat', '<a>b</a>', 'xyz',
      ROW(1, 'q\"')::pair, md5(n::text)::uuid, 42, '16/B374D848' FROM generate_series(1, 40) n";
pub(crate) const FINGERPRINT: &str = "SELECT md5(string_agg(to_jsonb(z)::text || z.ratio::text || z.raw::text || z.price::text, ',' ORDER BY id)) \
    FROM (SELECT id, raw, kind, size, price, cost, ratio, score, views, tags, grid, at, local, day, clock, zone, length, source, \
    network, card, digest, span, pages, flags, fixed, place::text, words, paper::text, short, both_, owner, ref_, wal, twice FROM zoo) z";

fn touch(document: &mut Document) -> Result<(), TransformError> {
    let Some(Value::Object(mut doc)) = document.get("doc").cloned() else {
        return Err(TransformError { message: "doc is no object".into() });
    };
    doc.insert("seen".into(), Value::Boolean(true));
    document.insert("doc".into(), Value::Object(doc));
    document.insert("done".into(), Value::Boolean(true));
    // Every third row touches one column more, and one loses its label.
    match document.get("id") {
        Some(Value::Integer(id)) if id % 3 == 0 => {
            document.insert("nothing".into(), Value::from("it's \\ \"quoted\""))
        }
        Some(Value::Integer(7)) => document.remove("label"),
        _ => None,
    };
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_transform_does_not_touch_survives() -> Result<()> {
    let bench = PostgresBench::start().await?;
    bench.execute(EVERYTHING).await?;
    let before = bench.value(FINGERPRINT).await?;
    let (engine, leader) = (bench.engine(), leader(1, "a"));
    let job = Arc::new(data_job(("zoo", &[], Some("NOT done")), in_worker(), Some(Arc::new(Change(touch)))));
    let pass = split(&*engine, &leader, &job, 2).await?;
    ensure!(walk(&*engine, &leader, &job, &pass, 9).await? == 40);
    ensure!(bench.value(FINGERPRINT).await? == before, "untouched columns changed");
    let touched = "SELECT count(*) FILTER (WHERE doc = '{\"n\": 1, \"seen\": true, \"text\": \"ü\"}' AND done) || ' ' || \
        count(*) FILTER (WHERE nothing = E'it''s \\\\ \"quoted\"') || ' ' || count(*) FILTER (WHERE nothing IS NULL) || ' ' || \
        count(*) FILTER (WHERE label = 'old') FROM zoo";
    ensure!(bench.value(touched).await? == "40 13 27 39", "{}", bench.value(touched).await?);
    Ok(())
}

/// One row of 20 is not what the change can be done to; answers the failure that names it.
async fn refusal(
    setup: &str,
    change: fn(&mut Document) -> Result<(), TransformError>,
) -> Result<shardlift_domain::Failure> {
    let bench = PostgresBench::start().await?;
    bench.execute(EVERYTHING).await?;
    bench.execute(setup).await?;
    let (engine, leader) = (bench.engine(), leader(1, "a"));
    let job = Arc::new(data_job(("zoo", &[], Some("NOT done")), in_worker(), Some(Arc::new(Change(change)))));
    split(&*engine, &leader, &job, 1).await?;
    let lease = range_lease(&leader, 0, 1);
    let mut writer = open(&*engine, &lease, &job).await?;
    let failure = bisect(writer.as_mut(), &lease).await?;
    ensure!(failure.place.key.as_deref() == Some("13"), "{failure:?}");
    ensure!(bench.value("SELECT count(*)::text FROM zoo WHERE done AND id >= 13").await? == "0");
    Ok(failure)
}

fn label_13(document: &mut Document) -> Result<(), TransformError> {
    document.insert("done".into(), Value::Boolean(true));
    let long = document.get("id") == Some(&Value::Integer(13));
    document.insert("label".into(), Value::from(if long { "longer than ten SECRET" } else { "short" }));
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_value_that_does_not_fit_is_refused_and_never_cut() -> Result<()> {
    let failure = refusal("SELECT 1", label_13).await?;
    ensure!(failure.code == ErrorCode::RowRejected && !failure.message.contains("SECRET"), "{failure:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transform_that_fails_names_the_row() -> Result<()> {
    let failure = refusal("UPDATE zoo SET doc = '[1]' WHERE id = 13", touch).await?;
    ensure!(
        failure.code == ErrorCode::RowTransform && failure.message.contains("doc is no object"),
        "{failure:?}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn json_whose_numbers_would_lose_digits_is_refused() -> Result<()> {
    let failure =
        refusal("UPDATE zoo SET doc = '{\"n\": 12345678901234567890.5}' WHERE id = 13", touch).await?;
    ensure!(failure.code == ErrorCode::RowTransform && failure.message.contains("doc"), "{failure:?}");
    Ok(())
}

fn unknown_field(document: &mut Document) -> Result<(), TransformError> {
    document.insert("done".into(), Value::Boolean(true));
    if document.get("id") == Some(&Value::Integer(13)) {
        document.insert("no_such_column".into(), Value::from("x"));
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_field_that_is_no_column_is_refused() -> Result<()> {
    let failure = refusal("SELECT 1", unknown_field).await?;
    ensure!(failure.message.contains("no_such_column"), "{failure:?}");
    Ok(())
}

fn key_change(document: &mut Document) -> Result<(), TransformError> {
    document.insert("done".into(), Value::Boolean(true));
    if document.get("id") == Some(&Value::Integer(13)) {
        document.insert("id".into(), Value::Integer(1_000));
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_is_never_changed() -> Result<()> {
    let failure = refusal("SELECT 1", key_change).await?;
    ensure!(failure.message.contains("column id"), "{failure:?}");
    Ok(())
}

fn leave_13(document: &mut Document) -> Result<(), TransformError> {
    if document.get("id") != Some(&Value::Integer(13)) {
        document.insert("done".into(), Value::Boolean(true));
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_that_the_transform_leaves_pending_is_named() -> Result<()> {
    let failure = refusal("SELECT 1", leave_13).await?;
    ensure!(failure.code == ErrorCode::RowStillPending, "{failure:?}");
    Ok(())
}
