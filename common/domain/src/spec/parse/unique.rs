//! `verify: unique`: no two rows of the cluster have the same fields.

use crate::spec::yaml::Node;
use crate::spec::{Source, Unique, VerifyCheck};

use super::context::Context;
use super::fields::Fields;
use super::references::names;

/// How it is written.
pub(super) const FORM: &str = "{ unique: { fields: [tenant_id, external_id] } }";

pub(super) fn read(ctx: &mut Context, node: &Node) -> Option<Unique> {
    let below = Fields::open(ctx, node, "verify.unique")?;
    let engine = ctx.engine?;
    let fields =
        below.require(ctx, "fields").and_then(|node| names(ctx, node, "verify.unique.fields", engine));
    Some(Unique { fields: fields? })
}

/// What does not go with the rest of the spec.
pub(super) fn check(ctx: &mut Context, node: &Node, checks: &[VerifyCheck], source: Option<&Source>) {
    let unique = |check: &VerifyCheck| matches!(check, VerifyCheck::Unique(_));
    if checks.iter().all(unique) {
        ctx.invalid(
            node.at,
            "verify: unique says nothing of what each shard's rows became; name remaining or count as well",
        );
    }
    if checks.iter().any(unique) && source.is_some_and(|source| source.tenants.is_some()) {
        ctx.invalid(
            node.at,
            "verify: unique looks at all shards of the cluster, and a migration of some tenants goes only to theirs; \
             leave unique or tenants out",
        );
    }
}

#[cfg(test)]
mod tests {
    use crate::spec::parse::parse;
    use crate::spec::{SpecBody, SpecFile};

    fn spec(engine: &str, checks: &str, more: &str) -> Result<Vec<String>, String> {
        let source = match engine {
            "postgres" => "source: { table: messages, where: v < 2 }\ntransform: { sql: { v: \"2\" } }",
            _ => {
                "source: { collection: messages, where: { v: 1 } }\ntransform: { pipeline: [ { $set: { v: 2 } } ] }"
            }
        };
        let source = source.replace("where:", &format!("{more}where:"));
        let tenants = if more.is_empty() { "" } else { "tenants: [a]\n" };
        let text = format!(
            "id: m\nkind: data\nengine: {engine}\ncluster: chat\n{source}\n{tenants}verify: [{checks}]\n"
        );
        match parse(&SpecFile { name: "m.yaml".into(), text }) {
            Ok(spec) => match spec.body {
                SpecBody::Data(data) => Ok(data.unique().map(ToString::to_string).collect()),
                SpecBody::Schema(_) => Err("a schema spec".into()),
            },
            Err(problems) => Err(format!("{problems:?}")),
        }
    }

    #[test]
    fn fields_are_read_for_both_engines_and_several_checks_may_ask() {
        let read = spec(
            "postgres",
            "remaining, { unique: { fields: [Tenant, b] } }, { unique: { fields: [c] } }",
            "",
        );
        assert_eq!(read, Ok(vec!["tenant, b".to_owned(), "c".to_owned()]));
        let read = spec("mongodb", "remaining, { unique: { fields: [author.id] } }", "");
        assert_eq!(read, Ok(vec!["author.id".to_owned()]));
    }

    #[test]
    fn what_cannot_be_compared_is_refused_with_the_reason() {
        for (checks, more, why) in [
            ("remaining, unique", "", "must be told which fields"),
            ("remaining, { unique: { fields: [] } }", "", "1 to 32 names"),
            ("remaining, { unique: { fields: [a, a] } }", "", "twice"),
            ("remaining, { unique: { of: [a] } }", "", "unknown key"),
            ("{ unique: { fields: [a] } }", "", "remaining or count"),
            ("remaining, { unique: { fields: [a] } }, { unique: { fields: [a] } }", "", "twice"),
            ("remaining, { unique: { fields: [a] } }", "tenant: t, ", "some tenants"),
        ] {
            let refused = spec("postgres", checks, more).expect_err(checks);
            assert!(refused.contains(why), "{checks}: {refused}");
        }
    }
}
