//! `verify`: what must hold at the end.

use crate::spec::VerifyCheck;
use crate::spec::keys::{KEYS, Key, Support, find};
use crate::spec::yaml::{Mark, Node, Scalar, Value};

use super::context::Context;
use super::fields::Fields;
use super::nearest::nearest;
use super::scalars::fraction;

const TOLERANCE: f64 = 0.01;

/// The checks of a spec that names none.
pub(super) fn default(has_where: bool) -> Vec<VerifyCheck> {
    if has_where { vec![VerifyCheck::Remaining] } else { vec![VerifyCheck::Count { tolerance: TOLERANCE }] }
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
        if checks.iter().any(|other| other.label() == check.label()) {
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
            match (fields.get("remaining"), fields.get("count")) {
                (None, Some(options)) => {
                    let below = Fields::open(ctx, options, "verify.count")?;
                    let tolerance = below.require(ctx, "tolerance")?;
                    let tolerance = fraction(ctx, tolerance, "verify.count.tolerance")?;
                    Some(VerifyCheck::Count { tolerance })
                }
                (Some(options), None) => {
                    ctx.invalid(options.at, "verify: remaining takes no options; write the word alone");
                    None
                }
                (Some(_), Some(_)) => {
                    ctx.invalid(node.at, "write each check of verify as an item of its own");
                    None
                }
                (None, None) => {
                    if ctx.is_clean() {
                        ctx.invalid(node.at, "this item of verify is no check");
                    }
                    None
                }
            }
        }
        _ => {
            ctx.invalid(
                node.at,
                format!("a check of verify must be remaining or count, not {}", node.describe()),
            );
            None
        }
    }
}

fn named(ctx: &mut Context, at: Mark, word: &str) -> Option<VerifyCheck> {
    match find("verify", word).map(|key| key.support) {
        Some(Support::Now) if word == "remaining" => Some(VerifyCheck::Remaining),
        Some(Support::Now) => Some(VerifyCheck::Count { tolerance: TOLERANCE }),
        Some(Support::Later { .. }) => {
            ctx.unsupported(at, format!("verify: {word} is not in this release"));
            None
        }
        None => {
            let words = KEYS.iter().filter(|key| key.section() == "verify").map(Key::name);
            let hint =
                nearest(word, words).map(|near| format!("; did you mean {near:?}?")).unwrap_or_default();
            ctx.invalid(at, format!("unknown check {word:?} in verify{hint}"));
            None
        }
    }
}
