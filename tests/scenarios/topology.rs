//! Where things are: routing, drift (fault 25), placement, tenants, revisions of the topology, discovered shards.

use bson::{Document, doc};
use serde_json::{Value, json};
use shardlift_harness::dataset::items::{IdKind, KeyKind};
use shardlift_harness::installation::{Installation, WorkerSpec};
use shardlift_proto::status::failures_of;
use shardlift_proto::v1;
use shardlift_proto::v1::migration_service_client::MigrationServiceClient;

use crate::stage::{
    Engine, Form, Items, ItemsSpec, MONGODB, POSTGRES, Play, Specs, assert_exactly_once, collection, execute,
    refused, scalar,
};

const ID: &str = "0001_items";

/// Two PostgreSQL shards; tenants 1 and 2 on the first, 101 and 102 on the second.
async fn two_shards(rows: u64) -> (Items, Items, Play) {
    let one = Items::postgres("pg-01", rows, KeyKind::Bigint).await;
    let two = Items::postgres("pg-02", rows, KeyKind::Bigint).await;
    for (items, first) in [(&one, 1), (&two, 101)] {
        let tenants = format!(
            "ALTER TABLE items ADD COLUMN tenant_id bigint; UPDATE items SET tenant_id = {first} + abs(hashint8(id) % 2); ANALYZE items"
        );
        execute(&items.dsn, &tenants).await;
    }
    let play = Play::start(&[&one, &two]).await;
    (one, two, play)
}

async fn routed_by_range(play: &Play, cluster: &str, shards: [&str; 2]) {
    let below = format!("{}=100", shards[0]);
    let rule =
        ["topology", "set-routing", cluster, "--key", "integer", "--below", &below, "--rest", shards[1]];
    let made = play.installation.cli_json(&rule).await.unwrap();
    assert_eq!(made["changed"], true, "{made:#}");
}

