//! What PostgreSQL alone can get wrong when a transform is evaluated anew: types, triggers, inputs, functions.

use std::sync::Arc;

use anyhow::{Result, ensure};
use shardlift_domain::failure::ErrorCode;
use shardlift_domain::mismatch::{Compared, Difference};
use shardlift_domain::spec::{Leeway, Transform};
use shardlift_worker::engine::{DataJob, Job, ShardEngine};
use shardlift_worker::transformer::{Document, TransformError};
use vrl::value::Value;

use super::anew::{STRICT, TOLERANT, anew, changed, keys, listed, verified};
use super::bench::{Bench, leader, migration};
use super::digest::{by_digest, digest};
use super::postgres::{Change, PostgresBench, data_job, in_worker, set};

fn job(table: &str, transform: Transform) -> DataJob {
    data_job((table, &[], Some("NOT done")), transform, None)
}

fn all(verified: u64) -> Compared {
    Compared { verified, ..Compared::default() }
}

/// What a look at the shard says against the transform, before anything is changed.
async fn refusals(engine: &dyn ShardEngine, job: &DataJob) -> Result<Vec<String>> {
    let findings = engine.check(&migration(), &Job::Data(anew(job, STRICT))).await?;
    let ours = findings.into_iter().filter(|finding| finding.failure.code == ErrorCode::TransformInvalid);
    Ok(ours.map(|finding| finding.failure.message).collect())
}

/// Values are compared in the form that the column gives them, also where it cuts, pads or rounds; expressions may name the
/// table, and the row as a whole.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn values_are_compared_as_their_columns_hold_them() -> Result<()> {
    let named = [("label", "'l' || \"Odd ones\".id"), ("whole", "to_jsonb(\"Odd ones\") - 'whole'")];
    let plain = [("label", "'l' || id"), ("whole", "to_jsonb(tags)")];
    for some in [named, plain] {
        compared_as_held(&some).await?;
    }
    Ok(())
}

async fn compared_as_held(some: &[(&str, &str)]) -> Result<()> {
    let bench = PostgresBench::start().await?;
    bench
        .execute(
            "CREATE DOMAIN short AS varchar(8);
             CREATE TABLE \"Odd ones\" (id int PRIMARY KEY, gone int, body jsonb, price numeric(10, 2), code char(6),
               label short, at timestamp(0) with time zone, tags text[], raw bytea, whole jsonb, mood text,
               done boolean NOT NULL DEFAULT false);
             ALTER TABLE \"Odd ones\" DROP COLUMN gone;
             INSERT INTO \"Odd ones\" (id, code, label, body, price, at, raw, mood)
             SELECT n, 'o', 'old', jsonb_build_object('text', 'Grüße ' || n, 'n', n), n / 7.0, timestamp '2024-02-29 12:00:00.75', NULL,
               CASE WHEN n % 3 = 0 THEN NULL ELSE 'calm' END
             FROM generate_series(1, 90) n",
        )
        .await?;
    let list = [
        ("price", "price / 3"),
        ("code", "'c' || id"),
        ("at", "at + interval '1.4 s'"),
        ("tags", "ARRAY[body ->> 'text', NULL, mood]"),
        ("raw", "convert_to(body ->> 'text', 'UTF8')"),
        ("mood", "upper(mood)"),
        ("done", "true"),
    ];
    let list = [&list[..], some].concat();
    let (engine, leader, job) = (bench.engine(), leader(1, "a"), job("\"Odd ones\"", set(&list)));
    ensure!(refusals(&*engine, &job).await?.is_empty());
    changed(&bench, &leader, &job, 90).await?;
    let check = verified(&*engine, &leader, &job, STRICT).await?;
    ensure!(check.passed, "{check:?}");
    bench.execute("UPDATE \"Odd ones\" SET tags[1] = 'x' WHERE id = 8").await?;
    let page = listed(&*engine, &job, 10).await?;
    ensure!(keys(&page, Difference::Changed) == ["8"], "{page:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn values_of_every_type_that_a_program_leaves_or_changes_are_verified() -> Result<()> {
    use super::postgres_types::EVERYTHING;
    fn mark(document: &mut Document) -> Result<(), TransformError> {
        let label = document.get("label").cloned().unwrap_or(Value::Null);
        document.insert("label".into(), Value::from(format!("new {}", label.to_str().unwrap_or_default())));
        document.insert("views".into(), Value::Null);
        document.insert("done".into(), Value::Boolean(true));
        Ok(())
    }
    let bench = PostgresBench::start().await?;
    bench.execute(EVERYTHING).await?;
    let (engine, leader) = (bench.engine(), leader(1, "a"));
    let job = data_job(("zoo", &[], Some("NOT done")), in_worker(), Some(Arc::new(Change(mark))));
    changed(&bench, &leader, &job, 40).await?;
    let page = listed(&*engine, &job, 10).await?;
    ensure!(page.compared == all(40), "{page:?}");
    Ok(())
}

