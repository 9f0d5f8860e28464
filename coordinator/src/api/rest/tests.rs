//! The whole door in this process, over a coordinator that leads and has neither shards nor migrations.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::http::{Method, Request, StatusCode, header};
use http_body_util::BodyExt;
use serde_json::Value;
use shardlift_domain::topology::Topology;
use tokio::time::timeout;
use tonic::codegen::Service;

use super::*;
use crate::api::access::{KnownToken, hash};
use crate::api::forward::Forward;
use crate::config::AccessConfig;
use crate::election::{Peer, Standalone};
use crate::orchestrator::Parts;
use crate::service::Services;
use crate::store::MemoryStore;

struct Stage {
    router: Router,
    closing: CancellationToken,
}

struct Answer {
    status: StatusCode,
    media: String,
    body: Value,
    text: String,
}

impl Stage {
    async fn new() -> Self {
        Self::of(AccessConfig::default()).await
    }

    async fn of(access: AccessConfig) -> Self {
        Self::with(access, &RestOptions::default()).await
    }

    async fn with(access: AccessConfig, options: &RestOptions) -> Self {
        let access = Access::new(access, Arc::default());
        let closing = CancellationToken::new();
        let me = Peer { name: "c1".into(), address: "127.0.0.1:1".into() };
        let parts = Parts {
            quiet_within: None,
            name: me.name.clone(),
            address: me.address.clone(),
            ttl: Duration::from_secs(5),
            declare: Arc::new(|| Ok(Topology::default())),
            store: Arc::new(MemoryStore::default()),
            metrics: Arc::default(),
            approval: shardlift_domain::migration::ApprovalRule::None,
            sink: None,
            election: Arc::new(Standalone::new(me)),
        };
        let (handle, _heart) = crate::orchestrator::run(parts, closing.clone());
        handle.standing().settled(Duration::from_secs(20)).await;
        let services = Services::new(handle, Arc::new(|| Ok(Topology::default())));
        let standing = services.orchestrator().standing().clone();
        let forward = Forward::new(standing.clone(), None, closing.clone());
        let migrations = MigrationDoor::new(services.clone(), closing.clone());
        let rest = Shared::new(
            forward.around(MigrationServiceServer::new(migrations)),
            forward.around(ClusterServiceServer::new(ClusterDoor::new(services, access.clone()))),
            standing,
            access,
            closing.clone(),
        );
        Self { router: router(rest, options), closing }
    }

    async fn ask(&self, method: Method, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        self.ask_from([127, 0, 0, 1], method, path, headers, body).await
    }

