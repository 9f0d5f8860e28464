//! Random and damaged texts, and the promise that nothing is accepted and ignored.

use proptest::prelude::{Strategy, prop_assert, prop_assert_eq, prop_oneof, proptest};
use proptest::sample::{Index, select};

use super::parse;
use crate::spec::keys::{KEYS, Support};
use crate::spec::{Engine, Kind, SpecFile};

const POSTGRES: &str = "id: a\nkind: data\nengine: postgres\ncluster: c\ndepends_on: [b]\nsource:\n  table: public.messages\n  key: [id]\n  where: |\n    v < 2\n    AND w\ntransform:\n  sql: { v: \"2\", t: \"body->>'text'\" }\nbatch: { target: 100ms, min: 1, max: 10 }\nthrottle: { window: \"22:00-06:00 UTC\" }\nverify: [remaining, { count: { tolerance: 0.1 } }]\n";
const MONGODB: &str = "id: a\nkind: schema\nengine: mongodb\ncluster: c\nup:\n  - create: m\n  - createIndexes: m\n    indexes: [ { key: &k { a: 1 }, name: n } ]\ndown: [ { drop: m } ]\n";
const SQL: &str = "-- shardlift: id=a cluster=c depends_on=b\n-- up\nCREATE TABLE t (a int);\nSELECT 'it''s', $$x$$;\n-- down\nDROP TABLE t;\n";

fn file(name: &str, text: &str) -> SpecFile {
    SpecFile { name: name.into(), text: text.into() }
}

#[test]
fn the_undamaged_texts_are_valid() {
    for (name, text) in [("a.yaml", POSTGRES), ("a.yaml", MONGODB), ("a.sql", SQL)] {
        assert!(parse(&file(name, text)).is_ok(), "{:?}", parse(&file(name, text)));
    }
}

/// A piece that tends to break parsers.
fn piece() -> impl Strategy<Value = String> {
    let pieces = [
        "",
        " ",
        "\n",
        "\t",
        "'",
        "\"",
        "$$",
        "--",
        "/*",
        ";",
        "(",
        ")",
        "{",
        "}",
        "[",
        "]",
        ":",
        "- ",
        "&a ",
        "*a",
        "!t ",
        "|",
        ">",
        "#",
        "%",
        "@",
        "`",
        "\\",
        "\u{0}",
        "\u{feff}",
        "é",
        "𝄞",
        "~",
        "0x",
        ".nan",
        "---\n",
        "...\n",
        "? ",
        "<<: ",
        "\r\n",
        "\u{2028}",
        "key: [a",
        "-- up\n",
        "-- down",
        "-- shardlift: ",
    ];
    prop_oneof![select(pieces.to_vec()).prop_map(str::to_owned), "\\PC{0,6}"]
}

/// Puts a piece into a text, in place of some of its characters.
fn damage(text: &str, at: &Index, gone: usize, piece: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let from = at.index(chars.len() + 1);
    let to = (from + gone).min(chars.len());
    chars[..from].iter().collect::<String>() + piece + &chars[to..].iter().collect::<String>()
}