const NOTES: &str = "CREATE TABLE notes (id int PRIMARY KEY, body text, title text, at timestamptz, \
    done boolean NOT NULL DEFAULT false); \
    INSERT INTO notes (id, body) SELECT n, n::text FROM generate_series(1, 80) n";

/// The database itself writes something else: a trigger. Nobody has changed these rows since.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_trigger_makes_of_a_value_is_a_mismatch_and_other_columns_are_its_own() -> Result<()> {
    fn title(document: &mut Document) -> Result<(), TransformError> {
        let body = document.get("body").and_then(|body| body.to_str().map(str::to_owned));
        document.insert("title".into(), Value::from(format!("t{}", body.unwrap_or_default())));
        document.insert("done".into(), Value::Boolean(true));
        Ok(())
    }
    let in_shard = || job("notes", set(&[("title", "'t' || body"), ("done", "true")]));
    let in_workers =
        || data_job(("notes", &[], Some("NOT done")), in_worker(), Some(Arc::new(Change(title))));
    for job in [in_shard(), in_workers()] {
        let bench = PostgresBench::start().await?;
        bench.execute(NOTES).await?;
        bench
            .execute(
                "CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS $$
                 BEGIN NEW.at := clock_timestamp(); IF NEW.id IN (13, 14) THEN NEW.title := 'mine'; END IF; RETURN NEW; END $$;
                 CREATE TRIGGER touch BEFORE UPDATE ON notes FOR EACH ROW EXECUTE FUNCTION touch()",
            )
            .await?;
        let (engine, leader) = (bench.engine(), leader(1, "a"));
        changed(&bench, &leader, &job, 80).await?;
        let page = listed(&*engine, &job, 10).await?;
        ensure!(page.compared.verified == 78, "{page:?}");
        let found = match job.transformer {
            None => keys(&page, Difference::Mismatch),
            // The trigger has also changed what a program might read.
            Some(_) => keys(&page, Difference::Changed),
        };
        ensure!(found == ["13", "14"], "{page:?}");
    }
    Ok(())
}

/// What the expression was evaluated on is not there any more, and what is there now would make it fail.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_input_that_was_changed_since_makes_its_row_changed_and_no_error() -> Result<()> {
    let bench = PostgresBench::start().await?;
    bench.execute(NOTES).await?;
    let job = job("notes", set(&[("title", "(body::int * 2)::text"), ("done", "true")]));
    let (engine, leader) = (bench.engine(), leader(1, "a"));
    changed(&bench, &leader, &job, 80).await?;
    bench
        .execute(
            "UPDATE notes SET body = 'no number' WHERE id = 3; UPDATE notes SET body = '77' WHERE id = 4",
        )
        .await?;
    bench.execute("UPDATE notes SET at = now()").await?;
    let check = verified(&*engine, &leader, &job, TOLERANT).await?;
    ensure!(check.passed, "{check:?}");
    let page = listed(&*engine, &job, 10).await?;
    ensure!(page.compared == Compared { verified: 78, changed: 2, ..Compared::default() }, "{page:?}");
    ensure!(keys(&page, Difference::Changed) == ["3", "4"], "{page:?}");
    Ok(())
}

