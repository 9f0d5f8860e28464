//! A stranger with a message broker (fault 29): drives migrations by requests, and sees every event once and in order, whatever
//! befalls broker and coordinators. A migration waits for none of it.

mod kafka;
mod rabbitmq;
mod tansu;

use std::collections::BTreeMap;

use serde_json::{Value, json};
use shardlift_harness::installation::{InstallationBuilder, WorkerSpec};

use crate::stage::{DEADLINE, Engine, Form, Items, ItemsSpec, Play, curtain, scalar};

const ID: &str = "0001_items";
const SIGABRT: i32 = 6;

/// A way to a broker, with names of its own for one test.
trait Stranger {
    /// The section `[broker]` of the coordinators.
    fn config(&self) -> String;
    /// Sends a message to where requests are taken.
    async fn send(&mut self, body: &str);
    /// The next event.
    async fn event(&mut self) -> Value;
    /// What was seen so far.
    fn seen(&mut self) -> &mut Vec<Value>;
    /// The reason that a dead letter names, and its body.
    async fn dead_letter(&mut self) -> (String, String);

    fn told_to(&self, builder: InstallationBuilder) -> InstallationBuilder {
        let more = "progress_every_ms = 200\nconsumer.principal = \"deploy-bot\"\n";
        builder.coordinator_config(&format!("[broker]\n{}{more}", self.config()))
    }

    async fn request(&mut self, id: &str, kind: &str, data: Value) {
        let event = json!({ "specversion": "1.0", "id": id, "source": "/ci", "type": kind, "data": data });
        self.send(&event.to_string()).await;
    }

    async fn submit(&mut self, id: &str, spec: &ItemsSpec) {
        let specs = json!({ "specs": [{ "name": "0001.yaml", "text": spec.text() }] });
        self.request(id, "migration.request", specs).await;
    }

    /// Reads until an event of this type came.
    async fn until(&mut self, kind: &str) {
        let over = async {
            loop {
                let event = self.event().await;
                let over = event["type"] == kind;
                self.seen().push(event);
                if over {
                    return;
                }
            }
        };
        let ended = tokio::time::timeout(DEADLINE, over).await;
        assert!(ended.is_ok(), "waited for {kind}: {:#?}", self.seen());
    }
}

/// What is left when repeats are dropped by their ids; a repeat says what the first one said.
fn once(events: &[Value]) -> Vec<Value> {
    let mut seen: BTreeMap<&str, &Value> = BTreeMap::new();
    let mut kept = Vec::new();
    for event in events {
        let id = event["id"].as_str().unwrap();
        match seen.insert(id, event) {
            None => kept.push(event.clone()),
            // When figures were taken is no part of what they say.
            Some(first) => assert_eq!(first["data"], event["data"], "{id} says something else again"),
        }
    }
    kept
}

/// Those of one migration.
fn of(events: &[Value], id: &str) -> Vec<Value> {
    events.iter().filter(|event| event["subject"] == id).cloned().collect()
}

/// The types of what happened, without progress. Everything is well formed, numbered from 1 without gaps, and in order.
fn story(events: &[Value]) -> Vec<String> {
    let schema = include_str!("../../../docs/schemas/event.json");
    let schema = jsonschema::validator_for(&serde_json::from_str(schema).unwrap()).unwrap();
    let (mut number, mut story) = (0, Vec::new());
    for event in once(events) {
        let mistakes: Vec<String> = schema.iter_errors(&event).map(|error| error.to_string()).collect();
        assert!(mistakes.is_empty(), "{mistakes:?}: {event:#}");
        let kind = event["type"].as_str().unwrap();
        if kind != "migration.progress" {
            number += 1;
            story.push(kind.to_owned());
        }
        let told: u64 = event["sequence"].as_str().unwrap().parse().unwrap();
        assert_eq!(told, number, "a gap or a wrong order: {event:#}\n{story:?}");
    }
    story
}

