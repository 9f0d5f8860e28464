//! `allow`: lint rules that a spec breaks on purpose, each with the reason.

use crate::lint::{self, Rule};
use crate::spec::Allowed;
use crate::spec::yaml::{Node, Scalar, Value};

use super::context::Context;
use super::fields::Fields;
use super::nearest::nearest;
use super::scalars::text;

/// Longest reason in bytes.
const MAX_REASON: usize = 500;

pub(super) fn read(ctx: &mut Context, node: &Node) -> Option<Vec<Allowed>> {
    let items = match &node.value {
        Value::Sequence(items) => items,
        Value::Scalar(Scalar::Text(word, _)) if word == "none" => return Some(Vec::new()),
        _ => {
            let message = format!(
                "allow must be a list such as [{{ rule: ban-drop-column, reason: \"nobody reads it\" }}], not {}",
                node.describe()
            );
            ctx.invalid(node.at, message);
            return None;
        }
    };
    let mut allowed: Vec<Allowed> = Vec::new();
    let mut whole = true;
    for item in items {
        match one(ctx, item) {
            Some(one) if allowed.iter().any(|other| other.rule == one.rule) => {
                ctx.invalid(item.at, format!("allow names {:?} twice", one.rule));
            }
            Some(one) => allowed.push(one),
            None => whole = false,
        }
    }
    whole.then_some(allowed)
}

fn one(ctx: &mut Context, node: &Node) -> Option<Allowed> {
    if let Value::Scalar(Scalar::Text(rule, _)) = &node.value {
        ctx.invalid(node.at, format!("allow needs a reason: write {{ rule: {rule}, reason: … }}"));
        return None;
    }
    let fields = Fields::open(ctx, node, "allow")?;
    let rule = fields.require(ctx, "rule").and_then(|node| rule(ctx, node));
    let reason = fields.require(ctx, "reason").and_then(|node| {
        let reason = text(ctx, node, "allow.reason")?;
        if reason.len() > MAX_REASON {
            ctx.invalid(node.at, format!("allow.reason is longer than {MAX_REASON} bytes"));
            return None;
        }
        Some(reason.trim().to_owned())
    });
    Some(Allowed { rule: rule?.name.to_owned(), reason: reason? })
}

fn rule(ctx: &mut Context, node: &Node) -> Option<&'static Rule> {
    let name = text(ctx, node, "allow.rule")?;
    let engine = ctx.engine?;
    let found = lint::rules(engine).find(|rule| rule.name == name);
    if found.is_none() {
        let near = nearest(name, lint::rules(engine).map(|rule| rule.name));
        let hint = near.map(|near| format!("; did you mean {near:?}?")).unwrap_or_default();
        ctx.invalid(
            node.at,
            format!("there is no lint rule {name:?} for {engine}{hint} (docs/lint.md lists them)"),
        );
    }
    found
}

#[cfg(test)]
mod tests {
    use crate::spec::{SpecFile, parse};

    #[test]
    fn what_is_allowed_must_be_a_known_rule_with_a_reason() {
        let cases = [
            ("[ban-drop-colum]", "6:9: allow needs a reason: write { rule: ban-drop-colum, reason: … }"),
            (
                "yes",
                "6:8: allow must be a list such as [{ rule: ban-drop-column, reason: \"nobody reads it\" }], not the text \"yes\"",
            ),
            ("[{ rule: ban-drop-column }]", "6:9: key \"allow.reason\" is missing"),
            ("[{ rule: ban-drop-column, reason: ' ' }]", "6:42: allow.reason is empty"),
            (
                "[{ rule: ban-drop-column, reasons: r, reason: r }]",
                "6:34: unknown key \"reasons\"; did you mean \"reason\"?",
            ),
            (
                "[{ rule: ban-drop-colum, reason: r }]",
                "6:17: there is no lint rule \"ban-drop-colum\" for postgres; did you mean \"ban-drop-column\"? (docs/lint.md lists them)",
            ),
            (
                "[{ rule: drop-collection, reason: r }]",
                "6:17: there is no lint rule \"drop-collection\" for postgres (docs/lint.md lists them)",
            ),
            (
                "[{ rule: truncate, reason: r }, { rule: truncate, reason: s }]",
                "6:40: allow names \"truncate\" twice",
            ),
        ];
        for (allow, wanted) in cases {
            let text = format!(
                "id: a\nkind: schema\nengine: postgres\ncluster: c\nup: [SELECT 1]\nallow: {allow}\n"
            );
            let problems = parse(&SpecFile { name: "a.yaml".into(), text }).expect_err(allow).to_string();
            assert!(problems.contains(wanted), "{allow}: {problems}");
        }
    }
}