/// What reads the clock gives something else each time, and what it has written can be looked for all the same: whichever
/// rows are altered, swapped or gone, on keys of several columns in partitions.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_clock_has_written_is_looked_for_by_its_digest() -> Result<()> {
    let bench = PostgresBench::start().await?;
    bench
        .execute(
            "CREATE TABLE parted (tenant int, id text COLLATE \"C\", body text, at timestamptz, done boolean NOT NULL DEFAULT false,
               PRIMARY KEY (tenant, id)) PARTITION BY RANGE (tenant);
             CREATE TABLE parted_a PARTITION OF parted FOR VALUES FROM (0) TO (5);
             CREATE TABLE parted_b PARTITION OF parted FOR VALUES FROM (5) TO (200);
             INSERT INTO parted SELECT n % 10, 'k' || n, NULL FROM generate_series(1, 100) n",
        )
        .await?;
    let (engine, leader) = (bench.engine(), leader(1, "a"));
    let list = [("at", "clock_timestamp()"), ("body", "tenant || id"), ("done", "true")];
    let job = job("parted", set(&list));
    changed(&bench, &leader, &job, 100).await?;
    let check = by_digest(&*engine, &leader, &job, Leeway::NONE).await?;
    ensure!(check.passed, "{check:?}");
    bench
        .execute(
            "UPDATE parted SET at = at + interval '1 us' WHERE id = 'k37';
             UPDATE parted SET body = NULL WHERE id = 'k38';
             UPDATE parted p SET body = o.body FROM parted o WHERE (p.id, o.id) IN (('k41', 'k42'), ('k42', 'k41'));
             DELETE FROM parted WHERE id = 'k50'",
        )
        .await?;
    let check = by_digest(&*engine, &leader, &job, Leeway::NONE).await?;
    ensure!(!check.passed && check.detail.contains("4 were changed since (allowed: 0)"), "{check:?}");
    let page = listed(&*engine, &digest(&job, Leeway::NONE), 10).await?;
    let mut told = keys(&page, Difference::Changed);
    told.sort();
    ensure!(told == ["(1, k41)", "(2, k42)", "(7, k37)", "(8, k38)"], "{page:?}");
    ensure!(keys(&page, Difference::Gone) == ["(0, k50)"], "{page:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn before_images_that_are_missing_are_noticed() -> Result<()> {
    let bench = PostgresBench::start().await?;
    bench.execute(NOTES).await?;
    let job = job("notes", set(&[("title", "body"), ("done", "true")]));
    let (engine, leader) = (bench.engine(), leader(1, "a"));
    changed(&bench, &leader, &job, 80).await?;
    bench.execute("DELETE FROM shardlift.undo WHERE (range_index, batch) = (0, 1)").await?;
    let check = verified(&*engine, &leader, &job, TOLERANT).await?;
    ensure!(!check.passed && check.detail.contains("before-images of"), "{check:?}");
    let check = by_digest(&*engine, &leader, &job, Leeway::NONE).await?;
    ensure!(!check.passed && check.detail.contains("before-images of"), "{check:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_of_partitions_and_composite_keys_are_compared() -> Result<()> {
    let bench = PostgresBench::start().await?;
    bench
        .execute(
            "CREATE TABLE parted (tenant int, id text COLLATE \"C\", body text, done boolean NOT NULL DEFAULT false,
               PRIMARY KEY (tenant, id)) PARTITION BY RANGE (tenant);
             CREATE TABLE parted_a PARTITION OF parted FOR VALUES FROM (0) TO (5);
             CREATE TABLE parted_b PARTITION OF parted FOR VALUES FROM (5) TO (200);
             INSERT INTO parted SELECT n % 10, 'k' || n, 'body ' || n FROM generate_series(1, 100) n",
        )
        .await?;
    let (engine, leader) = (bench.engine(), leader(1, "a"));
    let job = job("parted", set(&[("body", "upper(body)"), ("done", "true")]));
    changed(&bench, &leader, &job, 100).await?;
    bench.execute("UPDATE parted SET body = 'x' WHERE id = 'k37'").await?;
    let page = listed(&*engine, &job, 10).await?;
    ensure!(page.compared == Compared { verified: 99, changed: 1, ..Compared::default() }, "{page:?}");
    ensure!(keys(&page, Difference::Changed) == ["(7, k37)"], "{page:?}");
    Ok(())
}

/// Functions whose result may be another one later are refused before anything is changed; only the shard knows them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn functions_that_are_not_repeatable_are_found_before_the_start() -> Result<()> {
    let bench = PostgresBench::start().await?;
    bench.execute(NOTES).await?;
    bench
        .execute(
            "CREATE SCHEMA app;
             CREATE FUNCTION dice() RETURNS text LANGUAGE sql AS 'SELECT random()::text';
             CREATE FUNCTION app.looked(int) RETURNS text LANGUAGE sql STABLE AS 'SELECT title FROM notes WHERE id = $1';
             CREATE FUNCTION app.pure(text) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT upper($1)'",
        )
        .await?;
    let engine = bench.engine();
    for (value, expected) in [
        ("dice()", Some("calls public.dice, which is declared VOLATILE")),
        ("app.looked(id)", Some("app.looked, which is declared STABLE")),
        ("lower(app.pure(body))", None),
        ("public.notes.body", Some("cannot be evaluated by itself")),
    ] {
        let refusals = refusals(&*engine, &job("notes", set(&[("title", value), ("done", "true")]))).await?;
        match expected {
            None => ensure!(refusals.is_empty(), "{value}: {refusals:?}"),
            Some(why) => ensure!(refusals.len() == 1 && refusals[0].contains(why), "{value}: {refusals:?}"),
        }
    }
    Ok(())
}
