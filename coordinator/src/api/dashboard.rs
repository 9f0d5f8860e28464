//! The dashboard: files of `coordinator/dashboard`, embedded in the program as they are. It has no door of its own
//! into the system: the page asks the REST API like anybody else.

use axum::Router;
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, IF_NONE_MATCH, REFERRER_POLICY,
};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use shardlift_domain::ids::Checksum;

/// Nothing from elsewhere, nothing inline, in no frame: an id or a message that were taken for markup could still load
/// and run nothing.
const POLICY: &str =
    "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; object-src 'none'";

/// A browser asks each time whether its copy is still the file: a new release is seen at once.
const CACHING: &str = "no-cache";

/// One embedded file.
#[derive(Debug, Clone, Copy)]
struct File {
    /// Below the folder of the dashboard.
    name: &'static str,
    body: &'static [u8],
}

macro_rules! embedded {
    ($($name:literal,)*) => {
        &[$(File { name: $name, body: include_bytes!(concat!("../../dashboard/", $name)) },)*]
    };
}

/// The page; it names the others.
const PAGE: File = File { name: "index.html", body: include_bytes!("../../dashboard/index.html") };

const ASSETS: &[File] = embedded![
    "icon.svg",
    "css/migration.css",
    "css/page.css",
    "css/parts.css",
    "css/shards.css",
    "css/side.css",
    "css/talk.css",
    "css/tokens.css",
    "js/api.js",
    "js/callouts.js",
    "js/course.js",
    "js/detail.js",
    "js/dialog.js",
    "js/dom.js",
    "js/events.js",
    "js/fleet.js",
    "js/format.js",
    "js/grid.js",
    "js/list.js",
    "js/live.js",
    "js/main.js",
    "js/model.js",
    "js/moves.js",
    "js/plot.js",
    "js/problems.js",
    "js/ring.js",
    "js/session.js",
    "js/signin.js",
    "js/throttle.js",
    "js/welcome.js",
];

/// `/` and `/assets/…`.
pub(super) fn router() -> Router {
    let page = Router::new().route("/", serve(PAGE));
    ASSETS.iter().fold(page, |router, file| router.route(&format!("/assets/{}", file.name), serve(*file)))
}

fn serve(file: File) -> axum::routing::MethodRouter {
    let tag = HeaderValue::from_str(&format!("\"{}\"", &Checksum::of(file.body).as_str()[..32]));
    // Hex digits are visible ASCII.
    let tag = tag.unwrap_or(HeaderValue::from_static("\"\""));
    get(async move |headers: HeaderMap| answer(file, &tag, &headers))
}

fn answer(file: File, tag: &HeaderValue, asked: &HeaderMap) -> Response {
    let mut headers = HeaderMap::from_iter(
        [(CACHE_CONTROL, CACHING), (CONTENT_SECURITY_POLICY, POLICY), (REFERRER_POLICY, "same-origin")]
            .map(|(name, value): (HeaderName, &'static str)| (name, HeaderValue::from_static(value))),
    );
    headers.insert(ETAG, tag.clone());
    let known = asked.get_all(IF_NONE_MATCH).iter().filter_map(|known| known.to_str().ok());
    if known.flat_map(|known| known.split(',')).any(|known| known.trim().trim_start_matches("W/") == tag) {
        return (StatusCode::NOT_MODIFIED, headers).into_response();
    }
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind(file.name)));
    (headers, file.body).into_response()
}

fn kind(name: &str) -> &'static str {
    match name.rsplit('.').next() {
        Some("html") => "text/html; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("svg") => "image/svg+xml",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::*;

    fn tag() -> HeaderValue {
        HeaderValue::from_static("\"abc\"")
    }

    fn with(known: &'static str) -> Response {
        answer(PAGE, &tag(), &HeaderMap::from_iter([(IF_NONE_MATCH, HeaderValue::from_static(known))]))
    }

    #[test]
    fn every_file_of_the_folder_is_embedded_and_has_a_type() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("dashboard");
        let mut there = BTreeSet::new();
        for part in ["", "css", "js"] {
            for entry in std::fs::read_dir(folder.join(part)).unwrap() {
                let path = entry.unwrap().path();
                if path.is_file() {
                    there.insert(path.strip_prefix(&folder).unwrap().to_str().unwrap().to_owned());
                }
            }
        }
        let embedded = ASSETS.iter().chain([&PAGE]).map(|file| file.name.to_owned());
        assert_eq!(embedded.collect::<BTreeSet<_>>(), there);
        for file in ASSETS {
            assert_ne!(kind(file.name), "application/octet-stream", "{}", file.name);
        }
    }

    #[test]
    fn a_browser_that_has_the_file_is_not_sent_it_again() {
        for known in ["\"abc\"", "W/\"abc\"", "\"old\", \"abc\""] {
            assert_eq!(with(known).status(), StatusCode::NOT_MODIFIED, "{known}");
        }
        let fresh = with("\"old\"");
        assert_eq!(fresh.status(), StatusCode::OK);
        assert_eq!(fresh.headers()[CONTENT_TYPE], "text/html; charset=utf-8");
        assert_eq!(fresh.headers()[ETAG], tag());
        assert!(
            fresh.headers()[CONTENT_SECURITY_POLICY].to_str().unwrap().starts_with("default-src 'self';")
        );
    }
}
