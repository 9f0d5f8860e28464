//! The pictures of the documentation, taken of real runs: each shows what a person sees at that moment. They stay in
//! `tmp/pictures` of the build directory; `docs/images` holds the ones that were chosen.

use std::path::Path;
use std::time::Duration;

use shardlift_harness::dataset::items::KeyKind;
use shardlift_harness::installation::{Engine, Installation, WorkerSpec};
use shardlift_simulator::{Fleet, Settings};

use super::{BAR, ESCAPE, NO_QUESTION, badge, page};
use crate::stage::{Browser, Form, Items, ItemsSpec, Play};

const PICTURES: &str = concat!(env!("CARGO_TARGET_TMPDIR"), "/pictures");
/// Rows of six shards: each is at another place while it runs.
const ROWS: [u64; 6] = [1_800, 4_000, 3_600, 3_200, 2_800, 2_400];
const NEEDS_YOU: &str = "document.body.innerText.includes('Needs you')";
const PHONE: (u32, u32) = (400, 860);

/// Keeps what is seen now, and looks that it is not a blank page of nothing.
async fn keep(browser: &Browser, name: &str) {
    let picture = browser.picture().await;
    assert!(picture.len() > 10_000, "{name} is a picture of {} bytes", picture.len());
    std::fs::create_dir_all(PICTURES).unwrap();
    std::fs::write(Path::new(PICTURES).join(format!("dashboard-{name}.png")), picture).unwrap();
}

/// Changes what `applied` counts from one number to the next, so that several can follow each other.
fn spec(id: &str, from: u32, applied: &str, rest: &str) -> String {
    let text = ItemsSpec::new(id, Engine::Postgres, Form::WithWhere)
        .transform(&format!("sql: {{ applied: \"{applied}\" }}"))
        .rows_per_second(240)
        .batch("{ target: 100ms, min: 20, max: 60 }")
        .text();
    text.replace("migrated = false", &format!("applied < {from}")) + rest
}

async fn six_shards() -> (Vec<Items>, Play) {
    let mut items = Vec::new();
    for (number, rows) in ROWS.into_iter().enumerate() {
        items.push(Items::postgres(&format!("chat-pg-{:02}", number + 1), rows, KeyKind::Bigint).await);
    }
    let all: Vec<&Items> = items.iter().collect();
    let builder = all.chunks(2).enumerate().fold(Play::builder(&all).rest(), |builder, (number, pair)| {
        let served: Vec<&str> = pair.iter().map(|items| items.shard.as_str()).collect();
        builder.worker(WorkerSpec::new(&format!("worker-{}", number + 1), &served).slots(4))
    });
    let play = Play::of(builder).await;
    (items, play)
}

#[tokio::test(flavor = "multi_thread")]
async fn six_shards_are_seen_waiting_running_halted_and_failed() {
    let (_items, play) = six_shards().await;
    let browser = Browser::open(1280, 1020).await;
    browser.go(&page(&play, "")).await;
    browser.until("an empty page", "document.querySelector('.welcome')?.checkVisibility()").await;
    browser.until("the workers", "document.body.innerText.includes('worker-3')").await;
    keep(&browser, "empty").await;

    play.apply(&[spec("0008_item_flags", 1, "applied + 1", "")]).await;
    browser.go(&page(&play, "0008_item_flags")).await;
    browser.until("it to be half done", &format!("{BAR} >= 60")).await;
    let cells = "document.querySelectorAll('.cell[data-state=\"backfill\"]').length >= 4";
    browser.until("cells of shards that run", cells).await;
    keep(&browser, "running").await;
    browser.dark(true).await;
    keep(&browser, "dark").await;
    browser.size(PHONE).await;
    browser.until("a page that fits a phone", "document.documentElement.scrollWidth <= innerWidth").await;
    keep(&browser, "phone").await;
    browser.dark(false).await;
    browser.size((1280, 1020)).await;
    play.completed("0008_item_flags").await;

    // The canary's gate asks a question that is answered otherwise.
    let doubtful = "rollout: [ { shards: 1 }, { percent: 100 } ]\n";
    let question =
        "verify: [remaining, { sql: \"SELECT count(*) FROM items WHERE applied = 2\", equals: 0 }]";
    let text = spec("0009_item_counts", 2, "applied + 1", doubtful);
    let at = text.find("verify:").unwrap();
    let end = at + text[at..].find('\n').unwrap();
    let halting = format!("{}{question}{}", &text[..at], &text[end..]);
    play.apply(&[halting.replace("rows_per_second: 240", "rows_per_second: 2000")]).await;
    browser.go(&page(&play, "0009_item_counts")).await;
    browser.until("it to be halted", &badge("halted")).await;
    browser.until("the list to say so, too", NEEDS_YOU).await;
    keep(&browser, "halted").await;
    throttling(&browser).await;
    play.installation.cli_json(&["cancel", "0009_item_counts"]).await.unwrap();

    // Only the largest shard has the row that cannot be divided by.
    let failing = spec("0010_item_shares", 3, "3 + 0 / (id - 3900)", "");
    play.apply(&[failing.replace("rows_per_second: 240", "rows_per_second: 2000")]).await;
    browser.go(&page(&play, "0010_item_shares")).await;
    browser.until("it to have failed", &badge("failed")).await;
    browser.until("the list to say so, too", NEEDS_YOU).await;
    keep(&browser, "failed").await;
    assert_eq!(browser.complaints().await, Vec::<String>::new(), "in the console");
}

