//! The transform evaluated anew on what the undo log keeps (promise P8): what was written wrongly is found with its key, what
//! somebody has changed since is never called wrong.

use std::collections::BTreeSet;
use std::sync::Arc;

use anyhow::{Result, ensure};
use shardlift_domain::migration::Step;
use shardlift_domain::mismatch::{Compared, Difference, MismatchesPage, MismatchesRequest};
use shardlift_domain::spec::{Anew, Sample, SpecFile, Undo, VerifyCheck};
use shardlift_domain::verdict::CheckResult;
use shardlift_worker::engine::{DataJob, Job, ShardEngine};
use shardlift_worker::lease::Pulse;

use super::bench::{Bench, Form, WRONG, leader, lease, migration};
use super::drive::{split, walk};

/// Any number of rows may have been changed since.
pub(crate) const TOLERANT: Anew = Anew { sample: Sample::All, changed: None, gone: None };
/// None may.
pub(crate) const STRICT: Anew = Anew { sample: Sample::All, changed: Some(0), gone: Some(0) };

/// The job, keeping before-images and evaluated anew.
pub(crate) fn anew(job: &DataJob, how: Anew) -> DataJob {
    let mut data = job.data.clone();
    data.undo = Undo::Capture;
    data.verify = vec![VerifyCheck::Transform(how)];
    DataJob { spec: job.spec.clone(), data, transformer: job.transformer.clone() }
}

/// The only check of the verify step.
pub(crate) async fn verified(
    engine: &dyn ShardEngine,
    leader: &Arc<Pulse>,
    job: &DataJob,
    how: Anew,
) -> Result<CheckResult> {
    let report = engine.verify(&lease(leader, Step::Verify, 1), &Job::Data(anew(job, how))).await?;
    ensure!(report.checks.len() == 1, "{report:?}");
    Ok(report.checks[0].clone())
}

/// All pages of the listing.
pub(crate) async fn listed(engine: &dyn ShardEngine, job: &DataJob, limit: u32) -> Result<MismatchesPage> {
    let mut all = MismatchesPage::default();
    let mut after = None;
    for _ in 0..10_000 {
        // The engine is given the job itself.
        let file = SpecFile { name: "m.yaml".into(), text: String::new() };
        let request = MismatchesRequest { migration: migration(), file, after, limit };
        let page = engine.mismatches(&request, job).await?;
        all.compared += page.compared;
        all.rows.extend(page.rows);
        ensure!(page.next.is_none() || page.next > after, "the walk goes on");
        after = page.next;
        if after.is_none() {
            return Ok(all);
        }
    }
    anyhow::bail!("the walk has no end")
}

/// Keys of this kind.
pub(crate) fn keys(page: &MismatchesPage, difference: Difference) -> Vec<String> {
    let rows = page.rows.iter().filter(|row| row.difference == difference);
    rows.map(|row| row.key.clone()).collect()
}

/// Walks with one job: all rows are changed.
pub(crate) async fn changed(bench: &dyn Bench, leader: &Arc<Pulse>, job: &DataJob, rows: u64) -> Result<()> {
    let job = Arc::new(anew(job, TOLERANT));
    let engine = bench.engine();
    let pass = split(&*engine, leader, &job, 3).await?;
    ensure!(walk(&*engine, leader, &job, &pass, 70).await? == rows);
    Ok(())
}

async fn written_wrongly(bench: &dyn Bench, form: Form) -> Result<()> {
    bench.add(1..=300).await?;
    let (engine, job, leader) = (bench.engine(), bench.job(form), leader(1, "a"));
    changed(bench, &leader, &bench.faulty(form), 300).await?;
    let wrong = bench.shown(WRONG);
    let check = verified(&*engine, &leader, &job, TOLERANT).await?;
    ensure!(!check.passed && check.check == "transform" && check.detail.contains(&wrong), "{check:?}");
    let page = listed(&*engine, &job, 100).await?;
    ensure!(page.compared == Compared { verified: 299, mismatches: 1, ..Compared::default() }, "{page:?}");
    ensure!(keys(&page, Difference::Mismatch) == [wrong], "{page:?}");
    // Once the application has been at it, it is the application's.
    bench.revert(WRONG).await?;
    let page = listed(&*engine, &job, 100).await?;
    ensure!(page.compared == Compared { verified: 299, changed: 1, ..Compared::default() }, "{page:?}");
    Ok(())
}

pub(crate) async fn what_the_shard_wrote_wrongly_is_found_with_its_key(bench: &dyn Bench) -> Result<()> {
    written_wrongly(bench, Form::Pending).await
}

