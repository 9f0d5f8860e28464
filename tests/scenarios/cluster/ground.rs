//! What the coordinators stand on gives way: etcd, and the metadata store (faults 12, 13, 38).

use std::time::{Duration, Instant};

use super::{Control, Engine, Form, ID, Scene, fence_of, shard};

/// Waits until no row of the shard has changed for longer than a lease of a worker.
async fn stands_still(scene: &Scene<'_>) -> u64 {
    const QUIET: Duration = Duration::from_secs(2);
    let (mut last, mut since) = (0, Instant::now());
    scene
        .play
        .until("the shard to be left alone", async || {
            let rows = scene.rows().await;
            if rows != last {
                (last, since) = (rows, Instant::now());
            }
            anyhow::ensure!(since.elapsed() >= QUIET, "{rows} rows, the last {:?} ago", since.elapsed());
            Ok(rows)
        })
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_etcd_that_loses_everything_in_the_middle_repeats_no_epoch() {
    let (control, items) = (Control::of(Engine::Postgres).await, shard(Engine::Postgres).await);
    let scene = Scene::set(&control, &items, Form::WithoutWhere).await;
    let mut epoch = scene.lead.epoch;
    for _ in 0..2 {
        control.etcd.wipe().await.unwrap();
        let (lead, _) = control.next(&scene.play, epoch).await;
        scene.goes_on(lead.epoch).await;
        let seen = fence_of(&items).await;
        assert!(seen >= lead.epoch, "the shard has seen {seen}, the store {lead:?}");
        epoch = lead.epoch;
    }
    assert!(scene.end().await.epoch >= epoch);
}

/// The store is put back to a copy that knows the migration, but not the last `lives` leaders of which the shard knows.
async fn restored(lives: i64) {
    let (control, items) = (Control::alone(Engine::Postgres).await, shard(Engine::Postgres).await);
    let scene = Scene::set(&control, &items, Form::WithoutWhere).await;
    let all = || scene.play.installation.coordinators().iter().map(|one| one.member());
    all().for_each(|one| one.kill9());
    control.save_store().await;
    let copied = scene.lead.epoch;
    let mut epoch = copied;
    while epoch < copied + lives {
        for one in all() {
            one.restart().await.unwrap();
        }
        epoch = control.next(&scene.play, epoch).await.0.epoch;
        scene.goes_on(epoch).await;
        all().for_each(|one| one.kill9());
    }
    let seen = fence_of(&items).await;
    assert!(seen > copied, "the shard has seen {seen}, the copy {copied}");
    control.restore_store().await;
    assert_eq!(control.lead().await.unwrap().epoch, copied);
    for one in all() {
        one.restart().await.unwrap();
    }
    let (lead, _) = control.next(&scene.play, seen).await;
    assert_eq!(scene.end().await, lead);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_restored_from_an_old_copy_is_led_above_what_the_shard_has_seen() {
    restored(2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restored_store_that_comes_to_an_epoch_the_shard_has_seen_is_led_above_it() {
    restored(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_member_of_etcd_changes_nothing_and_a_lost_majority_heals() {
    let (control, items) = (Control::of(Engine::Postgres).await, shard(Engine::Postgres).await);
    let scene = Scene::set(&control, &items, Form::WithoutWhere).await;
    let first = control.etcd.leader().await.unwrap();
    let (one, two) = ((first + 1) % 3, (first + 2) % 3);
    control.etcd.member(one).kill9();
    scene.goes_on(scene.lead.epoch).await;
    scene.goes_on(scene.lead.epoch).await;
    assert_eq!(control.lead().await.unwrap(), scene.lead, "one of three members was dead");
    control.etcd.member(two).kill9();
    let rows = stands_still(&scene).await;
    assert!(rows < items.rows, "it has gone on to the end without a leader");
    assert_eq!(control.lead().await.unwrap(), scene.lead, "elected without a majority");
    control.etcd.restart_member(two).await.unwrap();
    let (lead, took) = control.next(&scene.play, scene.lead.epoch).await;
    println!("a majority was led after {took:?}");
    scene.goes_on(lead.epoch).await;
    control.etcd.restart_member(one).await.unwrap();
    scene.end().await;
}

/// How the store is away.
#[derive(Clone, Copy, PartialEq)]
enum Away {
    Paused,
    Killed,
}

async fn store_away(store: Engine, away: Away) {
    let (control, items) = (Control::alone(store).await, shard(Engine::Postgres).await);
    let scene = Scene::set(&control, &items, Form::WithoutWhere).await;
    match away {
        Away::Paused => control.store().pause(),
        Away::Killed => control.store().kill9(),
    }
    let rows = stands_still(&scene).await;
    assert!(rows < items.rows, "it has gone on to the end without a store");
    scene.play.refused(&["pause", ID], 6).await;
    match away {
        Away::Paused => control.store().resume(),
        Away::Killed => control.restart_store().await,
    }
    let epoch = scene.lead.epoch;
    scene.goes_on(epoch).await;
    assert!(scene.end().await.epoch >= epoch);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_an_answer_of_postgres_as_the_store_nothing_is_handed_out_and_it_goes_on_afterwards() {
    store_away(Engine::Postgres, Away::Paused).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_in_postgres_that_was_killed_is_found_again() {
    store_away(Engine::Postgres, Away::Killed).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_an_answer_of_mongodb_as_the_store_nothing_is_handed_out_and_it_goes_on_afterwards() {
    store_away(Engine::Mongodb, Away::Paused).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_in_mongodb_that_was_killed_is_found_again() {
    store_away(Engine::Mongodb, Away::Killed).await;
}
