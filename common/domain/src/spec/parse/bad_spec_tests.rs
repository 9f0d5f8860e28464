//! Bad specs, and the exact words in which their problems are told.

use super::{parse, parse_all};
use crate::failure::ErrorCode;
use crate::spec::SpecFile;

pub(super) fn file(name: &str, text: &str) -> SpecFile {
    SpecFile { name: name.into(), text: text.into() }
}

/// All problems of a text, one in a line, without the name of the file.
fn told(name: &str, text: &str) -> String {
    let problems = parse(&file(name, text)).expect_err(text);
    problems.to_string().replace(&format!("{name}:"), "")
}

pub(super) fn told_yaml(text: &str) -> String {
    told("m.yaml", text)
}

/// A valid spec for PostgreSQL with some lines changed.
fn postgres(from: &str, to: &str) -> String {
    const TEXT: &str = "id: m1\nkind: data\nengine: postgres\ncluster: chat\nsource:\n  table: public.messages\n  where: v < 2\ntransform:\n  sql: { v: \"2\" }\n";
    assert!(TEXT.contains(from), "{from}");
    TEXT.replacen(from, to, 1)
}

/// A valid spec for MongoDB with some lines changed.
fn mongodb(from: &str, to: &str) -> String {
    const TEXT: &str = "id: m1\nkind: data\nengine: mongodb\ncluster: docs\nsource:\n  collection: messages\n  where: { v: 1 }\ntransform:\n  pipeline: [ { $set: { v: 2 } } ]\n";
    assert!(TEXT.contains(from), "{from}");
    TEXT.replacen(from, to, 1)
}

pub(super) fn schema(engine: &str, up: &str) -> String {
    format!("id: s1\nkind: schema\nengine: {engine}\ncluster: chat\nup:\n{up}\n")
}

#[test]
fn the_unchanged_texts_are_valid() {
    assert!(parse(&file("m.yaml", &postgres("", ""))).is_ok());
    assert!(parse(&file("m.yaml", &mongodb("", ""))).is_ok());
    assert!(parse(&file("m.yaml", &schema("postgres", "  - SELECT 1"))).is_ok());
    assert!(parse(&file("m.yaml", &schema("mongodb", "  - create: a"))).is_ok());
}