/// Of a data migration that nothing stopped.
const WHOLE: [&str; 5] =
    ["migration.submitted", "migration.started", "migration.phase", "migration.phase", "migration.completed"];

fn slow(rows_per_second: u32) -> ItemsSpec {
    ItemsSpec::new(ID, Engine::Postgres, Form::WithWhere).rows_per_second(rows_per_second)
}

/// The token of this principal.
fn token(name: &str) -> String {
    format!("token-of-{name}")
}

/// Coordinators that want an approval by another than the author; the command line is the approver's.
fn approving(builder: InstallationBuilder) -> InstallationBuilder {
    let known = |name: &str, role: &str, shards: &str| {
        let hash = shardlift_domain::Checksum::of(token(name).as_bytes());
        format!(
            "[[access.principal]]\nname = {name:?}\nrole = {role:?}\ntoken_sha256 = \"{hash}\"\nshards = {shards}\n"
        )
    };
    let access = "[access]\napproval = \"by-another\"\n".to_owned()
        + &known("olaf", "approver", "[]")
        + &known("worker", "worker", "[\"*\"]");
    let worker = WorkerSpec::new("worker-pg-01", &["pg-01"]).token(&token("worker"));
    builder.coordinator_config(&access).token(&token("olaf")).worker(worker)
}

/// What a broker asked for waits for a person, is delivered again meanwhile, and goes on once it is approved.
async fn approved(play: &Play, items: &Items, stranger: &mut impl Stranger) {
    stranger.until("migration.submitted").await;
    let waits = |status: &Value| status["approval_needed"]["code"] == "approval.needed";
    let status = play.until_status(ID, "it waits for an approval", waits).await;
    assert_eq!((&status["status"], &status["author"]), (&json!("pending"), &json!("deploy-bot")));
    stranger.submit("1", &slow(1_000)).await;
    // What comes behind the repeat is dealt with: so is the repeat.
    let behind = cancel("2", "0009_nobody_knows");
    stranger.send(&behind).await;
    tokio::time::timeout(DEADLINE, stranger.dead_letter()).await.unwrap();
    assert!(waits(&play.status(ID).await), "a request is no approval, however often it comes");
    assert_eq!(scalar(&items.dsn, "SELECT sum(applied)::text FROM items").await, "0");
    let checksum = status["checksum"].as_str().unwrap();
    let said = play.installation.cli(&["approve", ID, "--checksum", checksum]).await.unwrap();
    assert_eq!(said.code, Some(0), "{said:#?}");
}

/// From request over approval to completed.
async fn driven_from_request_to_completed(mut stranger: impl Stranger) {
    let items = Items::of(Engine::Postgres, 2_000).await;
    let play = Play::of(stranger.told_to(approving(Play::builder(&[&items])))).await;
    stranger.request("0", "order.paid", json!(7)).await;
    stranger.submit("1", &slow(1_000)).await;
    approved(&play, &items, &mut stranger).await;
    stranger.until("migration.started").await;
    // It is delivered again and again, as brokers do.
    stranger.submit("1", &slow(1_000)).await;
    stranger.until("migration.completed").await;
    assert_eq!(story(stranger.seen()), WHOLE);
    let progress = stranger.seen().iter().filter(|event| event["type"] == "migration.progress");
    let rows: Vec<u64> = progress.map(|event| event["data"]["rows_done"].as_u64().unwrap()).collect();
    assert!(rows.len() > 2 && rows.is_sorted(), "{rows:?}");
    let submitted = &stranger.seen()[0];
    assert_eq!((&submitted["data"]["actor"], &submitted["subject"]), (&json!("deploy-bot"), &json!(ID)));
    curtain(&play, ID, &items, Form::WithWhere, None).await;
}

