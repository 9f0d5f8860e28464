//! What splitting promises, on statements that a hand-made splitter gets wrong.

use super::{Class, NonTransactionalKind as Kind, Relation, Statement, split};

fn texts(sql: &str) -> Vec<String> {
    split(sql).expect("valid SQL").into_iter().map(|statement| statement.text).collect()
}

fn kind(sql: &str) -> Option<Kind> {
    let statements = split(sql).expect("valid SQL");
    let [Statement { class, .. }] = statements.as_slice() else { panic!("one statement in {sql}") };
    match class {
        Class::Transactional => None,
        Class::NonTransactional(kind) => Some(kind.clone()),
    }
}

fn refused(sql: &str) -> String {
    match split(sql) {
        Ok(statements) => panic!("{sql} was accepted as {statements:?}"),
        Err(problems) => problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"),
    }
}

#[test]
fn a_semicolon_inside_a_text_ends_nothing() {
    let sql = "INSERT INTO t VALUES ('a;b', $$c;d$$, \"e;f\"); -- g;h\n/* i;j */ SELECT 1;;\n";
    assert_eq!(texts(sql), ["INSERT INTO t VALUES ('a;b', $$c;d$$, \"e;f\")", "SELECT 1"]);
}

#[test]
fn a_function_body_stays_whole() {
    let sql = "CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS $body$ BEGIN NEW.a := 1; RETURN NEW; END $body$;
        CREATE TRIGGER t BEFORE INSERT ON m FOR EACH ROW EXECUTE FUNCTION f();
        CREATE FUNCTION g() RETURNS int BEGIN ATOMIC SELECT 1; SELECT 2; END";
    assert_eq!(texts(sql).len(), 3);
}

#[test]
fn statements_know_their_place() {
    let statements = split("-- first\nSELECT 1;\n\n  SELECT 2").expect("valid");
    let places: Vec<_> = statements.iter().map(|s| (s.line, s.column)).collect();
    assert_eq!(places, [(2, 1), (4, 3)]);
}

#[test]
fn nothing_is_no_statement() {
    for sql in ["", "  \n", ";;", "-- only a comment", "/* and another */"] {
        assert!(texts(sql).is_empty(), "{sql:?}");
    }
}

#[test]
fn statements_that_refuse_a_transaction_are_known() {
    let table = Relation { schema: Some("public".into()), name: "messages".into() };
    assert_eq!(
        kind("CREATE UNIQUE INDEX CONCURRENTLY IF NOT EXISTS by_day ON ONLY public.Messages (day)"),
        Some(Kind::CreateIndexConcurrently { index: "by_day".into(), table })
    );
    let index = Relation { schema: None, name: "By Day".into() };
    assert_eq!(
        kind("drop index concurrently if exists \"By Day\""),
        Some(Kind::DropIndexConcurrently { index })
    );
    assert_eq!(kind("REINDEX TABLE CONCURRENTLY t"), Some(Kind::Reindex));
    assert_eq!(kind("REINDEX (CONCURRENTLY) INDEX i"), Some(Kind::Reindex));
    assert_eq!(kind("REINDEX SCHEMA s"), Some(Kind::Reindex));
    assert_eq!(kind("VACUUM (ANALYZE) messages"), Some(Kind::Vacuum));
    assert_eq!(kind("CLUSTER"), Some(Kind::ClusterAll));
    assert_eq!(kind("ALTER SYSTEM SET work_mem = '8MB'"), Some(Kind::AlterSystem));
}

#[test]
fn the_others_share_the_transaction_of_their_ledger_row() {
    for sql in [
        "CREATE INDEX ON messages (day)",
        "DROP INDEX by_day",
        "REINDEX TABLE messages",
        "CLUSTER messages USING by_day",
        "ALTER TYPE mood ADD VALUE 'glad'",
        "ALTER TABLE parts DETACH PARTITION part_1",
        "REFRESH MATERIALIZED VIEW CONCURRENTLY v",
        "SET LOCAL lock_timeout = '1s'",
        "ALTER TABLE messages ADD COLUMN body_text text, ADD CONSTRAINT c CHECK (a > 0) NOT VALID",
        "DO $$ BEGIN PERFORM 1; END $$",
        "CALL tidy()",
        "CREATE TABLE concurrently_made (id int)",
    ] {
        assert_eq!(kind(sql), None, "{sql}");
    }
}