pub(crate) async fn what_the_worker_wrote_wrongly_is_found_with_its_key(bench: &dyn Bench) -> Result<()> {
    written_wrongly(bench, Form::Worker).await
}

async fn counted_apart(bench: &dyn Bench, form: Form) -> Result<()> {
    bench.add(1..=200).await?;
    let (engine, job, leader) = (bench.engine(), bench.job(form), leader(1, "a"));
    changed(bench, &leader, &job, 200).await?;
    let clean = verified(&*engine, &leader, &job, STRICT).await?;
    ensure!(clean.passed && clean.detail.contains("200 are what the transform gives"), "{clean:?}");
    bench.revert(5).await?;
    bench.remove(6).await?;
    let tolerant = verified(&*engine, &leader, &job, TOLERANT).await?;
    ensure!(tolerant.passed, "{tolerant:?}");
    let strict = verified(&*engine, &leader, &job, STRICT).await?;
    let (five, six) = (bench.shown(5), bench.shown(6));
    ensure!(!strict.passed && strict.detail.contains(&five) && strict.detail.contains(&six), "{strict:?}");
    let page = listed(&*engine, &job, 100).await?;
    ensure!(
        page.compared == Compared { verified: 198, changed: 1, gone: 1, ..Compared::default() },
        "{page:?}"
    );
    ensure!(keys(&page, Difference::Changed) == [five] && keys(&page, Difference::Gone) == [six], "{page:?}");
    Ok(())
}

pub(crate) async fn what_was_changed_since_or_is_gone_is_counted_apart(bench: &dyn Bench) -> Result<()> {
    counted_apart(bench, Form::Pending).await
}

pub(crate) async fn what_was_changed_after_the_worker_is_counted_apart(bench: &dyn Bench) -> Result<()> {
    counted_apart(bench, Form::Worker).await
}

/// A row that became pending again and was changed a second time has two before-images; the newer one is of what is there.
pub(crate) async fn a_row_that_was_changed_twice_is_no_mismatch(bench: &dyn Bench) -> Result<()> {
    bench.add(1..=60).await?;
    let (engine, job, leader) = (bench.engine(), bench.job(Form::Pending), leader(1, "a"));
    changed(bench, &leader, &job, 60).await?;
    bench.revert(7).await?;
    let again = Arc::new(anew(&job, TOLERANT));
    let shardlift_domain::verdict::Sweep::Found { pass, .. } =
        engine.sweep(&lease(&leader, Step::Sweep, 1), &again).await?
    else {
        anyhow::bail!("the sweep found nothing")
    };
    ensure!(walk(&*engine, &leader, &again, &pass, 10).await? == 1);
    let page = listed(&*engine, &job, 100).await?;
    ensure!(page.compared == Compared { verified: 60, changed: 1, ..Compared::default() }, "{page:?}");
    Ok(())
}

pub(crate) async fn pages_of_a_listing_tell_each_row_once(bench: &dyn Bench) -> Result<()> {
    bench.add(1..=150).await?;
    let (engine, job, leader) = (bench.engine(), bench.job(Form::Pending), leader(1, "a"));
    changed(bench, &leader, &job, 150).await?;
    for id in 20..=50 {
        bench.revert(id).await?;
    }
    let page = listed(&*engine, &job, 1).await?;
    ensure!(
        page.compared == Compared { verified: 119, changed: 31, ..Compared::default() },
        "{:?}",
        page.compared
    );
    let told: BTreeSet<String> = keys(&page, Difference::Changed).into_iter().collect();
    let expected: BTreeSet<String> = (20..=50).map(|id| bench.shown(id)).collect();
    ensure!(told == expected && page.rows.len() == 31, "{told:?}");
    Ok(())
}

pub(crate) async fn a_sample_looks_at_the_same_rows_every_time(bench: &dyn Bench) -> Result<()> {
    bench.add(1..=400).await?;
    let (engine, job, leader) = (bench.engine(), bench.job(Form::Pending), leader(1, "a"));
    changed(bench, &leader, &job, 400).await?;
    let how = Anew { sample: Sample::Percent(25), ..STRICT };
    let check = verified(&*engine, &leader, &job, how).await?;
    ensure!(check.passed && check.detail.contains("(sample 25 % of 400)"), "{check:?}");
    let looked: u64 = check.detail.split_whitespace().nth(1).unwrap_or_default().parse()?;
    ensure!((40..200).contains(&looked), "{check:?}");
    ensure!(verified(&*engine, &leader, &job, how).await? == check);
    Ok(())
}
