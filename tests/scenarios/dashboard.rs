//! The dashboard as a browser is given it: every file, nothing from elsewhere, and no question that the API does not know.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::stage::{Answer, Engine, Http, Items, Play};

/// Names of an XML language, which nobody fetches.
const NAMESPACE: &str = "http://www.w3.org/2000/svg";

/// What could turn text from outside into markup or code, or leave the page's own files.
const FORBIDDEN: [&str; 12] = [
    "http://",
    "https://",
    "//cdn",
    "innerHTML",
    "outerHTML",
    "insertAdjacentHTML",
    "document.write",
    "eval(",
    "new Function",
    "style=\"",
    "onclick=",
    "javascript:",
];

/// An installation, and the door of its coordinator.
async fn started() -> (Play, Http) {
    let play = Play::of(Play::builder(&[&Items::of(Engine::Postgres, 1).await]).rest()).await;
    let http = Http::of(play.installation.coordinators()[0].rest_address().unwrap()).await;
    (play, http)
}

/// Every file below `/` and `/assets/`, found by following what the page, its styles and its modules name.
async fn files(http: &Http) -> BTreeMap<String, Answer> {
    let mut found = BTreeMap::new();
    let mut open = vec!["/".to_owned()];
    while let Some(path) = open.pop() {
        if found.contains_key(&path) {
            continue;
        }
        let answer = http.get(&path).await;
        assert_eq!(answer.status, 200, "{path}: {answer:?}");
        for name in named(&answer.text) {
            open.push(match name.strip_prefix("./") {
                Some(beside) => format!("{}/{beside}", path.rsplit_once('/').unwrap().0),
                None => format!("/{name}"),
            });
        }
        found.insert(path, answer);
    }
    found
}

/// `assets/…` of the page, `./….js` of a module.
fn named(text: &str) -> Vec<String> {
    let own = |name: &&str| {
        name.starts_with("assets/") || name.strip_prefix("./").is_some_and(|name| name.ends_with(".js"))
    };
    text.split('"').filter(own).map(str::to_owned).collect()
}

/// The files of the folder, by the path under which they are served.
fn folder() -> BTreeSet<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../coordinator/dashboard");
    let mut found = BTreeSet::from(["/".to_owned()]);
    for part in ["", "css/", "js/"] {
        for entry in std::fs::read_dir(root.join(part)).unwrap() {
            let entry = entry.unwrap();
            let name = entry.file_name().into_string().unwrap();
            if entry.file_type().unwrap().is_file() && name != "index.html" {
                found.insert(format!("/assets/{part}{name}"));
            }
        }
    }
    found
}

fn expected_type(path: &str) -> &'static str {
    match path.rsplit('.').next() {
        Some("css") => "text/css; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("svg") => "image/svg+xml",
        _ => "text/html; charset=utf-8",
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_file_of_the_dashboard_is_served_and_none_refers_to_anything_outside() {
    let (_play, http) = started().await;
    let files = files(&http).await;
    assert_eq!(
        files.keys().cloned().collect::<BTreeSet<_>>(),
        folder(),
        "what the page names, and what there is"
    );
    for (path, answer) in &files {
        assert_eq!(answer.header("content-type"), Some(expected_type(path)), "{path}");
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"), "{path}");
        assert_eq!(answer.header("cache-control"), Some("no-cache"), "{path}");
        let policy = answer.header("content-security-policy").unwrap();
        assert!(policy.starts_with("default-src 'self';") && !policy.contains("unsafe"), "{path}: {policy}");
        let text = answer.text.replace(NAMESPACE, "");
        let outside: Vec<_> = FORBIDDEN.iter().filter(|word| text.contains(**word)).collect();
        assert!(outside.is_empty(), "{path} holds {outside:?}");
        let again = http.send("GET", path, &[("if-none-match", answer.header("etag").unwrap())], "").await;
        assert_eq!((again.status, again.text.as_str()), (304, ""), "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_dashboard_asks_only_what_the_api_offers() {
    let (_play, http) = started().await;
    let document = http.get("/api/v1/openapi.json").await.ok(200);
    let offered = document["paths"].as_object().unwrap();
    let mut asked = 0;
    for (path, answer) in files(&http).await.iter().filter(|(path, _)| path.ends_with(".js")) {
        for (method, route) in routes(&answer.text) {
            asked += 1;
            if route.starts_with("/api/v1/") {
                let known = offered.iter().find(|(known, _)| plain(known) == plain(&route));
                let (_, known) = known.unwrap_or_else(|| panic!("{path}: the API has no {route}"));
                assert!(known[method.to_lowercase()].is_object(), "{path}: the API has no {method} {route}");
            } else {
                let page = http.get(&route.replace("{id}", "row.rejected")).await;
                assert_eq!(page.status, 200, "{path}: {route}: {page:?}");
            }
        }
    }
    assert!(asked > 10, "only {asked} routes found: are they read right?");
}

/// Method and path of each route that a module names.
fn routes(module: &str) -> Vec<(String, String)> {
    let route = |text: &str| {
        let (method, path) = text.split_once(' ')?;
        let known = ["GET", "POST", "PUT", "PATCH", "DELETE"].contains(&method) && path.starts_with('/');
        known.then(|| (method.to_owned(), path.to_owned()))
    };
    module.split('"').filter_map(route).collect()
}

/// With all parameters called the same.
fn plain(path: &str) -> String {
    let segment = |segment: &str| if segment.starts_with('{') { "{}".to_owned() } else { segment.to_owned() };
    path.split('/').map(segment).collect::<Vec<_>>().join("/")
}
