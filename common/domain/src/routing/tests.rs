//! The documented function by its test vectors, and rule and residence against each other.

use proptest::prelude::*;

use super::*;

/// Canonical key, its bucket of 1024, its bucket of 16.
const VECTORS: &[(&str, u32, u32)] = &[
    ("1", 627, 3),
    ("42", 180, 4),
    ("-7", 807, 7),
    ("acme", 941, 13),
    ("tenant-0007", 789, 5),
    ("grün", 100, 4),
    ("0b8f4a4e-7f0c-4d52-9f61-0d8a4f3e2c1b", 975, 15),
];

fn shard(name: &str) -> ShardId {
    ShardId::new(name).expect("a name")
}

fn shards() -> Vec<ShardId> {
    ["a", "b", "c"].map(shard).to_vec()
}

fn span(first: u32, last: u32, name: &str) -> Span {
    Span { first, last, shard: shard(name) }
}

fn hash(spans: Vec<Span>) -> Routing {
    Routing { key: KeyKind::Text, rule: Rule::Hash { buckets: 1024, spans } }
}

fn range(key: KeyKind, bounds: &[(&str, Option<&str>)]) -> Routing {
    let one = |(name, below): &(&str, Option<&str>)| KeyRange {
        below: below.map(str::to_owned),
        shard: shard(name),
    };
    Routing { key, rule: Rule::Range { ranges: bounds.iter().map(one).collect() } }
}

/// The vectors of docs/routing.md, computed by another implementation of SHA-256.
#[test]
fn the_documented_vectors_hold() {
    let page = include_str!("../../../../docs/routing.md");
    for (key, of_1024, of_16) in VECTORS {
        assert_eq!((bucket(key, 1024), bucket(key, 16)), (*of_1024, *of_16), "{key}");
        let line = format!("| `{key}` | {of_1024} | {of_16} |");
        assert!(page.contains(&line), "docs/routing.md lacks {line}");
    }
}

#[test]
fn a_key_has_one_form_however_it_is_written() {
    let canonical = |kind: KeyKind, text: &str| kind.parse(text).map(|key| key.canonical());
    assert_eq!(canonical(KeyKind::Integer, "0042").as_deref(), Ok("42"));
    assert_eq!(canonical(KeyKind::Text, "0042").as_deref(), Ok("0042"));
    let uuid = "0b8f4a4e-7f0c-4d52-9f61-0d8a4f3e2c1b";
    for written in [uuid.to_uppercase(), uuid.replace('-', ""), uuid.to_owned()] {
        assert_eq!(canonical(KeyKind::Uuid, &written).as_deref(), Ok(uuid));
    }
    for (kind, bad) in [
        (KeyKind::Integer, "4.2"),
        (KeyKind::Integer, "9223372036854775808"),
        (KeyKind::Uuid, "0b8f4a4e7f0c-4d52-9f61-0d8a4f3e2c1b-"),
        (KeyKind::Uuid, "gb8f4a4e-7f0c-4d52-9f61-0d8a4f3e2c1b"),
        (KeyKind::Uuid, "ünf4a4e7f0c4d529f610d8a4f3e2c1b"),
        (KeyKind::Text, ""),
        (KeyKind::Text, "a\0"),
    ] {
        assert!(kind.parse(bad).is_err(), "{bad:?} was accepted");
    }
}

#[test]
fn integers_are_ordered_as_numbers_and_texts_by_their_bytes() {
    let none = Entries::new();
    let numbers = range(KeyKind::Integer, &[("a", Some("-5")), ("b", Some("100")), ("c", None)]);
    let at =
        |text: &str| numbers.route(&none, &KeyKind::Integer.parse(text).expect("a key")).map(ShardId::as_str);
    assert_eq!(
        ["-6", "-5", "9", "99", "100", "9223372036854775807"].map(at),
        [Some("a"), Some("b"), Some("b"), Some("b"), Some("c"), Some("c")]
    );
    let texts = range(KeyKind::Text, &[("a", Some("m")), ("b", None)]);
    let at = |text: &str| texts.route(&none, &Key::Text(text.into())).map(ShardId::as_str);
    assert_eq!(["Z", "lz", "m", "é"].map(at), [Some("a"), Some("a"), Some("b"), Some("b")]);
}

