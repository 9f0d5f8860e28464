//! What valid specs mean, and when two of them mean the same.

use std::time::Duration;

use super::parse;
use crate::spec::{
    Batch, DataSpec, Engine, Kind, OnError, Parallel, Question, Ranges, Reach, SchemaChange, SchemaSpec,
    Source, Spec, SpecBody, SpecFile, Throttle, Transform, VerifyCheck, WaveSpec, Where, Window,
};

fn read(name: &str, text: &str) -> Spec {
    parse(&SpecFile { name: name.into(), text: text.into() })
        .unwrap_or_else(|problems| panic!("{problems}\n{text}"))
}

fn checksum(text: &str) -> String {
    read("m.yaml", text).checksum.as_str().to_owned()
}

fn data(spec: &Spec) -> &DataSpec {
    match &spec.body {
        SpecBody::Data(data) => data,
        SpecBody::Schema(_) => panic!("a data spec"),
    }
}

fn schema(spec: &Spec) -> &SchemaSpec {
    match &spec.body {
        SpecBody::Schema(schema) => schema,
        SpecBody::Data(_) => panic!("a schema spec"),
    }
}

const FULL: &str = r#"
id: 0003_message_body_v2            # unique for ever
kind: data
engine: postgres
cluster: chat
depends_on: [0001_message_columns, '0002']
source:
  table: public.messages
  key: [tenant_id, "\"Id\""]
  where: schema_version < 2
transform:
  sql: { body_text: "body->>'text'", schema_version: "2" }
batch: { target: 250ms, min: 10, max: 2000 }
parallel: { ranges: 8, workers: 4 }
throttle: { rows_per_second: 20000, window: "22:00-06:00 UTC" }
on_error: fail
undo: none
backup: table
on_verify_failure: halt
verify: [ remaining, { count: { tolerance: 0.05 } } ]
"#;

#[test]
fn every_key_arrives() {
    let spec = read("m.yaml", FULL);
    assert_eq!(spec.id.as_str(), "0003_message_body_v2");
    assert_eq!((spec.kind(), spec.engine, spec.cluster.as_str()), (Kind::Data, Engine::Postgres, "chat"));
    assert_eq!(
        spec.depends_on.iter().map(|id| id.as_str()).collect::<Vec<_>>(),
        ["0001_message_columns", "0002"]
    );
    let expected = DataSpec {
        source: Source {
            relation: "public.messages".into(),
            key: vec!["tenant_id".into(), "Id".into()],
            pending: Some(Where::Sql("schema_version < 2".into())),
            immutable_key: false,
            tenants: None,
        },
        transform: Transform::Sql(vec![
            ("body_text".into(), "body->>'text'".into()),
            ("schema_version".into(), "2".into()),
        ]),
        batch: Batch { target: Duration::from_millis(250), min: 10, max: 2000 },
        parallel: Parallel { ranges: Ranges::Count(8), workers: 4 },
        throttle: Throttle {
            rows_per_second: Some(20_000),
            window: Some(Window { from_minute: 1320, to_minute: 360 }),
        },
        max_replica_lag: None,
        undo: crate::spec::Undo::None,
        backup: crate::spec::Backup::Table,
        on_error: OnError::Fail,
        verify: vec![VerifyCheck::Remaining, VerifyCheck::Count { tolerance: 0.05 }],
    };
    assert_eq!(data(&spec), &expected);
}

#[test]
fn a_budget_for_rows_that_cannot_be_changed_is_a_part_of_the_meaning() {
    let with = |budget: u32| {
        let on_error = format!("on_error: {{ quarantine: {{ budget: {budget} }} }}");
        read("m.yaml", &FULL.replace("on_error: fail", &on_error))
    };
    assert_eq!(data(&with(100)).on_error, OnError::Quarantine { budget: 100 });
    assert_ne!(with(100).checksum, with(101).checksum);
    assert_ne!(with(100).checksum.as_str(), checksum(FULL));
}

