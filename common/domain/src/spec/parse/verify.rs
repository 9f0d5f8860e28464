//! `verify`: what must hold at the end.

use crate::spec::keys::{KEYS, Key, Support, find};
use crate::spec::yaml::{Mark, Node, Scalar, Value};
use crate::spec::{Assertion, Kind, Leeway, VerifyCheck};

use super::context::Context;
use super::fields::Fields;
use super::nearest::nearest;
use super::scalars::fraction;
use super::{anew, assertion, references, unique};

const TOLERANCE: f64 = 0.01;
const QUESTIONS: &str =
    "{ sql: …, equals: … } in PostgreSQL, { collection: …, where: …, equals: … } in MongoDB";

/// The checks of a spec that names none.
pub(super) fn default(has_where: bool) -> Vec<VerifyCheck> {
    if has_where { vec![VerifyCheck::Remaining] } else { vec![VerifyCheck::Count { tolerance: TOLERANCE }] }
}

/// The questions of a schema spec: the ledger and what `up` builds are looked at anyway.
pub(super) fn of_schema(ctx: &mut Context, node: &Node) -> Option<Vec<Assertion>> {
    let checks = read(ctx, node, None)?;
    Some(checks.iter().filter_map(VerifyCheck::assertion).cloned().collect())
}

/// `has_where` is `None` when the source could not be read.
pub(super) fn read(ctx: &mut Context, node: &Node, has_where: Option<bool>) -> Option<Vec<VerifyCheck>> {
    let Value::Sequence(items) = &node.value else {
        ctx.invalid(node.at, format!("verify must be a list of checks, not {}", node.describe()));
        return None;
    };
    if items.is_empty() {
        ctx.invalid(node.at, "verify must name at least one check; leave it out for the default");
        return None;
    }
    let mut checks: Vec<VerifyCheck> = Vec::new();
    let mut whole = true;
    for item in items {
        let Some(check) = check(ctx, item) else {
            whole = false;
            continue;
        };
        if check == VerifyCheck::Remaining && has_where == Some(false) {
            ctx.invalid(item.at, "verify: remaining needs source.where; without it use count");
        }
        let twice = |other: &VerifyCheck| match &check {
            VerifyCheck::Assert(_) | VerifyCheck::References(_) | VerifyCheck::Unique(_) => *other == check,
            _ => other.label() == check.label(),
        };
        if checks.iter().any(twice) {
            ctx.invalid(item.at, format!("verify names {:?} twice", check.label()));
        }
        checks.push(check);
    }
    whole.then_some(checks)
}

fn check(ctx: &mut Context, node: &Node) -> Option<VerifyCheck> {
    match &node.value {
        Value::Scalar(Scalar::Text(word, _)) => named(ctx, node.at, word),
        Value::Mapping(_) => {
            let fields = Fields::open(ctx, node, "verify")?;
            let own: Vec<(&str, &Node)> =
                ["remaining", "count", "transform", "digest", "references", "unique"]
                    .into_iter()
                    .filter_map(|word| fields.get(word).map(|options| (word, options)))
                    .collect();
            match own.as_slice() {
                [] if assertion::is_one(&fields) => {
                    assertion::read(ctx, node.at, &fields).map(VerifyCheck::Assert)
                }
                [] => {
                    if ctx.is_clean() {
                        ctx.invalid(node.at, "this item of verify is no check");
                    }
                    None
                }
                [only] if !assertion::is_one(&fields) => with_options(ctx, *only),
                _ => {
                    ctx.invalid(node.at, "write each check of verify as an item of its own");
                    None
                }
            }
        }
        _ => {
            ctx.invalid(
                node.at,
                format!(
                    "a check of verify must be remaining, count, transform, digest, references, unique or a question, not {}",
                    node.describe()
                ),
            );
            None
        }
    }
}

fn with_options(ctx: &mut Context, (word, options): (&str, &Node)) -> Option<VerifyCheck> {
    match word {
        "count" => {
            let below = Fields::open(ctx, options, "verify.count")?;
            let tolerance = below.require(ctx, "tolerance")?;
            let tolerance = fraction(ctx, tolerance, "verify.count.tolerance")?;
            Some(VerifyCheck::Count { tolerance })
        }
        "transform" => anew::read(ctx, options).map(VerifyCheck::Transform),
        "digest" => anew::read_digest(ctx, options).map(VerifyCheck::Digest),
        "references" => references::read(ctx, options).map(VerifyCheck::References),
        "unique" => unique::read(ctx, options).map(VerifyCheck::Unique),
        _ => {
            ctx.invalid(options.at, "verify: remaining takes no options; write the word alone");
            None
        }
    }
}

fn named(ctx: &mut Context, at: Mark, word: &str) -> Option<VerifyCheck> {
    let Some(key) = find("verify", word) else {
        return unknown(ctx, at, word);
    };
    match (key.support, word) {
        (Support::Now, "remaining" | "count" | "transform" | "digest" | "references" | "unique")
            if ctx.kind == Some(Kind::Schema) =>
        {
            ctx.invalid(
                at,
                format!("verify: {word} is for kind: data; a schema spec has questions of its own only"),
            );
            None
        }
        (Support::Now, "remaining") => Some(VerifyCheck::Remaining),
        (Support::Now, "count") => Some(VerifyCheck::Count { tolerance: TOLERANCE }),
        (Support::Now, "digest") => Some(VerifyCheck::Digest(Leeway::NONE)),
        (Support::Now, "transform") => {
            ctx.invalid(at, format!("verify: transform must be told which rows: {}", anew::FORMS));
            None
        }
        (Support::Now, "references") => {
            ctx.invalid(at, format!("verify: references must be told which: {}", references::FORM));
            None
        }
        (Support::Now, "unique") => {
            ctx.invalid(at, format!("verify: unique must be told which fields: {}", unique::FORM));
            None
        }
        (Support::Now, _) => {
            ctx.invalid(
                at,
                format!(
                    "verify: {word} is no check by itself; write a question with its answer: {QUESTIONS}"
                ),
            );
            None
        }
        (Support::Later { .. }, _) => {
            ctx.unsupported(at, format!("verify: {word} is not in this release"));
            None
        }
    }
}

fn unknown(ctx: &mut Context, at: Mark, word: &str) -> Option<VerifyCheck> {
    let words = KEYS.iter().filter(|key| key.section() == "verify").map(Key::name);
    let hint = nearest(word, words).map(|near| format!("; did you mean {near:?}?")).unwrap_or_default();
    ctx.invalid(at, format!("unknown check {word:?} in verify{hint}"));
    None
}