/// The question how fast it may go, and the same on a phone in the dark.
async fn throttling(browser: &Browser) {
    browser.click("[data-verb=throttle]").await;
    browser.until("a number in hand", "document.activeElement?.id === 'throttle-rate'").await;
    browser.press(&["2", "5", "0"]).await;
    keep(browser, "throttle").await;
    browser.dark(true).await;
    browser.size(PHONE).await;
    let fits = "(() => { const box = document.querySelector('dialog[open]').getBoundingClientRect(); \
        return box.left >= 0 && box.right <= innerWidth && document.querySelector('dialog[open]').scrollWidth <= box.width; })()";
    browser.until("a question that fits a phone", fits).await;
    keep(browser, "throttle-phone").await;
    browser.dark(false).await;
    browser.size((1280, 1020)).await;
    browser.press(&[ESCAPE]).await;
    browser.until("the question to go", NO_QUESTION).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_thousand_shards_are_seen_in_their_waves() {
    let mut settings = Settings {
        coordinator: String::new(),
        cluster: "chat".to_owned(),
        workers: 40,
        shards_each: 50,
        slots: 4,
        ranges: 2,
        rows: 440_000,
        range_takes: (Duration::from_millis(800), Duration::from_millis(2_400)),
        step_takes: Duration::from_millis(20),
    };
    let builder = settings.shards().fold(Installation::builder().no_workers().rest(), |builder, shard| {
        builder.shard(&shard, "chat", Engine::Postgres, "simulated")
    });
    let play = Play { installation: builder.launch().await.unwrap() };
    settings.coordinator = play.installation.url();
    // It takes connections before it leads, and simulated workers ask once.
    play.until("the coordinator to lead", async || play.installation.cli_json(&["leader"]).await).await;
    let _fleet = Fleet::connect(settings).await.unwrap();
    let data = "id: 0008_message_text\nkind: data\nengine: postgres\ncluster: chat\n\
        source: { table: messages, where: schema_version < 2 }\ntransform: { sql: { schema_version: \"2\" } }\n\
        rollout: [ { shards: 20 }, { percent: 25 }, { percent: 100 } ]\n";
    play.apply(&[data.to_owned()]).await;
    let browser = Browser::open(1280, 1180).await;
    browser.go(&page(&play, "0008_message_text")).await;
    let cells = "document.querySelectorAll('.cell').length === 2000";
    browser.until("a cell for each shard", cells).await;
    browser.until("the second wave to be under way", &format!("{BAR} >= 8")).await;
    keep(&browser, "2000-shards").await;
    assert_eq!(browser.complaints().await, Vec::<String>::new(), "in the console");
    // What the picture shows is what the command line says.
    let status = play.status("0008_message_text").await;
    assert_eq!(status["waves"], 3, "{status:#}");
}
