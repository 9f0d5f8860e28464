//! The leader dies, stands still, is deposed, is told to end (faults 5 to 7).

use std::time::{Duration, Instant};

use super::{Control, Engine, Form, ID, Lead, Scene, shard};
use crate::stage::SEAT;

/// What R2 allows a take-over beyond the lease, and as much again for a machine that does other things.
const TAKE_OVER: Duration = Duration::from_secs(4);

/// A coordinator that does not lead answers everything that the leader does.
async fn follower_answers(scene: &Scene<'_>, number: usize) {
    let list = scene.play.ask(number, &["list", "--output", "json"]).await.json().unwrap();
    assert_eq!(list["migrations"][0]["id"], ID, "{list:#}");
    let status = scene.play.ask(number, &["status", ID, "--output", "json"]).await.json().unwrap();
    assert_eq!(status["status"], "running", "{status:#}");
    let leader = scene.play.ask(number, &["leader", "--output", "json"]).await.json().unwrap();
    assert_eq!(leader["here"], false, "coordinator {number} follows: {leader:#}");
    let coordinators = leader["coordinators"].as_array().unwrap();
    let leads = coordinators.iter().filter(|one| one["leads"] == true);
    assert_eq!(leads.map(|one| &one["name"]).collect::<Vec<_>>(), [&leader["name"]], "{leader:#}");
    assert!(coordinators.len() >= 2, "a follower and the leader at least: {leader:#}");
    for (verb, reached) in [("pause", "paused"), ("resume", "running")] {
        let output = scene.play.ask(number, &[verb, ID]).await;
        assert_eq!(output.code, Some(0), "{verb}: {output:#?}");
        scene.play.reached(ID, reached).await;
    }
}

