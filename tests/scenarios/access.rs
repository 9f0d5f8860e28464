//! Who may ask for what, over real processes and both doors: tokens, roles, shards of workers, tokens of an issuer, and that
//! none of it is lost on the way through a follower.

mod issuer;

use serde_json::{Value, json};
use shardlift_harness::installation::{InstallationBuilder, WorkerSpec};
use shardlift_harness::ports::Port;
use shardlift_harness::process::{Launch, Process};
use shardlift_harness::programs;
use shardlift_harness::sandbox::Sandbox;
use shardlift_proto::status::failures_of;
use shardlift_proto::v1;
use shardlift_proto::v1::cluster_service_client::ClusterServiceClient;
use shardlift_proto::v1::migration_service_client::MigrationServiceClient;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status, Streaming};

use crate::stage::{
    Control, DEADLINE, Engine, Form, Http, Items, ItemsSpec, Play, SEAT, Sse, Stream, assert_exactly_once,
};
use issuer::Issuer;

const ID: &str = "0001_items";
/// As the table of verbs has it.
const START: &str = "POST /api/v1/migrations/{id}/start";
/// Of people, whose tokens are `token-ROLE`, and of the worker of `pg-01`.
const PEOPLE: [&str; 4] = ["viewer", "operator", "approver", "admin"];

fn token(role: &str) -> String {
    format!("token-{role}")
}

/// As `sha256sum` prints it.
fn hash(token: &str) -> String {
    shardlift_domain::Checksum::of(token.as_bytes()).to_string()
}

fn principal(name: &str, role: &str, token: &str, shards: &[&str]) -> String {
    format!(
        "[[access.principal]]\nname = {name:?}\nrole = {role:?}\ntoken_sha256 = {:?}\nshards = {shards:?}\n",
        hash(token)
    )
}

/// One person of each role, and a worker for the first shard.
fn known() -> String {
    let people = PEOPLE.map(|role| principal(&format!("the-{role}"), role, &token(role), &[]));
    people.concat() + &principal("the-worker", "worker", &token("worker"), &["pg-01"])
}

/// An installation that knows them; its own command line is the operator's.
fn guarded(items: &Items) -> InstallationBuilder {
    knowing(Play::builder(&[items]))
}

fn knowing(builder: InstallationBuilder) -> InstallationBuilder {
    let worker = WorkerSpec::new("worker-pg-01", &["pg-01"]).token(&token("worker"));
    builder.rest().token(&token("operator")).coordinator_config(&known()).worker(worker)
}

async fn http(play: &Play, number: usize) -> Http {
    Http::of(play.installation.coordinators()[number].rest_address().unwrap()).await
}

fn spec() -> ItemsSpec {
    ItemsSpec::new(ID, Engine::Postgres, Form::WithWhere)
}

fn path(rest: &str) -> String {
    format!("/api/v1/migrations/{ID}{rest}")
}

type Shown = InterceptedService<Channel, shardlift_proto::bearer::Bearer>;

/// Stock gRPC with this token, or none.
async fn grpc(url: &str, token: Option<&str>) -> Shown {
    let channel = Endpoint::from_shared(url.to_owned()).unwrap().connect().await.unwrap();
    let bearer = token.map(|token| shardlift_proto::bearer::Bearer::new(token).unwrap());
    InterceptedService::new(channel, bearer.unwrap_or_default())
}

/// What the history says was refused to somebody, once it says so of all of these verbs.
async fn refused_to(play: &Play, who: &str, verbs: &[&str]) -> Vec<Value> {
    play.until(&format!("{verbs:?} to be refused to {who} in the history"), async || {
        let listed =
            play.installation.cli_json(&["audit", "list", "--actor", who, "--limit", "1000"]).await?;
        let mut entries = listed["entries"].as_array().cloned().unwrap_or_default();
        entries.retain(|entry| entry["event"] == "refused");
        for verb in verbs {
            anyhow::ensure!(entries.iter().any(|entry| entry["detail"]["verb"] == *verb), "{listed:#}");
        }
        Ok(entries)
    })
    .await
}

