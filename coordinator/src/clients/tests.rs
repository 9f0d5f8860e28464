//! Clients against a server that misbehaves in every way that one can.

mod peer;

use std::time::{Duration, Instant};

use super::*;
use crate::planner::TenantSettings;
use peer::{Peer, Reply};

const KEY: &str = "key-of-the-canary";

fn config(peer: &Peer) -> ServiceConfig {
    shardlift_runtime::tls::install_provider();
    ServiceConfig { url: peer.url(), key: Key::of(KEY), timeout: Duration::from_millis(400) }
}

fn mcp(peer: &Peer) -> Mcp {
    Mcp::new(&config(peer)).expect("a client")
}

/// The error of a request that does not succeed, in words that show no key.
async fn told(peer: &Peer) -> ClientError {
    let error = mcp(peer).settings("acme").await.expect_err("it succeeded");
    let words = format!("{error} {error:?}");
    assert!(!words.contains(KEY) && !words.contains("secret of the answer"), "{words}");
    error
}

#[tokio::test]
async fn settings_are_asked_for_with_the_key_and_keys_of_others_are_left_alone() {
    let body = r#"{"theme": "dark", "migrations": {"opt_out": true, "hold": true, "reason": "audit", "order": -3, "x": 1}}"#;
    let peer = Peer::that([Reply::ok(body), Reply::ok("{}"), Reply::status(404, "")]).await;
    let mcp = mcp(&peer);
    let settings = mcp.settings("acme & sons/7").await.expect("settings");
    assert_eq!(settings, TenantSettings { opt_out: true, held: Some("audit".into()), order: Some(-3) });
    assert_eq!(mcp.settings("b").await.expect("none of migrations"), TenantSettings::default());
    assert_eq!(mcp.settings("c").await.expect("not known"), TenantSettings::default());
    let asked = peer.asked();
    assert_eq!(asked[0].line, "GET /base/api/tenants/acme%20&%20sons%2F7/config HTTP/1.1");
    assert!(
        asked.iter().all(|asked| asked.header("authorization") == Some("Bearer key-of-the-canary")),
        "{asked:?}"
    );
}

#[tokio::test]
async fn a_key_that_was_read_again_is_shown_where_it_belongs_and_nowhere_else() {
    let peer = Peer::that(std::iter::repeat_n(Reply::ok("{}"), 10)).await;
    let mut all = ClientsConfig { mcp: Some(config(&peer)), ..ClientsConfig::default() };
    let clients = Clients::new(&all).expect("clients");
    let mut asked_after = async |key: &str, url: String| {
        all.mcp = Some(ServiceConfig { key: Key::of(key), url, ..config(&peer) });
        clients.read_again(&all);
        clients.mcp.as_ref().expect("there").settings("acme").await.expect("answered");
        peer.asked().last().and_then(|asked| asked.header("authorization").map(str::to_owned))
    };
    assert_eq!(asked_after("renewed", peer.url()).await.as_deref(), Some("Bearer renewed"));
    for elsewhere in ["http://127.0.0.1:1/base".to_owned(), format!("{}/deeper", peer.url())] {
        assert_eq!(asked_after("of another", elsewhere).await.as_deref(), Some("Bearer renewed"));
    }
    assert_eq!(asked_after("no\nheader", peer.url()).await.as_deref(), Some("Bearer renewed"));
}

#[tokio::test]
async fn a_passing_trouble_is_tried_again() {
    for trouble in [
        Reply::status(500, "secret of the answer"),
        Reply::HangUp,
        Reply::Nonsense,
        Reply::ok("no JSON: secret of the answer"),
        Reply::ok("{\"migrations\": 7}"),
        Reply::CutOff,
        Reply::Silence,
    ] {
        let words = format!("{trouble:?}");
        let peer = Peer::that([trouble, Reply::ok("{\"migrations\": {\"order\": 1}}")]).await;
        let settings = mcp(&peer).settings("acme").await;
        assert_eq!(settings.map(|settings| settings.order), Ok(Some(1)), "{words}");
        assert_eq!(peer.asked().len(), 2, "{words}");
    }
}

#[tokio::test]
async fn what_is_refused_is_not_tried_again_and_a_redirect_is_not_followed() {
    for status in [301, 302, 307, 400, 401, 403, 409, 422] {
        let location = "location: http://127.0.0.1:1/elsewhere\r\n";
        let peer = Peer::that([Reply::with(status, location, ""), Reply::ok("{}")]).await;
        assert_eq!(told(&peer).await, ClientError::Refused { service: "MCP", status }, "{status}");
        assert_eq!(peer.asked().len(), 1, "{status}");
    }
}