#[test]
fn transactions_belong_to_shardlift() {
    for sql in [
        "BEGIN",
        "START TRANSACTION",
        "COMMIT",
        "END",
        "ROLLBACK",
        "SAVEPOINT a",
        "RELEASE SAVEPOINT a",
        "ROLLBACK TO a",
        "PREPARE TRANSACTION 'x'",
        "COMMIT PREPARED 'x'",
        "ROLLBACK PREPARED 'x'",
        "SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL SERIALIZABLE",
        "SET TRANSACTION READ ONLY",
    ] {
        assert!(refused(sql).contains("opens and ends the transactions"), "{sql}: {}", refused(sql));
    }
}

#[test]
fn a_session_is_left_as_it_was() {
    for sql in [
        "SET search_path TO a",
        "SET SESSION work_mem = '1MB'",
        "SET ROLE bob",
        "SET LOCAL ROLE bob",
        "RESET ALL",
        "DISCARD ALL",
        "LISTEN a",
        "PREPARE a AS SELECT 1",
        "DECLARE c CURSOR FOR SELECT 1",
        "SET SESSION AUTHORIZATION bob",
        "SET TIME ZONE 'UTC'",
    ] {
        assert!(refused(sql).contains("change the session"), "{sql}: {}", refused(sql));
    }
    assert!(refused("COPY t FROM STDIN").contains("no client"));
    assert!(refused("COPY t TO STDOUT").contains("no client"));
}

#[test]
fn what_concerns_the_whole_server_is_refused() {
    for sql in
        ["CREATE DATABASE a", "DROP DATABASE a", "ALTER DATABASE a SET TABLESPACE b", "DROP SUBSCRIPTION s"]
    {
        assert!(refused(sql).contains("whole server"), "{sql}: {}", refused(sql));
    }
}

#[test]
fn an_index_that_cannot_be_resumed_is_refused() {
    assert!(refused("CREATE INDEX CONCURRENTLY ON messages (day)").contains("needs a name"));
    assert!(refused("ALTER TABLE p DETACH PARTITION q CONCURRENTLY").contains("cannot be resumed"));
}

#[test]
fn the_bookkeeping_is_out_of_reach() {
    for sql in [
        "DELETE FROM shardlift.checkpoint",
        "DELETE FROM \"shardlift\" . checkpoint",
        "DROP SCHEMA a, ShardLift CASCADE",
        "CREATE SCHEMA shardlift",
        "ALTER TABLE t SET SCHEMA shardlift",
        "SELECT 1 FROM (SELECT * FROM shardlift.fence) f",
        "GRANT ALL ON SCHEMA shardlift TO bob",
        "SET LOCAL search_path = shardlift",
        "DO $$ BEGIN DELETE FROM shardlift.fence; END $$",
        "CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT epoch FROM \"shardlift\" .fence'",
    ] {
        assert!(refused(sql).contains("belongs to Shardlift"), "{sql}: {}", refused(sql));
    }
    assert_eq!(texts("INSERT INTO tools (name) VALUES ('shardlift.example')").len(), 1);
}

#[test]
fn all_problems_are_told_with_their_place() {
    let problems = split("BEGIN;\nALTER TABLE t ADD COLUMN a int;\n  COMMIT;").expect_err("refused");
    let places: Vec<_> = problems.iter().map(|p| (p.line, p.column)).collect();
    assert_eq!(places, [(1, 1), (3, 3)]);
}

#[test]
fn what_is_not_sql_is_a_problem_and_never_a_panic() {
    for sql in [
        "ALTER TABEL t ADD COLUMN a int",
        "SELECT 'open",
        "SELECT $$open",
        "SELECT /* open",
        "SELECT (1",
        "SELECT 1 SELECT 2",
        "hello world",
        "SELECT 1 \0",
        "\u{feff}\u{1f600}",
        "CREATE TABLE",
    ] {
        refused(sql);
    }
}

#[test]
fn texts_made_to_exhaust_the_parser_are_refused_or_read() {
    let deep =
        |open: &str, close: &str, count: usize| format!("{}1{}", open.repeat(count), close.repeat(count));
    let sized = |unit: &str| format!("SELECT {}1", unit.repeat(super::MAX_SQL / unit.len() - 8));
    assert!(refused(&format!("SELECT {}", deep("(", ")", 5000))).contains("nested too deeply"));
    assert!(refused(&sized("NOT ")).contains("nested too deeply"));
    assert!(refused(&sized("- ")).contains("nested too deeply"));
    assert!(refused(&"x".repeat(super::MAX_SQL + 1)).contains("longer than"));
    assert!(refused(&sized("1+")).contains("too many operators"));
    // Read or refused: what counts is that the process is still here.
    for unit in ["a AND ", "CASE WHEN ", "1 UNION SELECT ", "'a'+", "a."] {
        let _ = split(&sized(unit));
    }
}