/// Given up by an event; what cannot be carried out is kept with the reason.
async fn given_up_by_an_event_and_poison_is_kept(mut stranger: impl Stranger) {
    let items = Items::of(Engine::Postgres, 5_000).await;
    let play = Play::of(stranger.told_to(Play::builder(&[&items]))).await;
    stranger.submit("1", &slow(300)).await;
    stranger.until("migration.progress").await;
    stranger.request("2", "migration.cancel", json!({ "migration": ID })).await;
    stranger.until("migration.cancelled").await;
    play.reached(ID, "cancelled").await;
    // Both were carried out: neither is anew, whatever has happened since.
    stranger.submit("1", &slow(300)).await;
    stranger.request("2", "migration.cancel", json!({ "migration": ID })).await;
    for (body, code) in
        [("no event".to_owned(), "request.invalid"), (cancel("3", "0009_nobody_knows"), "request.not-found")]
    {
        stranger.send(&body).await;
        let letter = tokio::time::timeout(DEADLINE, stranger.dead_letter()).await.unwrap();
        assert_eq!(letter, (code.to_owned(), body));
    }
    let status = play.status(ID).await;
    assert_eq!((&status["status"], &status["version"]), (&json!("cancelled"), &json!(1)), "{status:#}");
    let story = story(stranger.seen());
    assert_eq!(story.last().map(String::as_str), Some("migration.cancelled"), "{story:?}");
}

fn cancel(id: &str, migration: &str) -> String {
    let data = json!({ "migration": migration });
    json!({ "specversion": "1.0", "id": id, "source": "/ci", "type": "migration.cancel", "data": data })
        .to_string()
}

/// The coordinator dies after it has published, before it has noted it.
async fn what_was_published_and_not_noted_comes_again(mut stranger: impl Stranger) {
    let items = Items::of(Engine::Postgres, 1_000).await;
    let builder = Play::builder(&[&items]).coordinator_failpoints("relay-before-noted=return");
    let play = Play::of(stranger.told_to(builder)).await;
    let coordinator = play.installation.coordinator();
    stranger.submit("1", &slow(1_000)).await;
    let status = coordinator.process().wait_exit(DEADLINE).await.unwrap();
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(SIGABRT));
    stranger.until("migration.submitted").await;
    coordinator.set_failpoints("");
    coordinator.restart().await.unwrap();
    stranger.until("migration.completed").await;
    assert_eq!(story(stranger.seen()), WHOLE);
    let first = stranger.seen()[0]["id"].clone();
    let repeats = stranger.seen().iter().filter(|event| event["id"] == first).count();
    assert_eq!(repeats, 2, "published before the end and after it: {:#?}", stranger.seen());
    curtain(&play, ID, &items, Form::WithWhere, None).await;
}

/// The coordinator dies after it has carried a request out, before it has said so to the broker.
async fn a_request_that_was_not_acknowledged_is_not_carried_out_again(mut stranger: impl Stranger) {
    let items = Items::of(Engine::Postgres, 1_000).await;
    let builder = Play::builder(&[&items]).coordinator_failpoints("requests-before-acknowledged=return");
    let play = Play::of(stranger.told_to(builder)).await;
    let coordinator = play.installation.coordinator();
    stranger.submit("1", &slow(1_000)).await;
    let status = coordinator.process().wait_exit(DEADLINE).await.unwrap();
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(SIGABRT));
    coordinator.set_failpoints("");
    coordinator.restart().await.unwrap();
    stranger.until("migration.completed").await;
    // What comes behind it is dealt with: so it has come again.
    let behind = cancel("2", "0009_nobody_knows");
    stranger.send(&behind).await;
    let letter = tokio::time::timeout(DEADLINE, stranger.dead_letter()).await.unwrap();
    assert_eq!(letter, ("request.not-found".to_owned(), behind));
    assert_eq!(story(stranger.seen()), WHOLE);
    assert_eq!(play.status(ID).await["version"], 1);
    curtain(&play, ID, &items, Form::WithWhere, None).await;
}