#[tokio::test]
async fn who_is_busy_is_asked_again_when_it_wishes() {
    let peer = Peer::that([Reply::with(429, "retry-after: 1\r\n", ""), Reply::ok("{}")]).await;
    let begun = Instant::now();
    mcp(&peer).settings("acme").await.expect("answered");
    assert!(begun.elapsed() >= Duration::from_millis(1000), "{:?}", begun.elapsed());
    let peer = Peer::that([Reply::with(503, "retry-after: 30\r\n", ""), Reply::ok("{}")]).await;
    let mcp = mcp(&peer);
    let busy = mcp.settings("acme").await.expect_err("later than it is worth waiting for");
    assert_eq!(busy.after(), Some(Duration::from_secs(30)));
    let resting = mcp.settings("acme").await.expect_err("it is left alone as it wishes");
    assert!(matches!(resting, ClientError::Resting { .. }), "{resting}");
    assert_eq!(peer.asked().len(), 1);
}

#[tokio::test]
async fn nobody_waits_for_ever_and_nobody_fills_the_memory() {
    let peer = async |reply: Reply| Peer::that(std::iter::repeat_n(reply, 100)).await;
    let silent = async {
        let slow = peer(Reply::Silence).await;
        let begun = Instant::now();
        assert!(matches!(told(&slow).await, ClientError::Silent { why, .. } if why == "no answer in time"));
        assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    };
    let endless = async {
        let error = told(&peer(Reply::Endless).await).await;
        assert!(matches!(&error, ClientError::Garbage { why, .. } if why.contains("more than")), "{error}");
    };
    let dripping = async {
        let error = told(&peer(Reply::Drips).await).await;
        assert!(matches!(error, ClientError::Silent { .. }), "{error}");
    };
    tokio::join!(silent, endless, dripping);
}

#[tokio::test]
async fn a_service_that_is_down_is_left_alone_after_a_while() {
    let peer = Peer::that(std::iter::repeat_n(Reply::status(500, ""), 100)).await;
    let mcp = mcp(&peer);
    let error = mcp.settings("a").await.expect_err("it is down");
    assert_eq!(error, ClientError::Broken { service: "MCP", status: 500 });
    let asked = peer.asked().len();
    assert_eq!(asked, 5, "one after the other, then no more");
    assert!(matches!(mcp.settings("a").await, Err(ClientError::Resting { .. })));
    assert_eq!(peer.asked().len(), asked);
    let nobody = ServiceConfig { url: "http://127.0.0.1:9".into(), ..config(&peer) };
    let error = Mcp::new(&nobody).expect("a client").settings("a").await.expect_err("nobody listens");
    assert!(matches!(error, ClientError::Silent { .. } | ClientError::Resting { .. }), "{error}");
}

#[tokio::test]
async fn what_is_told_is_told_under_its_name_so_that_it_counts_once() {
    let peer = Peer::that(std::iter::repeat_n(Reply::ok("{\"quiet\": true}"), 10)).await;
    let config = config(&peer);
    mcp(&peer).message_version("acme", 3, "0001_m").await.expect("told");
    let chat = Chat::new(&config, "ops").expect("a client");
    let message = Message { text: "it runs", migration: "0001_m", version: 1, status: "running" };
    chat.show("u.0001_m.1", &message).await.expect("told");
    let adaptor = Adaptor::new(&config, Duration::from_secs(30)).expect("a client");
    let cause = Cause { migration: "0001_m", version: 1, epoch: 7 };
    assert_eq!(adaptor.quiesce("acme", &cause).await, Ok(true));
    adaptor.resume("acme", &cause).await.expect("told");
    let asked: Vec<(String, serde_json::Value)> =
        peer.asked().into_iter().map(|asked| (asked.line, asked.body)).collect();
    let expected = [
        (
            "PUT /base/api/tenants/acme/message-schema-version HTTP/1.1",
            r#"{"version":3,"migration":"0001_m"}"#,
        ),
        (
            "PUT /base/api/channels/ops/messages/u.0001_m.1 HTTP/1.1",
            r#"{"text":"it runs","migration":"0001_m","version":1,"status":"running"}"#,
        ),
        (
            "PUT /base/api/tenants/acme/quiet HTTP/1.1",
            r#"{"migration":"0001_m","version":1,"epoch":7,"quiet":true,"for_ms":60000}"#,
        ),
        (
            "PUT /base/api/tenants/acme/quiet HTTP/1.1",
            r#"{"migration":"0001_m","version":1,"epoch":7,"quiet":false,"for_ms":null}"#,
        ),
    ];
    let expected = expected.map(|(line, body)| (line.to_owned(), serde_json::from_str(body).expect("JSON")));
    assert_eq!(asked, expected);
}
