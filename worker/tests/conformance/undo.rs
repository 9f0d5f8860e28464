//! Taking back (promise P8), for every engine; and what PostgreSQL alone can get wrong.

use std::sync::Arc;

use anyhow::{Result, ensure};
use shardlift_domain::facts::ConflictsRequest;
use shardlift_domain::migration::Step;
use shardlift_domain::spec::Undo;
use shardlift_domain::verdict::Undone;
use shardlift_worker::engine::{DataJob, EngineError, ShardEngine};
use shardlift_worker::lease::Pulse;
use sqlx::Connection;

use super::bench::{Bench, CLUSTER_UUID, Form, leader, lease, migration, range_lease};
use super::drive::{finish, open, split, walk};
use super::postgres::{Change, PostgresBench, data_job, in_worker, set};

/// The job, keeping before-images.
pub(crate) fn capturing(job: &DataJob) -> Arc<DataJob> {
    let mut data = job.data.clone();
    data.undo = Undo::Capture;
    Arc::new(DataJob { spec: job.spec.clone(), data, transformer: job.transformer.clone() })
}

/// Undoes everything under this attempt.
pub(crate) async fn undo(
    engine: &dyn ShardEngine,
    leader: &Arc<Pulse>,
    job: &Arc<DataJob>,
    attempt: u32,
) -> Result<Undone, EngineError> {
    let lease = lease(leader, Step::Undo, attempt);
    let mut writer = engine.open_undo(&lease, Arc::clone(job)).await?;
    loop {
        let report = writer.run_batch(&lease).await?;
        if report.last {
            return Ok(report.undone);
        }
    }
}

async fn conflicts(engine: &dyn ShardEngine) -> Result<Vec<String>> {
    let request = ConflictsRequest { migration: migration(), after: None, limit: 100 };
    let page = engine.conflicts(&request).await?;
    Ok(page.conflicts.into_iter().map(|conflict| format!("{}: {}", conflict.key, conflict.reason)).collect())
}

async fn whole(bench: &dyn Bench, form: Form) -> Result<()> {
    bench.add(1..=600).await?;
    let (engine, job, leader) = (bench.engine(), capturing(&bench.job(form)), leader(1, "a"));
    let pass = split(&*engine, &leader, &job, 3).await?;
    ensure!(walk(&*engine, &leader, &job, &pass, 70).await? == 600);
    bench.revert(300).await?;
    let undone = undo(&*engine, &leader, &job, 9).await?;
    ensure!(undone == Undone { restored: 599, conflicts: 1 }, "{undone:?}");
    for item in bench.items().await? {
        let expected = i64::from(item.id == 300);
        ensure!(item.applied == expected && !item.migrated, "{item:?}");
    }
    let listed = conflicts(&*engine).await?;
    ensure!(listed == [format!("{}: it was changed since", bench.shown(300))], "{listed:?}");
    let again = undo(&*engine, &leader, &job, 10).await?;
    ensure!(again == undone, "nothing is done twice: {again:?}");
    Ok(())
}

pub(crate) async fn undoing_restores_each_row_but_what_was_changed_since(bench: &dyn Bench) -> Result<()> {
    whole(bench, Form::Pending).await
}

pub(crate) async fn undoing_restores_what_the_worker_changed(bench: &dyn Bench) -> Result<()> {
    whole(bench, Form::Worker).await
}

pub(crate) async fn a_walker_can_write_no_more_once_undoing_has_begun(bench: &dyn Bench) -> Result<()> {
    bench.add(1..=200).await?;
    let (engine, job, leader) = (bench.engine(), capturing(&bench.job(Form::Pending)), leader(1, "a"));
    split(&*engine, &leader, &job, 1).await?;
    let walking = range_lease(&leader, 0, 3);
    let mut writer = open(&*engine, &walking, &job).await?;
    ensure!(writer.run_batch(&walking, 50).await?.changed == 50);
    let undone = undo(&*bench.engine(), &leader, &job, 4).await?;
    ensure!(undone == Undone { restored: 50, conflicts: 0 }, "{undone:?}");
    let late = writer.run_batch(&walking, 50).await;
    ensure!(matches!(late, Err(EngineError::LeaseLost | EngineError::Connection(_))), "{late:?}");
    let late = open(&*engine, &walking, &job).await.map(|_| ());
    ensure!(matches!(late, Err(EngineError::LeaseLost)), "{late:?}");
    ensure!(bench.items().await?.iter().all(|item| item.applied == 0));
    Ok(())
}