async fn leader_killed(store: Engine, engine: Engine, form: Form) {
    let (control, items) = (Control::of(store).await, shard(engine).await);
    let scene = Scene::set(&control, &items, form).await;
    let Lead { number: died, epoch } = scene.lead;
    let watch = ["watch", ID, "--output", "json"];
    let watching = scene.play.installation.cli_with(&watch, &[("SHARDLIFT_WAIT", "60")]);
    let acts = async {
        scene.coordinator(died).kill9();
        let (lead, took) = control.next(&scene.play, epoch).await;
        assert_ne!(lead.number, died);
        assert!(took <= SEAT + TAKE_OVER, "it took {took:?}");
        scene.goes_on(lead.epoch).await;
        scene.coordinator(died).restart().await.unwrap();
        lead
    };
    let (watched, lead) = tokio::join!(watching, acts);
    let watched = watched.unwrap();
    assert_eq!(watched.code, Some(0), "{watched:#?}");
    let last = watched.stdout.lines().last().unwrap_or_default();
    assert!(last.contains("\"status\":\"completed\""), "{last}");
    assert_eq!(scene.end().await, lead, "it was led by others in between");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_killed_in_the_middle_is_followed_by_one_that_goes_on_and_whoever_watches_sees_the_end() {
    leader_killed(Engine::Postgres, Engine::Postgres, Form::WithoutWhere).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_killed_in_the_middle_over_a_store_in_mongodb_is_followed_by_one_that_goes_on() {
    leader_killed(Engine::Mongodb, Engine::Mongodb, Form::WithoutWhere).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_follower_answers_as_the_leader_does_also_after_a_leader_was_killed() {
    let (control, items) = (Control::of(Engine::Postgres).await, shard(Engine::Postgres).await);
    let scene = Scene::set(&control, &items, Form::WithWhere).await;
    for follower in Scene::others(scene.lead.number) {
        follower_answers(&scene, follower).await;
    }
    scene.coordinator(scene.lead.number).kill9();
    let (lead, _) = control.next(&scene.play, scene.lead.epoch).await;
    // The one that was killed comes back as a follower.
    scene.coordinator(scene.lead.number).restart().await.unwrap();
    for follower in Scene::others(lead.number) {
        follower_answers(&scene, follower).await;
    }
    assert_eq!(scene.end().await, lead);
}

async fn leader_stopped(store: Engine) {
    let (control, items) = (Control::of(store).await, shard(Engine::Postgres).await);
    let scene = Scene::set(&control, &items, Form::WithoutWhere).await;
    let Lead { number: stood, epoch } = scene.lead;
    scene.coordinator(stood).process().pause();
    // It finds this command waiting when it wakes, before it can know that it leads no more.
    let command = scene.play.ask(stood, &["pause", ID]);
    let (output, lead) = tokio::join!(command, async {
        let (lead, took) = control.next(&scene.play, epoch).await;
        assert!(took <= SEAT + TAKE_OVER, "it took {took:?}");
        scene.goes_on(lead.epoch).await;
        scene.coordinator(stood).process().resume();
        lead
    });
    assert_ne!(lead.number, stood);
    // Passed on to the new leader, or refused; never decided by the old one.
    assert!(matches!(output.code, Some(0 | 6)), "{output:#?}");
    if output.code == Some(0) {
        scene.play.reached(ID, "paused").await;
        assert_eq!(scene.play.ask(lead.number, &["resume", ID]).await.code, Some(0));
    }
    for _ in 0..5 {
        let leader = scene.play.ask(stood, &["leader", "--output", "json"]).await;
        assert!(!leader.stdout.contains(&format!("\"epoch\":{epoch},")), "it leads again: {leader:#?}");
    }
    let steps_down = async || {
        let log = scene.coordinator(stood).process().log_text();
        anyhow::ensure!(log.contains("leads no more"), "{log}");
        Ok(())
    };
    scene.play.until("the one that stood still to step down", steps_down).await;
    assert_eq!(scene.end().await, lead, "the one that stood still has led again");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_stood_still_past_its_lease_is_refused_and_steps_down() {
    leader_stopped(Engine::Postgres).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_stood_still_past_its_lease_is_refused_by_a_store_in_mongodb() {
    leader_stopped(Engine::Mongodb).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn leaders_whose_lease_is_revoked_step_down_and_repeat_nothing() {
    let (control, items) = (Control::of(Engine::Postgres).await, shard(Engine::Postgres).await);
    let scene = Scene::set(&control, &items, Form::WithoutWhere).await;
    let mut lead = scene.lead;
    for _ in 0..3 {
        control.revoke().await;
        let (next, took) = control.next(&scene.play, lead.epoch).await;
        println!("a leader whose lease was revoked was followed after {took:?}");
        assert_eq!(next.epoch, lead.epoch + 1, "somebody led in between");
        assert_ne!(next.number, lead.number);
        scene.goes_on(next.epoch).await;
        lead = next;
    }
    assert_eq!(scene.end().await, lead);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_is_told_to_end_hands_over_at_once_and_the_worker_keeps_going() {
    // How soon it is, is measured by the bench R2; here nobody may wait for a lease to run out.
    const LONG: Duration = Duration::from_secs(30);
    let control = Control::of(Engine::Postgres).await.seated(LONG);
    let items = shard(Engine::Postgres).await;
    let scene = Scene::set(&control, &items, Form::WithoutWhere).await;
    let old = scene.coordinator(scene.lead.number);
    let (ended, (lead, took)) = tokio::join!(old.stop(), control.next(&scene.play, scene.lead.epoch));
    ended.unwrap();
    println!("a leader that was told to end was followed after {took:?}");
    assert!(took < LONG / 2, "the others waited for the lease: {took:?}");
    assert_eq!(lead.epoch, scene.lead.epoch + 1);
    let began = Instant::now();
    scene.goes_on(lead.epoch).await;
    println!("its worker went on after {:?}", began.elapsed());
    assert!(began.elapsed() < LONG / 2, "the worker waited for its lease: {:?}", began.elapsed());
    assert_eq!(scene.end().await, lead);
}
