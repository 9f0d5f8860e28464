//! `verify: references`: what rows refer to is there.

use crate::spec::yaml::Node;
use crate::spec::{Engine, References};

use super::commands::collection;
use super::context::Context;
use super::data::{MAX_KEY, column, table};
use super::fields::Fields;
use super::scalars;

/// How it is written.
pub(super) const FORM: &str = "{ references: { fields: [channel_id], to: channels, key: [id] } }";

pub(super) fn read(ctx: &mut Context, node: &Node) -> Option<References> {
    let below = Fields::open(ctx, node, "verify.references")?;
    let engine = ctx.engine?;
    let names = |ctx: &mut Context, node, what| names(ctx, node, what, engine);
    let fields = below.require(ctx, "fields").and_then(|node| names(ctx, node, "verify.references.fields"));
    let to = below.require(ctx, "to").and_then(|node| match engine {
        Engine::Postgres => table(ctx, node, "verify.references.to"),
        Engine::Mongodb => collection(ctx, node, "verify.references.to"),
    });
    let key = match (below.get("key"), engine) {
        (Some(node), _) => names(ctx, node, "verify.references.key"),
        (None, Engine::Mongodb) => Some(vec!["_id".to_owned()]),
        (None, Engine::Postgres) => below.require(ctx, "key").and(None),
    };
    let references = References { fields: fields?, to: to?, key: key? };
    if references.fields.len() != references.key.len() {
        let (fields, key) = (references.fields.len(), references.key.len());
        let message =
            format!("verify.references has {fields} fields and a key of {key}; they must be as many");
        ctx.invalid(below.place("fields"), message);
        return None;
    }
    Some(references)
}

/// A list of columns or fields, each once.
pub(super) fn names(ctx: &mut Context, node: &Node, what: &str, engine: Engine) -> Option<Vec<String>> {
    scalars::names(ctx, node, what, MAX_KEY, |ctx, item, found| match engine {
        Engine::Postgres => column(ctx, item, found, what),
        Engine::Mongodb => path(ctx, item, found, what),
    })
}

/// The path of a field.
fn path(ctx: &mut Context, node: &Node, found: &str, what: &str) -> Option<String> {
    let sound = !found.contains(['$', '\0']) && found.split('.').all(|part| !part.is_empty());
    if !sound {
        ctx.invalid(
            node.at,
            format!("{what} must name a field, such as channel or author.id, not {found:?}"),
        );
        return None;
    }
    Some(found.to_owned())
}

#[cfg(test)]
mod tests {
    use crate::spec::parse::parse;
    use crate::spec::{SpecBody, SpecFile};

    fn spec(engine: &str, check: &str) -> Result<Vec<String>, String> {
        let source = match engine {
            "postgres" => "source: { table: messages, where: v < 2 }\ntransform: { sql: { v: \"2\" } }",
            _ => {
                "source: { collection: messages, where: { v: 1 } }\ntransform: { pipeline: [ { $set: { v: 2 } } ] }"
            }
        };
        let text = format!(
            "id: m\nkind: data\nengine: {engine}\ncluster: chat\n{source}\nverify: [remaining, {check}]\n"
        );
        let read = parse(&SpecFile { name: "m.yaml".into(), text });
        match read {
            Ok(spec) => match spec.body {
                SpecBody::Data(data) => Ok(data.references().map(ToString::to_string).collect()),
                SpecBody::Schema(_) => Err("a schema spec".into()),
            },
            Err(problems) => Err(format!("{problems:?}")),
        }
    }

    #[test]
    fn references_are_read_for_both_engines() {
        let read =
            spec("postgres", "{ references: { fields: [A, b], to: public.channels, key: [tenant, Id] } }");
        assert_eq!(read, Ok(vec!["a, b to public.channels (tenant, id)".to_owned()]));
        let read = spec("mongodb", "{ references: { fields: [author.id], to: people } }");
        assert_eq!(read, Ok(vec!["author.id to people (_id)".to_owned()]));
    }

    #[test]
    fn what_is_no_reference_is_refused_with_the_reason() {
        for (engine, check, why) in [
            ("postgres", "{ references: { fields: [a], to: channels } }", "verify.references.key"),
            ("postgres", "{ references: { fields: [a, b], to: channels, key: [id] } }", "as many"),
            ("postgres", "{ references: { fields: [a, a], to: channels, key: [x, y] } }", "twice"),
            ("postgres", "{ references: { fields: [], to: channels, key: [id] } }", "1 to 32 names"),
            ("mongodb", "{ references: { fields: [\"a..b\"], to: people } }", "must name a field"),
            ("mongodb", "references", "must be told which"),
            ("mongodb", "{ references: { fields: [a], of: people } }", "unknown key"),
        ] {
            let refused = spec(engine, check).expect_err(check);
            assert!(refused.contains(why), "{check}: {refused}");
        }
    }
}
