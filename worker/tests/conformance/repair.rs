//! Repairing what verification has found (promises P1, P2, P8), for every engine.

use anyhow::{Result, ensure};
use shardlift_domain::failure::ErrorCode;
use shardlift_domain::migration::Step;
use shardlift_domain::repair::{Fate, RepairPage, RepairRequest};
use shardlift_domain::spec::{Anew, SpecFile};
use shardlift_domain::verdict::{Sweep, Undone};
use shardlift_worker::engine::{DataJob, EngineError, Job, ShardEngine};
use shardlift_worker::lease::Pulse;
use std::sync::Arc;

use super::anew::{STRICT, TOLERANT, anew, changed, verified};
use super::bench::{Bench, Form, WRONG, failure, leader, lease, migration};
use super::drive::walk;
use super::undo::{capturing, undo};

fn request(dry_run: bool, limit: u32) -> RepairRequest {
    // The engine is given the job itself.
    let file = SpecFile { name: "m.yaml".into(), text: String::new() };
    RepairRequest { migration: migration(), file, after: None, limit, dry_run }
}

/// All pages of a repair; two rows in each.
async fn repaired(
    engine: &dyn ShardEngine,
    leader: &Arc<Pulse>,
    (job, how): (&DataJob, Anew),
    dry_run: bool,
) -> Result<RepairPage> {
    let (job, mut all, mut request) = (anew(job, how), RepairPage::default(), request(dry_run, 2));
    for _ in 0..1000 {
        let page = engine.repair(leader.leader(), &request, &job).await?;
        all.rows.extend(page.rows);
        ensure!(page.next.is_none() || page.next > request.after, "the walk goes on");
        request.after = page.next;
        if request.after.is_none() {
            return Ok(all);
        }
    }
    anyhow::bail!("the walk has no end")
}

fn keys(page: &RepairPage, fate: Fate) -> Vec<&str> {
    page.rows.iter().filter(|row| row.fate == fate).map(|row| row.key.as_str()).collect()
}

async fn written_wrongly(bench: &dyn Bench, form: Form) -> Result<()> {
    bench.add(1..=300).await?;
    let (engine, job, leader) = (bench.engine(), bench.job(form), leader(1, "a"));
    changed(bench, &leader, &bench.faulty(form), 300).await?;
    ensure!(
        repaired(&*engine, &leader, (&job, TOLERANT), false).await?.rows.is_empty(),
        "nothing is recorded yet"
    );
    ensure!(!verified(&*engine, &leader, &job, TOLERANT).await?.passed);
    let (before, wrong) = (bench.items().await?, bench.shown(WRONG));
    let told = repaired(&*engine, &leader, (&job, TOLERANT), true).await?;
    ensure!(keys(&told, Fate::Repaired) == [wrong.as_str()] && told.rows.len() == 1, "{told:?}");
    ensure!(bench.items().await? == before, "a dry run changes nothing");
    let done = repaired(&*engine, &leader, (&job, TOLERANT), false).await?;
    ensure!(done == told, "{done:?}");
    ensure!(bench.items().await?.iter().all(|item| item.applied == 1 && item.migrated));
    ensure!(repaired(&*engine, &leader, (&job, TOLERANT), false).await?.rows.is_empty(), "nothing twice");
    let check = verified(&*engine, &leader, &job, STRICT).await?;
    ensure!(check.passed && check.detail.contains("300 are what the transform gives"), "{check:?}");
    let undone = undo(&*engine, &leader, &capturing(&job), 9).await?;
    ensure!(undone == Undone { restored: 300, conflicts: 0 }, "{undone:?}");
    ensure!(bench.items().await?.iter().all(|item| item.applied == 0 && !item.migrated));
    Ok(())
}

pub(crate) async fn what_the_shard_wrote_wrongly_is_repaired_and_can_be_undone(
    bench: &dyn Bench,
) -> Result<()> {
    written_wrongly(bench, Form::Pending).await
}

pub(crate) async fn what_the_worker_wrote_wrongly_is_repaired_and_can_be_undone(
    bench: &dyn Bench,
) -> Result<()> {
    written_wrongly(bench, Form::Worker).await
}