pub(crate) async fn an_undoing_with_a_smaller_token_is_refused(bench: &dyn Bench) -> Result<()> {
    bench.add(1..=50).await?;
    let (engine, job, leader) = (bench.engine(), capturing(&bench.job(Form::Pending)), leader(1, "a"));
    let pass = split(&*engine, &leader, &job, 1).await?;
    walk(&*engine, &leader, &job, &pass, 10).await?;
    let (newer, older) = (lease(&leader, Step::Undo, 7), lease(&leader, Step::Undo, 6));
    let mut former = engine.open_undo(&newer, Arc::clone(&job)).await?;
    former.run_batch(&newer).await?;
    let refused = engine.open_undo(&older, Arc::clone(&job)).await.map(|_| ());
    ensure!(matches!(refused, Err(EngineError::LeaseLost)), "{refused:?}");
    let undone = undo(&*bench.engine(), &leader, &job, 8).await?;
    ensure!(
        undone == Undone { restored: 50, conflicts: 0 },
        "the claim reads what the former did: {undone:?}"
    );
    let late = former.run_batch(&newer).await;
    ensure!(matches!(late, Err(EngineError::LeaseLost | EngineError::Connection(_))), "{late:?}");
    Ok(())
}

/// Every column that is set to null, of every type, has its old value again, whoever changed it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn values_of_every_type_have_their_old_values_again() -> Result<()> {
    use super::postgres_types::{EVERYTHING, FINGERPRINT};
    const COLUMNS: [&str; 33] = [
        "raw", "kind", "size", "price", "cost", "ratio", "score", "views", "tags", "grid", "at", "local",
        "day", "clock", "zone", "length", "source", "network", "card", "digest", "span", "pages", "flags",
        "fixed", "place", "words", "paper", "short", "both_", "owner", "ref_", "wal", "label",
    ];
    fn forget(
        document: &mut shardlift_worker::transformer::Document,
    ) -> Result<(), shardlift_worker::transformer::TransformError> {
        COLUMNS.iter().for_each(|column| drop(document.remove(*column)));
        document.insert("done".into(), vrl::value::Value::Boolean(true));
        Ok(())
    }
    let mut list: Vec<(&str, &str)> = COLUMNS.iter().map(|column| (*column, "NULL")).collect();
    list.push(("done", "true"));
    for in_shard in [true, false] {
        let bench = PostgresBench::start().await?;
        bench.execute(EVERYTHING).await?;
        let before = bench.value(FINGERPRINT).await?;
        let (engine, leader) = (bench.engine(), leader(1, "a"));
        let source = ("zoo", [].as_slice(), Some("NOT done"));
        let job = match in_shard {
            true => data_job(source, set(&list), None),
            false => data_job(source, in_worker(), Some(Arc::new(Change(forget)))),
        };
        let job = capturing(&job);
        let pass = split(&*engine, &leader, &job, 2).await?;
        ensure!(walk(&*engine, &leader, &job, &pass, 9).await? == 40);
        ensure!(bench.value(FINGERPRINT).await? != before);
        let undone = undo(&*engine, &leader, &job, 9).await?;
        ensure!(undone == Undone { restored: 40, conflicts: 0 }, "{undone:?}");
        ensure!(
            bench.value(FINGERPRINT).await? == before,
            "a value is not what it was (in shard: {in_shard})"
        );
        ensure!(
            bench.value("SELECT count(*)::text FROM zoo WHERE label = 'old' AND NOT done").await? == "40"
        );
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_value_that_another_row_has_taken_is_a_conflict_of_one_row() -> Result<()> {
    let bench = PostgresBench::start().await?;
    bench
        .execute(
            "CREATE TABLE notes (id int PRIMARY KEY, slug text UNIQUE, done boolean NOT NULL DEFAULT false);
             INSERT INTO notes (id, slug) SELECT n, 'note-' || n FROM generate_series(1, 100) n",
        )
        .await?;
    let (engine, leader) = (bench.engine(), leader(1, "a"));
    let list = [("slug", "'moved-' || slug"), ("done", "true")];
    let job = capturing(&data_job(("notes", &[], Some("NOT done")), set(&list), None));
    let pass = split(&*engine, &leader, &job, 1).await?;
    ensure!(walk(&*engine, &leader, &job, &pass, 40).await? == 100);
    bench.execute("INSERT INTO notes VALUES (1000, 'note-37', true)").await?;
    let undone = undo(&*engine, &leader, &job, 9).await?;
    ensure!(undone == Undone { restored: 99, conflicts: 1 }, "{undone:?}");
    let listed = conflicts(&*engine).await?;
    ensure!(listed.len() == 1 && listed[0].starts_with("37: the database refused"), "{listed:?}");
    ensure!(bench.value("SELECT slug FROM notes WHERE id = 37").await? == "moved-note-37");
    Ok(())
}

/// Partitions hold rows at places of their own: they are told apart by their keys.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_of_partitions_are_restored_as_well() -> Result<()> {
    let bench = PostgresBench::start().await?;
    bench
        .execute(
            "CREATE TABLE parted (id int PRIMARY KEY, body text, done boolean NOT NULL DEFAULT false)
               PARTITION BY RANGE (id);
             CREATE TABLE parted_a PARTITION OF parted FOR VALUES FROM (0) TO (50);
             CREATE TABLE parted_b PARTITION OF parted FOR VALUES FROM (50) TO (200);
             INSERT INTO parted SELECT n, 'body ' || n FROM generate_series(1, 100) n",
        )
        .await?;
    let (engine, leader) = (bench.engine(), leader(1, "a"));
    let list = [("body", "upper(body)"), ("done", "true")];
    let job = capturing(&data_job(("parted", &[], Some("NOT done")), set(&list), None));
    let pass = split(&*engine, &leader, &job, 1).await?;
    ensure!(walk(&*engine, &leader, &job, &pass, 30).await? == 100);
    let undone = undo(&*engine, &leader, &job, 9).await?;
    ensure!(undone == Undone { restored: 100, conflicts: 0 }, "{undone:?}");
    let intact = "SELECT count(*)::text FROM parted WHERE body = 'body ' || id AND NOT done";
    ensure!(bench.value(intact).await? == "100");
    Ok(())
}

