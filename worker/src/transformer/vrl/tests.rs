//! What the `vrl` transformer promises.

use std::time::Instant;

use proptest::prelude::{prop_assert_eq, proptest};
use serde_json::{Value as Json, json};
use vrl::value::Value;

use super::{Document, MAX_EXPRESSIONS, Vrl};
use crate::transformer::testing::{any_document, document, transformed};
use crate::transformer::{TransformError, Transformer};

fn compiled(source: &str) -> Vrl {
    Vrl::compile(source).unwrap_or_else(|refused| panic!("{source}: {refused}"))
}

fn refusal(source: &str) -> String {
    match Vrl::compile(source) {
        Ok(_) => panic!("was accepted: {source}"),
        Err(refused) => refused,
    }
}

fn run(source: &str, before: Json) -> Result<Document, TransformError> {
    transformed(&compiled(source), before)
}

fn error(source: &str, before: Json) -> String {
    run(source, before).expect_err("must fail").message
}

#[test]
fn a_program_changes_the_document_in_place() {
    let source = r#"
        .username = downcase(string!(del(.user_name)))
        .total = to_float!(.qty) * to_float!(.price)
        if exists(.tags) { .tags = map_values(array!(.tags)) -> |tag| { upcase(string!(tag)) } }
        .meta.version = 2
    "#;
    let before = json!({"user_name": "ADA", "qty": "3", "price": 1.5, "tags": ["a", "b"], "kept": [1, null]});
    let after = run(source, before).expect("runs");
    let expected = json!({"username": "ada", "total": 4.5, "qty": "3", "price": 1.5, "tags": ["A", "B"], "kept": [1, null], "meta": {"version": 2}});
    assert_eq!(after, document(expected));
}

