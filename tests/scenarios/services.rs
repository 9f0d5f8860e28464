//! The services outside: tenants have a say in migrations, people see how they go, adaptors are quiet at gates (faults 29, 35
//! and 36, as far as they concern outgoing calls).

use serde_json::{Value, json};
use shardlift_harness::dataset::items::KeyKind;
use shardlift_proto::v1;
use shardlift_proto::v1::migration_service_client::MigrationServiceClient;

use crate::stage::{Engine, Form, Items, ItemsSpec, Outside, POSTGRES, Play, Specs, execute, scalar};

const ID: &str = "0001_items";

/// Two PostgreSQL shards, tenants 1 and 2 on the first, 101 and 102 on the second; and their coordinator knows the services.
async fn installed(outside: &Outside, deadline_ms: u64) -> (Items, Items, Play) {
    let one = Items::postgres("pg-01", 400, KeyKind::Bigint).await;
    let two = Items::postgres("pg-02", 400, KeyKind::Bigint).await;
    for (items, first) in [(&one, 1), (&two, 101)] {
        let tenants = format!(
            "ALTER TABLE items ADD COLUMN tenant_id bigint; UPDATE items SET tenant_id = {first} + abs(hashint8(id) % 2); ANALYZE items"
        );
        execute(&items.dsn, &tenants).await;
    }
    let play = Play::of(Play::builder(&[&one, &two]).coordinator_config(&outside.config(deadline_ms))).await;
    let rule =
        ["topology", "set-routing", POSTGRES, "--key", "integer", "--below", "pg-01=100", "--rest", "pg-02"];
    play.installation.cli_json(&rule).await.unwrap();
    (one, two, play)
}

fn spec(tenants: &str, rollout: &str) -> String {
    let text = ItemsSpec::new(ID, Engine::Postgres, Form::WithWhere).text();
    let text = text.replacen("source:\n", &format!("tenants: {tenants}\nsource:\n  tenant: tenant_id\n"), 1);
    format!("{text}rollout: {rollout}\n")
}

/// Which tenants' rows were changed how often.
async fn changed(items: &Items) -> String {
    let each = "SELECT string_agg(DISTINCT tenant_id || ':' || applied, ' ' ORDER BY tenant_id || ':' || applied) FROM items";
    scalar(&items.dsn, each).await
}

fn notes(plan: &Value) -> String {
    plan["migrations"][0]["notes"].to_string()
}