fn told(status: &Status) -> (Code, String) {
    (status.code(), failures_of(status)[0].code.to_string())
}

#[tokio::test(flavor = "multi_thread")]
async fn each_role_may_what_it_may_at_both_doors_and_the_history_names_who_did_it() {
    let items = Items::of(Engine::Postgres, 500).await;
    let play = Play::of(guarded(&items)).await;
    let door = http(&play, 0).await;
    door.get("/api/v1/migrations").await.refused(401, "access.unauthenticated");
    door.showing("canary").get("/api/v1/migrations").await.refused(401, "access.unauthenticated");
    assert_eq!(door.get("/health/ready").await.ok(200)["status"], "ready");
    let viewer = door.showing(&token("viewer"));
    let me = viewer.get("/api/v1/me").await.ok(200);
    assert_eq!(me, json!({ "name": "the-viewer", "role": "viewer", "open": false }));
    assert_eq!(viewer.get("/api/v1/leader").await.ok(200)["open"], false);
    viewer.post_yaml("/api/v1/migrations", &spec().text()).await.refused(403, "access.forbidden");

    let operator = door.showing(&token("operator"));
    operator.post_yaml("/api/v1/migrations", &spec().text()).await.ok(201);
    let refused = viewer.post(&path("/start")).await.refused(403, "access.forbidden");
    let detail = refused["detail"].as_str().unwrap();
    assert!(detail.contains("operator") && detail.contains("the-viewer is viewer"), "{detail}");
    assert_eq!(viewer.get(&path("")).await.ok(200)["status"], "pending");

    for (who, code) in [(None, Code::Unauthenticated), (Some("viewer"), Code::PermissionDenied)] {
        let token = who.map(token);
        let mut client = MigrationServiceClient::new(grpc(&play.installation.url(), token.as_deref()).await);
        let status = client.start(v1::VerbRequest { id: ID.into() }).await.unwrap_err();
        assert_eq!(told(&status).0, code, "{status:?}");
    }
    for (role, may) in [("worker", false), ("approver", false), ("admin", true)] {
        let shown = grpc(&play.installation.url(), Some(&token(role))).await;
        let change = v1::ChangeTopologyRequest {
            change: Some(v1::change_topology_request::Change::Reload(v1::Reload {})),
        };
        let answer = ClusterServiceClient::new(shown).change_topology(Request::new(change)).await;
        assert_eq!(answer.is_ok(), may, "{role}: {answer:?}");
    }
    let refused = play.installation.cli_with(&["start", ID], &[("SHARDLIFT_TOKEN", &token("viewer"))]).await;
    let refused = refused.unwrap();
    assert!(refused.code == Some(9) && refused.stderr.contains("error[access.forbidden]"), "{refused:#?}");

    assert_eq!(operator.post(&path("/start")).await.ok(200)["changed"], true);
    play.completed(ID).await;
    let events = viewer.get(&path("/events?after=0&limit=1000")).await.ok(200);
    let by = |word: &str| {
        let events = events["events"].as_array().unwrap().iter();
        events.filter(|event| event["event"] == word).map(|event| event["actor"].clone()).collect::<Vec<_>>()
    };
    assert_eq!((by("submitted"), by("started")), (vec![json!("the-operator")], vec![json!("the-operator")]));
    assert_eq!(by("completed"), [json!("coordinator")]);
    let log = std::fs::read_to_string(play.installation.coordinator().process().log()).unwrap();
    assert!(
        log.contains("the-viewer") && !log.contains("canary"),
        "a refusal is logged, a token is not:\n{log}"
    );
    let verbs = ["POST /api/v1/migrations", START, "shardlift.v1.MigrationService/Start"];
    for entry in refused_to(&play, "the-viewer", &verbs).await {
        let detail = &entry["detail"];
        assert_eq!((&detail["code"], &detail["role"]), (&json!("access.forbidden"), &json!("viewer")));
        assert!(detail["times"].as_u64() >= Some(1) && entry["migration"].is_null(), "{entry:#}");
    }
    let all = play.installation.cli(&["audit", "list", "--limit", "1000"]).await.unwrap().stdout;
    assert!(!all.contains("unauthenticated") && !all.contains("canary"), "of strangers nothing:\n{all}");
    let holds = play.installation.cli(&["audit", "verify"]).await.unwrap();
    assert_eq!(holds.code, Some(0), "{holds:#?}");
    assert_exactly_once(&items, Form::WithWhere, None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_serves_the_shards_that_its_token_is_for_and_no_other() {
    let items = Items::of(Engine::Postgres, 300).await;
    let other = principal("the-other", "worker", "token-other", &["pg-02"]);
    let builder = Play::builder(&[&items]).token(&token("operator")).coordinator_config(&(known() + &other));
    let play = Play { installation: builder.no_workers().launch().await.unwrap() };
    let wrong = WorkerSpec::new("worker-pg-01", &["pg-01"]).token("token-other");
    let wrong = play.installation.add_worker(&wrong).unwrap();
    let says = async |code: &str| {
        play.until(&format!("a worker to hear {code}"), async || {
            anyhow::ensure!(wrong.process().log_tail(50).contains(code), "{}", wrong.process().log_tail(50));
            Ok(())
        })
        .await;
    };
    says("access.forbidden-shard").await;
    let refused = refused_to(&play, "the-other", &["shardlift.v1.FleetService/Session"]).await;
    let detail = &refused[0]["detail"];
    assert_eq!((&detail["code"], &detail["shard"]), (&json!("access.forbidden-shard"), &json!("pg-01")));
    let shards = play.installation.cli_json(&["shards"]).await.unwrap();
    assert_eq!(shards["shards"][0]["reachable"], false, "{shards:#}");
    // A person's token is no worker's, and none is nobody's.
    for (token, code) in [(token("admin"), "access.forbidden"), ("nonsense".into(), "access.unauthenticated")]
    {
        let name = format!("worker-with-{code}");
        let refused =
            play.installation.add_worker(&WorkerSpec::new(&name, &["pg-01"]).token(&token)).unwrap();
        play.until(&format!("it to hear {code}"), async || {
            anyhow::ensure!(
                refused.process().log_tail(50).contains(code),
                "{}",
                refused.process().log_tail(50)
            );
            Ok(())
        })
        .await;
        refused.kill9();
    }
    let text = std::fs::read_to_string(wrong.config()).unwrap();
    std::fs::write(wrong.config(), text.replace("token-other", &token("worker"))).unwrap();
    wrong.restart().await.unwrap();
    play.until("its shard to be reachable", async || {
        let shards = play.installation.cli_json(&["shards"]).await?;
        anyhow::ensure!(shards["shards"][0]["reachable"] == true, "{shards:#}");
        Ok(())
    })
    .await;
    play.apply(&[spec().text()]).await;
    play.completed(ID).await;
    assert_exactly_once(&items, Form::WithWhere, None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_asks_a_follower_is_known_to_the_leader() {
    let items = Items::of(Engine::Postgres, 2_000).await;
    let control = Control::of(Engine::Postgres).await;
    let play = Play::of(knowing(control.builder(&[&items]))).await;
    let lead = control.lead().await.unwrap();
    let followers: Vec<usize> = (0..3).filter(|number| *number != lead.number).collect();
    let door = http(&play, followers[0]).await;
    let other = play.installation.coordinators()[followers[1]].url();
    door.get("/api/v1/migrations").await.refused(401, "access.unauthenticated");
    door.showing(&token("operator"))
        .post_yaml("/api/v1/migrations", &spec().rows_per_second(1_000).text())
        .await
        .ok(201);
    door.showing(&token("viewer")).post(&path("/start")).await.refused(403, "access.forbidden");
    let mut client = MigrationServiceClient::new(grpc(&other, Some(&token("viewer"))).await);
    let status = client.start(v1::VerbRequest { id: ID.into() }).await.unwrap_err();
    assert_eq!(told(&status), (Code::PermissionDenied, "access.forbidden".into()));
    // Both followers have told the leader, who alone writes the history.
    refused_to(&play, "the-viewer", &[START, "shardlift.v1.MigrationService/Start"]).await;
    let mut client = MigrationServiceClient::new(grpc(&other, Some(&token("operator"))).await);
    assert!(client.start(v1::VerbRequest { id: ID.into() }).await.unwrap().into_inner().changed);
    let mut stream = door.showing(&token("viewer")).follow(&path("/events?until=rest"), None).await;
    play.until_rows(ID, 200).await;
    // The stream goes on with the next leader, who knows the viewer as well.
    play.installation.coordinators()[lead.number].member().kill9();
    let (next, _) = control.next(&play, lead.epoch).await;
    assert_ne!(next.number, lead.number, "within a lease of {SEAT:?}");
    let (mut actors, mut ended) = (Vec::new(), false);
    while let Some(event) = stream.next().await {
        if event.kind == "history" && event.data["event"] == "started" {
            actors.push(event.data["actor"].clone());
        }
        ended |= event.kind == "end" && event.data["status"] == "completed";
    }
    assert!(ended, "the stream did not tell the end");
    assert_eq!(actors, [json!("the-operator")]);
    assert_exactly_once(&items, Form::WithWhere, None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_of_the_issuer_is_accepted_and_whatever_is_wrong_with_one_is_refused() {
    let items = Items::of(Engine::Postgres, 300).await;
    let issuer = Issuer::new();
    let play = Play::of(guarded(&items).coordinator_config(&issuer.section())).await;
    let door = http(&play, 0).await;
    let operator = issuer.token(&issuer.claims("olga@example.com", "operator"));
    assert_eq!(
        door.showing(&operator).get("/api/v1/me").await.ok(200),
        json!({ "name": "olga@example.com", "role": "operator", "open": false })
    );
    for (wrong, part) in issuer.wrong() {
        let refused = door.showing(&wrong).get("/api/v1/migrations").await;
        assert!(!refused.text.contains(&wrong), "a token is repeated: {}", refused.text);
        let refused = refused.refused(401, "access.unauthenticated");
        assert!(refused["detail"].as_str().unwrap().contains(part), "{part} is not told in {refused:#}");
    }
    let viewer = issuer.token(&issuer.claims("vera@example.com", "viewer"));
    door.showing(&viewer)
        .post_yaml("/api/v1/migrations?start=true", &spec().text())
        .await
        .refused(403, "access.forbidden");
    door.showing(&operator).post_yaml("/api/v1/migrations", &spec().text()).await.ok(201);
    tokio::join!(
        ends_with_its_token(&play, &issuer),
        followed_until_its_token_ends(&door, &issuer),
        watched_until_its_token_ends(&play, &issuer),
        serves_with_one_token_after_the_other(&play, &issuer),
    );
    door.showing(&operator).post(&path("/start")).await.ok(200);
    play.completed(ID).await;
    let events = door.showing(&viewer).get(&path("/events?after=0")).await.ok(200);
    assert_eq!(events["events"][0]["actor"], "olga@example.com", "{events:#}");
}

/// A watch of what nobody has started yet.
async fn ends_with_its_token(play: &Play, issuer: &Issuer) {
    let brief = issuer.token(&issuer.brief("vera@example.com", "viewer", 3));
    let door = grpc(&play.installation.url(), Some(&brief)).await;
    let watch = v1::WatchRequest { id: ID.to_owned() };
    let watched = MigrationServiceClient::new(door).watch(watch).await.unwrap().into_inner();
    let status = refused_at_last(watched).await;
    assert!(status.message().contains("expired"), "{status:?}");
}

/// The last word of a watch, that nobody knows any more who asks.
async fn refused_at_last(mut watched: Streaming<v1::WatchResponse>) -> Status {
    loop {
        match watched.message().await {
            Ok(news) => assert!(news.is_some(), "it ended without a word"),
            Err(status) => {
                assert_eq!(told(&status), (Code::Unauthenticated, "access.unauthenticated".to_owned()));
                return status;
            }
        }
    }
}

/// The same over HTTP.
async fn followed_until_its_token_ends(door: &Http, issuer: &Issuer) {
    let brief = issuer.token(&issuer.brief("vera@example.com", "viewer", 3));
    let stream = door.showing(&brief).follow(&path("/events"), None).await;
    let last = last_of(stream).await;
    assert_eq!((last.kind.as_str(), &last.data["code"]), ("problem", &json!("access.unauthenticated")));
}

/// The last word of a stream of events.
async fn last_of(mut stream: Stream) -> Sse {
    let mut last = None;
    while let Some(event) = stream.next().await {
        last = Some(event);
    }
    last.expect("it told something")
}

/// The command line says why it ends.
async fn watched_until_its_token_ends(play: &Play, issuer: &Issuer) {
    let brief = issuer.token(&issuer.brief("vera@example.com", "viewer", 3));
    let watched = play.installation.cli_with(&["watch", ID], &[("SHARDLIFT_TOKEN", &brief)]).await.unwrap();
    assert_eq!(watched.code, Some(9), "{watched:#?}");
    assert!(watched.stderr.contains("access.unauthenticated"), "{watched:#?}");
    assert!(watched.stderr.contains("expired"), "{watched:#?}");
}

/// A worker whose token ends comes again with what lies in its file by then.
async fn serves_with_one_token_after_the_other(play: &Play, issuer: &Issuer) {
    let write = |mut claims: serde_json::Value| {
        claims["shards"] = json!(["pg-01"]);
        std::fs::write(issuer.file(), issuer.token(&claims)).unwrap();
    };
    write(issuer.brief("worker@example.com", "worker", 6));
    let second = WorkerSpec::new("worker-issued", &["pg-01"]).token_file(&issuer.file());
    let worker = play.installation.add_worker(&second).unwrap();
    let sessions = |wanted: usize| async move {
        play.until(&format!("session {wanted} of the worker"), async || {
            let log = play.installation.coordinator().process().log_tail(1000);
            let joined = |line: &&str| line.contains("has joined") && line.contains("worker-issued");
            let found = log.lines().filter(joined).count();
            anyhow::ensure!(found == wanted, "{found} sessions so far");
            Ok(())
        })
        .await;
    };
    sessions(1).await;
    write(issuer.claims("worker@example.com", "worker"));
    sessions(2).await;
    let log = worker.process().log_tail(1000);
    assert!(log.contains("has expired"), "{log}");
}

/// A coordinator with these addresses, which must not start: what it says.
async fn does_not_start(listen: &str, rest: &str, more: &str) -> String {
    let sandbox = Sandbox::new("refused").unwrap();
    let config = sandbox.path().join("coordinator.toml");
    let store = sandbox.path().join("store.db");
    let text = format!(
        "listen = {listen:?}\nrest_listen = {rest:?}\n{more}\n[store]\nkind = \"sqlite\"\npath = {store:?}\n\
         [[cluster]]\nname = \"chat\"\nengine = \"postgres\"\nshards = [\"s1\"]\n"
    );
    std::fs::write(&config, text).unwrap();
    let program = programs::product("shardlift-coordinator").unwrap();
    let process =
        Process::spawn(&sandbox, Launch::new("coordinator", program).arg("--config").arg(&config)).unwrap();
    let status = process.wait_exit(DEADLINE).await.unwrap();
    assert_eq!(status.code(), Some(2), "{}", process.log_tail(20));
    process.log_tail(20)
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_but_this_machine_reaches_a_coordinator_that_knows_nobody() {
    let (grpc, rest) = (Port::reserve().unwrap(), Port::reserve().unwrap());
    let here = |port: &Port| port.address().to_string();
    let everywhere = |port: &Port| format!("0.0.0.0:{}", port.address().port());
    let told = does_not_start(&everywhere(&grpc), &here(&rest), "").await;
    assert!(
        told.contains("config.invalid")
            && told.contains("listen: ")
            && told.contains("[access] knows nobody"),
        "{told}"
    );
    let told = does_not_start(&here(&grpc), &everywhere(&rest), "").await;
    assert!(told.contains("rest_listen: ") && told.contains("[access] knows nobody"), "{told}");
    // On this machine alone it runs open, and says so.
    let items = Items::of(Engine::Postgres, 10).await;
    let play = Play::of(Play::builder(&[&items]).rest()).await;
    let log = play.installation.coordinator().process().log_tail(200);
    assert!(log.contains("open: [access] knows nobody"), "{log}");
    let leader = play.installation.cli(&["leader"]).await.unwrap();
    assert!(leader.stdout.contains("open: whoever reaches it"), "{leader:#?}");
    assert_eq!(http(&play, 0).await.get("/api/v1/leader").await.ok(200)["open"], true);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_known_changes_without_a_restart() {
    let items = Items::of(Engine::Postgres, 10).await;
    let play = Play::of(guarded(&items)).await;
    let door = http(&play, 0).await;
    let newcomer = door.showing("token-newcomer");
    newcomer.get("/api/v1/me").await.refused(401, "access.unauthenticated");
    let operator = door.showing(&token("operator"));
    operator.post_yaml("/api/v1/migrations", &spec().text()).await.ok(201);
    let stays = operator.follow(&path("/events?until=rest"), None).await;
    let followed = door.showing(&token("viewer")).follow(&path("/events"), None).await;
    let viewer = grpc(&play.installation.url(), Some(&token("viewer"))).await;
    let watch = v1::WatchRequest { id: ID.to_owned() };
    let watched = MigrationServiceClient::new(viewer).watch(watch).await.unwrap().into_inner();

    // The viewer's token and the worker's are those of others from now on.
    let file = play.installation.coordinator().config();
    let text = std::fs::read_to_string(file).unwrap();
    let text = text.replace(&hash(&token("viewer")), &hash("token-newcomer"));
    std::fs::write(file, text.replace(&hash(&token("worker")), &hash("token-of-another"))).unwrap();
    let reload = [("SHARDLIFT_TOKEN", token("admin"))];
    let reload = reload.each_ref().map(|(key, token)| (*key, token.as_str()));
    let reloaded = play.installation.cli_with(&["topology", "reload"], &reload).await.unwrap();
    assert_eq!(reloaded.code, Some(0), "{reloaded:#?}");
    play.until("the newcomer to be known", async || {
        let me = newcomer.get("/api/v1/me").await;
        anyhow::ensure!(me.status == 200, "{}", me.text);
        Ok(())
    })
    .await;
    door.showing(&token("viewer")).get("/api/v1/me").await.refused(401, "access.unauthenticated");
    operator.get("/api/v1/me").await.ok(200);

    // What those tokens have opened has ended, and says why. What others have opened goes on.
    let status = refused_at_last(watched).await;
    assert!(status.message().contains("taken out of [access]"), "{status:?}");
    let last = last_of(followed).await;
    assert_eq!((last.kind.as_str(), &last.data["code"]), ("problem", &json!("access.unauthenticated")));
    play.until("the worker to be without a session", async || {
        let shards = operator.get("/api/v1/shards").await.ok(200);
        anyhow::ensure!(shards["shards"][0]["reachable"] == false, "{shards:#}");
        let log = play.installation.coordinator().process().log_text();
        anyhow::ensure!(log.contains("a worker's session ends: the token"), "{log}");
        Ok(())
    })
    .await;
    operator.post(&path("/cancel")).await.ok(200);
    let last = last_of(stays).await;
    assert_eq!((last.kind.as_str(), &last.data["status"]), ("end", &json!("cancelled")));
}

/// Pending, started, and waiting for an approval.
async fn waits_for_approval(play: &Play) -> serde_json::Value {
    let status = play.status(ID).await;
    assert_eq!((&status["status"], &status["approved_by"]), (&json!("pending"), &serde_json::Value::Null));
    assert_eq!(status["approval_needed"]["code"], "approval.needed", "{status:#}");
    status
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_begins_before_another_than_its_author_has_approved_exactly_that() {
    let items = Items::of(Engine::Postgres, 500).await;
    let rule = "[access]\napproval = \"by-another\"\n".to_owned() + &known();
    let worker = WorkerSpec::new("worker-pg-01", &["pg-01"]).token(&token("worker"));
    let builder = Play::builder(&[&items]).rest().token(&token("approver")).coordinator_config(&rule);
    let play = Play::of(builder.worker(worker)).await;
    let door = http(&play, 0).await;
    let (operator, approver) = (door.showing(&token("operator")), door.showing(&token("approver")));
    let approve = format!("/api/v1/plans/{ID}/approve");

    // The approver is the author here: another one is needed.
    let output = play.applied(&[spec().text()]).await;
    assert_eq!(output.code, Some(0), "{output:#?}");
    let status = waits_for_approval(&play).await;
    assert_eq!(status["author"], "the-approver");
    assert_eq!(operator.get(&path("")).await.ok(200)["released"], true);
    operator.post(&approve).await.refused(403, "access.forbidden");
    let own = approver.post(&approve).await.refused(409, "approval.refused");
    assert!(own["detail"].as_str().unwrap().contains("the-approver has submitted"), "{own:#}");
    let told = play.refused(&["approve", ID], 7).await;
    assert!(told.contains("approval.refused"), "{told}");

    let admin = door.showing(&token("admin"));
    admin.post_json(&approve, &json!({ "checksum": "9f86d081" })).await.refused(409, "approval.refused");
    play.installation.coordinator().restart().await.unwrap();
    play.until("the next leader to say the same", async || {
        let status = play.installation.status(ID).await?;
        anyhow::ensure!(status["approval_needed"]["code"] == "approval.needed", "{status:#}");
        Ok(())
    })
    .await;
    let checksum = status["checksum"].as_str().unwrap();
    let args = ["approve", ID, "--checksum", checksum];
    let approved = play.installation.cli_with(&args, &[("SHARDLIFT_TOKEN", &token("admin"))]).await.unwrap();
    assert_eq!(approved.code, Some(0), "{approved:#?}");
    let done = play.completed(ID).await;
    assert_eq!(
        (&done["approved_by"], &done["approval_needed"]),
        (&json!("the-admin"), &serde_json::Value::Null)
    );
    admin.post(&approve).await.refused(409, "approval.refused");
    let events = operator.get(&path("/events?after=0&limit=1000")).await.ok(200);
    let events = events["events"].as_array().unwrap().iter();
    let all: Vec<_> = events.map(|event| (event["event"].clone(), event["actor"].clone())).collect();
    let refused = (json!("refused"), json!("the-approver"));
    assert!(all.contains(&refused), "who would approve what is their own: {all:?}");
    let words: Vec<_> = all.into_iter().filter(|event| *event != refused).take(4).collect();
    let expected = [("submitted", "the-approver"), ("started", "the-approver"), ("approved", "the-admin")];
    assert_eq!(words[..3], expected.map(|(event, actor)| (json!(event), json!(actor))));
    assert_eq!(words[3].0, "ready", "it began by itself");
    assert_exactly_once(&items, Form::WithWhere, None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_approval_outlives_the_leader_that_heard_it() {
    let items = Items::of(Engine::Postgres, 300).await;
    let control = Control::of(Engine::Mongodb).await;
    let rule = "[access]\napproval = \"required\"\n".to_owned() + &known();
    let worker = WorkerSpec::new("worker-pg-01", &["pg-01"]).token(&token("worker"));
    let builder = control.builder(&[&items]).rest().token(&token("approver")).coordinator_config(&rule);
    let play = Play::of(builder.worker(worker)).await;
    let lead = control.lead().await.unwrap();
    let follower = (lead.number + 1) % 3;
    let door = http(&play, follower).await;
    door.showing(&token("operator")).post_yaml("/api/v1/migrations", &spec().text()).await.ok(201);
    let approve = format!("/api/v1/plans/{ID}/approve");
    assert_eq!(door.showing(&token("approver")).post(&approve).await.ok(200)["changed"], true);
    play.installation.coordinators()[lead.number].member().kill9();
    control.next(&play, lead.epoch).await;
    play.until("the next leader to know of it", async || {
        let status = play.installation.status(ID).await?;
        anyhow::ensure!(
            status["approved_by"] == "the-approver" && status["status"] == "pending",
            "{status:#}"
        );
        Ok(())
    })
    .await;
    door.showing(&token("operator")).post(&path("/start")).await.ok(200);
    play.completed(ID).await;
    assert_exactly_once(&items, Form::WithWhere, None).await;
}
