//! What every request goes through: a name for it, who may ask at all, a limit of time, and every refusal as a problem
//! document.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{ConnectInfo, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use shardlift_domain::failure::ErrorCode;
use shardlift_domain::principal::Principal;
use shardlift_runtime::telemetry::context;
use shardlift_runtime::tls::Peer;
use tokio::time::timeout;
use tracing::Instrument;

use super::limits::{Limits, Who};
use super::problem::{PROBLEM, Problem};
use crate::api::access::Access;
use crate::api::access::verbs::{self, Need};
use crate::api::{RestOptions, asker};

/// Names a request, in and out, in the logs and in the history.
pub(super) const REQUEST_ID: HeaderName = HeaderName::from_static(asker::REQUEST_ID);

/// How long an answer may take; an event stream has begun by then, and goes on.
const WITHIN: Duration = Duration::from_secs(60);

/// Where probes look: they come as often as somebody has set up, and tell nothing.
const HEALTH: &str = "/health/";

/// Who may ask, and how often. Cheap to clone.
#[derive(Clone)]
pub(super) struct Guard {
    access: Access,
    limits: Option<Arc<Limits>>,
}

impl Guard {
    pub(super) fn new(access: Access, options: &RestOptions) -> Self {
        let limits = options.requests_per_second.map(|each| Arc::new(Limits::new(each)));
        Self { access, limits }
    }

    /// Who may ask.
    pub(super) fn access(&self) -> &Access {
        &self.access
    }

    fn admits(&self, request: &Request) -> Result<(), Problem> {
        own(request.headers(), request.uri(), self.access.is_open())?;
        if request.uri().path().starts_with(HEALTH) || self.asks_who(request) {
            return Ok(());
        }
        self.count(request, None)
    }

    /// Whether the caller is found out further in, and counted then.
    pub(super) fn asks_who(&self, request: &Request) -> bool {
        let route = || verbs::route(method(request).as_str(), request.uri().path());
        !self.access.is_open()
            && request.headers().contains_key(header::AUTHORIZATION)
            && route().is_some_and(|(_, verb)| verb.need != Need::Open)
    }

    /// Counts a request: of whom, if it is known, else of its address.
    pub(super) fn count(&self, request: &Request, by: Option<&Principal>) -> Result<(), Problem> {
        let Some(limits) = &self.limits else { return Ok(()) };
        let address = || {
            let ConnectInfo(Peer(peer)) = request.extensions().get::<ConnectInfo<Peer>>()?;
            Some(Who::at(peer.ip()))
        };
        by.map(Who::from).or_else(address).map_or(Ok(()), |who| limits.count(&who))
    }
}

/// HEAD is answered by what answers GET.
pub(super) fn method(request: &Request) -> Method {
    if request.method() == Method::HEAD { Method::GET } else { request.method().clone() }
}

/// Around every route, and around the refusal of what is no route.
pub(super) async fn through(State(guard): State<Guard>, mut request: Request, next: Next) -> Response {
    let id = request_id(request.headers());
    if let Ok(id) = HeaderValue::from_str(&id) {
        request.headers_mut().insert(REQUEST_ID, id);
    }
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let span = tracing::info_span!("http", otel.kind = "server", %method, path, request_id = id);
    let parent = request.headers().get(context::HEADER).and_then(|text| text.to_str().ok());
    let span = context::below(span, parent);
    let answer = async {
        let answer = match guard.admits(&request) {
            Ok(()) => timeout(WITHIN, next.run(request)).await.unwrap_or_else(|_| late().into_response()),
            Err(problem) => problem.into_response(),
        };
        let status = answer.status().as_u16();
        if method == Method::GET || method == Method::HEAD {
            tracing::debug!(status, "answered");
        } else {
            tracing::info!(status, "answered");
        }
        answer
    };
    finished(answer.instrument(span).await, &path, &id)
}

/// The last touch: what is refused gets its document, and everything its name.
fn finished(mut answer: Response, path: &str, id: &str) -> Response {
    let refused = answer.extensions_mut().remove::<Problem>().or_else(|| unexplained(&answer));
    if let Some(problem) = refused {
        let document = serde_json::json!(problem.document(path, id));
        *answer.body_mut() = Body::from(format!("{document}\n"));
        answer.headers_mut().remove(header::CONTENT_LENGTH);
        answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(PROBLEM));
    }
    let headers = answer.headers_mut();
    if let Ok(id) = HeaderValue::from_str(id) {
        headers.insert(REQUEST_ID, id);
    }
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    answer
}

/// A refusal that was not ours: by its status.
fn unexplained(answer: &Response) -> Option<Problem> {
    match answer.status() {
        // The header is added further out, by the router.
        StatusCode::METHOD_NOT_ALLOWED => Some(Problem::new(
            ErrorCode::RequestWrongMethod,
            "what is at this path does not know that method",
            "use a method that the header Allow of this answer names",
        )),
        status if status.is_client_error() || status.is_server_error() => {
            let next = "compare it with /api/docs";
            Some(Problem::new(ErrorCode::RequestInvalid, "the request was not understood", next))
        }
        _ => None,
    }
}

