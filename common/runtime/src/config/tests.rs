//! What a person sees when a configuration is wrong.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::*;
use shardlift_domain::{ErrorCode, Failure};

#[derive(Debug, PartialEq, Eq, Deserialize)]
struct Whole {
    name: String,
    #[serde(default)]
    reflection: bool,
    store: Store,
    #[serde(default, rename = "cluster")]
    clusters: Vec<Cluster>,
}

#[derive(Debug, PartialEq, Eq, Deserialize)]
struct Store {
    kind: Kind,
    path: Option<PathBuf>,
}

#[derive(Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Kind {
    Sqlite,
}

#[derive(Debug, PartialEq, Eq, Deserialize)]
struct Cluster {
    name: String,
    shards: Vec<String>,
}

const GOOD: &str =
    "name = \"one\"\n[store]\nkind = \"sqlite\"\n[[cluster]]\nname = \"chat\"\nshards = [\"a\"]\n";

fn read<T: DeserializeOwned>(
    text: &str,
    env: &[(&str, &str)],
    flags: &[(&str, Value)],
) -> Result<T, ConfigProblems> {
    let mut layers = Layers::new("c.toml", text)?;
    layers
        .environment("SHARDLIFT", env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
    layers.flags(flags);
    layers.read()
}

fn told(result: Result<Whole, ConfigProblems>) -> Vec<String> {
    let problems = result.expect_err("it was accepted");
    problems.list().iter().map(ToString::to_string).collect()
}

#[test]
fn flags_win_over_the_environment_and_that_over_the_file() {
    let env =
        [("SHARDLIFT__NAME", "two"), ("SHARDLIFT__STORE__PATH", "/db"), ("SHARDLIFT__REFLECTION", "true")];
    let whole: Whole = read(GOOD, &env, &[("name", Value::from("three"))]).expect("good");
    assert_eq!(whole.name, "three");
    assert!(whole.reflection);
    assert_eq!(whole.store.path.as_deref(), Some(Path::new("/db")));
}

#[test]
fn every_unknown_key_is_told_with_its_line_and_a_guess() {
    let text = "name = \"one\"\nreflexion = true\n[store]\nkind = \"sqlite\"\npaht = \"x\"\n[[cluster]]\n\
                name = \"chat\"\nshards = []\nqwertyuiop = 1\n";
    assert_eq!(
        told(read(text, &[], &[])),
        [
            "c.toml:2:1: reflexion: unknown key; did you mean \"reflection\"?",
            "c.toml:9:1: cluster[0].qwertyuiop: unknown key; known here: name, shards",
            "c.toml:5:1: store.paht: unknown key; did you mean \"path\"?",
        ]
    );
}

#[test]
fn a_value_that_does_not_fit_names_its_place() {
    let text = GOOD.replace("\"sqlite\"", "\"postgres\"");
    let lines = told(read(&text, &[], &[]));
    assert!(lines[0].starts_with("c.toml:3:1: store.kind: unknown variant `postgres`"), "{lines:?}");
    let lines = told(read(GOOD, &[("SHARDLIFT__CLUSTER", "[{ name = \"x\", shards = [1] }]")], &[]));
    assert!(lines[0].starts_with("SHARDLIFT__CLUSTER: cluster[0].shards[0]: invalid type"), "{lines:?}");
    let lines = told(read(GOOD, &[], &[("reflection", Value::from(3))]));
    assert_eq!(lines, ["command line: reflection: invalid type: integer `3`, expected a boolean"]);
    let lines = told(read("name = \"x\"\n", &[], &[]));
    assert_eq!(lines, ["c.toml: missing field `store`"]);
    let lines = told(read(GOOD, &[("SHARDLIFT__NAME__X", "1")], &[]));
    assert_eq!(lines, ["SHARDLIFT__NAME__X: name.x: \"name\" is not a table"]);
}

#[test]
fn broken_toml_names_the_line_but_does_not_quote_it() {
    #[derive(Debug, Deserialize)]
    struct Nothing {}
    let problems = read::<Nothing>("a = 1\ndsn = \"postgres://u:hunter2@h", &[], &[]).expect_err("broken");
    let failure = Failure::from(problems);
    assert_eq!(failure.code, ErrorCode::ConfigInvalid);
    assert!(failure.message.starts_with("c.toml:2:"), "{failure:?}");
    assert!(!failure.message.contains("hunter2"), "{failure:?}");
}

#[test]
fn a_missing_file_is_told_by_its_name() {
    let problems = load::<Whole>(Some(Path::new("/nowhere/c.toml")), "SHARDLIFT", &[]).expect_err("missing");
    assert!(problems.to_string().starts_with("/nowhere/c.toml: cannot read"), "{problems}");
}

#[derive(Debug, Deserialize)]
struct Shard {
    dsn: Option<Secret>,
}

#[test]
fn a_secret_is_never_shown() {
    let shard: Shard = read("dsn = \"postgres://u:hunter2@h\"", &[], &[]).expect("good");
    assert!(!format!("{shard:?}").contains("hunter2"));
    assert_eq!(shard.dsn.expect("given").expose(), "postgres://u:hunter2@h");
    let problems = read::<Shard>("dsn = 424242", &[], &[]).expect_err("no text");
    assert_eq!(problems.to_string(), "c.toml:1:1: dsn: it must be a text");
}

#[test]
fn a_secret_comes_from_exactly_one_place() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("dsn");
    std::fs::write(&file, "from-file\n").expect("writes");
    let inline = Secret::new("inline");
    let read = |inline, file| read_secret("dsn", inline, file).map(|secret| secret.expose().to_owned());
    assert_eq!(read(Some(&inline), None), Ok("inline".to_owned()));
    assert_eq!(read(None, Some(&file)), Ok("from-file".to_owned()));
    assert_eq!(read(None, None), Err(SecretError::Missing("dsn")));
    assert_eq!(read(Some(&inline), Some(&file)), Err(SecretError::Both("dsn")));
    assert!(matches!(read(None, Some(&dir.path().join("none"))), Err(SecretError::File { .. })));
}