/// An answer in JSON that comes with another exit code than 0.
async fn told(installation: &Installation, args: &[&str], code: i32) -> Value {
    let output = installation.cli(&[args, &["--output", "json"]].concat()).await.unwrap();
    assert_eq!(output.code, Some(code), "{output:#?}");
    serde_json::from_str(&output.stdout).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_routed_by_hash_by_range_and_by_directory() {
    let (_one, _two, play) = two_shards(10).await;
    let complaint = play.refused(&["route", POSTGRES, "42"], 5).await;
    assert!(complaint.contains("routing.unroutable"), "{complaint}");
    let hash = ["--key", "integer", "--buckets", "1024", "--span", "pg-01=0-511", "--span", "pg-02=512-1023"];
    let set = [["topology", "set-routing", POSTGRES].as_slice(), &hash].concat();
    play.installation.cli_json(&set).await.unwrap();
    // The buckets of docs/routing.md.
    for (key, bucket, shard) in [("42", 180, "pg-01"), ("1", 627, "pg-02"), ("-7", 807, "pg-02")] {
        let routed = play.installation.cli_json(&["route", POSTGRES, key]).await.unwrap();
        assert_eq!((&routed["bucket"], &routed["shard"]), (&json!(bucket), &json!(shard)), "{routed:#}");
    }
    routed_by_range(&play, POSTGRES, ["pg-01", "pg-02"]).await;
    let routed = play.installation.cli_json(&["route", POSTGRES, "-7"]).await.unwrap();
    assert_eq!(routed["shard"], "pg-01", "{routed:#}");
    play.installation.cli_json(&["topology", "set-routing", POSTGRES, "--directory"]).await.unwrap();
    play.installation.cli_json(&["topology", "route-key", POSTGRES, "acme", "pg-02"]).await.unwrap();
    let before = play.installation.cli_json(&["topology", "show"]).await.unwrap();
    play.installation.coordinator().kill9();
    play.installation.coordinator().restart().await.unwrap();
    play.installation.wait_connected().await.unwrap();
    let after = play.installation.cli_json(&["topology", "show"]).await.unwrap();
    assert_eq!(after, before, "rule, entries and revision survive");
    let routed = play.installation.cli_json(&["route", POSTGRES, "acme"]).await.unwrap();
    assert_eq!(routed["shard"], "pg-02", "{routed:#}");
    assert!(play.refused(&["route", POSTGRES, "nobody"], 5).await.contains("no entry"));
    let complaint = play.refused(&["topology", "remove-shard", POSTGRES, "pg-02"], 7).await;
    assert!(complaint.contains("topology.refused"), "{complaint}");
}

#[tokio::test(flavor = "multi_thread")]
async fn schemas_that_differ_before_a_run_are_told_side_by_side() {
    let (_one, two, play) = two_shards(100).await;
    let equal = play.installation.cli_json(&["drift"]).await.unwrap();
    assert_eq!(equal["clusters"][0]["drifted"], false, "{equal:#}");
    let change =
        "ALTER TABLE items ADD COLUMN extra text; ALTER TABLE items ALTER COLUMN payload DROP NOT NULL;
                  CREATE INDEX items_by_tenant ON items (tenant_id)";
    execute(&two.dsn, change).await;
    let drift = told(&play.installation, &["drift", POSTGRES], 8).await;
    let differences = &drift["clusters"][0]["differences"];
    let objects: Vec<&str> =
        differences.as_array().unwrap().iter().map(|one| one["object"].as_str().unwrap()).collect();
    let expected =
        ["column public.items.extra", "column public.items.payload", "index public.items_by_tenant"];
    assert_eq!(objects, expected, "{drift:#}");
    assert_eq!(differences[0]["sides"], json!([null, "text"]), "{drift:#}");
    assert_eq!(differences[1]["sides"], json!(["text not null", "text"]), "{drift:#}");
    let spec = Specs::of(&[ItemsSpec::new(ID, Engine::Postgres, Form::WithWhere).text()]);
    let plan = play.installation.cli_json(&["plan", spec.as_str()]).await.unwrap();
    let findings = plan["findings"].as_array().unwrap();
    let found = findings.iter().find(|finding| finding["code"] == "shard.drift");
    assert_eq!(found.map(|finding| &finding["severity"]), Some(&json!("warning")), "{plan:#}");
    execute(
        &two.dsn,
        "DROP INDEX items_by_tenant; ALTER TABLE items DROP COLUMN extra, ALTER COLUMN payload SET NOT NULL",
    )
    .await;
    let mended = play.installation.cli_json(&["drift"]).await.unwrap();
    assert_eq!(mended["clusters"][0]["drifted"], false, "{mended:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shard_whose_schema_changes_during_a_run_stops_safely_and_goes_on_when_it_is_mended() {
    let form = Form::WithoutWhere;
    let (one, two, play) = two_shards(3_000).await;
    play.apply(&[ItemsSpec::new(ID, Engine::Postgres, form).rows_per_second(1_000).text()]).await;
    play.until_rows(ID, 300).await;
    execute(&two.dsn, "ALTER TABLE items RENAME COLUMN applied TO formerly_applied").await;
    let failed = play.reached(ID, "failed").await;
    let part = |shard: &str| {
        let shards = failed["shards"].as_array().unwrap();
        shards.iter().find(|part| part["shard"] == shard).unwrap().clone()
    };
    assert!(part("pg-02")["error"]["code"].is_string(), "{failed:#}");
    assert!(part("pg-01")["error"].is_null(), "the other shard is not touched by it: {failed:#}");
    let drift = told(&play.installation, &["drift", POSTGRES], 8).await;
    assert!(drift.to_string().contains("formerly_applied"), "{drift:#}");
    execute(&two.dsn, "ALTER TABLE items RENAME COLUMN formerly_applied TO applied").await;
    play.installation.cli_json(&["retry", ID]).await.unwrap();
    play.completed(ID).await;
    for items in [&one, &two] {
        assert_exactly_once(items, form, None).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_on_the_wrong_postgres_shard_are_found_and_nothing_else_is_told() {
    let (one, two, play) = two_shards(2_000).await;
    routed_by_range(&play, POSTGRES, ["pg-01", "pg-02"]).await;
    let look = ["placement", POSTGRES, "--relation", "items", "--key", "tenant_id"];
    let clean = play.installation.cli_json(&look).await.unwrap();
    assert_eq!(clean["misplaced"], json!([]), "{clean:#}");
    let key = scalar(&one.dsn, "SELECT id::text FROM items ORDER BY id LIMIT 1 OFFSET 7").await;
    execute(&one.dsn, &format!("UPDATE items SET tenant_id = 101 WHERE id = {key}")).await;
    let lost = scalar(&two.dsn, "SELECT id::text FROM items ORDER BY id DESC LIMIT 1").await;
    execute(&two.dsn, &format!("UPDATE items SET tenant_id = NULL WHERE id = {lost}")).await;
    let found = told(&play.installation, &look, 8).await;
    let expected = json!([
        { "shard": "pg-01", "row": key, "key": "101", "belongs_to": "pg-02" },
        { "shard": "pg-02", "row": lost, "key": null, "belongs_to": null },
    ]);
    assert_eq!(found["misplaced"], expected, "{found:#}");
    assert_eq!(found["shards"][0], json!({ "shard": "pg-01", "rows": 2_000, "done": true }), "{found:#}");
    let limited = told(&play.installation, &[look.as_slice(), &["--limit", "1"]].concat(), 8).await;
    assert_eq!(limited["misplaced"].as_array().unwrap().len(), 1, "{limited:#}");
    let wrong = ["placement", POSTGRES, "--relation", "items", "--key", "nothing"];
    assert!(play.refused(&wrong, 2).await.contains("no column"));
}

/// Changes the rows of tenants 2 and 101 and no others.
async fn only_their_rows(
    play: &Play,
    engine: Engine,
    form: Form,
    id: &str,
    of_tenants: &str,
    shards: &[&str],
) -> Value {
    let field = if engine == Engine::Postgres { "tenant_id" } else { "tenant" };
    let text = ItemsSpec::new(id, engine, form).text();
    let text = text.replacen("source:\n", &format!("tenants: {of_tenants}\nsource:\n  tenant: {field}\n"), 1);
    play.apply(&[text]).await;
    let status = play.completed(id).await;
    let parts: Vec<&str> =
        status["shards"].as_array().unwrap().iter().map(|part| part["shard"].as_str().unwrap()).collect();
    assert_eq!(parts, shards, "{status:#}");
    status
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_rows_of_the_named_tenants_of_postgres_change_and_only_where_they_are() {
    let (one, two, play) = two_shards(2_000).await;
    let unrouted = ItemsSpec::new(ID, Engine::Postgres, Form::WithWhere).text();
    let unrouted = unrouted.replacen("source:\n", "tenants: [2]\nsource:\n  tenant: tenant_id\n", 1);
    let complaint = play.refused(&["apply", Specs::of(&[unrouted]).as_str(), "--yes"], 5).await;
    assert!(complaint.contains("routing.unroutable"), "{complaint}");
    routed_by_range(&play, POSTGRES, ["pg-01", "pg-02"]).await;
    let done = async |items: &Items| {
        scalar(&items.dsn, "SELECT string_agg(DISTINCT tenant_id || ':' || applied, ' ' ORDER BY tenant_id || ':' || applied) FROM items").await
    };
    let form = Form::WithWhere;
    only_their_rows(&play, Engine::Postgres, form, ID, "[2, 101]", &["pg-01", "pg-02"]).await;
    assert_eq!((done(&one).await, done(&two).await), ("1:0 2:1".into(), "101:1 102:0".into()));
    let form = Form::WithoutWhere;
    only_their_rows(&play, Engine::Postgres, form, "0002_items", "[1]", &["pg-01"]).await;
    assert_eq!((done(&one).await, done(&two).await), ("1:1 2:1".into(), "101:1 102:0".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_documents_of_the_named_tenants_change_and_only_where_they_are() {
    let one = Items::mongodb("mg-01", 1_000, IdKind::ObjectId).await;
    let two = Items::mongodb("mg-02", 1_000, IdKind::ObjectId).await;
    for (items, first) in [(&one, 1_i64), (&two, 101)] {
        let tenant = doc! { "$cond": [{ "$lt": [{ "$rand": {} }, 0.5] }, first, first + 1] };
        let documents = collection(&items.dsn).await;
        documents.update_many(doc! {}, vec![doc! { "$set": { "tenant": tenant } }]).await.unwrap();
    }
    let play = Play::start(&[&one, &two]).await;
    routed_by_range(&play, MONGODB, ["mg-01", "mg-02"]).await;
    let count = async |items: &Items, filter: Document| {
        collection(&items.dsn).await.count_documents(filter).await.unwrap()
    };
    let form = Form::WithWhere;
    only_their_rows(&play, Engine::Mongodb, form, ID, "[2, 101]", &["mg-01", "mg-02"]).await;
    for (items, yes, no) in [(&one, 2_i64, 1_i64), (&two, 101, 102)] {
        assert_eq!(count(items, doc! { "tenant": yes, "applied": { "$ne": 1 } }).await, 0);
        assert_eq!(count(items, doc! { "tenant": no, "applied": { "$ne": 0 } }).await, 0);
        assert!(count(items, doc! { "tenant": no }).await > 0);
    }
    let form = Form::WithoutWhere;
    only_their_rows(&play, Engine::Mongodb, form, "0002_items", "[1]", &["mg-01"]).await;
    assert_eq!(count(&one, doc! { "applied": { "$ne": 1 } }).await, 0);
    assert_eq!(count(&two, doc! { "tenant": 102, "applied": { "$ne": 0 } }).await, 0);
    collection(&one.dsn)
        .await
        .update_one(doc! { "tenant": 1 }, doc! { "$set": { "tenant": "1x" } })
        .await
        .unwrap();
    let look = ["placement", MONGODB, "--relation", "items", "--key", "tenant"];
    let found = told(&play.installation, &look, 8).await;
    assert_eq!(found["misplaced"].as_array().unwrap().len(), 1, "{found:#}");
    assert_eq!(found["misplaced"][0]["key"], "1x", "{found:#}");
    collection(&two.dsn)
        .await
        .create_index(mongodb::IndexModel::builder().keys(doc! { "tenant": 1 }).build())
        .await
        .unwrap();
    let drift = told(&play.installation, &["drift"], 8).await;
    assert_eq!(drift["clusters"][0]["differences"][0]["object"], "index items.tenant_1", "{drift:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_of_an_older_revision_is_refused_with_what_changed_and_a_later_shard_is_told() {
    let (_one, _two, play) = two_shards(200).await;
    let text = ItemsSpec::new(ID, Engine::Postgres, Form::WithWhere).text();
    let mut service = MigrationServiceClient::connect(play.installation.url()).await.unwrap();
    let specs = vec![v1::SpecFile { name: "a.yaml".into(), text: text.clone() }];
    let plan = service
        .plan(v1::PlanRequest { specs: specs.clone(), rehearse: None })
        .await
        .unwrap()
        .into_inner()
        .plan
        .unwrap();
    play.installation.cli_json(&["topology", "set-routing", POSTGRES, "--directory"]).await.unwrap();
    let stale = v1::SubmitRequest { specs, start: true, topology_revision: Some(plan.topology_revision) };
    let refusal = failures_of(&service.submit(stale).await.unwrap_err()).remove(0);
    assert_eq!(refusal.code.as_str(), "plan.stale", "{refusal}");
    assert!(refusal.message.contains("the routing rule of cluster items changed"), "{refusal}");
    assert!(play.refused(&["status", ID], 7).await.contains("request.not-found"), "nothing was submitted");
    let specs = Specs::of(&[text]);
    let applied = play.installation.cli(&["apply", specs.as_str(), "--yes"]).await.unwrap();
    assert_eq!(applied.code, Some(0), "{applied:#?}");
    play.installation.cli_json(&["topology", "add-shard", POSTGRES, "pg-03"]).await.unwrap();
    let plan = play.installation.cli_json(&["plan", specs.as_str()]).await.unwrap();
    let found =
        plan["findings"].as_array().unwrap().iter().any(|each| each["code"] == "plan.uncovered-shards");
    assert!(found, "{plan:#}");
    let status = play.installation.cli(&["status", ID]).await.unwrap();
    assert!(status.stdout.contains("pg-03"), "{status:#?}");
    play.installation.cli_json(&["topology", "remove-shard", POSTGRES, "pg-03"]).await.unwrap();
    let audit = play.installation.cli_json(&["audit", "list", "--limit", "2"]).await.unwrap();
    let told = audit["entries"].as_array().unwrap().iter().map(|entry| {
        let changed = &entry["detail"]["clusters"][POSTGRES];
        (&entry["event"], &entry["actor"], &entry["migration"], &changed["joined"], &changed["left"])
    });
    let (event, person, none, shard, nothing) =
        (json!("topology_changed"), json!("person"), json!(null), json!(["pg-03"]), json!([]));
    let expected = [(&event, &person, &none, &shard, &nothing), (&event, &person, &none, &nothing, &shard)];
    assert_eq!(told.collect::<Vec<_>>(), expected, "{audit:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shard_that_a_worker_announces_joins_where_the_file_lets_it() {
    let one = Items::postgres("pg-01", 500, KeyKind::Bigint).await;
    let two = Items::postgres("pg-02", 500, KeyKind::Bigint).await;
    let builder = Play::builder(&[&one, &two]).worker(one.worker("first"));
    let installation = builder.launch().await.unwrap();
    let play = Play { installation };
    let file = play.installation.coordinator().config().to_owned();
    let text = std::fs::read_to_string(&file).unwrap();
    let alone = text.replace("shards = [\"pg-01\", \"pg-02\"]", "shards = [\"pg-01\"]");
    assert_ne!(alone, text, "the harness writes the file otherwise");
    std::fs::write(&file, &alone).unwrap();
    play.until("the file to be read again", async || {
        play.installation.cli_json(&["topology", "reload"]).await?;
        let shown = play.installation.cli_json(&["topology", "show"]).await?;
        let shards = &shown["clusters"][0]["shards"];
        anyhow::ensure!(*shards == json!([{ "shard": "pg-01", "origin": "file" }]), "{shown:#}");
        Ok(())
    })
    .await;
    let worker = play.installation.add_worker(&WorkerSpec::new("second", &["pg-02"])).unwrap();
    play.until("the unknown shard to be refused", async || {
        anyhow::ensure!(worker.process().log_text().contains("pg-02 is not declared"), "not yet");
        Ok(())
    })
    .await;
    std::fs::write(&file, alone.replace("[[cluster]]\n", "[[cluster]]\ndiscover = true\n")).unwrap();
    play.installation.cli_json(&["topology", "reload"]).await.unwrap();
    play.until("the announced shard to join", async || {
        let shown = play.installation.cli_json(&["topology", "show"]).await?;
        let joined = json!({ "shard": "pg-02", "origin": "worker" });
        let shards = shown["clusters"][0]["shards"].as_array().cloned().unwrap_or_default();
        anyhow::ensure!(shards.contains(&joined), "{shown:#}");
        Ok(())
    })
    .await;
    play.installation.wait_connected().await.unwrap();
    let form = Form::WithWhere;
    play.apply(&[ItemsSpec::new(ID, Engine::Postgres, form).text()]).await;
    play.completed(ID).await;
    for items in [&one, &two] {
        assert_exactly_once(items, form, None).await;
    }
    let leave = ["topology", "remove-shard", POSTGRES, "pg-02"];
    let complaint = refused(&play.installation, &leave, 7).await;
    assert!(complaint.contains("worker second serves it"), "{complaint}");
    worker.kill9();
    play.until("the shard to leave when nobody needs it", async || {
        let output = play.installation.cli(&leave).await?;
        anyhow::ensure!(output.code == Some(0), "{output:#?}");
        Ok(())
    })
    .await;
}