#[test]
fn a_bound_for_replicas_is_a_part_of_the_meaning_and_none_is_what_happens_without_the_word() {
    let with = |bound: &str| FULL.replace("throttle: {", &format!("throttle: {{ max_replica_lag: {bound},"));
    assert_eq!(data(&read("m.yaml", &with("5s"))).max_replica_lag, Some(Duration::from_secs(5)));
    assert_ne!(checksum(&with("5s")), checksum(&with("6s")));
    assert_ne!(checksum(&with("5s")), checksum(FULL));
    assert_eq!(checksum(&with("none")), checksum(FULL));
}

#[test]
fn a_backup_is_a_part_of_the_meaning_and_none_is_what_happens_without_the_word() {
    let none = FULL.replace("backup: table", "backup: none");
    assert_ne!(checksum(FULL), checksum(&none));
    assert_eq!(checksum(&none), checksum(&FULL.replace("backup: table\n", "")));
}

#[test]
fn what_is_left_out_has_its_default() {
    let head = "id: a\nkind: data\nengine: postgres\ncluster: c\ntransform: { vrl: .a = 1 }\n";
    let with_where = read("m.yaml", &format!("{head}source: {{ table: t, where: a > 1 }}\n"));
    assert_eq!(data(&with_where).batch, Batch::default());
    assert_eq!(data(&with_where).parallel, Parallel::default());
    assert_eq!(data(&with_where).throttle, Throttle::default());
    assert_eq!(data(&with_where).verify, [VerifyCheck::Remaining]);
    let without = read("m.yaml", &format!("{head}source: {{ table: t, immutable_key: true }}\n"));
    assert_eq!(data(&without).verify, [VerifyCheck::Count { tolerance: 0.01 }]);
    let spec = read("m.yaml", "id: a\nkind: schema\nengine: postgres\ncluster: c\nup: SELECT 1\n");
    assert_eq!(schema(&spec).lock_timeout, Duration::from_secs(2));
    assert_eq!(schema(&spec).hold_timeout, Duration::from_secs(5));
    assert!(schema(&spec).down.is_empty());
}

#[test]
fn a_rollout_reaches_everything_at_its_end() {
    let rollout = |value: &str| {
        read(
            "m.yaml",
            &format!("id: a\nkind: schema\nengine: postgres\ncluster: c\nup: SELECT 1\nrollout: {value}\n"),
        )
    };
    let wave = |reach, seconds| WaveSpec { reach, soak: Duration::from_secs(seconds) };
    let spec = rollout("[ { shards: 1, soak: 1m }, { percent: 25 } ]");
    let expected = [wave(Reach::Shards(1), 60), wave(Reach::Percent(25), 0), wave(Reach::Percent(100), 0)];
    assert_eq!(spec.rollout, expected);
    let spelled_out = rollout("[ { shards: 1, soak: 60s }, { percent: 25 }, { percent: 100 } ]");
    assert_eq!(spec.checksum, spelled_out.checksum);
    assert_ne!(spec.checksum, rollout("[ { shards: 1, soak: 2m }, { percent: 25 } ]").checksum);
    let plain = rollout("all");
    assert_eq!((plain.rollout.len(), &plain.checksum), (0, &rollout("[ { percent: 100 } ]").checksum));
    assert_eq!(rollout("[ { percent: 100, soak: 1h } ]").rollout, [wave(Reach::Percent(100), 3600)]);
    assert_eq!([1, 4, 10, 1000].map(|shards| Reach::Percent(25).of(shards)), [1, 1, 3, 250]);
    assert_eq!([1, 4].map(|shards| Reach::Shards(3).of(shards)), [1, 3]);
}