pub(crate) async fn what_was_changed_is_repaired_only_if_nobody_may_have_and_as_it_was_verified(
    bench: &dyn Bench,
) -> Result<()> {
    bench.add(1..=200).await?;
    let (engine, job, leader) = (bench.engine(), bench.job(Form::Pending), leader(1, "a"));
    changed(bench, &leader, &job, 200).await?;
    for id in [5, 6, 7] {
        bench.revert(id).await?;
    }
    bench.remove(8).await?;
    ensure!(!verified(&*engine, &leader, &job, STRICT).await?.passed);
    // Since it was verified: 6 is mended by hand, 7 cannot be changed any more.
    bench.set_applied(6, 77).await?;
    bench.spoil(7).await?;
    let told = repaired(&*engine, &leader, (&job, TOLERANT), true).await?;
    ensure!(keys(&told, Fate::Left).len() == 4, "nobody has said that nobody may change them: {told:?}");
    let done = repaired(&*engine, &leader, (&job, STRICT), false).await?;
    ensure!(keys(&done, Fate::Repaired) == [bench.shown(5)], "{done:?}");
    ensure!(done.rows.len() == 4 && keys(&done, Fate::Left).len() == 3, "{done:?}");
    let since = done.rows.iter().find(|row| row.key == bench.shown(6)).map(|row| row.reason.as_str());
    ensure!(since == Some("it was changed since it was verified"), "{done:?}");
    for item in bench.items().await?.into_iter().filter(|item| [5, 6, 7].contains(&item.id)) {
        let expected = (item.id == 5, if item.id == 6 { 77 } else { 1 });
        ensure!((item.migrated, item.applied) == expected, "{item:?}");
    }
    Ok(())
}

pub(crate) async fn a_row_that_was_migrated_twice_is_not_repaired_from_its_older_image(
    bench: &dyn Bench,
) -> Result<()> {
    bench.add(1..=60).await?;
    let (engine, job, leader) = (bench.engine(), bench.job(Form::Pending), leader(1, "a"));
    changed(bench, &leader, &job, 60).await?;
    bench.revert(7).await?;
    let again = Arc::new(anew(&job, STRICT));
    let Sweep::Found { pass, .. } = engine.sweep(&lease(&leader, Step::Sweep, 1), &again).await? else {
        anyhow::bail!("the sweep found nothing")
    };
    ensure!(walk(&*engine, &leader, &again, &pass, 10).await? == 1);
    ensure!(!verified(&*engine, &leader, &job, STRICT).await?.passed);
    let done = repaired(&*engine, &leader, (&job, STRICT), false).await?;
    ensure!(keys(&done, Fate::Left) == [bench.shown(7)] && done.rows.len() == 1, "{done:?}");
    let item = bench.items().await?.into_iter().find(|item| item.id == 7);
    ensure!(item.as_ref().is_some_and(|item| item.applied == 2), "{item:?}");
    Ok(())
}

pub(crate) async fn an_older_leader_repairs_nothing(bench: &dyn Bench) -> Result<()> {
    bench.add(1..=60).await?;
    let (engine, job, older, newer) =
        (bench.engine(), bench.job(Form::Pending), leader(1, "a"), leader(2, "b"));
    changed(bench, &older, &bench.faulty(Form::Pending), 60).await?;
    ensure!(!verified(&*engine, &newer, &job, TOLERANT).await?.passed);
    let before = bench.items().await?;
    let refused = engine.repair(older.leader(), &request(false, 10), &anew(&job, TOLERANT)).await;
    let refused = failure(refused);
    ensure!(refused.code == ErrorCode::FenceStale, "{refused:?}");
    ensure!(bench.items().await? == before);
    Ok(())
}

pub(crate) async fn a_verification_with_a_smaller_token_is_refused(bench: &dyn Bench) -> Result<()> {
    bench.add(1..=60).await?;
    let (engine, job, leader) = (bench.engine(), bench.job(Form::Pending), leader(1, "a"));
    changed(bench, &leader, &job, 60).await?;
    let verify = async |attempt| {
        engine.verify(&lease(&leader, Step::Verify, attempt), &Job::Data(anew(&job, STRICT))).await
    };
    ensure!(verify(5).await?.passed());
    ensure!(matches!(verify(3).await, Err(EngineError::LeaseLost)));
    ensure!(verify(6).await?.passed());
    Ok(())
}
