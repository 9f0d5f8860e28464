//! `verify: transform` and `verify: digest`: rows compared by what the undo log keeps.

use crate::spec::yaml::{Mark, Node, Scalar, Value};
use crate::spec::{Anew, Leeway, Sample, Transform, Undo, VerifyCheck, unrepeatable};

use super::context::Context;
use super::fields::Fields;

/// How it is written.
pub(super) const FORMS: &str = "{ transform: all } or { transform: sample 5 % }";
const MOST: u32 = 1_000_000_000;

pub(super) fn read(ctx: &mut Context, node: &Node) -> Option<Anew> {
    if !matches!(node.value, Value::Mapping(_)) {
        return sample(ctx, node, "verify.transform").map(|sample| Anew {
            sample,
            changed: None,
            gone: None,
        });
    }
    let below = Fields::open(ctx, node, "verify.transform")?;
    let rows = match below.get("rows") {
        Some(node) => sample(ctx, node, "verify.transform.rows"),
        None => Some(Sample::All),
    };
    let changed = most(ctx, below.get("changed"), "verify.transform.changed", None);
    let gone = most(ctx, below.get("gone"), "verify.transform.gone", None);
    Some(Anew { sample: rows?, changed: changed?, gone: gone? })
}

/// `digest` with options: it asks whether everything is as it was written, so none may differ unless they say so.
pub(super) fn read_digest(ctx: &mut Context, node: &Node) -> Option<Leeway> {
    let below = Fields::open(ctx, node, "verify.digest")?;
    let Leeway { changed, gone } = Leeway::NONE;
    let changed = most(ctx, below.get("changed"), "verify.digest.changed", changed);
    let gone = most(ctx, below.get("gone"), "verify.digest.gone", gone);
    Some(Leeway { changed: changed?, gone: gone? })
}

fn sample(ctx: &mut Context, node: &Node, what: &str) -> Option<Sample> {
    let found = match &node.value {
        Value::Scalar(Scalar::Text(text, _)) if text == "all" => Some(Sample::All),
        Value::Scalar(Scalar::Text(text, _)) => percent(text).map(Sample::Percent),
        _ => None,
    };
    if found.is_none() {
        let message = format!(
            "{what} must be all, or a sample of 1 to 99 % such as sample 5 %, not {}",
            node.describe()
        );
        ctx.invalid(node.at, message);
    }
    found
}

fn percent(text: &str) -> Option<u32> {
    let share = text.strip_prefix("sample ")?.strip_suffix('%')?.trim();
    let digits = !share.is_empty() && share.chars().all(|c| c.is_ascii_digit());
    share.parse().ok().filter(|share| digits && (1..=99).contains(share))
}

/// `any` or a number of rows.
fn most(ctx: &mut Context, node: Option<&Node>, what: &str, default: Option<u32>) -> Option<Option<u32>> {
    let Some(node) = node else { return Some(default) };
    let found = match &node.value {
        Value::Scalar(Scalar::Text(text, _)) if text == "any" => Some(None),
        Value::Scalar(Scalar::Int(value)) => {
            u32::try_from(*value).ok().filter(|value| *value <= MOST).map(Some)
        }
        _ => None,
    };
    if found.is_none() {
        let message =
            format!("{what} must be any, or a number of rows from 0 to {MOST}, not {}", node.describe());
        ctx.invalid(node.at, message);
    }
    found
}

/// Whether there is something to compare with, and whether a transform that is to be evaluated anew gives the same again.
pub(super) fn check(
    ctx: &mut Context,
    verify: &Node,
    checks: &[VerifyCheck],
    transform: Option<&Transform>,
    undo: Option<Undo>,
) {
    for check in checks {
        let does = match check {
            VerifyCheck::Transform(_) => "it evaluates the transform anew on what the undo log keeps",
            VerifyCheck::Digest(_) => "it compares rows with the digests that the undo log keeps",
            _ => continue,
        };
        let word = check.label();
        if undo == Some(Undo::None) {
            ctx.invalid(place(verify, word), format!("verify: {word} needs undo: capture: {does}"));
        }
    }
    let anew = checks.iter().any(|check| matches!(check, VerifyCheck::Transform(_)));
    if let Some(why) = transform.filter(|_| anew).and_then(unrepeatable) {
        let message = format!(
            "verify: transform cannot evaluate this transform anew: {why}; verify: digest sees whether what it has \
             written is still there"
        );
        ctx.invalid(place(verify, "transform"), message);
    }
}

