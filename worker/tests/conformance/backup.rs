//! Saving and restoring, for every engine; and that every kind of value comes back as it was.

use std::str::FromStr;

use anyhow::{Result, ensure};
use async_trait::async_trait;
use bson::spec::BinarySubtype;
use bson::{Binary, Bson, Document, doc};
use shardlift_domain::failure::ErrorCode;
use shardlift_domain::fence::{Attempt, Epoch, Token};
use shardlift_domain::migration::Step;
use shardlift_worker::backup::{Beside, RowsDigest, Saving, Subject, Target};
use shardlift_worker::engine::{DataJob, EngineResult, ShardEngine};

use super::bench::{Bench, Form, failure, leader, lease, migration};
use super::postgres::{PostgresBench, data_job, set};
use super::postgres_types::{EVERYTHING, FINGERPRINT};

/// What was saved, in memory.
#[derive(Default)]
struct Shelf {
    subject: Option<Subject>,
    beside: Vec<Beside>,
    rows: Vec<u8>,
    count: u64,
}

#[async_trait]
impl Saving for Shelf {
    async fn begin(&mut self, subject: Subject, beside: Vec<Beside>) -> EngineResult<()> {
        self.subject = Some(subject);
        self.beside = beside;
        Ok(())
    }

    async fn rows(&mut self, bytes: &[u8], rows: u64) -> EngineResult<()> {
        self.rows.extend_from_slice(bytes);
        self.count += rows;
        Ok(())
    }
}

impl Shelf {
    async fn of(engine: &dyn ShardEngine, job: &DataJob) -> Result<Self> {
        let mut shelf = Self::default();
        engine.save(&lease(&leader(1, "a"), Step::Backup, 1), job, &mut shelf).await?;
        Ok(shelf)
    }

    fn subject(&self) -> &Subject {
        self.subject.as_ref().expect("it was told what is saved")
    }

    fn digest(&self) -> Result<RowsDigest> {
        let rows = self.subject().format.split(&self.rows)?;
        ensure!(rows.len() as u64 == self.count, "{} rows instead of {}", rows.len(), self.count);
        Ok(RowsDigest::of(rows))
    }

    /// Two halves, between two rows.
    fn halves(&self) -> Result<[&[u8]; 2]> {
        let rows = self.subject().format.split(&self.rows)?;
        let first = rows.iter().take(rows.len() / 2).map(|row| row.len()).sum();
        let (one, two) = self.rows.split_at(first);
        Ok([one, two])
    }
}

fn target(bench: &dyn Bench, part: u32, parts: u32) -> Target {
    let token = Token { epoch: Epoch(1), attempt: Attempt(1) };
    Target { into: Some(bench.beside()), migration: migration(), token, part, parts }
}

/// The same job on what was restored.
fn moved(job: &DataJob, relation: &str) -> DataJob {
    let mut data = job.data.clone();
    relation.clone_into(&mut data.source.relation);
    DataJob { spec: job.spec.clone(), data, transformer: None }
}

pub(crate) async fn what_is_saved_is_restored_part_by_part_and_once(bench: &dyn Bench) -> Result<()> {
    bench.add(1..=3_000).await?;
    let (engine, job) = (bench.engine(), bench.job(Form::Pending));
    let shelf = Shelf::of(&*engine, &job).await?;
    ensure!(shelf.count == 3_000 && !shelf.beside.is_empty());
    let [one, two] = shelf.halves()?;
    let first = engine.restore(shelf.subject(), &target(bench, 0, 2), one).await?;
    ensure!((first.done, first.rows, first.is_whole()) == (1, 1_500, false), "{first:?}");
    for _ in 0..2 {
        let again = engine.restore(shelf.subject(), &target(bench, 0, 2), one).await?;
        ensure!((again.done, again.rows) == (1, 1_500), "the first part is there: {again:?}");
    }
    let last = engine.restore(shelf.subject(), &target(bench, 1, 2), two).await?;
    ensure!((last.done, last.rows, last.is_whole()) == (2, 3_000, true), "{last:?}");
    ensure!(bench.restored().await? == bench.items().await?);
    Ok(())
}