#[test]
fn a_directory_knows_its_entries_and_its_default() {
    let mut directory = Directory::default();
    let cluster = ClusterName::new("chat").expect("a name");
    let entry = |key: &str, at: Option<&str>| DirectoryEntry {
        cluster: cluster.clone(),
        key: key.into(),
        shard: at.map(shard),
    };
    directory.apply(&entry("7", Some("a")));
    let mut rule = Routing { key: KeyKind::Integer, rule: Rule::Directory { default: None } };
    assert_eq!(rule.route(directory.of(&cluster), &Key::Integer(7)), Some(&shard("a")));
    assert_eq!(rule.route(directory.of(&cluster), &Key::Integer(8)), None);
    rule.rule = Rule::Directory { default: Some(shard("b")) };
    assert_eq!(rule.route(directory.of(&cluster), &Key::Integer(8)), Some(&shard("b")));
    directory.apply(&entry("7", None));
    assert_eq!(directory, Directory::default());
}

#[test]
fn everything_that_is_wrong_with_a_rule_is_told_at_once() {
    let parts = |rule: &Routing| -> Vec<String> {
        rule.check(&shards()).into_iter().map(|wrong| wrong.part).collect()
    };
    assert!(parts(&hash(vec![span(512, 1023, "b"), span(0, 511, "a")])).is_empty(), "in any order");
    assert_eq!(
        parts(&hash(vec![span(0, 500, "z"), span(400, 600, "b"), span(700, 1000, "c")])),
        ["shards.z", "shards.b", "shards", "shards"]
    );
    assert_eq!(parts(&hash(vec![span(0, 1024, "a")])), ["shards.a"]);
    let none = Routing { key: KeyKind::Text, rule: Rule::Hash { buckets: 0, spans: vec![] } };
    assert_eq!(parts(&none), ["buckets"]);
    assert!(parts(&range(KeyKind::Integer, &[("a", Some("9")), ("b", Some("10")), ("c", None)])).is_empty());
    assert_eq!(
        parts(&range(KeyKind::Text, &[("a", Some("9")), ("y", Some("10")), ("c", Some("x"))])),
        ["ranges[1].shard", "ranges", "ranges[1].below"]
    );
    assert_eq!(parts(&range(KeyKind::Uuid, &[("a", Some("9")), ("b", None)])), ["ranges[0].below"]);
    assert_eq!(parts(&range(KeyKind::Text, &[])), ["ranges"]);
}

#[test]
fn a_rule_is_stored_as_one_flat_object() {
    let rule = hash(vec![span(0, 1023, "a")]);
    let text = serde_json::to_string(&rule).expect("JSON");
    assert_eq!(
        text,
        r#"{"key":"text","rule":"hash","buckets":1024,"spans":[{"first":0,"last":1023,"shard":"a"}]}"#
    );
    assert_eq!(serde_json::from_str::<Routing>(&text).expect("reads"), rule);
}

fn rules() -> impl Strategy<Value = (Routing, Entries)> {
    let names = || prop::sample::select(vec!["a", "b", "c"]);
    let hashes =
        (1_u32..300, prop::collection::btree_set(1_u32..300, 0..4), prop::collection::vec(names(), 5))
            .prop_map(|(buckets, cuts, names)| {
                let mut cuts: Vec<u32> = cuts.into_iter().filter(|cut| *cut < buckets).collect();
                cuts.push(buckets);
                let starts = std::iter::once(0).chain(cuts.clone());
                let spans = starts
                    .zip(&cuts)
                    .zip(names)
                    .map(|((first, next), name)| span(first, next - 1, name))
                    .collect();
                Routing { key: KeyKind::Integer, rule: Rule::Hash { buckets, spans } }
            });
    let ranges = (prop::collection::btree_set(-50_i64..50, 0..4), prop::collection::vec(names(), 5))
        .prop_map(|(cuts, names)| {
            let below = cuts.iter().map(|cut| Some(cut.to_string())).chain([None]);
            let ranges =
                below.zip(names).map(|(below, name)| KeyRange { below, shard: shard(name) }).collect();
            Routing { key: KeyKind::Integer, rule: Rule::Range { ranges } }
        });
    let directory = prop::option::of(names()).prop_map(|default| Routing {
        key: KeyKind::Integer,
        rule: Rule::Directory { default: default.map(shard) },
    });
    let entries = prop::collection::btree_map(
        (-50_i64..50).prop_map(|key| key.to_string()),
        names().prop_map(shard),
        0..20,
    );
    (prop_oneof![hashes, ranges, directory], entries)
}

proptest! {
    /// A worker that judges its rows by the residence finds exactly those that the coordinator routes elsewhere.
    #[test]
    fn a_key_lives_where_it_is_routed_and_nowhere_else((rule, entries) in rules(), key in -60_i64..60) {
        prop_assert_eq!(rule.check(&shards()), vec![]);
        let routed = rule.route(&entries, &Key::Integer(key));
        for one in shards() {
            let lives = rule.residence(&entries, &one).holds(&key.to_string());
            prop_assert_eq!(lives, routed == Some(&one), "{} on {}", key, one);
        }
    }
}
