//! How the code looks: lengths, leftovers, documents that must be there.

use shardlift_domain::ErrorCode;

use crate::source::{files, lines_with, none, read, root, rust};

const ALL: [&str; 8] = ["common", "proto", "coordinator", "worker", "client", "tests", "benches", "tools"];
const PRODUCT: [&str; 5] = ["common", "proto/src", "coordinator/src", "worker/src", "client/src"];

/// No file is longer.
const LONGEST_FILE: usize = 600;
/// No function is longer.
const LONGEST_FUNCTION: usize = 100;
/// At most one of a hundred functions is longer.
const LONG_FUNCTION: usize = 60;

#[test]
fn no_file_is_too_long() {
    let long = |source: &crate::source::Source| {
        let lines = source.text.lines().count();
        (lines > LONGEST_FILE).then(|| format!("{}: {lines} lines", source.path))
    };
    none("files to split", rust(&ALL).iter().filter_map(long).collect());
}

#[test]
fn functions_are_short() {
    let mut all = 0;
    let mut long = Vec::new();
    for source in rust(&ALL) {
        for (name, lines) in functions(&source.text) {
            all += 1;
            assert!(lines <= LONGEST_FUNCTION, "{}: {name} has {lines} lines", source.path);
            if lines > LONG_FUNCTION {
                long.push(format!("{}: {name} has {lines} lines", source.path));
            }
        }
    }
    assert!(all > 500, "only {all} functions found: are they read right?");
    assert!(long.len() * 100 <= all, "{} of {all} functions are long:\n  {}", long.len(), long.join("\n  "));
}

/// Name and length of each function: from `fn` to the closing brace at the same indentation.
fn functions(text: &str) -> Vec<(String, usize)> {
    let lines: Vec<&str> = text.lines().collect();
    let mut found = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        let body = line.trim_start();
        let indent = line.len() - body.len();
        let Some(rest) = body.split("fn ").nth(1).filter(|_| starts_function(body)) else { continue };
        // A method that a trait only declares has no body: what follows is not its own.
        let head = lines[at..].iter().find(|line| line.ends_with(['{', '}', ';']));
        if head.is_some_and(|line| line.ends_with(';')) {
            continue;
        }
        let close = format!("{}}}", " ".repeat(indent));
        if let Some(length) = lines[at..].iter().position(|line| **line == close) {
            found.push((rest.split(['(', '<']).next().unwrap_or_default().to_owned(), length + 1));
        }
    }
    found
}

fn starts_function(line: &str) -> bool {
    let head = line.split("fn ").next().unwrap_or_default();
    head.split_whitespace().all(|word| {
        matches!(word, "pub" | "async" | "const" | "unsafe" | "default") || word.starts_with("pub(")
    })
}

#[test]
fn every_module_says_what_it_is_for() {
    let silent =
        |source: &crate::source::Source| !source.text.starts_with("//!") && !source.text.starts_with("#!");
    none(
        "modules without //!",
        rust(&ALL).iter().filter(|source| silent(source)).map(|source| source.path.clone()).collect(),
    );
}

#[test]
fn nothing_is_left_for_later_and_nothing_is_unwrapped() {
    let marks = ["TO", "FIX", "XX"].map(|half| {
        format!(
            "{half}{}",
            match half {
                "TO" => "DO",
                "FIX" => "ME",
                _ => "X",
            }
        )
    });
    let mut offences = Vec::new();
    for source in rust(&ALL) {
        for (number, line) in source.text.lines().enumerate() {
            if marks.iter().any(|mark| line.contains(mark.as_str())) {
                offences.push(format!("{}:{}: {}", source.path, number + 1, line.trim()));
            }
        }
    }
    none("left for later", offences);
    none(
        "unwrap in shipped code",
        lines_with(&PRODUCT, &[".unwrap()", "todo!(", "unimplemented!("], |_| false),
    );
}

#[test]
fn every_error_code_has_its_page() {
    let missing = |code: &&ErrorCode| !root().join(format!("docs/errors/{code}.md")).exists();
    none(
        "codes without a page in docs/errors",
        ErrorCode::ALL.iter().filter(missing).map(ToString::to_string).collect(),
    );
}

#[test]
fn every_page_of_an_error_has_its_code() {
    let known = |name: &str| name == "README" || ErrorCode::ALL.iter().any(|code| code.as_str() == name);
    let stray: Vec<_> = files(&["docs/errors"], "md")
        .into_iter()
        .filter(|page| !known(page.path.trim_start_matches("docs/errors/").trim_end_matches(".md")))
        .map(|page| page.path)
        .collect();
    none("pages without a code", stray);
}

#[test]
fn one_tls_provider_only() {
    let lock = read("Cargo.lock");
    let forbidden = ["aws-lc-rs", "aws-lc-sys", "native-tls", "openssl-sys", "rustls-pemfile", "serde_yml"];
    let found = forbidden
        .iter()
        .filter(|name| lock.contains(&format!("name = \"{name}\"")))
        .map(|name| (*name).to_owned());
    none("in Cargo.lock", found.collect());
}

#[test]
fn every_direct_dependency_has_its_reason() {
    let text = read("docs/adr/0002-dependencies.md");
    let reasons: Vec<&str> = text.split(|c: char| !c.is_alphanumeric() && c != '-' && c != '_').collect();
    let named = [
        "tonic",
        "prost",
        "tokio",
        "tower",
        "sqlx",
        "mongodb",
        "etcd-client",
        "serde",
        "tracing",
        "opentelemetry",
        "rand",
        "backoff",
    ];
    let manifest = read("Cargo.toml");
    let section = manifest.split("[workspace.dependencies]").nth(1).and_then(|rest| rest.split("\n[").next());
    let missing: Vec<String> = section
        .expect("the root manifest has workspace dependencies")
        .lines()
        .filter_map(|line| line.split_once(" = ").map(|(name, _)| name.to_owned()))
        .filter(|name| !name.starts_with("shardlift-") && !named.contains(&name.as_str()))
        .filter(|name| !reasons.contains(&name.as_str()))
        .collect();
    none("crates without a line in docs/adr/0002-dependencies.md", missing);
}