#[test]
fn the_root_can_be_replaced_by_another_object_only() {
    let after = run(r#". = {"id": .id}"#, json!({"id": 7, "gone": true})).expect("runs");
    assert_eq!(after, document(json!({"id": 7})));
    assert_eq!(refusal(". = [1]"), "it leaves something at the root `.` that is not an object");
    assert_eq!(
        error(". = .inner", json!({"inner": 5})),
        "the VRL program left an integer at the root `.`, not an object"
    );
}

#[test]
fn compile_errors_tell_line_and_column() {
    let table = [
        ("", "it is empty"),
        (" \n", "it is empty"),
        (
            ".a = 1\n.b = upcas(\"x\")",
            "line 2, column 6: call to undefined function in `upcas` (did you mean",
        ),
        (".a = \"ß\"\n.u = \"ü\"; .b = parse_int(.c)", "line 2, column 16: unhandled fallible assignment"),
        (".a = ", "line 1, column"),
        (".a = \"open", "line 1, column"),
    ];
    for (source, expected) in table {
        let told = refusal(source);
        assert!(told.starts_with(expected), "{source:?}: {told}");
    }
    let told = refusal(&".a = 1\n".repeat(20_000));
    assert_eq!(told, "it is longer than 65536 bytes");
}

#[test]
fn programs_that_are_not_repeatable_are_refused_with_the_reason() {
    let table = [
        (".at = now()", "line 1, column 7: now() is not allowed: it reads the clock"),
        (".a = 1\n.id = uuid_v4()", "line 2, column 7: uuid_v4() is not allowed: it gives another value"),
        (".id = uuid_v7()", "uuid_v7() is not allowed"),
        (".n = random_int(1, 9)", "random_int() is not allowed"),
        (".n = 1 + (random_float(0.0, 1.0) ?? 2.0)", "random_float() is not allowed"),
        (".h = get_env_var!(\"HOME\")", "get_env_var() is not allowed: it depends on the machine"),
        (".h = get_hostname!()", "get_hostname() is not allowed"),
        (
            ".h = http_request!(\"http://127.0.0.1\")",
            "http_request() is not allowed: it depends on the network",
        ),
        ("log(.a)", "log() is not allowed: it would write values of rows"),
        (".l = parse_syslog!(.l)", "parse_syslog() is not allowed: it reads the clock where"),
        (".x = [{\"a\": !is_null(now())}]", "now() is not allowed"),
        ("if now() > t'2020-01-01T00:00:00Z' { .a = 1 } else { .b = 2 }", "now() is not allowed"),
        ("if .a == 1 { .b = 1 } else { .b = random_bool() }", "random_bool() is not allowed"),
        (".x = map_values({}) -> |v| { now() }", "now() is not allowed"),
        (".x = parse_json!(uuid_v4()).id", "uuid_v4() is not allowed"),
        (".x, err = to_int(now())", "now() is not allowed"),
        ("abort to_string(now())", "now() is not allowed"),
        (".x = .a || { return now() }", "now() is not allowed"),
        (".x = %secret", "`%` is not there: a document has no metadata"),
        ("%a.b = 1", "`%` is not there"),
        (
            ".t = parse_timestamp!(.t, \"%F\", timezone: \"local\")",
            "the timezone of parse_timestamp() must be",
        ),
        (".t = format_timestamp!(.t, \"%F\", .zone)", "the timezone of format_timestamp() must be"),
    ];
    for (source, expected) in table {
        let told = refusal(source);
        assert!(told.contains(expected), "{source}: {told}");
    }
    compiled(r#".t = format_timestamp!(.t, "%F", timezone: "Europe/Paris")"#);
}

#[test]
fn several_findings_are_told_at_once() {
    let told = refusal(".a = now()\n.b = uuid_v4()");
    assert!(
        told.contains("line 1, column 6: now()") && told.contains("line 2, column 6: uuid_v4()"),
        "{told}"
    );
}

#[test]
fn every_clock_and_chance_of_the_library_is_on_the_list() {
    // The library marks some examples as not giving the same result each time.
    for function in vrl::stdlib::all() {
        if function.examples().iter().any(|example| !example.deterministic) {
            let name = function.identifier();
            let list = super::repeatable::refused();
            assert!(list.contains(&name), "{name}() is not repeatable, and not refused");
        }
    }
}

#[test]
fn deep_programs_are_refused_before_they_can_exhaust_the_stack() {
    let sum = |terms: usize| format!(".a = 1{}", " + 1".repeat(terms));
    compiled(&sum(50));
    let too_deep = [
        sum(10_000),
        format!(".a = {}1{}", "(".repeat(10_000), ")".repeat(10_000)),
        format!(".a = {}true", "!".repeat(10_000)),
        format!("x = 1\n.a = \"{}\"", "{{ x }}".repeat(5_000)),
        format!(".{} = 1", vec!["a"; 100].join(".")),
        format!(".a{} = 1", "[0]".repeat(100)),
        // The compiler's time doubles with each of these.
        format!("{}.a = 1{}", "for_each([1]) -> |_i, _v| { ".repeat(12), " }".repeat(12)),
        format!(".a = {}{{}}{}", "map_values(".repeat(12), ") -> |v| { v }".repeat(12)),
        format!(".a = {}{{}}{}", "object({\"a\": ".repeat(12), "}).a".repeat(12)),
    ];
    for source in too_deep {
        let told = refusal(&source);
        assert!(told.contains("nested deeper than 64"), "{}: {told}", &source[..20]);
    }
    assert_eq!(
        refusal(&format!(".{} = 1", vec!["a"; 10_000].join("."))),
        "it has a path of more than 200 parts"
    );
}

#[test]
fn programs_as_deep_as_allowed_compile_quickly_and_run_on_a_small_stack() {
    let wrap = |levels: usize, open: &str, inner: &str, close: &str| {
        format!("{}{inner}{}", open.repeat(levels), close.repeat(levels))
    };
    let shapes = [
        wrap(28, "if .go == true { ", ".a = 1", " }"),
        format!(".a = {}", wrap(28, "{\"k\": [", "1", "]}")),
        format!(".a = {}", wrap(60, "(", "1", ")")),
        format!(".a = {}", wrap(60, "upcase(", "\"x\"", ")")),
        format!(".a = {} ?? 0", vec!["int(.n)"; 28].join(" ?? ")),
        format!(".a = {}", vec![".n"; 28].join(" || ")),
        format!(".a = {}", vec!["(.n == 1)"; 28].join(" && ")),
        wrap(7, "for_each([1]) -> |_i, _v| { ", ".a = 1", " }"),
        format!(".a = {}", wrap(6, "object({\"a\": ", "{}", "}).a")),
    ];
    for source in shapes {
        let started = Instant::now();
        let small = std::thread::Builder::new().stack_size(2 << 20).spawn({
            let source = source.clone();
            move || Vrl::compile(&source).map(|program| transformed(&program, json!({"go": true, "n": 1})))
        });
        let result = small.expect("a thread").join().expect("no crash");
        assert!(matches!(result, Ok(Ok(_))), "{source}: {result:?}");
        assert!(started.elapsed().as_secs() < 5, "{source}: {:?}", started.elapsed());
    }
}

#[test]
fn errors_of_a_run_hold_no_value_of_the_row() {
    let secret = "4711-secret";
    let table = [
        (
            ".a = parse_int!(.a)",
            "the VRL program failed in parse_int at line 1, column 6 (the detail may hold",
        ),
        (
            ".b = 1\n.a = to_int!(.a)",
            "the VRL program failed in to_int at line 2, column 6 (the detail may hold",
        ),
        (".a = parse_json!(.a)", "the VRL program failed in parse_json at line 1, column 6"),
        (".a = parse_timestamp!(.a, \"%F\")", "the VRL program failed in parse_timestamp at line 1"),
        (
            ".a = upcase(to_string!(parse_int!(.a)))",
            "the VRL program failed in parse_int at line 1, column 24",
        ),
        (".a = int!(.a)", "in int at line 1, column 6: expected integer, got string"),
        (".a = upcase!(.missing)", "in upcase at line 1, column 6: expected string, got null"),
        ("abort", "the VRL program aborted at line 1, column 1"),
        ("if .a != null { abort \"no plan\" }", "the VRL program aborted at line 1, column 17: no plan"),
        ("abort string!(.a)", "the VRL program aborted at line 1, column 1 (its message may hold values"),
        ("assert!(.a == 1, message: \"a must be 1\")", "in assert at line 1, column 1: a must be 1"),
        ("assert!(.a == 1, message: string!(.a))", "in assert at line 1, column 1 (the detail may hold"),
        ("assert!(.a == 1)", "in assert at line 1, column 1"),
    ];
    for (source, expected) in table {
        let told = error(source, json!({ "a": secret }));
        assert!(told.contains(expected), "{source}: {told}");
        assert!(!told.contains("4711") && !told.contains("secret"), "{source}: {told}");
    }
}

#[test]
fn a_program_that_never_seems_to_end_is_stopped() {
    let source = r#"
        n = 0
        for_each(array!(.list)) -> |_i, _v| { for_each(array!(.list)) -> |_j, _w| { n = n + 1 } }
        .n = n
    "#;
    let list: Vec<u32> = (0..2_000).collect();
    let told = error(source, json!({ "list": list }));
    assert_eq!(
        told,
        format!("the VRL program needed more than {MAX_EXPRESSIONS} expressions for this document")
    );
    let after = run(source, json!({"list": [1, 2, 3]})).expect("small");
    assert_eq!(after.get("n"), Some(&Value::Integer(9)));
}

#[test]
fn one_program_serves_many_threads() {
    let program = compiled("x = .n; .twice = int!(x) * 2");
    std::thread::scope(|scope| {
        for thread in 0..4_i64 {
            let program = &program;
            scope.spawn(move || {
                for n in 0..500 {
                    let n = thread * 1_000 + n;
                    let after = transformed(program, json!({ "n": n })).expect("runs");
                    assert_eq!(after.get("twice"), Some(&Value::Integer(n * 2)));
                }
            });
        }
    });
}

#[test]
#[allow(clippy::print_stderr, reason = "a figure for the reader of the test's output, not asserted")]
fn the_time_per_document_is_printed() {
    let program = compiled(
        ".username = del(.user_name)\n.total = to_float!(.qty) * to_float!(.price)\n.age = parse_int!(.age)",
    );
    let row = document(
        json!({"id": 1, "user_name": "ada", "qty": "3", "price": "1.5", "age": "36", "a": "x", "b": null}),
    );
    let rounds: u32 = 20_000;
    let mut rows: Vec<Document> = (0..rounds).map(|_| row.clone()).collect();
    let started = Instant::now();
    for row in &mut rows {
        program.transform(row).expect("runs");
    }
    eprintln!("vrl: {} ns per document of 7 fields", started.elapsed().as_nanos() / u128::from(rounds));
}

proptest! {
    #[test]
    fn any_document_is_changed_or_refused_the_same_way_each_time(before in any_document("body")) {
        let program = compiled(".n = length(.body) ?? 0\n.body = del(.body.text)\n.blocks = to_string!(.blocks)");
        let (mut once, mut again) = (before.clone(), before);
        let (first, second) = (program.transform(&mut once), program.transform(&mut again));
        prop_assert_eq!(&first, &second);
        if first.is_ok() {
            prop_assert_eq!(once, again);
        }
    }
}
