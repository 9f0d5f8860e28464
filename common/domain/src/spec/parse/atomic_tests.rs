//! `atomic: true`: what a change that every shard makes or none may not be. And `lock_deadline`, which is for all others.

use super::bad_spec_tests::{file, schema, told_yaml};
use super::parse;

fn atomic(statement: &str) -> String {
    schema("postgres", &format!("  - {statement}")) + "atomic: true\n"
}

#[test]
fn what_cannot_be_prepared_is_refused_where_it_stands() {
    for (statement, why) in [
        ("CREATE INDEX CONCURRENTLY i ON t (a)", "refuses a transaction"),
        ("VACUUM t", "refuses a transaction"),
        ("CREATE TEMP TABLE x (a int)", "temporary objects"),
        ("CREATE OR REPLACE TEMPORARY VIEW x AS SELECT 1", "temporary objects"),
        ("DROP TABLE pg_temp.x", "temporary objects"),
        ("NOTIFY x", "NOTIFY cannot be prepared"),
    ] {
        let told = told_yaml(&atomic(statement));
        assert!(told.contains("`atomic: true` cannot have") && told.contains(why), "{statement}: {told}");
    }
    let text = atomic("ALTER TABLE t ADD COLUMN temp int\n  - CREATE TABLE u (temporary int)");
    parse(&file("m.yaml", &text)).expect("a column may be called so");
    let text = schema("mongodb", "  - create: a") + "atomic: true";
    let told = told_yaml(&text);
    assert!(told.contains("compensation by `down`"), "{told}");
}

#[test]
fn waves_are_refused_since_all_shards_decide_together() {
    let in_waves = atomic("SELECT 1") + "rollout: [ { shards: 1 }, { percent: 100 } ]";
    assert_eq!(
        told_yaml(&in_waves),
        "8:1: rollout cannot be had together with `atomic: true`: all shards decide together, so none goes before the \
         others; leave one of the two out"
    );
    let soaks = atomic("SELECT 1") + "rollout: [ { percent: 100, soak: 1m } ]";
    assert!(told_yaml(&soaks).contains("all shards decide together"));
    let all = parse(&file("m.yaml", &(atomic("SELECT 1") + "rollout: all"))).expect("asks for nothing else");
    assert!(all.is_atomic());
}

#[test]
fn the_checksum_tells_an_atomic_change_from_one_that_is_not() {
    let checksum = |text: &str| parse(&file("m.yaml", text)).expect("a spec").checksum;
    let plain = schema("postgres", "  - SELECT 1");
    assert_ne!(checksum(&plain), checksum(&atomic("SELECT 1")));
    assert_eq!(checksum(&plain), checksum(&(plain.clone() + "atomic: false")), "as older releases have it");
}

#[test]
fn a_deadline_for_locks_needs_a_way_back_and_no_vote() {
    let deadline = "lock_deadline: 10m\n";
    let told = told_yaml(&(schema("postgres", "  - SELECT 1\n") + deadline));
    assert!(told.contains("lock_deadline needs a down"), "{told}");
    let told = told_yaml(&(atomic("SELECT 1") + deadline + "down: [SELECT 2]\n"));
    assert!(told.contains("cannot be had together with `atomic: true`"), "{told}");
    let whole = schema("postgres", "  - SELECT 1\n") + deadline + "down: [SELECT 2]\n";
    let spec = parse(&file("m.yaml", &whole)).expect("a spec");
    let without = parse(&file("m.yaml", &whole.replace(deadline, ""))).expect("a spec");
    assert_ne!(spec.checksum, without.checksum);
}