proptest! {
    #[test]
    fn no_text_makes_the_parser_panic(text in "(\\PC|[\\n\\t :\\-\\[\\]{}&*!|>'\"%@`#?,]){0,200}") {
        for name in ["a.yaml", "a.sql"] {
            if let Err(problems) = parse(&file(name, &text)) {
                prop_assert!(!problems.problems.is_empty());
            }
        }
    }

    #[test]
    fn a_damaged_spec_is_read_or_its_problems_are_told_in_order(
        which in 0..3_usize,
        wounds in proptest::collection::vec((proptest::prelude::any::<Index>(), 0..8_usize, piece()), 1..4),
    ) {
        let (name, text) = [("a.yaml", POSTGRES), ("a.yaml", MONGODB), ("a.sql", SQL)][which];
        let text = wounds.iter().fold(text.to_owned(), |text, (at, gone, piece)| damage(&text, at, *gone, piece));
        if let Err(problems) = parse(&file(name, &text)) {
            prop_assert!(!problems.problems.is_empty());
            prop_assert!(problems.problems.is_sorted());
            let lines = text.lines().count().max(1) + 1;
            prop_assert!(problems.problems.iter().all(|p| p.line >= 1 && p.line as usize <= lines && p.column >= 1));
        }
    }

    #[test]
    fn the_order_of_keys_and_comments_between_them_do_not_matter(
        order in proptest::prelude::Just((0..5_usize).collect::<Vec<_>>()).prop_shuffle(),
        comment in "[ a-z:{}'\"-]{0,20}",
    ) {
        let parts = ["kind: schema\nid: a\n", "engine: postgres\n", "cluster: c\n", "up: [SELECT 1]\n", "lock_timeout: 1s\n"];
        let shuffled: String = order.iter().map(|part| format!("# {comment}\n{}\n", parts[*part])).collect();
        let straight = parse(&file("a.yaml", &parts.concat())).expect("valid");
        let shuffled = parse(&file("b.yml", &shuffled)).expect("valid");
        prop_assert_eq!(straight.checksum, shuffled.checksum);
    }
}

/// The smallest text in which a key stands with a value that cannot be right.
fn with_bad_value(path: &str, kind: Kind, engine: Engine) -> String {
    let bad = "[[1.5]]";
    let mut text = format!("id: a\nkind: {kind}\nengine: {engine}\ncluster: c\n");
    let top = path.split('.').next().unwrap_or_default();
    if let Some(start) = text.find(&format!("{top}: ")) {
        let end = start + text[start..].find('\n').expect("a line");
        text.replace_range(start..=end, "");
    }
    match path.strip_prefix("verify.") {
        Some("remaining") => text + &format!("verify: [ {{ remaining: {bad} }} ]\n"),
        Some(word @ ("count" | "transform" | "digest")) => {
            text + &format!("verify: [ {{ {word}: {bad} }} ]\n")
        }
        Some(inner) if inner.starts_with("transform.") || inner.starts_with("digest.") => {
            let (word, option) = inner.split_once('.').expect("an option of a check");
            text + &format!("verify: [ {{ {word}: {{ {option}: {bad} }} }} ]\n")
        }
        Some(_) => text + &format!("verify: [ {{ count: {{ tolerance: {bad} }} }} ]\n"),
        None => {
            for (depth, part) in path.split('.').enumerate() {
                text += &format!("{}{part}:\n", "  ".repeat(depth));
            }
            text.trim_end().to_owned() + &format!(" {bad}\n")
        }
    }
}

#[test]
fn nothing_is_accepted_and_ignored() {
    for key in KEYS.iter().filter(|key| key.support == Support::Now) {
        for kind in [Kind::Schema, Kind::Data] {
            for engine in [Engine::Postgres, Engine::Mongodb] {
                let text = with_bad_value(key.path, kind, engine);
                let (line, _) =
                    text.lines().enumerate().find(|(_, line)| line.contains("[[1.5]]")).expect("the value");
                let problems = parse(&file("a.yaml", &text)).expect_err(&text);
                let first = problems.problems.iter().find(|problem| problem.line > 1 || line == 0);
                assert!(first.is_some(), "{} is read by nobody:\n{text}\n{problems}", key.path);
            }
        }
    }
}

#[test]
fn the_key_table_has_no_key_twice_and_no_orphan() {
    for (index, key) in KEYS.iter().enumerate() {
        assert!(KEYS[..index].iter().all(|other| other.path != key.path), "{} stands twice", key.path);
        let section = key.section();
        assert!(section.is_empty() || KEYS.iter().any(|other| other.path == section), "{}", key.path);
    }
}

#[test]
fn the_reference_names_every_key() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/spec.md");
    let reference = std::fs::read_to_string(path).expect("docs/spec.md is there");
    let (now, later) = reference.split_once("## Not in this release").expect("the section of later keys");
    for key in KEYS {
        let part = if key.support == Support::Now { now } else { later };
        assert!(
            part.contains(&format!("`{}`", key.path)),
            "docs/spec.md does not name `{}` in its place",
            key.path
        );
    }
}