/// The application changes a row and removes another one after the batch has begun and before it comes to them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_before_image_is_of_the_very_version_that_was_changed() -> Result<()> {
    let bench = PostgresBench::start().await?;
    bench
        .execute(
            "CREATE TABLE notes (id int PRIMARY KEY, body text, done boolean NOT NULL DEFAULT false);
             INSERT INTO notes SELECT n, 'body ' || n FROM generate_series(1, 100) n",
        )
        .await?;
    let (engine, leader) = (bench.engine(), leader(1, "a"));
    let list = [("body", "upper(body)"), ("done", "true")];
    let job = capturing(&data_job(("notes", &[], Some("NOT done")), set(&list), None));
    split(&*engine, &leader, &job, 1).await?;
    let walking = range_lease(&leader, 0, 1);
    let mut writer = open(&*engine, &walking, &job).await?;
    let mut other = bench.connect().await?;
    let mut theirs = other.begin().await?;
    let writes = "UPDATE notes SET body = 'theirs' WHERE id = 30; DELETE FROM notes WHERE id = 40";
    sqlx::raw_sql(writes).execute(&mut *theirs).await?;
    let waiting = tokio::spawn(async move { (writer.run_batch(&walking, 60).await, writer, walking) });
    bench.wait_for_lock().await?;
    theirs.commit().await?;
    let (report, mut writer, walking) = waiting.await?;
    ensure!(report?.changed == 59);
    finish(writer.as_mut(), &walking, 60).await?;
    ensure!(bench.value("SELECT body FROM notes WHERE id = 30").await? == "THEIRS");
    let undone = undo(&*engine, &leader, &job, 9).await?;
    ensure!(undone == Undone { restored: 99, conflicts: 0 }, "{undone:?}");
    let as_before = "SELECT string_agg(body, ',' ORDER BY id) FROM notes WHERE body <> 'body ' || id OR done";
    ensure!(bench.value(as_before).await? == "theirs");
    Ok(())
}

/// What an earlier build has logged is never taken for changed rows: the shard is refused until it is gone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn before_images_whose_digests_are_not_read_any_more_are_refused() -> Result<()> {
    let bench = PostgresBench::start().await?;
    bench.add(1..=20).await?;
    let (engine, job, leader) = (bench.engine(), capturing(&bench.job(Form::Pending)), leader(1, "a"));
    let pass = split(&*engine, &leader, &job, 1).await?;
    walk(&*engine, &leader, &job, &pass, 20).await?;
    bench
        .execute(
            "DELETE FROM shardlift.bookkeeping WHERE version > 6;
             DROP TABLE shardlift.collecting, shardlift.collected;
             ALTER TABLE shardlift.verifying DROP COLUMN asked, ADD PRIMARY KEY (migration, version);
             ALTER TABLE shardlift.difference DROP COLUMN asked,
               ADD PRIMARY KEY (migration, version, range_index, batch, part, row_index)",
        )
        .await?;
    let refused = engine.identify(CLUSTER_UUID).await;
    ensure!(
        matches!(&refused, Err(EngineError::Failed(failure)) if failure.message.contains("with that build")),
        "{refused:?}"
    );
    bench.execute("DELETE FROM shardlift.undo").await?;
    engine.identify(CLUSTER_UUID).await?;
    let compressed = "SELECT count(*)::text FROM pg_attribute \
                      WHERE attrelid = 'shardlift.undo'::regclass AND attcompression = 'l'";
    ensure!(bench.value(compressed).await? == "4");
    Ok(())
}
