//! `on_block`: which sessions that keep a schema change from its locks are ended.

use std::time::Duration;

use crate::spec::yaml::{Node, Scalar, Value};
use crate::spec::{EndBlockers, Written};

use super::context::Context;
use super::fields::Fields;
use super::scalars::{self, duration, word};

const MOST_NAMES: usize = 32;
/// The server cuts names at this length.
const LONGEST_NAME: usize = 63;
const AGE: Duration = Duration::from_secs(60);
const AGE_BOUNDS: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(24 * 3600));

pub(super) fn read(ctx: &mut Context, node: &Node) -> Option<Option<Box<EndBlockers>>> {
    if matches!(&node.value, Value::Scalar(Scalar::Text(word, _)) if word == "wait") {
        return Some(None);
    }
    let fields = Fields::open(ctx, node, "on_block")?;
    let below = fields.require(ctx, "end")?;
    let end = Fields::open(ctx, below, "on_block.end")?;
    let applications = end.require(ctx, "applications").and_then(|node| {
        let names = names(ctx, node, "on_block.end.applications")?;
        match names.iter().find(|name| name.starts_with("shardlift/")) {
            Some(ours) => {
                ctx.invalid(
                    node.at,
                    format!("on_block.end.applications: {ours:?} is a name of Shardlift's own sessions"),
                );
                None
            }
            None => Some(names),
        }
    });
    let users = match end.get("users") {
        Some(node) => names(ctx, node, "on_block.end.users"),
        None => Some(Vec::new()),
    };
    let younger_than = match end.get("younger_than") {
        Some(node) => duration(ctx, node, "on_block.end.younger_than", AGE_BOUNDS),
        None => Some(AGE),
    };
    let written = match end.get("written") {
        Some(node) => {
            word(ctx, node, "on_block.end.written", &["nothing", "anything"]).map(|found| match found {
                "anything" => Written::Anything,
                _ => Written::Nothing,
            })
        }
        None => Some(Written::Nothing),
    };
    Some(Some(Box::new(EndBlockers {
        applications: applications?,
        users: users?,
        younger_than: younger_than?,
        written: written?,
    })))
}

fn names(ctx: &mut Context, node: &Node, what: &str) -> Option<Vec<String>> {
    scalars::names(ctx, node, what, MOST_NAMES, |ctx, item, name| {
        if name.len() > LONGEST_NAME {
            ctx.invalid(
                item.at,
                format!("{what}: {name:?} is longer than {LONGEST_NAME} bytes, where the server cuts it"),
            );
            return None;
        }
        Some(name.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::{Spec, SpecBody, SpecFile, parse};

    fn spec(on_block: &str) -> Result<Spec, String> {
        let text = format!("id: a\nkind: schema\nengine: postgres\ncluster: c\nup: [SELECT 1]\n{on_block}");
        parse(&SpecFile { name: "a.yaml".into(), text }).map_err(|problems| problems.to_string())
    }

    fn policy(on_block: &str) -> Option<EndBlockers> {
        match spec(on_block).expect("a good spec").body {
            SpecBody::Schema(schema) => schema.on_block.map(|policy| *policy),
            SpecBody::Data(_) => None,
        }
    }

    #[test]
    fn who_may_be_ended_is_named_and_the_rest_has_defaults() {
        let short = policy("on_block: { end: { applications: [reports] } }");
        let wanted = EndBlockers {
            applications: vec!["reports".into()],
            users: Vec::new(),
            younger_than: Duration::from_secs(60),
            written: Written::Nothing,
        };
        assert_eq!(short, Some(wanted.clone()));
        let long = "on_block: { end: { applications: [reports], users: [analyst], younger_than: 10m, written: anything } }";
        let more = EndBlockers {
            users: vec!["analyst".into()],
            younger_than: Duration::from_secs(600),
            written: Written::Anything,
            ..wanted
        };
        assert_eq!(policy(long), Some(more));
        assert_eq!(policy("on_block: wait"), None);
    }

    #[test]
    fn the_policy_is_a_part_of_the_meaning_and_its_order_is_not() {
        let checksum = |on_block| spec(on_block).expect("a good spec").checksum;
        let one = checksum("on_block: { end: { applications: [a, b] } }");
        assert_eq!(one, checksum("on_block: { end: { written: nothing, applications: [b, a] } }"));
        assert_ne!(one, checksum("on_block: { end: { applications: [a] } }"));
        assert_eq!(checksum(""), checksum("on_block: wait"));
        assert_ne!(one, checksum(""));
    }

    #[test]
    fn what_names_nobody_or_ourselves_is_refused() {
        for (on_block, why) in [
            ("on_block: end", "on_block must be"),
            ("on_block: { end: { users: [a] } }", "on_block.end.applications"),
            ("on_block: { end: { applications: [] } }", "1 to 32 names"),
            ("on_block: { end: { applications: reports } }", "must be a list of names"),
            ("on_block: { end: { applications: [a, a] } }", "twice"),
            ("on_block: { end: { applications: [\"shardlift/apply\"] } }", "Shardlift's own sessions"),
            ("on_block: { end: { applications: [a], younger_than: 2d } }", "must be a duration"),
            ("on_block: { end: { applications: [a], written: some } }", "nothing or anything"),
            ("on_block: { end: { applications: [a], pid: 7 } }", "unknown key"),
        ] {
            let told = spec(on_block).expect_err(on_block);
            assert!(told.contains(why), "{on_block}: {told}");
        }
    }
}
