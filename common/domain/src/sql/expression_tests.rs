//! What an expression is, and every way out of its place that was thought of.

use super::check_expression;

#[test]
fn expressions_are_accepted() {
    for text in [
        "schema_version < 2",
        "body->>'text'",
        "body #>> '{a,b}'",
        "2",
        "'it''s; fine -- really'",
        "E'a\\'b'",
        "$$a;b$$",
        "lower(name) || ' ' || coalesce(nick, '')",
        "CASE WHEN a THEN 1 ELSE 2 END",
        "a IS NOT NULL AND (b OR NOT c)",
        "id = ANY (ARRAY[1, 2])",
        "EXISTS (SELECT 1 FROM tenants t WHERE t.id = tenant_id)",
        "(SELECT name FROM tenants t WHERE t.id = tenant_id)",
        "a::jsonb @> '{\"k\": 1}'::jsonb",
        "created_at < timestamptz '2024-01-01'",
        "jsonb_build_object('text', body, 'lang', 'en')",
        "a BETWEEN 1 AND 2",
        "name LIKE 'a%' ESCAPE '!'",
        "ROW(a, b) = ROW(1, 2)",
        "(a, b) > (1, 2)",
        "extract(epoch from created_at)",
        "\n  multi\n  = 1\n",
        "\"shard\" = 'shardlift'",
        "x[1]",
        "counter + 1",
        "n - -1",
        "\"weird \"\" column\" IS NULL",
    ] {
        assert_eq!(check_expression(text), Ok(()), "{text}");
    }
}

#[test]
fn what_breaks_out_is_refused() {
    for text in [
        "",
        " ",
        "1; DROP TABLE x",
        "1)",
        "(1",
        "1) OR (1",
        "true) OR true --",
        "1) FROM secrets; --",
        "1 -- the rest",
        "1 /* the rest",
        "1 /* inside */ + 1",
        "'open",
        "E'open\\'",
        "\"open",
        "$$open",
        "$a$ open $b$",
        "U&'open",
        "1, 2",
        "1, (SELECT 2)",
        "a = 1, b = 2",
        "SELECT 1",
        "VALUES (1)",
        "TABLE x",
        "SELECT 1 UNION SELECT 2",
        "WITH d AS (DELETE FROM t RETURNING 1) SELECT 1",
        "1 FROM t",
        "1 AS a",
        "a b",
        "a WHERE b",
        "a ORDER BY b",
        "*",
        "$1",
        "DEFAULT",
        "1 = ",
        "AND a",
        "(SELECT epoch FROM shardlift.fence)",
        "1]",
        "[1",
        "1\0",
        "; --",
        "1) UNION (SELECT 2",
        "1 RETURNING 2",
    ] {
        assert!(check_expression(text).is_err(), "{text:?} was accepted");
    }
}

#[test]
fn the_place_is_told_in_the_text_itself() {
    let problem = check_expression("a = 1\n AND b = 2; DROP TABLE x").expect_err("refused");
    assert_eq!((problem.line, problem.column), (2, 11), "{problem}");
}

#[test]
fn nesting_is_bounded() {
    let text = format!("{}1{}", "(".repeat(5000), ")".repeat(5000));
    assert!(check_expression(&text).is_err());
    assert!(check_expression(&vec!["a = 1"; 2000].join(" OR ")).is_ok());
}

proptest::proptest! {
    #[test]
    fn an_accepted_text_stays_within_its_brackets(text in "[a-c1'\"$;()\\[\\]/*, \n\\\\-]{0,24}") {
        if check_expression(&text).is_ok() {
            let statements = super::split(&format!("SELECT 1 WHERE ({text}) AND true")).expect("still one text");
            proptest::prop_assert_eq!(statements.len(), 1);
        }
    }

    #[test]
    fn no_text_makes_the_parser_panic(text in "\\PC{0,60}") {
        let _ = check_expression(&text);
        let _ = super::split(&text);
        let _ = super::parse_relation(&text);
    }
}