    async fn ask_from(
        &self,
        machine: [u8; 4],
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Answer {
        let from = ConnectInfo(Peer((machine, 4711).into()));
        let request = Request::builder().method(method).uri(path).header(header::HOST, "localhost");
        let request = request.extension(from);
        let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        let request = request.body(Body::from(body.to_owned())).expect("a request");
        let answered = timeout(Duration::from_secs(20), self.router.clone().call(request)).await;
        let (head, body) = answered.expect("answered in time").expect("infallible").into_parts();
        let body = body.collect().await.expect("a body").to_bytes();
        let media = head.headers.get(header::CONTENT_TYPE).and_then(|media| media.to_str().ok());
        Answer {
            status: head.status,
            media: media.unwrap_or_default().to_owned(),
            body: serde_json::from_slice(&body).unwrap_or_default(),
            text: String::from_utf8_lossy(&body).into_owned(),
        }
    }

    async fn get(&self, path: &str) -> Answer {
        self.ask(Method::GET, path, &[], "").await
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.closing.cancel();
    }
}

impl Answer {
    fn refused(&self, status: u16, code: &str) {
        assert_eq!(self.status.as_u16(), status, "{}", self.text);
        assert_eq!(self.media, problem::PROBLEM, "{}", self.text);
        assert_eq!(self.body["code"], code, "{}", self.text);
        assert_eq!(self.body["status"], status, "{}", self.text);
        let told = |key: &str| self.body[key].as_str().is_some_and(|text| !text.is_empty());
        assert!(["type", "title", "detail", "instance", "next", "fault", "request_id"].into_iter().all(told));
        assert!(self.body["failures"].as_array().is_some_and(|all| !all.is_empty()), "{}", self.text);
    }
}

/// Method and path of each documented route.
pub(super) fn documented() -> Vec<(Method, String)> {
    let document: Value = serde_json::from_str(&document::DOCUMENT).expect("JSON");
    let paths = document["paths"].as_object().expect("paths");
    let methods = |(path, methods): (&String, &Value)| {
        let path = path.clone();
        let names: Vec<String> = methods.as_object().expect("methods").keys().cloned().collect();
        names.into_iter().map(move |method| (method.to_uppercase().parse().expect("a method"), path.clone()))
    };
    paths.iter().flat_map(methods).collect()
}

fn filled(path: &str) -> String {
    path.replace("{id}", "absent").replace("{code}", "spec.invalid")
}

#[tokio::test]
async fn every_documented_route_is_there_and_every_other_method_and_path_is_refused() {
    let stage = Stage::new().await;
    let routes = documented();
    assert!(routes.len() > 20, "{routes:?}");
    let paths: BTreeSet<&String> = routes.iter().map(|(_, path)| path).collect();
    for path in paths {
        for method in [Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE] {
            let there = routes.contains(&(method.clone(), path.clone()));
            let answer = stage.ask(method.clone(), &filled(path), &[], "").await;
            let code = answer.body["code"].as_str().unwrap_or_default().to_owned();
            if there {
                assert!(
                    !matches!(code.as_str(), "request.no-such-route" | "request.wrong-method"),
                    "{method} {path}: {code}"
                );
                assert!(!answer.status.is_server_error(), "{method} {path}: {}", answer.text);
            } else {
                answer.refused(405, "request.wrong-method");
            }
        }
    }
    for path in
        ["/api/v1", "/api/v1/", "/api/v1/migration", "/api/v1/migrations/", "/favicon.ico", "/api/v2/shards"]
    {
        stage.get(path).await.refused(404, "request.no-such-route");
    }
}

#[test]
fn no_route_is_served_past_the_document() {
    let files = [
        include_str!("mod.rs"),
        include_str!("document.rs"),
        include_str!("migrations.rs"),
        include_str!("repair.rs"),
        include_str!("verbs.rs"),
        include_str!("cluster.rs"),
        include_str!("events.rs"),
        include_str!("health.rs"),
        include_str!("looks.rs"),
        include_str!("changes.rs"),
        include_str!("aside.rs"),
        include_str!("me.rs"),
        include_str!("audit.rs"),
        include_str!("backups.rs"),
    ];
    let handlers: usize = files.iter().map(|text| text.matches("#[utoipa::path(").count()).sum();
    assert_eq!(handlers, documented().len());
    for text in files {
        for past in [".route(\"", ".route_service(", "axum::routing"] {
            assert!(!text.contains(past), "{past} in {text}");
        }
    }
}

#[test]
fn the_document_explains_every_parameter_and_knows_every_shape_that_it_names() {
    let document: Value = serde_json::from_str(&document::DOCUMENT).expect("JSON");
    let schemas = document["components"]["schemas"].as_object().expect("schemas");
    let text = document::DOCUMENT.as_str();
    for named in text.split("#/components/schemas/").skip(1) {
        let name = named.split('"').next().unwrap_or_default();
        assert!(schemas.contains_key(name), "{name} is nowhere");
    }
    for (path, methods) in document["paths"].as_object().expect("paths") {
        for (method, operation) in methods.as_object().expect("methods") {
            assert!(operation["summary"].is_string(), "{method} {path}");
            assert!(operation["responses"]["default"].is_object(), "{method} {path}");
            for parameter in operation["parameters"].as_array().into_iter().flatten() {
                assert!(parameter["description"].is_string(), "{method} {path}: {parameter}");
            }
        }
    }
}

#[tokio::test]
async fn what_a_route_does_not_know_is_refused_and_not_ignored() {
    let stage = Stage::new().await;
    for (method, path) in documented() {
        if path.starts_with("/api/docs") {
            continue;
        }
        let sent = [("content-type", "application/json")];
        let answer = stage.ask(method.clone(), &format!("{}?nonsense=1", filled(&path)), &sent, "{}").await;
        answer.refused(400, "request.invalid");
        assert!(answer.text.contains("nonsense"), "{method} {path}: {}", answer.text);
        if method == Method::POST {
            let answer = stage.ask(method.clone(), &filled(&path), &sent, "{\"nonsense\": 1}").await;
            answer.refused(400, "request.invalid");
            assert!(answer.text.contains("nonsense"), "{method} {path}: {}", answer.text);
        }
    }
}

#[tokio::test]
async fn what_is_not_there_is_told_by_every_route_that_names_it() {
    let stage = Stage::new().await;
    for (method, path) in documented() {
        if path.contains("/migrations/{id}") || path.contains("/plans/{id}") {
            let sent = [("content-type", "application/json")];
            let (headers, body) = match path.rsplit('/').next() {
                Some("show") => (sent.as_slice(), r#"{"shard": "s", "key": "1"}"#),
                Some("throttle") => (sent.as_slice(), r#"{"no_limit": true}"#),
                _ => ([].as_slice(), ""),
            };
            let answer = stage.ask(method, &filled(&path), headers, body).await;
            answer.refused(404, "request.not-found");
            assert_eq!(answer.body["instance"], filled(&path));
        }
    }
    let stream = [("accept", "text/event-stream")];
    stage
        .ask(Method::GET, "/api/v1/migrations/absent/events", &stream, "")
        .await
        .refused(404, "request.not-found");
    stage.get("/api/v1/migrations/not%20a%20name").await.refused(400, "request.invalid");
    stage.get("/api/v1/migrations/%ff").await.refused(400, "request.invalid");
    stage.ask(Method::POST, "/api/v1/workers/absent/drain", &[], "").await.refused(404, "request.not-found");
}

#[tokio::test]
async fn a_throttle_that_cannot_be_is_refused() {
    let stage = Stage::new().await;
    let json = [("content-type", "application/json")];
    for (body, told) in [
        ("{}", "nothing is said"),
        (r#"{"rows_per_second": 5, "no_limit": true}"#, "cannot both be"),
        (r#"{"window": "22:00-06:00 UTC", "always": true}"#, "cannot both be"),
        (r#"{"as_in_spec": true, "always": true}"#, "cannot both be"),
        (r#"{"rows_per_second": 0}"#, "from 1 to 100000000"),
        (r#"{"rows_per_second": -1}"#, "line 1 column"),
        (r#"{"window": "22-06"}"#, "22:00-06:00 UTC"),
        (r#"{"window": "22:00-22:00 UTC"}"#, "empty"),
    ] {
        let answer = stage.ask(Method::POST, "/api/v1/migrations/m/throttle", &json, body).await;
        answer.refused(400, "request.invalid");
        assert!(answer.text.contains(told), "{body}: {}", answer.text);
    }
}

#[tokio::test]
async fn bad_requests_are_refused_with_the_place() {
    let stage = Stage::new().await;
    let json = [("content-type", "application/json")];
    let plans = "/api/v1/plans";
    let answer = stage.ask(Method::POST, plans, &json, "{\n \"specs\": 7}").await;
    answer.refused(400, "request.invalid");
    assert!(answer.text.contains("line 2 column"), "{}", answer.text);
    stage.ask(Method::POST, plans, &[], "id: x").await.refused(415, "request.wrong-media-type");
    let yaml = [("content-type", "application/yaml")];
    let answer =
        stage.ask(Method::POST, &format!("{plans}?name=7.yaml"), &yaml, "id: x\nkind: nonsense\n").await;
    answer.refused(422, "spec.invalid");
    assert!(answer.text.contains("\"file\":\"7.yaml:2:"), "every mistake has its place: {}", answer.text);
    let large = "x".repeat(crate::api::MAX_MESSAGE + 1);
    stage.ask(Method::POST, plans, &yaml, &large).await.refused(413, "request.too-large");
    for wrong in ["limit=0", "limit=501", "limit=many", "status=asleep", "cursor=x", "order=random"] {
        stage.get(&format!("/api/v1/migrations?{wrong}")).await.refused(400, "request.invalid");
    }
    stage.get("/api/v1/routes?cluster=chat").await.refused(400, "request.invalid");
    stage.get("/api/v1/migrations/m/events?shards=true").await.refused(400, "request.invalid");
    let foreign = [("origin", "http://elsewhere.example")];
    stage.ask(Method::POST, plans, &foreign, "").await.refused(403, "request.foreign-origin");
    let key = [("content-type", "application/yaml"), ("idempotency-key", "")];
    stage.ask(Method::POST, "/api/v1/migrations", &key, "id: x").await.refused(400, "request.invalid");
}

#[tokio::test]
async fn a_change_of_the_topology_says_all_that_it_means() {
    let stage = Stage::new().await;
    let json = [("content-type", "application/json")];
    let topology = "/api/v1/topology";
    for (verb, body, complaint) in [
        ("set-routing", r#"{"cluster": "c"}"#, "missing field `routing`"),
        ("set-routing", r#"{"cluster": "c", "routing": {"rule": "magic", "key": "text"}}"#, "magic"),
        (
            "set-routing",
            r#"{"cluster": "c", "routing": {"rule": "directory", "key": "text", "buckets": 7}}"#,
            "buckets",
        ),
        ("route-key", r#"{"cluster": "c", "key": "k"}"#, "missing field `shard`"),
        ("add-shard", r#"{"cluster": "c"}"#, "missing field `shard`"),
    ] {
        let answer = stage.ask(Method::POST, &format!("{topology}/{verb}"), &json, body).await;
        answer.refused(400, "request.invalid");
        assert!(answer.text.contains(complaint), "{verb}: {}", answer.text);
    }
    let (add, body) = (format!("{topology}/add-shard"), r#"{"cluster": "c", "shard": "s"}"#);
    let nowhere = stage.ask(Method::POST, &add, &json, body).await;
    assert!(nowhere.status.is_client_error(), "{}", nowhere.text);
    let reloaded = stage.ask(Method::POST, &format!("{topology}/reload"), &[], "").await;
    assert_eq!(
        (reloaded.status, &reloaded.body["changed"]),
        (StatusCode::OK, &false.into()),
        "{}",
        reloaded.text
    );
}

#[tokio::test]
async fn a_coordinator_without_anything_tells_that() {
    let stage = Stage::new().await;
    for (path, key) in [
        ("/api/v1/migrations", "migrations"),
        ("/api/v1/shards", "shards"),
        ("/api/v1/workers", "workers"),
        ("/api/v1/topology", "clusters"),
        ("/api/v1/drift", "clusters"),
        ("/api/v1/indoubt", "transactions"),
    ] {
        let answer = stage.get(path).await;
        assert_eq!((answer.status, answer.media.as_str()), (StatusCode::OK, "application/json"), "{path}");
        assert_eq!(answer.body[key], serde_json::json!([]), "{path}: {}", answer.text);
    }
    let leader = stage.get("/api/v1/leader").await;
    assert_eq!((&leader.body["name"], &leader.body["here"]), (&"c1".into(), &true.into()), "{}", leader.text);
    assert_eq!(stage.get("/health/live").await.body["status"], "alive");
    assert_eq!(stage.get("/health/ready").await.body["status"], "ready");
    let page = stage.get("/api/docs").await;
    assert!(page.media.starts_with("text/html") && page.text.contains("<title>"), "{}", page.media);
    assert!(stage.get("/api/docs/errors/spec.invalid").await.text.starts_with("# `spec.invalid`"));
    stage.get("/api/docs/errors/README").await.refused(404, "request.no-such-route");
    assert_eq!(stage.get("/api/v1/openapi.json").await.text, *document::DOCUMENT);
}

fn known() -> AccessConfig {
    use shardlift_domain::principal::{Principal, Reach, Role};
    let token = |role: Role| KnownToken {
        hash: hash(role.as_str()),
        principal: Principal::new(&format!("a {role}"), role, Reach::Nothing).expect("valid"),
    };
    let tokens = [Role::Viewer, Role::Operator, Role::Approver, Role::Admin].map(token);
    AccessConfig { tokens: tokens.into(), ..AccessConfig::default() }
}

#[tokio::test]
async fn every_route_asks_who_it_is_but_those_that_tell_nothing() {
    let stage = Stage::of(known()).await;
    for (method, path) in documented() {
        let answer = stage.ask(method.clone(), &filled(&path), &[], "").await;
        let open =
            path.starts_with("/health") || path.starts_with("/api/docs") || path.ends_with("openapi.json");
        if open {
            assert_eq!(answer.status, StatusCode::OK, "{method} {path}: {}", answer.text);
        } else {
            answer.refused(401, "access.unauthenticated");
        }
    }
    assert_eq!(stage.get("/").await.status, StatusCode::OK, "the page itself is no secret");
    stage.get("/api/v1/nothing").await.refused(404, "request.no-such-route");
}

#[tokio::test]
async fn a_caller_is_told_who_it_is_and_may_what_its_role_may() {
    let stage = Stage::of(known()).await;
    let viewer = [("authorization", "Bearer viewer")];
    let me = stage.ask(Method::GET, "/api/v1/me", &viewer, "").await;
    assert_eq!(me.body, serde_json::json!({ "name": "a viewer", "role": "viewer", "open": false }));
    assert_eq!(stage.ask(Method::GET, "/api/v1/migrations", &viewer, "").await.status, StatusCode::OK);
    let start = "/api/v1/migrations/absent/start";
    let refused = stage.ask(Method::POST, start, &viewer, "").await;
    refused.refused(403, "access.forbidden");
    assert!(refused.text.contains("operator") && refused.text.contains("viewer"), "{}", refused.text);
    let operator = [("authorization", "Bearer operator")];
    stage.ask(Method::POST, start, &operator, "").await.refused(404, "request.not-found");
    let wrong = [("authorization", "Bearer canary-4711")];
    let refused = stage.ask(Method::GET, "/api/v1/migrations", &wrong, "").await;
    refused.refused(401, "access.unauthenticated");
    assert!(!refused.text.contains("4711"), "{}", refused.text);
    let open = Stage::new().await.get("/api/v1/me").await.body;
    assert_eq!(open, serde_json::json!({ "name": "person", "role": "admin", "open": true }));
}

#[tokio::test]
async fn who_is_known_is_counted_by_name_and_who_is_not_by_address() {
    let once = RestOptions { requests_per_second: std::num::NonZeroU32::new(1) };
    let stage = Stage::with(known(), &once).await;
    let (here, there) = ([10, 0, 0, 1], [10, 0, 0, 2]);
    let ask = async |machine, token: &str, path: &str| {
        let headers = [("authorization", format!("Bearer {token}"))];
        let headers = headers.each_ref().map(|(name, value)| (*name, value.as_str()));
        stage.ask_from(machine, Method::GET, path, &headers, "").await
    };
    // A bucket holds two, and fills by one a second.
    let tired = async |machine, token: &str, path: &str| {
        let answers = [ask(machine, token, path).await, ask(machine, token, path).await];
        answers.iter().any(|answer| answer.status == StatusCode::TOO_MANY_REQUESTS)
    };
    let (list, forbidden) = ("/api/v1/migrations", "/api/v1/placement");
    assert!(!tired(here, "viewer", forbidden).await, "what is forbidden counts as well");
    assert!(tired(there, "viewer", list).await, "it is the same caller, wherever it asks from");
    assert!(!tired(here, "operator", list).await, "it is another caller, though of the same address");
    assert!(!tired(here, "nobody's", list).await);
    assert!(tired(here, "somebody else's", list).await, "both are nobody, and of the same address");
    assert!(!tired(there, "nobody's", list).await);
    let page = async |machine| stage.ask_from(machine, Method::GET, "/", &[], "").await.status;
    assert!([page(here).await, page(here).await].contains(&StatusCode::TOO_MANY_REQUESTS));
    let open = [("authorization", "Bearer admin")];
    let document =
        async || stage.ask_from(there, Method::GET, "/api/v1/openapi.json", &open, "").await.status;
    let told = [document().await, document().await];
    assert!(told.contains(&StatusCode::TOO_MANY_REQUESTS), "who it is, is not asked there: {told:?}");
    assert_eq!(stage.get("/health/live").await.status, StatusCode::OK);
}