/// Where the check stands in the list.
fn place(verify: &Node, word: &str) -> Mark {
    let Value::Sequence(items) = &verify.value else { return verify.at };
    let is_it = |item: &&Node| match &item.value {
        Value::Mapping(entries) => entries.iter().any(|entry| entry.key == word),
        Value::Scalar(Scalar::Text(text, _)) => text == word,
        _ => false,
    };
    items.iter().find(is_it).map_or(verify.at, |item| item.at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::{SpecBody, SpecFile, parse};

    fn text(rest: &str) -> String {
        format!(
            "id: m\nkind: data\nengine: postgres\ncluster: c\nsource: {{ table: t, where: not done }}\n{rest}\n"
        )
    }

    fn read(rest: &str) -> Result<(Anew, String), String> {
        let file = SpecFile { name: "m.yaml".into(), text: text(rest) };
        let spec = parse(&file).map_err(|problems| problems.to_string())?;
        let SpecBody::Data(data) = &spec.body else { return Err("no data spec".into()) };
        Ok((data.anew().ok_or("no such check")?, spec.checksum.to_string()))
    }

    fn good(check: &str) -> (Anew, String) {
        let rest = format!(
            "transform: {{ sql: {{ done: \"true\" }} }}\nundo: capture\nverify: [remaining, {check}]"
        );
        read(&rest).expect("a good spec")
    }

    fn bad(check: &str) -> String {
        let rest = format!("transform: {{ sql: {{ done: \"true\" }} }}\nundo: capture\nverify: [{check}]");
        read(&rest).expect_err("a bad spec")
    }

    #[test]
    fn all_rows_or_a_sample_and_how_many_may_differ() {
        let all = Anew { sample: Sample::All, changed: None, gone: None };
        let (found, checksum) = good("{ transform: all }");
        assert_eq!(found, all);
        assert_eq!(good("{ transform: { changed: any } }"), (all, checksum.clone()), "defaults spelled out");
        for (check, expected) in [
            ("{ transform: sample 5 % }", Anew { sample: Sample::Percent(5), ..all }),
            ("{ transform: \"sample 99%\" }", Anew { sample: Sample::Percent(99), ..all }),
            ("{ transform: { changed: 0, gone: 3 } }", Anew { changed: Some(0), gone: Some(3), ..all }),
            (
                "{ transform: { rows: sample 1 %, gone: 0 } }",
                Anew { sample: Sample::Percent(1), gone: Some(0), ..all },
            ),
        ] {
            let (found, other) = good(check);
            assert_eq!(found, expected, "{check}");
            assert_ne!(other, checksum, "{check}");
        }
    }

    #[test]
    fn what_is_no_such_check_is_told_with_what_to_write() {
        for (check, why) in [
            ("transform", "verify: transform must be told which rows: { transform: all }"),
            (
                "{ transform: some }",
                "verify.transform must be all, or a sample of 1 to 99 % such as sample 5 %",
            ),
            ("{ transform: sample 0 % }", "must be all, or a sample"),
            ("{ transform: sample 100 % }", "must be all, or a sample"),
            ("{ transform: { rows: 5 } }", "verify.transform.rows must be all, or a sample"),
            ("{ transform: { changed: few } }", "verify.transform.changed must be any, or a number of rows"),
            ("{ transform: { gone: -1 } }", "verify.transform.gone must be any, or a number of rows"),
            ("{ transform: { row: all } }", "did you mean \"rows\"?"),
            ("{ transform: all, count: { tolerance: 0 } }", "an item of its own"),
            ("{ transform: all }, { transform: sample 5 % }", "names \"transform\" twice"),
        ] {
            let found = bad(check);
            assert!(found.contains(why), "{check}: {found}");
        }
    }

    #[test]
    fn what_was_written_is_to_be_there_unless_the_spec_allows_less() {
        let read = |check: &str| {
            let rest = format!(
                "transform: {{ sql: {{ done: \"true\", at: now() }} }}\nundo: capture\nverify: [{check}]"
            );
            let file = SpecFile { name: "m.yaml".into(), text: text(&rest) };
            let spec = parse(&file).map_err(|problems| problems.to_string())?;
            let SpecBody::Data(data) = spec.body else { return Err("no data spec".to_owned()) };
            Ok((data.digest(), data.known_by_digest(), spec.checksum.to_string()))
        };
        let plain = read("digest").expect("a good spec");
        assert_eq!((plain.0, plain.1), (Some(Leeway::NONE), true));
        assert_eq!(read("{ digest: { changed: 0, gone: 0 } }"), Ok(plain), "defaults spelled out");
        let (allowed, ..) = read("{ digest: { changed: any, gone: 3 } }").expect("a good spec");
        assert_eq!(allowed, Some(Leeway { changed: None, gone: Some(3) }));
        for (check, why) in [
            ("{ digest: { changed: few } }", "verify.digest.changed must be any, or a number of rows"),
            ("{ digest: { rows: all } }", "unknown key"),
            ("{ digest: all }", "verify.digest"),
            ("digest, { digest: { gone: 1 } }", "names \"digest\" twice"),
            ("digest, { transform: all }", "it calls now: it reads the clock"),
        ] {
            let found = read(check).expect_err("refused");
            assert!(found.contains(why), "{check}: {found}");
        }
        let both = good("{ transform: sample 5 % }, digest");
        assert_eq!(both.0.sample, Sample::Percent(5), "one does not exclude the other");
    }

    #[test]
    fn without_capture_and_for_what_is_not_repeatable_it_is_refused_with_all_reasons_at_once() {
        let rest = "transform: { sql: { done: \"true\", at: now() } }\nverify: [{ transform: all }]";
        let found = read(rest).expect_err("refused");
        assert!(found.contains("7:10: verify: transform needs undo: capture"), "{found}");
        assert!(found.contains("it calls now: it reads the clock (transform.sql, at)"), "{found}");
        let rest = "transform: { sql: { done: \"true\" } }\nverify: [remaining, digest]";
        let found = read(rest).expect_err("refused");
        assert!(found.contains("7:21: verify: digest needs undo: capture: it compares"), "{found}");
    }
}