fn late() -> Problem {
    Problem::new(
        ErrorCode::RequestTimedOut,
        format!("there was no answer within {} s", WITHIN.as_secs()),
        "what was asked for may still be carried out: look at the state, then ask again",
    )
}

/// What is at no route.
pub(super) async fn nowhere(uri: Uri) -> Problem {
    let message = format!("there is nothing at {}", uri.path());
    Problem::new(ErrorCode::RequestNoSuchRoute, message, "/api/docs shows every route")
}

/// The caller's own name for the request, if it is one; else a new one.
fn request_id(headers: &HeaderMap) -> String {
    let told = headers.get(REQUEST_ID).and_then(|id| id.to_str().ok());
    told.filter(|id| asker::is_id(id)).map_or_else(shardlift_runtime::random::uuid, ToOwned::to_owned)
}

/// No web page of another origin may ask. While nobody is asked who they are, also not under a name of its own that leads here
/// (`Host`): the browser's way to this machine is all that it needs then. Otherwise it lacks the token.
fn own(headers: &HeaderMap, uri: &Uri, open: bool) -> Result<(), Problem> {
    let text = |name| headers.get(name).map(|value| value.to_str().unwrap_or_default());
    let host = text(header::HOST).or(uri.authority().map(|authority| authority.as_str())).unwrap_or_default();
    if open && !is_loopback(host) {
        return Err(foreign(format!("{host:?} is not the name of a loopback address")));
    }
    match text(header::ORIGIN) {
        Some(origin) if !same(origin, host) => {
            Err(foreign(format!("the page that asks is of {origin:?}, not of this server")))
        }
        _ => Ok(()),
    }
}

fn same(origin: &str, host: &str) -> bool {
    let place = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
    place.is_some_and(|place| place.eq_ignore_ascii_case(host))
}

fn is_loopback(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    name.eq_ignore_ascii_case("localhost")
        || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn foreign(message: String) -> Problem {
    let next = "ask http://localhost:PORT or http://127.0.0.1:PORT, from a program or from a page of the same origin";
    Problem::new(ErrorCode::RequestForeignOrigin, message, next)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(all: &[(&'static str, &str)]) -> HeaderMap {
        all.iter()
            .map(|(name, value)| (HeaderName::from_static(name), value.parse().expect("a value")))
            .collect()
    }

    fn asks(host: &str, origin: Option<&str>) -> bool {
        let mut all = vec![("host", host)];
        all.extend(origin.map(|origin| ("origin", origin)));
        own(&headers(&all), &Uri::from_static("/"), true).is_ok()
    }

    #[test]
    fn only_pages_of_this_server_and_programs_of_this_machine_may_ask() {
        for host in ["127.0.0.1:7410", "localhost", "LOCALHOST:1", "[::1]:7410", "127.1.2.3"] {
            assert!(asks(host, None), "{host}");
            assert!(asks(host, Some(&format!("http://{host}"))), "{host}");
        }
        for host in ["", "rebound.example:7410", "10.0.0.1", "localhost.example", "[::2]"] {
            assert!(!asks(host, None), "{host}");
        }
        for origin in ["null", "http://evil.example", "http://127.0.0.1:7411", "file://", "127.0.0.1:7410"] {
            assert!(!asks("127.0.0.1:7410", Some(origin)), "{origin}");
        }
        let known = |all: &[_]| own(&headers(all), &Uri::from_static("/"), false).is_ok();
        assert!(known(&[("host", "shardlift.example")]), "whoever asks shows who they are");
        assert!(known(&[("host", "shardlift.example"), ("origin", "https://shardlift.example")]));
        assert!(!known(&[("host", "shardlift.example"), ("origin", "https://evil.example")]));
    }

    #[test]
    fn a_request_keeps_a_sane_name_and_gets_one_otherwise() {
        assert_eq!(request_id(&headers(&[("x-request-id", "r-1")])), "r-1");
        for wrong in ["", "two words", &"r".repeat(129)] {
            assert_eq!(request_id(&headers(&[("x-request-id", wrong)])).len(), 36, "{wrong}");
        }
        assert_ne!(request_id(&HeaderMap::new()), request_id(&HeaderMap::new()));
    }

    #[test]
    fn a_refusal_without_words_gets_some() {
        let mut wrong = StatusCode::METHOD_NOT_ALLOWED.into_response();
        wrong.headers_mut().insert(header::ALLOW, HeaderValue::from_static("POST"));
        let told = finished(wrong, "/api/v1/plans", "r-1");
        assert_eq!(told.status(), StatusCode::METHOD_NOT_ALLOWED);
        assert_eq!(told.headers()[header::CONTENT_TYPE], PROBLEM);
        assert_eq!(told.headers()[header::ALLOW], "POST");
        assert_eq!(told.headers()[REQUEST_ID], "r-1");
        let fine = finished(StatusCode::OK.into_response(), "/", "r-1");
        assert!(!fine.headers().contains_key(header::CONTENT_TYPE));
        assert_eq!(fine.headers()[header::X_CONTENT_TYPE_OPTIONS], "nosniff");
    }
}
