//! What is found, what is let through, and that the documentation shows the table.

use std::collections::BTreeSet;

use super::{lint, rules};
use crate::spec::{self, Engine, SpecBody, SpecFile};
use crate::verdict::Severity;

fn broken(engine: &str, up: &[&str]) -> Vec<(usize, &'static str)> {
    let up: String = up.iter().map(|statement| format!("  - {statement}\n")).collect();
    let text = format!("id: a\nkind: schema\nengine: {engine}\ncluster: c\nup:\n{up}");
    let spec = spec::parse(&SpecFile { name: "a.yaml".into(), text })
        .unwrap_or_else(|problems| panic!("{problems}"));
    let SpecBody::Schema(schema) = spec.body else { panic!("a schema spec") };
    let found = lint(&schema, Some(15)).unwrap_or_else(|problem| panic!("{problem}"));
    found.into_iter().map(|broken| (broken.statement, broken.rule.name)).collect()
}

#[test]
fn dangerous_statements_are_found_by_number() {
    let cases: &[(&str, &str)] = &[
        ("CREATE INDEX i ON t (a)", "require-concurrent-index-creation"),
        ("DROP INDEX i", "require-concurrent-index-deletion"),
        ("REINDEX TABLE t", "require-concurrent-reindex"),
        ("ALTER TABLE t ADD CONSTRAINT c CHECK (a > 0)", "constraint-missing-not-valid"),
        ("ALTER TABLE t ADD COLUMN c uuid DEFAULT gen_random_uuid()", "adding-field-with-default"),
        ("ALTER TABLE t ALTER COLUMN c TYPE bigint", "changing-column-type"),
        ("ALTER TABLE t ALTER COLUMN c SET NOT NULL", "adding-not-nullable-field"),
        ("ALTER TABLE t ADD COLUMN c int NOT NULL", "adding-required-field"),
        ("ALTER TABLE t ADD CONSTRAINT u UNIQUE (a)", "disallowed-unique-constraint"),
        ("DROP TABLE t", "ban-drop-table"),
        ("ALTER TABLE t DROP COLUMN c", "ban-drop-column"),
        ("DROP SCHEMA s", "ban-drop-schema"),
        ("TRUNCATE t", "truncate"),
        ("UPDATE t SET a = 1", "rows-in-schema"),
        ("DELETE FROM t", "rows-in-schema"),
        ("ALTER TABLE t RENAME TO u", "renaming-table"),
        ("ALTER TABLE t RENAME COLUMN a TO b", "renaming-column"),
        ("VACUUM FULL t", "full-rewrite"),
        ("VACUUM (FULL, ANALYZE) t", "full-rewrite"),
        ("CLUSTER t", "full-rewrite"),
    ];
    for (statement, rule) in cases {
        let found = broken("postgres", &["CREATE TABLE other (a text)", statement]);
        assert!(found.contains(&(2, rule)), "{statement}: {found:?}");
        assert!(found.iter().all(|(at, _)| *at == 2), "{statement}: {found:?}");
    }
}

#[test]
fn harmless_statements_are_let_through() {
    for statement in [
        "ALTER TABLE t ADD COLUMN c text",
        "ALTER TABLE t ADD COLUMN c boolean NOT NULL DEFAULT false",
        "CREATE INDEX CONCURRENTLY i ON t (a)",
        "ALTER TABLE t ADD CONSTRAINT c CHECK (a > 0) NOT VALID",
        "ALTER TABLE t VALIDATE CONSTRAINT c",
        "CREATE TABLE u (id bigint PRIMARY KEY, name text UNIQUE)",
    ] {
        assert_eq!(broken("postgres", &[statement]), [], "{statement}");
    }
    let fresh = ["CREATE TABLE u (a bigint)", "CREATE INDEX u_a ON u (a)"];
    assert_eq!(broken("postgres", &fresh), [], "the table is new");
}

#[test]
fn a_comment_switches_nothing_off() {
    let hidden =
        "\"-- squawk-ignore-file\\n-- squawk-ignore ban-drop-table\\nDROP /* squawk-ignore */ TABLE t\"";
    assert_eq!(broken("postgres", &[hidden]), [(1, "ban-drop-table")]);
}

#[test]
fn dangerous_commands_are_found_by_number() {
    let cases: &[(&str, &[&str])] = &[
        ("{ drop: m }", &["drop-collection"]),
        ("{ dropIndexes: m, index: \"*\" }", &["drop-all-indexes"]),
        ("{ dropIndexes: m, index: by_name }", &["drop-index"]),
        ("{ renameCollection: m, to: n, dropTarget: true }", &["rename-collection", "rename-drops-target"]),
        ("{ collMod: m, validator: { a: 1 } }", &["strict-validator"]),
        ("{ collMod: m, validator: { a: 1 }, validationLevel: moderate }", &[]),
        ("{ collMod: m, validator: {}, validationLevel: \"off\" }", &[]),
        (
            "{ createIndexes: m, indexes: [{ key: { a: 1 }, unique: true }] }",
            &["index-without-name", "unique-index"],
        ),
        (
            "{ createIndexes: m, indexes: [{ key: { a: 1 }, name: a, expireAfterSeconds: 1 }] }",
            &["ttl-index"],
        ),
        ("{ create: m, capped: true, size: 1000 }", &["capped-collection"]),
        ("{ createIndexes: fresh, indexes: [{ key: { a: 1 }, name: a, unique: true }] }", &[]),
        ("{ drop: fresh }", &[]),
    ];
    for (command, wanted) in cases {
        let found = broken("mongodb", &["{ create: fresh }", command]);
        let wanted: Vec<_> = wanted.iter().map(|rule| (2, *rule)).collect();
        assert_eq!(found, wanted, "{command}");
    }
}

#[test]
fn every_rule_has_a_name_of_its_own_and_stands_in_the_documentation() {
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/lint.md"))
        .expect("docs/lint.md");
    let mut names = BTreeSet::new();
    for rule in rules(Engine::Postgres).chain(rules(Engine::Mongodb)) {
        assert!(names.insert(rule.name), "{} is there twice", rule.name);
        let severity = match rule.severity {
            Severity::Note => "note",
            Severity::Warning => "warning",
            Severity::Error => "error",
        };
        let line = format!("| `{}` | {severity} | {} | {} |\n", rule.name, rule.danger, rule.instead);
        assert!(page.contains(&line), "docs/lint.md lacks the line\n{line}");
    }
    assert_eq!(
        page.matches("\n| `").count(),
        names.len(),
        "docs/lint.md has lines of rules that are not there"
    );
}

#[test]
fn every_rule_of_postgresql_but_three_is_known_to_the_linter() {
    let unknown: Vec<&str> = rules(Engine::Postgres)
        .map(|rule| rule.name)
        .filter(|name| name.parse::<squawk_linter::Rule>().is_err())
        .collect();
    assert_eq!(unknown, ["full-rewrite", "rows-in-schema", "truncate"]);
}