#[test]
fn questions_of_the_user_arrive() {
    let spec = read(
        "m.yaml",
        "id: a\nkind: schema\nengine: postgres\ncluster: c\nup: SELECT 1\nverify: [ { sql: \"SELECT count(*) FROM t;\", equals: 0 } ]\n",
    );
    let [asked] = spec.assertions()[..] else { panic!("one question") };
    assert_eq!(asked.question, Question::Sql("SELECT count(*) FROM t".into()));
    for (answer, holds) in [("0", true), ("0.0", true), ("1", false), ("\"0\"", false), ("null", false)] {
        assert_eq!(asked.holds(&serde_json::from_str(answer).expect("JSON")), holds, "{answer}");
    }
    let mongodb = "id: a\nkind: data\nengine: mongodb\ncluster: c\nsource: { collection: m, where: { v: 1 } }\ntransform: { pipeline: [ { $set: { v: 2 } } ] }\n";
    let asking =
        format!("{mongodb}verify: [ remaining, {{ collection: m, where: {{ v: null }}, equals: 0 }} ]\n");
    let spec = read("m.yaml", &asking);
    let question = &spec.assertions()[0].question;
    assert_eq!(question.to_string(), r#"documents of m where {"v":null}"#);
    assert_ne!(checksum(&asking), checksum(&asking.replace("equals: 0", "equals: 1")));
    assert_ne!(checksum(&asking), checksum(mongodb));
}

#[test]
fn documents_for_mongodb_keep_order_and_types() {
    let spec = read(
        "m.yaml",
        "id: a\nkind: data\nengine: mongodb\ncluster: c\nsource:\n  collection: messages\n  where: { z: 1, a: { $lt: 2.0 }, at: 2024-01-01, y: yes, n: null }\n\
         transform:\n  pipeline:\n    - $set: { z: 1, a: \"$b\", c: [1, true] }\n    - $unset: [x, w]\n",
    );
    let Some(Where::Query(query)) = &data(&spec).source.pending else { panic!("a query") };
    assert_eq!(query.to_string(), r#"{"z":1,"a":{"$lt":2.0},"at":"2024-01-01","y":"yes","n":null}"#);
    let Transform::Pipeline(stages) = &data(&spec).transform else { panic!("a pipeline") };
    assert_eq!(stages[0].to_string(), r#"{"$set":{"z":1,"a":"$b","c":[1,true]}}"#);
    assert_eq!(stages.len(), 2);
    let spec = read(
        "m.yaml",
        "id: a\nkind: schema\nengine: mongodb\ncluster: c\nup:\n  - createIndexes: m\n    indexes: [ { key: { b: 1, a: -1 }, name: n } ]\n  - { renameCollection: a, to: b }\ndown: []\n",
    );
    let SchemaChange::Commands(commands) = &schema(&spec).up else { panic!("commands") };
    assert_eq!(
        commands[0].to_string(),
        r#"{"createIndexes":"m","indexes":[{"key":{"b":1,"a":-1},"name":"n"}]}"#
    );
}

#[test]
fn anchors_and_block_texts_are_read() {
    let text = "id: a\nkind: schema\nengine: postgres\ncluster: c\nup:\n  - &add |\n    ALTER TABLE a ADD b int; -- more\n    ALTER TABLE a ADD c int\n  - *add\ndown: [*add]\n";
    let spec = read("m.yaml", text);
    let add = ["ALTER TABLE a ADD b int", "ALTER TABLE a ADD c int"].map(str::to_owned);
    assert_eq!(schema(&spec).up, SchemaChange::Sql([add.clone(), add.clone()].concat()));
    assert_eq!(schema(&spec).down, SchemaChange::Sql(add.to_vec()));
}

const SQL: &str = "-- Adds the new body. Applied before 0002.
-- shardlift: id=0001_columns cluster=chat
-- shardlift: depends_on=a,b lock_timeout=1s

-- up
ALTER TABLE messages ADD COLUMN body_text text;  -- filled by 0002
CREATE FUNCTION f() RETURNS int LANGUAGE sql AS $$
-- down
SELECT 1;
$$;

-- DOWN
DROP FUNCTION f();
ALTER TABLE messages
  DROP COLUMN body_text;
";

const SQL_AS_YAML: &str = "
up:
  - ALTER TABLE messages   ADD COLUMN body_text text
  - \"CREATE FUNCTION f() RETURNS int LANGUAGE sql AS $$\\n-- down\\nSELECT 1;\\n$$\"
down: DROP FUNCTION f( ); ALTER TABLE messages DROP COLUMN body_text
lock_timeout: 1000ms
depends_on: [b, a]
cluster: chat
engine: postgres
kind: schema
id: 0001_columns
";

#[test]
fn the_sql_form_means_the_same_as_the_yaml_form() {
    let (sql, yaml) = (read("m.sql", SQL), read("m.yaml", SQL_AS_YAML));
    assert_eq!(schema(&sql).up.len(), 2);
    assert_eq!(schema(&sql).down.len(), 2);
    assert_eq!(sql.checksum, yaml.checksum);
    let windows = SQL.replace('\n', "\r\n");
    let changed_body = sql.checksum != read("m.sql", &windows).checksum;
    assert!(changed_body, "the body of a function is a text, and its line ends belong to it");
    let bom = format!("\u{feff}{SQL}");
    assert_eq!(read("m.sql", &bom).checksum, sql.checksum);
}

#[test]
fn layout_comments_defaults_and_order_do_not_change_the_checksum() {
    let same = "
verify: [ { count: { tolerance: 5.0e-2 } }, remaining ]
backup: table
throttle:
  window: '22:00 - 06:00 UTC'
  rows_per_second: 20000
parallel: { workers: 4, ranges: 8 }
batch: { max: 2000, min: 10, target: 250ms }
transform:
  sql:
    schema_version: '2'
    BODY_TEXT: |
      body ->> 'text'
source: { where: \"schema_version<2\", key: [Tenant_ID, '\"Id\"'], table: '\"public\".Messages' }
depends_on: ['0002', '0001_message_columns']
cluster: chat
engine: postgres
kind: data
id: 0003_message_body_v2
";
    assert_eq!(checksum(FULL), checksum(same));
    let spelled_out = FULL.replace("250ms", "100ms").replace("min: 10, max: 2000", "min: 50, max: 50000");
    let left_out = spelled_out.replace("batch: { target: 100ms, min: 50, max: 50000 }\n", "");
    assert_eq!(checksum(&spelled_out), checksum(&left_out));
}

#[test]
fn every_change_of_meaning_changes_the_checksum() {
    let changes = [
        ("0003_message_body_v2", "'0003'"),
        ("cluster: chat", "cluster: chats"),
        (", '0002']", "]"),
        ("public.messages", "messages"),
        ("[tenant_id, \"\\\"Id\\\"\"]", "[\"\\\"Id\\\"\", tenant_id]"),
        ("version < 2", "version < 3"),
        ("version < 2", "version < '2'"),
        ("->>'text'", "->>'te xt'"),
        ("->>'text'", "->'text'"),
        ("250ms", "251ms"),
        ("min: 10", "min: 11"),
        ("max: 2000", "max: 2001"),
        ("ranges: 8", "ranges: auto"),
        ("workers: 4", "workers: 5"),
        ("20000", "20001"),
        ("22:00", "22:01"),
        ("0.05", "0.06"),
        ("remaining, ", ""),
    ];
    let mut seen = vec![checksum(FULL)];
    for (from, to) in changes {
        assert!(FULL.contains(from), "{from}");
        let changed = checksum(&FULL.replacen(from, to, 1));
        assert!(!seen.contains(&changed), "{from} -> {to}");
        seen.push(changed);
    }
}

#[test]
fn stored_checksums_stay_what_they_are() {
    // These must never change: every stored migration would look like another one.
    let first = FULL.replace("backup: table", "backup: none");
    assert_eq!(checksum(&first), "ca9f6553f805cfc3155537a1d6d6de1b084c1af364b67fb4de9ee47ff5359103");
    assert_eq!(
        read("m.sql", SQL).checksum.as_str(),
        "3b9ad183f25d2dc60ab358955b1d7f1b624e3e8d374ce19282a7886061fcd73c"
    );
}

#[test]
fn what_a_spec_allows_is_the_same_in_both_forms_and_no_part_of_its_checksum() {
    let yaml = |allow: &str| {
        let text = format!("id: a\nkind: schema\nengine: postgres\ncluster: c\n{allow}up: [DROP TABLE t]\n");
        read("a.yaml", &text)
    };
    let text = "-- shardlift: id=a cluster=c\n-- shardlift-allow: ban-drop-table nobody: reads it\n-- up\nDROP TABLE t;\n";
    let sql = read("a.sql", text);
    let allowing = yaml("allow: [{ rule: ban-drop-table, reason: \"nobody: reads it\" }]\n");
    assert_eq!(schema(&allowing).allow, schema(&sql).allow);
    assert_eq!(schema(&sql).allow.len(), 1);
    assert_eq!(yaml("allow: none\n").checksum, allowing.checksum);
    assert_eq!(sql.checksum, allowing.checksum);
}
