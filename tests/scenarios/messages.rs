//! Messages between worker and coordinator come twice, late, out of order, to the wrong worker, or not at all (fault 28):
//! one wins, the other one is stale.

use shardlift_harness::dataset::items::{IdKind, KeyKind};

use crate::stage::{Fate, Form, Items, ItemsSpec, Play, Relay, Witness, curtain, store};

const ID: &str = "0001_items";
const NONE: Vec<String> = Vec::new();

/// Two workers of one shard behind a relay that misbehaves from the first task to the last.
async fn misheard(items: Items, seed: u64) {
    let form = Form::WithoutWhere;
    let builder =
        Play::builder(&[&items]).coordinator_env("SHARDLIFT_LOG", "info,shardlift_coordinator=debug");
    let play = Play { installation: builder.no_workers().launch().await.unwrap() };
    let relay = Relay::start(play.installation.url(), seed).await;
    for name in ["one", "two"] {
        play.installation.add_worker(&items.worker(name).coordinator(relay.url())).unwrap();
    }
    play.installation.wait_connected().await.unwrap();
    let witness = Witness::of(&items).await;
    let spec = ItemsSpec::new(ID, items.engine(), form).parallel("{ ranges: 24, workers: 4 }");
    play.apply(&[spec.rows_per_second(1_000).text()]).await;
    relay.misbehave();
    play.completed(ID).await;
    let tally = relay.tally();
    for (kind, fate) in [
        ("assign", Fate::Twice),
        ("assign", Fate::Echoed),
        ("assign", Fate::Astray),
        ("finished", Fate::Twice),
        ("finished", Fate::Echoed),
        ("progress", Fate::Late),
        ("heartbeat", Fate::Lost),
    ] {
        assert!(relay.count(kind, fate) > 0, "no {kind} was {fate:?}: {tally:#?}");
    }
    relay.behave();
    let heard = play.installation.coordinator().process().log_text();
    let stale = heard.matches("finished under a right that is over").count();
    assert!(stale > 0, "nobody heard that what it had done was done already: {tally:#?}");
    assert_eq!(endings(&play).await, 1, "it ended more than once");
    assert_eq!(witness.complaints().await, NONE, "{tally:#?}");
    curtain(&play, ID, &items, form, None).await;
}

/// How often the store's history says that it was completed.
async fn endings(play: &Play) -> i64 {
    let completed = "SELECT count(*) FROM migration_history h JOIN migrations m ON m.id = h.migration_id
                     WHERE m.name = $1 AND h.event_type = 'completed'";
    sqlx::query_scalar(completed).bind(ID).fetch_one(&mut store(play).await).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_that_come_twice_late_or_never_change_every_row_of_postgres_once() {
    for seed in [28, 2_828] {
        misheard(Items::postgres("pg-01", 5_000, KeyKind::Bigint).await, seed).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_that_come_twice_late_or_never_change_every_document_of_mongodb_once() {
    misheard(Items::mongodb("mg-01", 5_000, IdKind::ObjectId).await, 28).await;
}
