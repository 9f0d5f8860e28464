//! A stranger who knows the OpenAPI document and nothing else drives real migrations over HTTP.

use serde_json::{Value, json};
use shardlift_harness::wait::wait_for_ok;

use crate::stage::{
    Control, DEADLINE, Engine, Form, Http, Items, ItemsSpec, Play, Stream, assert_exactly_once, curtain,
};

const ID: &str = "0001_items";

/// An installation that serves REST, and the door of its (first) coordinator.
async fn started(items: &Items) -> (Play, Http) {
    let play = Play::of(Play::builder(&[items]).rest()).await;
    let http = http_of(&play, 0).await;
    (play, http)
}

async fn http_of(play: &Play, number: usize) -> Http {
    Http::of(play.installation.coordinators()[number].rest_address().unwrap()).await
}

fn slow(rows_per_second: u32) -> ItemsSpec {
    ItemsSpec::new(ID, Engine::Postgres, Form::WithWhere).rows_per_second(rows_per_second)
}

fn path(id: &str, rest: &str) -> String {
    format!("/api/v1/migrations/{id}{rest}")
}

/// Asks until the migration answers a question.
async fn until(http: &Http, id: &str, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
    let asked = wait_for_ok(&format!("{id}: {what}"), DEADLINE, async || {
        let migration = http.get(&path(id, "")).await.ok(200);
        anyhow::ensure!(holds(&migration), "{migration:#}");
        Ok(migration)
    })
    .await;
    asked.unwrap_or_else(|error| panic!("{error:#}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_drives_a_migration_from_plan_to_completed() {
    let items = Items::of(Engine::Postgres, 3_000).await;
    let (play, http) = started(&items).await;
    let text = slow(1_500).text();

    let plan = http.post_yaml("/api/v1/plans?name=0001.yaml", &text).await.ok(200);
    assert_eq!((&plan["submittable"], &plan["migrations"][0]["disposition"]), (&json!(true), &json!("new")));
    http.get(&path(ID, "")).await.refused(404, "request.not-found");

    let specs = json!({ "specs": [{ "name": "0001.yaml", "text": text }] });
    let revision = plan["topology_revision"].as_u64().unwrap();
    let submit = format!("/api/v1/migrations?topology_revision={revision}");
    let made = http.post_json(&submit, &specs).await;
    let place = made.header("location").unwrap().to_owned();
    made.ok(201);
    let again = [("content-type", "application/json"), ("idempotency-key", "6b1f")];
    let known = http.send("POST", "/api/v1/migrations", &again, &specs.to_string()).await.ok(200);
    assert_eq!(known["migrations"][0]["disposition"], "known");
    assert_eq!(http.get(&place).await.ok(200)["status"], "pending");

    assert_eq!(http.post(&path(ID, "/start")).await.ok(200)["changed"], true);
    let rows = |migration: &Value| migration["rows_done"].as_u64().unwrap_or_default();
    until(&http, ID, "it changes rows", |migration| rows(migration) >= 200).await;
    let paused = http.post(&path(ID, "/pause")).await.ok(200);
    assert_eq!((&paused["changed"], &paused["migration"]["status"]), (&json!(true), &json!("paused")));
    assert_eq!(http.post(&path(ID, "/pause")).await.ok(200)["changed"], false);
    http.post(&path(ID, "/start")).await.refused(409, "request.illegal-move");
    assert_eq!(http.post(&path(ID, "/resume")).await.ok(200)["migration"]["status"], "running");
    let done = until(&http, ID, "it is completed", |migration| migration["status"] == "completed").await;
    assert!(done["shards"][0]["verified"] == true && done["shards"][0]["fraction"] == 1.0, "{done:#}");
    assert_eq!(done["undoable"], false, "its spec has no undo: {done:#}");
    one_vocabulary(&play, &done).await;
    looked_at_from_all_sides(&http, &items).await;

    let other = ItemsSpec::new("0002_unwanted", Engine::Postgres, Form::WithWhere).text();
    http.post_yaml("/api/v1/migrations", &other).await.ok(201);
    let cancelled = http.post(&path("0002_unwanted", "/cancel")).await.ok(200);
    assert_eq!(cancelled["migration"]["status"], "cancelled");
    let list = http.get("/api/v1/migrations?status=completed,running&order=newest").await.ok(200);
    assert_eq!((list["migrations"].as_array().unwrap().len(), &list["migrations"][0]["id"]), (1, &json!(ID)));
    let page = http.get("/api/v1/migrations?limit=1").await.ok(200);
    let next = page["next"].as_str().unwrap();
    let page = http.get(&format!("/api/v1/migrations?limit=1&cursor={next}")).await.ok(200);
    assert_eq!((&page["migrations"][0]["id"], &page["next"]), (&json!("0002_unwanted"), &Value::Null));
    curtain(&play, ID, &items, Form::WithWhere, None).await;
}

/// What the command line tells has the same keys and the same values here.
async fn one_vocabulary(play: &Play, told: &Value) {
    let status = play.status(ID).await;
    let same = |told: &Value, known: &Value| {
        for (key, value) in known.as_object().unwrap() {
            assert!(told.get(key).is_some(), "{key} is missing in {told:#}");
            assert!(
                key == "shards" || key == "rows_per_second" || told[key] == *value,
                "{key}: {told:#}\n{known:#}"
            );
        }
    };
    same(told, &status);
    same(&told["shards"][0], &status["shards"][0]);
}

async fn looked_at_from_all_sides(http: &Http, items: &Items) {
    let events = http.get(&path(ID, "/events?after=0&limit=1000")).await.ok(200);
    let words: Vec<&str> =
        events["events"].as_array().unwrap().iter().filter_map(|one| one["event"].as_str()).collect();
    for word in ["submitted", "started", "paused", "resumed", "step_done", "phase_entered", "completed"] {
        assert!(words.contains(&word), "{word} is missing in {words:?}");
    }
    assert_eq!((words[0], events["more"].as_bool()), ("submitted", Some(false)));
    let newest = http.get(&path(ID, "/events?limit=2")).await.ok(200);
    assert_eq!(newest["last"], events["last"], "the newest are told without a place to begin");
    let first = http.get(&path(ID, "/events?after=0&limit=2")).await.ok(200);
    assert_eq!((first["more"].as_bool(), first["events"].as_array().unwrap().len()), (Some(true), 2));
    let parts = http.get(&path(ID, "/shards?version=1")).await.ok(200);
    assert_eq!((&parts["shards"][0]["shard"], &parts["next"]), (&json!(items.shard), &Value::Null));
    assert_eq!(http.get(&path(ID, "/conflicts")).await.ok(200), json!({ "conflicts": [], "more": false }));
    assert_eq!(http.get(&path(ID, "/quarantine")).await.ok(200), json!({ "rows": [], "more": false }));

    let shards = http.get("/api/v1/shards").await.ok(200);
    assert_eq!(
        (&shards["shards"][0]["shard"], &shards["shards"][0]["reachable"]),
        (&json!(items.shard), &json!(true))
    );
    let workers = http.get("/api/v1/workers").await.ok(200);
    let worker = workers["workers"][0]["worker"].as_str().unwrap();
    let drain = format!("/api/v1/workers/{worker}/drain");
    let drained = http.post(&drain).await.ok(200);
    assert_eq!((&drained["worker"]["draining"], &drained["alone"]), (&json!(true), &json!([items.shard])));
    let back = http.post_json(&drain, &json!({ "draining": false })).await.ok(200);
    assert_eq!((&back["worker"]["draining"], &back["changed"]), (&json!(false), &json!(true)));
    assert_eq!(http.get("/api/v1/topology").await.ok(200)["clusters"][0]["shards"][0]["origin"], "file");
    assert_eq!(http.get("/api/v1/leader").await.ok(200)["here"], true);
    let unroutable = http.get("/api/v1/routes?cluster=items&key=7").await;
    unroutable.refused(404, "routing.unroutable");
    assert_eq!(http.get("/health/ready").await.ok(200)["status"], "ready");
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_requests_are_refused_with_problem_documents() {
    let items = Items::of(Engine::Postgres, 100).await;
    let (_play, http) = started(&items).await;
    let wrong = "id: 0001_items\nkind: data\nengin: postgres\n";
    let problem =
        http.post_yaml("/api/v1/migrations?name=wrong.yaml", wrong).await.refused(422, "spec.invalid");
    let places: Vec<&str> =
        problem["failures"].as_array().unwrap().iter().filter_map(|one| one["file"].as_str()).collect();
    assert!(places.contains(&"wrong.yaml:3:1"), "every mistake is told with its place: {problem:#}");
    assert!(http.get(problem["type"].as_str().unwrap()).await.text.starts_with("# `spec.invalid`"));
    let elsewhere = slow(100).text().replace("cluster: items", "cluster: elsewhere");
    let plan = http.post_yaml("/api/v1/plans", &elsewhere).await.ok(200);
    assert_eq!((&plan["submittable"], &plan["findings"][0]["severity"]), (&json!(false), &json!("error")));
    http.post_yaml("/api/v1/migrations", &elsewhere).await.refused(422, "plan.refused");
    http.post_yaml("/api/v1/migrations", &slow(100).text()).await.ok(201);
    let other = slow(200).text();
    http.post_yaml("/api/v1/migrations", &other).await.refused(409, "spec.conflict");
    let stale = format!("/api/v1/migrations?topology_revision={}", u64::MAX);
    let third = ItemsSpec::new("0003_items", Engine::Postgres, Form::WithWhere).text();
    http.post_yaml(&stale, &third).await.refused(409, "plan.stale");
    http.post("/api/v1/migrations").await.refused(415, "request.wrong-media-type");
    http.get("/api/v1/nothing").await.refused(404, "request.no-such-route");
    http.send("DELETE", &path(ID, ""), &[], "").await.refused(405, "request.wrong-method");
    let named = http.send("GET", "/api/v1/nothing", &[("x-request-id", "mine-1")], "").await;
    assert_eq!(named.header("x-request-id"), Some("mine-1"));
    assert_eq!(named.refused(404, "request.no-such-route")["request_id"], "mine-1");
    let foreign = [("origin", "http://elsewhere.example")];
    http.send("POST", &path(ID, "/cancel"), &foreign, "").await.refused(403, "request.foreign-origin");
    assert_eq!(http.get(&path(ID, "")).await.ok(200)["status"], "pending");
}

/// Reads to the end, or until it has read so many entries of the history; gives their sequences.
async fn history(stream: &mut Stream, at_most: usize) -> (Vec<u64>, bool) {
    let mut sequences = Vec::new();
    while sequences.len() < at_most {
        let Some(event) = stream.next().await else { return (sequences, false) };
        match event.kind.as_str() {
            "history" => sequences.push(event.id.unwrap()),
            "end" => {
                assert_eq!(event.data["status"], "completed");
                return (sequences, true);
            }
            "status" | "shards" => assert_eq!(event.id, None, "{event:?}"),
            other => panic!("{other}: {event:?}"),
        }
    }
    (sequences, false)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_of_events_goes_on_behind_the_last_one_without_loss_or_repeat() {
    let items = Items::of(Engine::Postgres, 2_000).await;
    let (play, http) = started(&items).await;
    http.post_yaml("/api/v1/migrations?start=true", &slow(1_000).text()).await.ok(201);
    let follow = path(ID, "/events?until=rest&shards=true");
    let (mut seen, mut ended) = (Vec::new(), false);
    while !ended {
        let last = seen.last().copied();
        let (more, over) = history(&mut http.follow(&follow, last).await, 2).await;
        (ended, seen) = (over, [seen, more].concat());
    }
    let events = http.get(&path(ID, "/events?after=0&limit=1000")).await.ok(200);
    let all: Vec<u64> =
        events["events"].as_array().unwrap().iter().filter_map(|one| one["sequence"].as_u64()).collect();
    assert_eq!(seen, all);

    let mut stream = http.follow(&path(ID, "/events?shards=true"), all.last().copied()).await;
    let status = stream.next().await.unwrap();
    assert_eq!((status.kind.as_str(), &status.data["status"]), ("status", &json!("completed")), "{status:?}");
    let shards = stream.next().await.unwrap();
    assert_eq!((shards.kind.as_str(), &shards.data["shards"][0]["shard"]), ("shards", &json!(items.shard)));
    play.installation.coordinator().stop().await.unwrap();
    assert!(stream.next().await.is_none(), "an open stream does not keep a coordinator from ending");
    assert_exactly_once(&items, Form::WithWhere, None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_answers_as_the_leader_and_its_streams_outlive_the_leader() {
    let items = Items::of(Engine::Postgres, 3_000).await;
    let control = Control::of(Engine::Postgres).await;
    let play = Play::of(control.builder(&[&items]).rest()).await;
    let lead = control.lead().await.unwrap();
    let (leader, follower) = (lead.number, (lead.number + 1) % 3);
    let door = http_of(&play, follower).await;
    door.post_yaml("/api/v1/migrations?start=true", &slow(600).text()).await.ok(201);
    let there = door.get("/api/v1/leader").await.ok(200);
    assert_eq!(
        (&there["here"], &there["name"]),
        (&json!(false), &json!(format!("coordinator-{}", leader + 1)))
    );
    let at_the_leader = http_of(&play, leader).await;
    assert_eq!(at_the_leader.get("/api/v1/leader").await.ok(200)["here"], true);
    until(&door, ID, "it changes rows", |migration| migration["rows_done"].as_u64() >= Some(200)).await;
    door.get(&path("absent", "")).await.refused(404, "request.not-found");

    let mut stream = door.follow(&path(ID, "/events?until=rest"), None).await;
    let (before, ended) = history(&mut stream, 2).await;
    assert!(!ended, "it is to be in the middle of its work: {before:?}");
    play.installation.coordinators()[leader].member().kill9();
    control.next(&play, lead.epoch).await;
    let (after, ended) = history(&mut stream, usize::MAX).await;
    assert!(ended, "the stream broke with the leader");
    let seen = [before, after].concat();
    let events = door.get(&path(ID, "/events?after=0&limit=1000")).await.ok(200);
    let all: Vec<u64> =
        events["events"].as_array().unwrap().iter().filter_map(|one| one["sequence"].as_u64()).collect();
    assert_eq!(seen, all);
    assert!(events["events"].as_array().unwrap().iter().any(|one| one["event"] == "completed"));
    assert_exactly_once(&items, Form::WithWhere, None).await;
}