pub(crate) async fn a_restore_writes_over_nothing(bench: &dyn Bench) -> Result<()> {
    bench.add(1..=10).await?;
    let (engine, job) = (bench.engine(), bench.job(Form::Pending));
    let shelf = Shelf::of(&*engine, &job).await?;
    engine.restore(shelf.subject(), &target(bench, 0, 1), &shelf.rows).await?;
    let over = failure(engine.restore(shelf.subject(), &target(bench, 0, 1), &shelf.rows).await);
    ensure!(over.code == ErrorCode::RequestIllegal && over.message.contains("is there already"), "{over:?}");
    for reserved in ["shardlift", "", &"x".repeat(64)] {
        let into = Target { into: Some(reserved.to_owned()), ..target(bench, 0, 1) };
        let refused = failure(engine.restore(shelf.subject(), &into, &shelf.rows).await);
        ensure!(refused.code == ErrorCode::RequestIllegal, "{reserved}: {refused:?}");
    }
    let half = Target { into: Some(format!("{}_half", bench.beside())), ..target(bench, 0, 2) };
    engine.restore(shelf.subject(), &half, &shelf.rows).await?;
    let token = Token { epoch: Epoch(9), attempt: Attempt(9) };
    let other = failure(engine.restore(shelf.subject(), &Target { token, ..half }, &shelf.rows).await);
    ensure!(other.code == ErrorCode::RequestIllegal && other.message.contains("another backup"), "{other:?}");
    Ok(())
}