/// What is written instead of what, and what is told of it.
const DATA_POSTGRES: &[(&str, &str, &str)] = &[
    (
        "  where: v < 2",
        "  wher: v < 2\n  immutable_key: true",
        r#"7:3: unknown key "wher"; did you mean "where"?"#,
    ),
    ("cluster: chat", "cluster: chat\nwhere: a", r#"5:1: unknown key "where"; it belongs under "source""#),
    (
        "cluster: chat",
        "cluster: chat\ncolour: a",
        r#"5:1: unknown key "colour"; known here: id, kind, engine, cluster, depends_on, source, transform, batch, parallel, throttle, on_error, on_verify_failure, verify, undo, rollout, backup, tenants, left_out"#,
    ),
    ("cluster: chat\n", "", r#"1:1: key "cluster" is missing"#),
    ("id: m1", "id: 7", "1:5: id must be a text, not the number 7; put it into quotes"),
    (
        "id: m1",
        "id: \"a b\"",
        r#"1:5: id "a b" is not a name: only letters, digits, '_', '-' and '.' are allowed"#,
    ),
    (
        "kind: data",
        "kind: dta",
        r#"2:7: kind must be schema or data, not the text "dta"; did you mean "data"?"#,
    ),
    ("engine: postgres", "engine: mysql", r#"3:9: engine must be postgres or mongodb, not the text "mysql""#),
    ("kind: data", "kind: data\nkind: data", r#"3:1: key "kind" comes twice; it is already on line 2"#),
    (
        "cluster: chat",
        "cluster: chat\ndepends_on: m0",
        r#"5:13: depends_on must be a list of ids, not the text "m0""#,
    ),
    ("cluster: chat", "cluster: chat\ndepends_on: [m1]", "5:14: a spec cannot depend on itself"),
    ("cluster: chat", "cluster: chat\ndepends_on: [a, a]", r#"5:17: depends_on names "a" twice"#),
    (
        "cluster: chat",
        "cluster: chat\nup: []",
        r#"5:1: key "up" is for kind: schema, this spec is kind: data"#,
    ),
    (
        "  table: public.messages",
        "  collection: m",
        "6:3: key \"source.collection\" is for engine: mongodb, this spec is engine: postgres\n6:3: key \"source.table\" is missing",
    ),
    ("public.messages", "a.b.c", "6:10: source.table: write schema.table; the database is the shard's own"),
    ("public.messages", "shardlift.fence", "6:10: source.table: schema shardlift is not yours to change"),
    ("public.messages", "\"me ss\"", "6:13: source.table: \" ss\" does not belong to a name"),
    (
        "  where: v < 2\n",
        "",
        "6:3: source needs a where that the transform turns false, or immutable_key: true if no key ever changes",
    ),
    (
        "  where: v < 2\n",
        "  where: v < 2\n  immutable_key: true\n",
        "8:3: source.immutable_key and source.where exclude each other; leave immutable_key out",
    ),
    (
        "  where: v < 2\n",
        "  immutable_key: yes\n",
        "7:18: source.immutable_key must be true or false, not the text \"yes\"",
    ),
    ("v < 2", "v < 2; DROP TABLE x", "7:15: source.where: ';' is not allowed inside an expression"),
    (
        "v < 2",
        "'v) OR (1=1'",
        "7:11: source.where: not one SQL expression: its brackets or statements do not stay within it",
    ),
    ("v < 2", "v <", "7:13: source.where: not one SQL expression: expected an expression, found ')'"),
    (
        "v < 2",
        "v < 2 -- all",
        "7:16: source.where: a comment is not allowed inside an expression; in YAML write it behind a '#'",
    ),
    (
        "  where: v < 2",
        "  where: |\n    v < 2\n      AND $1",
        "9:11: source.where: parameters are not allowed: nobody would give them a value",
    ),
    (
        "  where: v < 2",
        "  where: >\n    v < 2\n    AND $1",
        "8:5: source.where: parameters are not allowed: nobody would give them a value (line 1, column 11 of the text)",
    ),
    (
        "  where: v < 2",
        "  where: { v: 2 }",
        "7:10: source.where must be an SQL predicate in PostgreSQL, not a mapping",
    ),
    (
        "  where: v < 2",
        "  where: v < 2\n  key: id",
        "8:8: source.key must be a list of columns, not the text \"id\"",
    ),
    ("  where: v < 2", "  where: v < 2\n  key: [id, ID]", "8:13: source.key names \"id\" twice"),
    (
        "  where: v < 2",
        "  where: v < 2\n  key: [v]",
        "10:10: transform.sql must not set \"v\": it belongs to the key",
    ),
    (
        "sql: { v: \"2\" }",
        "sql: { v: 2 }",
        "9:13: transform.sql, v must be a text, not the number 2; put it into quotes",
    ),
    (
        "sql: { v: \"2\" }",
        "sql: { v: \"1, w = 2\" }",
        "9:14: transform.sql, v: one expression is expected, not a list",
    ),
    ("sql: { v: \"2\" }", "sql: { v: \"2\", V: \"3\" }", "9:18: transform.sql sets column \"v\" twice"),
    (
        "sql: { v: \"2\" }",
        "sql: { \"v = 1, w\": \"2\" }",
        "9:10: transform.sql: \"v = 1, w\" is not the name of a column: \" = 1, w\" does not belong to a name",
    ),
    ("sql: { v: \"2\" }", "sql: {}", "9:8: transform.sql sets no column"),
    (
        "sql: { v: \"2\" }",
        "pipeline: []",
        "9:3: key \"transform.pipeline\" is for engine: mongodb, this spec is engine: postgres",
    ),
    (
        "sql: { v: \"2\" }",
        "sql: { v: \"2\" }\n  vrl: .v = 2",
        "9:3: transform must have exactly one way, not sql and vrl",
    ),
    (
        "transform:\n  sql: { v: \"2\" }",
        "transform: {}",
        "8:12: transform is empty; write exactly one of sql, pipeline, vrl, transformer",
    ),
    ("sql: { v: \"2\" }", "vrl: \"\"", "9:8: transform.vrl is empty"),
    (
        "sql: { v: \"2\" }",
        "transformer: { options: {} }",
        "9:16: key \"transform.transformer.name\" is missing",
    ),
    (
        "sql: { v: \"2\" }",
        "transformer: { name: a b }",
        "9:24: transform.transformer.name \"a b\" is not the name of a transformer",
    ),
    (
        "sql: { v: \"2\" }",
        "transformer: { name: a, options: { x: .nan } }",
        "9:41: the number .nan fits neither 64 bits nor a double; write a text, or { $numberDecimal: \"…\" } for MongoDB",
    ),
];

#[test]
fn problems_of_data_specs_for_postgresql() {
    for (from, to, expected) in DATA_POSTGRES.iter().copied() {
        let text = postgres(from, to);
        assert_eq!(told_yaml(&text), expected, "{text}");
    }
}

#[test]
fn problems_of_the_tuning_keys() {
    let cases = [
        (
            "batch: { target: 5 }",
            "10:18: batch.target must be a duration such as 100ms, 2s, 1m or 1h, not the number 5",
        ),
        ("batch: { target: 2m }", "10:18: batch.target must be from 1ms to 30s, not 2m"),
        ("batch: { min: 0 }", "10:15: batch.min must be a whole number from 1 to 1000000, not the number 0"),
        ("batch: { min: 10, max: 9 }", "10:15: batch.min (10) must not be larger than batch.max (9)"),
        ("batch: { max: 40 }", "10:15: batch.min (50) must not be larger than batch.max (40)"),
        ("batch: [1]", "10:8: batch must be a mapping of keys to values, not a list"),
        (
            "parallel: { ranges: many }",
            "10:21: parallel.ranges must be auto or a number from 1 to 1024, not the text \"many\"",
        ),
        (
            "parallel: { ranges: 1025 }",
            "10:21: parallel.ranges must be a whole number from 1 to 1024, not the number 1025",
        ),
        (
            "parallel: { workers: 65 }",
            "10:22: parallel.workers must be a whole number from 1 to 64, not the number 65",
        ),
        (
            "parallel: { workers: 1.5 }",
            "10:22: parallel.workers must be a whole number from 1 to 64, not the number 1.5",
        ),
        (
            "throttle: { rows_per_second: -1 }",
            "10:30: throttle.rows_per_second must be a whole number from 1 to 100000000, not the number -1",
        ),
        (
            "throttle: { window: 22-06 UTC }",
            "10:21: throttle.window must be a daily window such as \"22:00-06:00 UTC\", not the text \"22-06 UTC\"",
        ),
        (
            "throttle: { window: \"01:00-01:00 UTC\" }",
            "10:21: throttle.window is empty: it ends when it begins; leave it out to run at any time",
        ),
        ("on_error: ignore", "10:11: on_error must be fail, not the text \"ignore\""),
        (
            "on_error: quarantine",
            "10:11: on_error: quarantine needs a budget: { quarantine: { budget: 100 } }",
        ),
        (
            "on_error: { quarantine: { budget: 0 } }",
            "10:35: on_error.quarantine.budget must be a whole number from 1 to 10000, not the number 0",
        ),
        ("on_error: { quarantine: {} }", "10:25: key \"on_error.quarantine.budget\" is missing"),
        (
            "on_verify_failure: stop",
            "10:20: on_verify_failure must be halt or rollback, not the text \"stop\"",
        ),
        ("verify: remaining", "10:9: verify must be a list of checks, not the text \"remaining\""),
        ("verify: []", "10:9: verify must name at least one check; leave it out for the default"),
        ("verify: [remainin]", "10:10: unknown check \"remainin\" in verify; did you mean \"remaining\"?"),
        ("verify: [count, count]", "10:17: verify names \"count\" twice"),
        (
            "verify: [{ count: { tolerance: 2 } }]",
            "10:32: verify.count.tolerance must be a number from 0 to 1, not the number 2",
        ),
        ("verify: [{ remaining: all }]", "10:23: verify: remaining takes no options; write the word alone"),
        (
            "verify: [7]",
            "10:10: a check of verify must be remaining, count, transform, digest, references, unique or a question, not the number 7",
        ),
        (
            "verify: [sql]",
            "10:10: verify: sql is no check by itself; write a question with its answer: { sql: …, equals: … } in PostgreSQL, { collection: …, where: …, equals: … } in MongoDB",
        ),
        ("verify: [{ sql: SELECT 1 }]", r#"10:10: key "verify.equals" is missing"#),
        (
            "verify: [{ sql: DELETE FROM t, equals: 0 }]",
            "10:17: verify.sql: one SELECT is expected: it must only read",
        ),
        (
            "verify: [{ sql: SELECT 1, equals: [0] }]",
            "10:35: verify.equals must be a single value, not a list",
        ),
        (
            "verify: [{ sql: SELECT 1, equals: 0, remaining: 1 }]",
            "10:10: write each check of verify as an item of its own",
        ),
        (
            "verify: [{ collection: t, equals: 0 }]",
            "10:10: key \"verify.sql\" is missing\n10:12: key \"verify.collection\" is for engine: mongodb, this spec is engine: postgres",
        ),
    ];
    for (line, expected) in cases {
        let text = postgres("sql: { v: \"2\" }\n", &format!("sql: {{ v: \"2\" }}\n{line}\n"));
        assert_eq!(told_yaml(&text), expected, "{text}");
    }
}

#[test]
fn problems_of_checks_that_do_not_fit_the_spec() {
    let text = schema("postgres", "  - SELECT 1") + "verify: [remaining]\n";
    let only = "7:10: verify: remaining is for kind: data; a schema spec has questions of its own only";
    assert_eq!(told_yaml(&text), only);
    let text =
        mongodb("", "") + "verify: [ { collection: a, equals: few }, { where: { a: 1 }, equals: 0 } ]\n";
    let documents = "10:11: verify.equals must be a number of documents, not \"few\"\n10:43: key \"verify.collection\" is missing";
    assert_eq!(told_yaml(&text), documents);
    let text = postgres("  where: v < 2", "  immutable_key: true") + "verify: [remaining]\n";
    assert_eq!(told_yaml(&text), "10:10: verify: remaining needs source.where; without it use count");
}

/// What is written instead of what, and what is told of it.
const DATA_MONGODB: &[(&str, &str, &str)] = &[
    (
        "collection: messages",
        "collection: system.users",
        "6:15: source.collection the text \"system.users\" is not the name of a collection: collections named system.… belong to the server",
    ),
    (
        "  where: { v: 1 }",
        "  where: v < 2",
        "7:10: source.where must be a query document in MongoDB, not the text \"v < 2\"",
    ),
    (
        "  where: { v: 1 }",
        "  where: {}",
        "7:10: source.where is empty: no document could ever stop being pending; leave it out",
    ),
    (
        "  where: { v: 1 }",
        "  immutable_key: true",
        "7:3: key \"source.immutable_key\" is for engine: postgres, this spec is engine: mongodb",
    ),
    (
        "  where: { v: 1 }",
        "  where: { v: 1 }\n  key: [id]",
        "8:9: source.key can only be [_id] in MongoDB; leave it out",
    ),
    ("{ v: 1 }", "{ 1: v }", "7:12: a key must be a text, not the number 1; put it into quotes"),
    (
        "{ v: 1 }",
        "{ v: 9223372036854775808 }",
        "7:15: the number 9223372036854775808 fits neither 64 bits nor a double; write a text, or { $numberDecimal: \"…\" } for MongoDB",
    ),
    (
        "pipeline: [ { $set: { v: 2 } } ]",
        "sql: { v: \"2\" }",
        "9:3: key \"transform.sql\" is for engine: postgres, this spec is engine: mongodb",
    ),
    (
        "pipeline: [ { $set: { v: 2 } } ]",
        "pipeline: { $set: { v: 2 } }",
        "9:13: transform.pipeline must be a list of stages, not a mapping",
    ),
    ("pipeline: [ { $set: { v: 2 } } ]", "pipeline: []", "9:13: transform.pipeline has no stage"),
    ("$set", "$sett", "9:17: unknown stage \"$sett\"; did you mean \"$set\"?"),
    (
        "$set",
        "$lookup",
        "9:17: unknown stage \"$lookup\"; MongoDB allows $set, $unset, $addFields, $project, $replaceRoot, $replaceWith in an update",
    ),
    (
        "{ $set: { v: 2 } }",
        "{ $set: { v: 2 }, $unset: w }",
        "9:15: a stage of transform.pipeline must be a mapping of one operator, such as { $set: { … } }",
    ),
];

#[test]
fn problems_of_data_specs_for_mongodb() {
    for (from, to, expected) in DATA_MONGODB.iter().copied() {
        let text = mongodb(from, to);
        assert_eq!(told_yaml(&text), expected, "{text}");
    }
}

#[test]
fn problems_of_schema_specs() {
    let cases = [
        ("postgres", "  - ALTER TABEL a ADD b int", "6:5: up: SQL syntax: expected command, found ALTER"),
        (
            "postgres",
            "  - |\n    SELECT 1;\n    BEGIN",
            "8:5: up: BEGIN is not allowed: Shardlift opens and ends the transactions; leave this statement out",
        ),
        (
            "postgres",
            "  - CREATE INDEX CONCURRENTLY ON a (b)",
            "6:5: up: CREATE INDEX CONCURRENTLY needs a name for the index, so that it can be resumed after a crash",
        ),
        (
            "postgres",
            "  - \"SELECT 1; DROP SCHEMA shardlift\"",
            "6:28: up: the name shardlift belongs to Shardlift's own schema in the shard; a migration must not touch it",
        ),
        ("postgres", "  - create: a", "6:5: a statement of up must be a text, not a mapping"),
        ("postgres", "  - ''", "6:5: a statement of up is empty"),
        ("postgres", "  - \"-- nothing\"", "6:3: up has nothing to do"),
        ("postgres", "  a: b", "6:3: up must be a list of SQL texts, not a mapping"),
        (
            "postgres",
            "  - SELECT 1\nlock_timeout: 2",
            "7:15: lock_timeout must be a duration such as 100ms, 2s, 1m or 1h, not the number 2",
        ),
        ("postgres", "  - SELECT 1\nhold_timeout: 2h", "7:15: hold_timeout must be from 10ms to 1h, not 2h"),
        (
            "postgres",
            "  - SELECT 1\nbatch: {}",
            "7:1: key \"batch\" is for kind: data, this spec is kind: schema",
        ),
        (
            "mongodb",
            "  - SELECT 1",
            "6:5: a command of up must be a mapping such as { create: messages }, not the text \"SELECT 1\"",
        ),
        ("mongodb", "  - creat: a", "6:5: unknown command \"creat\"; did you mean \"create\"?"),
        ("mongodb", "  - create: 1", "6:13: create must be the name of a collection, not the number 1"),
        ("mongodb", "  - { create: a, $db: b }", "6:18: \"$db\" is set by Shardlift; leave it out"),
        ("mongodb", "  - renameCollection: a", "6:5: renameCollection needs \"to\""),
        ("mongodb", "  - {}", "6:5: a command of up is empty"),
        (
            "mongodb",
            "  - drop: a\nlock_timeout: 2s",
            "7:1: key \"lock_timeout\" is for engine: postgres, this spec is engine: mongodb",
        ),
    ];
    for (engine, up, expected) in cases {
        let text = schema(engine, up);
        assert_eq!(told_yaml(&text), expected, "{text}");
    }
}

#[test]
fn what_is_not_one_yaml_mapping_is_refused() {
    let deep = "a: ".to_owned() + &"[".repeat(100) + &"]".repeat(100);
    let bomb = "a: &a [1,1,1,1,1,1,1,1,1,1]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b,*b]\nd: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c,*c]\ne: [*d,*d,*d,*d,*d,*d,*d,*d,*d,*d]\n";
    let cases = [
        ("", "1:1: the file is empty"),
        ("# nothing\n", "1:1: the file is empty"),
        ("- a\n", "1:1: a spec must be a mapping of keys to values, not a list"),
        ("a\n", "1:1: a spec must be a mapping of keys to values, not the text \"a\""),
        ("id: a\n---\nid: b\n", "2:1: a second document begins here; write one spec per file"),
        (&deep, "1:67: it is nested deeper than 64 levels"),
        (bomb, "4:29: the aliases of this file make it too large"),
        ("a: &x [*x]", "1:8: this alias stands inside of what it names"),
    ];
    for (text, expected) in cases {
        assert_eq!(told_yaml(text), expected, "{text}");
    }
    assert_eq!(
        told_yaml("id: a\n\tkind: b"),
        "1:5: this is not YAML: while scanning a plain scalar, found a tab"
    );
    assert!(told_yaml("id: [a").contains("this is not YAML"));
    assert!(told_yaml(&"- ".repeat(200_000)).contains("nested deeper"));
    assert_eq!(told_yaml(&"#".repeat(super::MAX_FILE + 1)), "1:1: the file is larger than 1024 KiB");
    assert!(told_yaml("id: !secret a").contains("1:5: the tag !secret is not supported"));
    assert_eq!(told("m.txt", "id: a"), "1:1: the name of a spec file must end in .yaml, .yml or .sql");
}

#[test]
fn all_problems_of_a_file_are_told_at_once_and_in_order() {
    let text = "id: m 1\nkind: data\nengine: postgres\nclutser: chat\nsource:\n  table: 1\n  where: v <\nbatch: { min: -1 }\nbackup: before\n";
    let expected = r#"1:1: key "cluster" is missing
1:1: key "transform" is missing
1:5: id "m 1" is not a name: only letters, digits, '_', '-' and '.' are allowed
4:1: unknown key "clutser"; did you mean "cluster"?
6:10: source.table must be a text, not the number 1; put it into quotes
7:13: source.where: not one SQL expression: expected an expression, found ')'
8:15: batch.min must be a whole number from 1 to 1000000, not the number -1
9:9: backup must be none or table, not the text "before""#;
    assert_eq!(told_yaml(text), expected);
}

#[test]
fn a_rollback_needs_something_to_roll_back_with() {
    let data = postgres("cluster: chat", "cluster: chat\non_verify_failure: rollback");
    assert!(
        told_yaml(&data).contains("on_verify_failure: rollback needs undo: capture"),
        "{}",
        told_yaml(&data)
    );
    let kept = postgres("cluster: chat", "cluster: chat\non_verify_failure: rollback\nundo: capture");
    assert!(parse(&file("m.yaml", &kept)).is_ok_and(|spec| spec.undoable()));
    let text = schema("postgres", "  - SELECT 1");
    assert!(told_yaml(&format!("{text}on_verify_failure: rollback")).contains("needs a down"));
    assert!(told_yaml(&format!("{text}undo: capture")).contains("is for kind: data"));
    let both = format!("{text}down: [ SELECT 2 ]\nundo: none\non_verify_failure: rollback\n");
    assert!(parse(&file("m.yaml", &both)).is_ok_and(|spec| spec.undoable()));
}

#[test]
fn keys_of_later_releases_are_unsupported() {
    let text = postgres("cluster: chat", "cluster: chat\nhold: true");
    let problems = parse(&file("m.yaml", &text)).expect_err("hold");
    assert!(problems.problems.iter().all(|p| p.code == ErrorCode::SpecUnsupported), "{problems}");
    assert!(problems.to_string().contains("not in this release"), "{problems}");
    let text = schema("postgres", "  - SELECT 1") + "hold: true";
    assert!(told_yaml(&text).contains("not in this release"), "{text}");
    let text = schema("mongodb", "  - shardCollection: a");
    assert!(told_yaml(&text).contains(r#"command "shardCollection" is not in this release"#));
}

#[test]
fn problems_of_rollouts() {
    let cases = [
        (
            "rollout: some",
            "5:10: rollout must be all, or a list of waves such as { shards: 1, soak: 10m }, not the text \"some\"",
        ),
        ("rollout: []", "5:10: rollout must have 1 to 32 waves; leave it out for one"),
        (
            "rollout: [ { shards: 0, soak: 8d }, { percent: 101 }, { soak: 1s }, { shards: 1, percent: 2 } ]",
            "5:22: rollout.shards must be a whole number from 1 to 100000, not the number 0\n\
             5:31: rollout.soak must be a duration such as 100ms, 2s, 1m or 1h, not the text \"8d\"\n\
             5:48: rollout.percent must be a whole number from 1 to 100, not the number 101\n\
             5:55: a wave of rollout needs either shards or percent: how far it reaches\n\
             5:69: a wave of rollout needs either shards or percent: how far it reaches",
        ),
        (
            "rollout: [ { shards: 2 }, { percent: 20, soak: 169h }, { shards: 2 }, { percent: 10 } ]",
            "5:48: rollout.soak must be from 0ms to 168h, not 169h\n\
             5:56: waves of rollout are cumulative and must grow: shards: 2 comes after shards: 2",
        ),
        (
            "rollout: [ { percent: 100 }, { shards: 2 } ]",
            "5:30: the wave before this one reaches everything; leave this one out",
        ),
        ("rollout: [ { shards: 1, soka: 1s } ]", "5:25: unknown key \"soka\"; did you mean \"soak\"?"),
    ];
    for (line, expected) in cases {
        assert_eq!(
            told_yaml(&postgres("cluster: chat", &format!("cluster: chat\n{line}"))),
            expected,
            "{line}"
        );
    }
}

#[test]
fn problems_of_sql_files() {
    let head = "-- shardlift: id=a cluster=chat\n";
    let cases = [
        ("", "1:1: key \"cluster\" is missing\n1:1: key \"id\" is missing\n1:1: key \"up\" is missing\n1:1: the header is missing; begin with \"-- shardlift: id=… cluster=…\"\n1:1: the line \"-- up\" is missing; the statements stand below it".to_owned()),
        ("-- shardlift: id=a\n-- up\nSELECT 1", "1:1: key \"cluster\" is missing".into()),
        (&format!("{head}-- up\n"), "2:6: up has nothing to do".into()),
        (&format!("{head}SELECT 1;\n-- up\nSELECT 2"), "2:1: a statement stands before the section \"-- up\"".into()),
        (&format!("{head}-- up\nSELECT 1;\n  COMMIT;\n"), "4:3: up: COMMIT is not allowed: Shardlift opens and ends the transactions; leave this statement out".into()),
        (&format!("{head}-- up\nSELECT 1;\n-- up\nSELECT 2"), "4:1: a second section -- up".into()),
        (&format!("{head}-- up\nSELECT 1; -- down\nSELECT 2"), "3:11: \"-- down\" begins a section and must stand alone on its line".into()),
        ("-- shardlift: id=a clutser=chat cluster=b\n-- up\nSELECT 1", "1:20: unknown key \"clutser\"; did you mean \"cluster\"?".into()),
        ("-- shardlift: id=a cluster=b lock_timeout=2\n-- up\nSELECT 1", "1:43: lock_timeout must be a duration such as 100ms, 2s, 1m or 1h, not the number 2".into()),
        ("-- shardlift: id=a cluster=b depends_on=c,,d atomic=true\n-- up\nSELECT 1", "1:43: an id in depends_on is empty".into()),
        ("-- shardlift: id=a cluster\n-- shardlift: id=b cluster=c\n-- up\nSELECT 1", "1:20: \"cluster\" in the header is not key=value\n2:15: key \"id\" comes twice; it is already on line 1".into()),
        ("-- shardlift: id=a cluster=b kind=data\n-- up\nSELECT 1", "1:1: key \"source\" is missing\n1:1: key \"transform\" is missing\n2:1: key \"up\" is for kind: schema, this spec is kind: data".into()),
        (&format!("{head}-- up\nSELECT 1;\n-- shardlift: lock_timeout=2s\n"), "4:1: the header \"-- shardlift:\" must stand before the sections".into()),
        (&format!("{head}-- up\nSELECT 'open"), "3:8: up: SQL syntax: Missing trailing `'` symbol to terminate the string literal".into()),
    ];
    for (text, expected) in cases {
        assert_eq!(told("m.sql", text), expected, "{text}");
    }
}

#[test]
fn files_are_judged_together() {
    let one = file("a.yaml", &schema("postgres", "  - SELECT 1"));
    let two = file("b.sql", "-- shardlift: id=s1 cluster=chat\n-- up\nSELECT 2");
    let bad = file("c.yaml", "id: 1");
    assert_eq!(parse_all(std::slice::from_ref(&one)).expect("valid").len(), 1);
    let refused = parse_all(&[one, bad, two]).expect_err("refused");
    let told: Vec<String> = refused.iter().map(ToString::to_string).collect();
    assert!(told[0].starts_with("c.yaml:1:1: "), "{told:?}");
    assert_eq!(told[1], "b.sql:1:18: id \"s1\" is already the id of a.yaml");
}

#[test]
fn a_problem_becomes_a_failure_with_its_place() {
    let problems = parse(&file("dir/m.yaml", &postgres("v < 2", "v <"))).expect_err("refused");
    let failures = problems.failures();
    assert_eq!(failures[0].code, ErrorCode::SpecInvalid);
    assert_eq!(failures[0].place.file.as_deref(), Some("dir/m.yaml:7:13"));
    assert!(!failures[0].next.is_empty());
}

#[test]
fn a_nul_character_is_refused_before_any_database_refuses_it() {
    let nul = "2:1: this line holds a NUL character, which no spec may";
    assert_eq!(told_yaml("id: m\nkind: \0data"), nul);
    assert_eq!(told("m.sql", "-- shardlift: id=a cluster=b\n-- up \0\nSELECT 1"), nul);
    assert_eq!(told("m\0.sql", "-- up"), "1:1: the name of the file holds a NUL character");
}