/// Waits until something that the services were told is so.
async fn until(play: &Play, what: &str, holds: impl Fn() -> bool) {
    play.until(what, async || {
        anyhow::ensure!(holds(), "not yet");
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tenants_opt_out_are_held_and_come_in_the_order_that_they_want() {
    let outside = Outside::start().await;
    outside.set("1", json!({ "opt_out": true }));
    outside.set("101", json!({ "order": 1, "hold": true, "reason": "an audit" }));
    let (one, two, play) = installed(&outside, 5_000).await;
    let text = spec("[1, 2, 101]", "[ { shards: 1 }, { percent: 100 } ]");
    let specs = Specs::of(&[&text]);

    let plan = play.installation.cli_json(&["plan", specs.as_str()]).await.unwrap();
    assert!(notes(&plan).contains("left out, since they have opted out: 1"), "{plan:#}");
    assert!(notes(&plan).contains("in the order that they want: 101"), "{plan:#}");
    let finding = &plan["findings"][0];
    assert_eq!(
        (&finding["code"], &finding["severity"]),
        (&json!("plan.held"), &json!("warning")),
        "{plan:#}"
    );
    assert!(finding["message"].as_str().unwrap().contains("101 (an audit)"), "{plan:#}");
    assert!(play.refused(&["apply", specs.as_str(), "--yes"], 5).await.contains("plan.held"));
    assert!(play.refused(&["status", ID], 7).await.contains("request.not-found"), "nothing was submitted");

    // Submitted without a start it waits; whoever starts it is refused as long as the tenant is held.
    let mut service = MigrationServiceClient::connect(play.installation.url()).await.unwrap();
    let sent = vec![v1::SpecFile { name: "000.yaml".into(), text: text.clone() }];
    service.submit(v1::SubmitRequest { specs: sent, start: false, topology_revision: None }).await.unwrap();
    assert!(play.refused(&["start", ID], 5).await.contains("plan.held"));
    outside.set("101", json!({ "order": 1 }));
    // It is known by now: what its tenants want now is not asked again.
    outside.set("2", json!({ "opt_out": true }));
    play.installation.cli_json(&["start", ID]).await.unwrap();
    let status = play.completed(ID).await;
    let wave = |shard: &str| {
        let parts = status["shards"].as_array().unwrap();
        parts.iter().find(|part| part["shard"] == shard).unwrap()["wave"].clone()
    };
    assert_eq!((wave("pg-02"), wave("pg-01")), (json!(1), json!(2)), "{status:#}");
    assert_eq!((changed(&one).await, changed(&two).await), ("1:0 2:1".into(), "101:1 102:0".into()));
    let again = play.installation.cli(&["apply", specs.as_str(), "--yes"]).await.unwrap();
    assert_eq!(again.code, Some(0), "the same content is the same migration: {again:#?}");

    until(&play, "the end to be reported", || !outside.asked("mcp").is_empty()).await;
    let told = outside.asked("mcp");
    assert_eq!((told.len(), &told[0].body["status"]), (1, &json!("completed")), "{told:#?}");
    assert_eq!(told[0].body["tenants"], json!(["2", "101"]), "{told:#?}");
    let text = format!("{text}left_out: [1]\n").replace(ID, "0002_items");
    let complaint = play.refused(&["plan", Specs::of(&[text]).as_str()], 5).await;
    assert!(complaint.contains("written by the coordinator alone"), "{complaint}");
}

/// Completes another migration, until each service was told of its end.
async fn ends_elsewhere(play: &Play, outside: &Outside, tenants: &str, id: &str) {
    play.apply(&[spec(tenants, "all").replace(ID, id)]).await;
    play.completed(id).await;
    until(play, "its end to be shown", || {
        let messages = outside.messages();
        let mut named = messages.iter().filter(|(name, _)| name.contains(id));
        named.any(|(_, seen)| seen.last().is_some_and(|last| last == "completed"))
    })
    .await;
    until(play, "its end to be reported", || {
        outside.asked("mcp").iter().any(|asked| asked.body["migration"] == id)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn services_that_are_down_hold_nothing_up_but_a_plan_and_hear_of_everything_later_once() {
    let outside = Outside::start().await;
    let (one, _two, play) = installed(&outside, 5_000).await;
    outside.down(&["mcp", "chat", "adaptor"]);
    let specs = Specs::of(&[spec("[2]", "all")]);
    let complaint = play.refused(&["apply", specs.as_str(), "--yes"], 5).await;
    assert!(complaint.contains("service.unavailable") && complaint.contains("answers 500"), "{complaint}");
    assert!(!complaint.contains("of the service"), "what a service answers is not shown: {complaint}");

    outside.down(&["chat", "adaptor"]);
    // It is left alone for some seconds.
    play.until("the plan to be made", async || {
        let applied = play.installation.cli(&["apply", specs.as_str(), "--yes", "--no-watch"]).await?;
        anyhow::ensure!(applied.code == Some(0), "{applied:#?}");
        Ok(())
    })
    .await;
    outside.down(&["mcp", "chat", "adaptor"]);
    play.completed(ID).await;
    assert_eq!(changed(&one).await, "1:0 2:1");
    assert_eq!(outside.asked("chat"), []);
    play.installation.coordinator().kill9();
    outside.down(&[]);
    play.installation.coordinator().restart().await.unwrap();
    until(&play, "the end to be shown", || outside.text().contains("is completed and verified")).await;
    until(&play, "the end to be reported", || !outside.asked("mcp").is_empty()).await;
    // Each service is told one thing after another: once it hears of another migration, it is stored that it was told of the first.
    ends_elsewhere(&play, &outside, "[102]", "0002_items").await;
    play.installation.coordinator().kill9();
    play.installation.coordinator().restart().await.unwrap();
    play.installation.wait_connected().await.unwrap();
    // Once a third one is told, whoever leads now has looked.
    ends_elsewhere(&play, &outside, "[101]", "0003_items").await;
    let first: Vec<_> = outside.messages().into_iter().filter(|(name, _)| name.contains(ID)).collect();
    assert_eq!((first.len(), first[0].1.as_slice()), (1, ["completed".to_owned()].as_slice()), "{first:?}");
    let reported = outside.asked("mcp").into_iter().filter(|asked| asked.body["migration"] == ID).count();
    assert_eq!(reported, 1, "the end of the first one is reported once");
    let logs = play.installation.coordinator().process().log_text();
    assert!(!Outside::is_betrayed_by(&logs), "the key stands in the log");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_message_follows_a_migration_from_its_start_to_a_halt_and_over_a_new_key_to_its_end() {
    let outside = Outside::start().await;
    let (one, two, play) = installed(&outside, 5_000).await;
    // A question whose answer is wrong until somebody mends it.
    execute(&two.dsn, "CREATE TABLE audit (what text); INSERT INTO audit VALUES ('wrong')").await;
    execute(&one.dsn, "CREATE TABLE audit (what text)").await;
    let question = "verify: [ remaining, { sql: \"SELECT count(*) FROM audit\", equals: 0 } ]\n";
    let text = spec("[2, 101]", "all");
    let at = text.find("verify:").unwrap();
    let end = at + text[at..].find('\n').unwrap() + 1;
    play.apply(&[format!("{}{question}{}", &text[..at], &text[end..])]).await;
    play.until_status(ID, "halted", |status| !status["halted"].is_null()).await;
    until(&play, "the halt to be shown", || outside.text().contains("is halted: verify.mismatch")).await;
    let file = play.installation.coordinator().config();
    std::fs::write(file, outside.renew(&std::fs::read_to_string(file).unwrap())).unwrap();
    play.installation.cli_json(&["topology", "reload"]).await.unwrap();
    execute(&two.dsn, "DELETE FROM audit").await;
    play.installation.cli_json(&["resume", ID]).await.unwrap();
    play.completed(ID).await;
    until(&play, "the end to be shown", || outside.text().contains("is completed and verified")).await;
    let messages = outside.messages();
    assert_eq!(messages.len(), 1, "one message: {messages:?}");
    let seen = messages.into_values().next().unwrap();
    assert!(seen.len() <= 4, "it is no flood: {seen:?}");
    assert!(
        seen.contains(&"paused".to_owned()) && seen.last().is_some_and(|last| last == "completed"),
        "{seen:?}"
    );
    let log = play.installation.coordinator().process().log_text();
    assert!(log.contains("is asked with another key") && !Outside::is_betrayed_by(&log), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gate_opens_once_adaptors_are_quiet_and_they_go_on_behind_it() {
    let outside = Outside::start().await;
    outside.busy(true);
    let (_one, _two, play) = installed(&outside, 60_000).await;
    play.apply(&[spec("[2, 101]", "[ { shards: 1 }, { percent: 100 } ]")]).await;
    let quiet =
        |wish: bool| outside.asked("adaptor").iter().filter(|asked| asked.body["quiet"] == wish).count();
    until(&play, "both tenants to be asked again", || quiet(true) >= 4).await;
    let status = play.status(ID).await;
    assert_eq!((&status["wave"], &status["status"]), (&json!(1), &json!("running")), "{status:#}");
    assert_eq!(quiet(false), 0, "{:#?}", outside.asked("adaptor"));
    // Whoever leads next knows that adaptors may be quiet, and asks them again.
    play.installation.coordinator().kill9();
    play.installation.coordinator().restart().await.unwrap();
    outside.busy(false);
    play.completed(ID).await;
    until(&play, "both tenants to go on", || quiet(false) >= 2).await;
    let asked = outside.asked("adaptor");
    let resumed: Vec<&str> =
        asked.iter().filter(|asked| asked.body["quiet"] == false).map(|asked| asked.what.as_str()).collect();
    for tenant in ["2", "101"] {
        assert!(
            resumed.contains(&format!("PUT /adaptor/api/tenants/{tenant}/quiet").as_str()),
            "{resumed:?}"
        );
    }
    assert!(asked[0].body["for_ms"] == 120_000 && asked[0].body["migration"] == ID, "{asked:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn adaptors_that_are_not_quiet_in_time_go_on_and_the_migration_halts() {
    let outside = Outside::start().await;
    outside.busy(true);
    let (one, two, play) = installed(&outside, 2_000).await;
    play.apply(&[spec("[2, 101]", "[ { shards: 1 }, { percent: 100 } ]")]).await;
    let status = play.until_status(ID, "halted", |status| !status["halted"].is_null()).await;
    assert_eq!(status["halted"]["code"], "gate.not-quiet", "{status:#}");
    assert!(
        status["halted"]["message"].as_str().unwrap().contains("still have something to finish"),
        "{status:#}"
    );
    let resumed = || outside.asked("adaptor").iter().filter(|asked| asked.body["quiet"] == false).count();
    until(&play, "both tenants to go on", || resumed() >= 2).await;
    let done = [changed(&one).await, changed(&two).await];
    assert!(
        done.contains(&"1:0 2:0".into()) || done.contains(&"101:0 102:0".into()),
        "the next wave waits: {done:?}"
    );
    outside.busy(false);
    play.installation.cli_json(&["resume", ID]).await.unwrap();
    play.completed(ID).await;
    assert_eq!((changed(&one).await, changed(&two).await), ("1:0 2:1".into(), "101:1 102:0".into()));
}
