//! A transform on a sample: told truly, and nothing of it stays.

use anyhow::{Result, ensure};
use shardlift_domain::failure::ErrorCode;
use shardlift_domain::rehearsal::{Measured, RehearsalRequest, SampleField, ShardRehearsal};
use shardlift_domain::spec::SpecFile;

use super::bench::{Bench, Form, leader, migration};
use super::drive::{exactly_once, split, walk};

fn request(rows: u32) -> RehearsalRequest {
    let file = SpecFile { name: "0001.yaml".into(), text: String::new() };
    RehearsalRequest { migration: migration(), file, rows, shown: 3 }
}

async fn rehearsed(bench: &dyn Bench, form: Form, rows: u32) -> Result<ShardRehearsal> {
    let before = bench.items().await?;
    let found = bench.engine().rehearse(&request(rows), &bench.job(form)).await?;
    ensure!(bench.items().await? == before, "a rehearsal changed something");
    Ok(found)
}

/// Whether the first row that is shown has got its mark.
fn shows_the_change(found: &ShardRehearsal) -> Result<()> {
    ensure!(found.samples.len() == 3, "{} rows are shown", found.samples.len());
    let marked = |field: &SampleField| {
        field.name == "migrated"
            && field.before.as_deref() == Some("false")
            && field.after.as_deref() == Some("true")
    };
    for row in &found.samples {
        ensure!(row.fields.iter().any(marked) && row.fields.len() == 2, "another difference is shown");
    }
    Ok(())
}

fn adds_up(measured: &Measured, rows: u64) -> Result<()> {
    ensure!(
        measured.walked == rows && measured.changed == rows && measured.errors.is_empty(),
        "{measured:?}"
    );
    ensure!(measured.log_bytes > 20 * rows && measured.rows_per_second().is_some(), "{measured:?}");
    ensure!(measured.cut_short.is_none(), "{measured:?}");
    Ok(())
}

pub(crate) async fn a_rehearsal_shows_what_it_would_do_and_nothing_of_it_stays(
    bench: &dyn Bench,
) -> Result<()> {
    bench.add(1..=400).await?;
    for form in [Form::Pending, Form::Everything, Form::Worker] {
        let found = rehearsed(bench, form, 1_000).await?;
        adds_up(&found.measured, 400)?;
        shows_the_change(&found)?;
    }
    let (engine, job, leader) = (bench.engine(), bench.job(Form::Pending), leader(1, "a"));
    let pass = split(&*engine, &leader, &job, 2).await?;
    ensure!(pass.number == 1 && pass.ranges.iter().all(|range| range.seen == 0), "{pass:?}");
    ensure!(walk(&*engine, &leader, &job, &pass, 50).await? == 400);
    exactly_once(bench).await
}

pub(crate) async fn a_sample_is_spread_over_the_keys(bench: &dyn Bench) -> Result<()> {
    bench.add(1..=4000).await?;
    for id in [1, 3_999] {
        bench.spoil(id).await?;
    }
    let found = rehearsed(bench, Form::Pending, 80).await?;
    let walked = found.measured.walked;
    ensure!((40..=88).contains(&walked), "{walked} rows were gone over");
    let first = found.samples.first().map(|row| row.key.clone());
    ensure!(first.is_some_and(|key| key != bench.shown(1)), "a row that cannot be changed is shown");
    Ok(())
}

pub(crate) async fn rows_that_cannot_be_changed_are_told_by_class_and_key(bench: &dyn Bench) -> Result<()> {
    bench.add(1..=200).await?;
    for id in [7, 150] {
        bench.spoil(id).await?;
    }
    let measured = rehearsed(bench, Form::Pending, 1_000).await?.measured;
    ensure!((measured.walked, measured.changed, measured.refused()) == (200, 198, 2), "{measured:?}");
    let [class] = measured.errors.as_slice() else { anyhow::bail!("{measured:?}") };
    let keys: Vec<String> = [7, 150].map(|id| bench.shown(id)).to_vec();
    ensure!(class.code == ErrorCode::RowRejected && class.keys == keys, "{class:?}");
    Ok(())
}

pub(crate) async fn a_transform_that_leaves_rows_pending_is_found(bench: &dyn Bench) -> Result<()> {
    bench.add(1..=20).await?;
    let measured = rehearsed(bench, Form::Stuck, 100).await?.measured;
    ensure!(measured.changed == 0 && measured.refused() == 20, "{measured:?}");
    ensure!(measured.errors.iter().all(|class| class.code == ErrorCode::RowStillPending), "{measured:?}");
    Ok(())
}

pub(crate) async fn two_rehearsals_at_once_do_not_disturb_each_other(bench: &dyn Bench) -> Result<()> {
    bench.add(1..=100).await?;
    let (one, two) = (bench.engine(), bench.engine());
    let (job, request) = (bench.job(Form::Pending), request(100));
    let (one, two) = tokio::join!(one.rehearse(&request, &job), two.rehearse(&request, &job));
    for found in [one?, two?] {
        ensure!(found.measured.walked <= 100, "{:?}", found.measured);
        let whole = found.measured.changed == 100;
        ensure!(whole || found.measured.cut_short.is_some(), "{:?}", found.measured);
    }
    ensure!(bench.items().await?.iter().all(|item| item.applied == 0), "a rehearsal changed something");
    Ok(())
}

pub(crate) async fn an_empty_table_foretells_nothing(bench: &dyn Bench) -> Result<()> {
    let found = rehearsed(bench, Form::Pending, 100).await?;
    ensure!(found == ShardRehearsal::default(), "{found:?}");
    Ok(())
}