pub(crate) async fn a_sample_leaves_nothing_behind(bench: &dyn Bench) -> Result<()> {
    bench.add(1..=500).await?;
    let (engine, job) = (bench.engine(), bench.job(Form::Pending));
    let shelf = Shelf::of(&*engine, &job).await?;
    ensure!(engine.try_out(shelf.subject(), &shelf.rows).await? == shelf.digest()?);
    let [one, _] = shelf.halves()?;
    ensure!(engine.try_out(shelf.subject(), one).await?.rows == 250);
    ensure!(engine.try_out(shelf.subject(), &[]).await? == RowsDigest::default());
    ensure!(bench.scratch().await?.is_empty(), "{:?}", bench.scratch().await?);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_type_of_postgres_comes_back_as_it_was() -> Result<()> {
    let bench = PostgresBench::start().await?;
    bench.execute(EVERYTHING).await?;
    bench
        .execute(
            "UPDATE zoo SET day = '0044-03-15 BC', score = '-Infinity', ratio = 'NaN' WHERE id = 1; \
             UPDATE zoo SET size = 'NaN', at = '-infinity', local = 'infinity', raw = NULL WHERE id = 2; \
             ALTER TABLE zoo ADD \"Odd \"\"name\"\"\" text COLLATE \"C\" DEFAULT 'x'",
        )
        .await?;
    let engine = bench.engine();
    let job = data_job(("zoo", &[], Some("NOT done")), set(&[("done", "true")]), None);
    let shelf = Shelf::of(&*engine, &job).await?;
    ensure!(shelf.count == 40 && !shelf.subject().columns.contains(&"twice".to_owned()));
    ensure!(engine.try_out(shelf.subject(), &shelf.rows).await? == shelf.digest()?);
    engine.restore(shelf.subject(), &target(&bench, 0, 1), &shelf.rows).await?;
    let there = FINGERPRINT.replace("FROM zoo)", "FROM restored.zoo)");
    ensure!(there != FINGERPRINT && bench.value(&there).await? == bench.value(FINGERPRINT).await?);
    let again = Shelf::of(&*engine, &moved(&job, "restored.zoo")).await?;
    ensure!(again.digest()? == shelf.digest()?, "a row differs in a byte");
    let schema = String::from_utf8(shelf.beside[0].content.clone())?;
    ensure!(
        schema.contains("COLLATE pg_catalog.\"C\"") && schema.contains("\"Odd \"\"name\"\"\""),
        "{schema}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn partitions_rows_without_columns_and_an_empty_table_are_saved() -> Result<()> {
    let bench = PostgresBench::start().await?;
    bench
        .execute(
            "CREATE TABLE parted (id int, at date, PRIMARY KEY (id, at)) PARTITION BY RANGE (at); \
             CREATE TABLE p1 PARTITION OF parted FOR VALUES FROM ('2024-01-01') TO ('2025-01-01'); \
             CREATE TABLE p2 PARTITION OF parted FOR VALUES FROM ('2025-01-01') TO ('2026-01-01'); \
             INSERT INTO parted SELECT n, '2024-06-01'::date + n FROM generate_series(1, 400) n; \
             CREATE TABLE nothing (id int PRIMARY KEY)",
        )
        .await?;
    let engine = bench.engine();
    for (table, rows) in [("parted", 400), ("nothing", 0)] {
        let job = data_job((table, &[], Some("id > 0")), set(&[("id", "id")]), None);
        let shelf = Shelf::of(&*engine, &job).await?;
        ensure!(shelf.count == rows, "{table}: {}", shelf.count);
        ensure!(engine.try_out(shelf.subject(), &shelf.rows).await? == shelf.digest()?);
        engine.restore(shelf.subject(), &target(&bench, 0, 1), &shelf.rows).await?;
        let count = bench.value(&format!("SELECT count(*) FROM restored.{table}")).await?;
        ensure!(count == rows.to_string(), "{table}: {count}");
    }
    Ok(())
}

/// Documents with an `_id` of each type, also those that no comparison finds, and one of nearly 16 MB.
fn documents() -> Vec<Document> {
    let decimal = bson::Decimal128::from_str("7.25").expect("a decimal");
    let mut ids = vec![Bson::Null, Bson::MinKey, Bson::MaxKey, Bson::Double(f64::NAN), decimal.into()];
    ids.extend([f64::NEG_INFINITY, -0.5].map(Bson::Double));
    ids.extend((0..300).map(Bson::Int32));
    ids.extend(["", "a", "é"].map(Bson::from));
    ids.extend([doc! {}, doc! { "a": [1, 2] }].map(Bson::Document));
    ids.push(Bson::Binary(Binary { subtype: BinarySubtype::Generic, bytes: vec![7; 16] }));
    ids.extend((0..30_u8).map(|n| Bson::ObjectId(bson::oid::ObjectId::from_bytes([n; 12]))));
    ids.push(Bson::DateTime(bson::DateTime::from_millis(-62_135_596_800_001)));
    ids.push(Bson::Timestamp(bson::Timestamp { time: 1, increment: 2 }));
    let value = doc! { "n": 1_i64, "x": f64::NAN, "u": Bson::Undefined, "l": [null, { "a": 1 }], "r": -0.0 };
    let mut all: Vec<Document> =
        ids.into_iter().map(|id| doc! { "_id": id, "migrated": false, "value": value.clone() }).collect();
    all.push(doc! { "_id": "large", "pad": "x".repeat(16 * 1024 * 1024 - 100) });
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn every_document_comes_back_as_it_was_whatever_its_id_and_its_size() -> Result<()> {
    let bench = super::mongodb::items::MongodbBench::start().await?;
    let all = documents();
    let count = all.len() as u64;
    bench.insert(all).await?;
    let (engine, job) = (bench.engine(), bench.job(Form::Pending));
    let shelf = Shelf::of(&*engine, &job).await?;
    ensure!(shelf.count == count, "{} of {count} documents", shelf.count);
    ensure!(engine.try_out(shelf.subject(), &shelf.rows).await? == shelf.digest()?);
    engine.restore(shelf.subject(), &target(&bench, 0, 1), &shelf.rows).await?;
    ensure!(bench.restored_digest().await? == shelf.digest()?, "a document differs in a byte");
    Ok(())
}
