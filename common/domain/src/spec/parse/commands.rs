//! MongoDB database commands of a schema spec.

use serde_json::Value as Json;

use crate::spec::yaml::{Entry, Node, Scalar, Value};

use super::context::Context;
use super::json::json;
use super::nearest::nearest;

/// Commands that can be resumed after a crash by inspection.
const COMMANDS: [&str; 6] = ["create", "collMod", "createIndexes", "dropIndexes", "drop", "renameCollection"];
/// Fields that the driver or Shardlift sets.
const RESERVED: [&str; 8] = [
    "$db",
    "lsid",
    "txnNumber",
    "startTransaction",
    "autocommit",
    "writeConcern",
    "readConcern",
    "apiVersion",
];
/// Longest name of a collection in bytes; MongoDB allows 255 for database and collection together.
const MAX_COLLECTION: usize = 190;

pub(super) fn read(ctx: &mut Context, node: &Node, what: &str) -> Option<Vec<Json>> {
    let Value::Sequence(items) = &node.value else {
        ctx.invalid(node.at, format!("{what} must be a list of MongoDB commands, not {}", node.describe()));
        return None;
    };
    let commands: Vec<Option<Json>> = items.iter().map(|item| command(ctx, item, what)).collect();
    commands.into_iter().collect()
}

fn command(ctx: &mut Context, node: &Node, what: &str) -> Option<Json> {
    let Value::Mapping(entries) = &node.value else {
        let message = format!(
            "a command of {what} must be a mapping such as {{ create: messages }}, not {}",
            node.describe()
        );
        ctx.invalid(node.at, message);
        return None;
    };
    let Some(first) = entries.first() else {
        ctx.invalid(node.at, format!("a command of {what} is empty"));
        return None;
    };
    if !COMMANDS.contains(&first.key.as_str()) {
        return unknown(ctx, first);
    }
    let mut names = vec![first];
    if first.key == "renameCollection" {
        match entries.iter().find(|entry| entry.key == "to") {
            Some(to) => names.push(to),
            None => ctx.invalid(first.at, "renameCollection needs \"to\""),
        }
    }
    for entry in names {
        collection(ctx, &entry.value, &entry.key);
    }
    for entry in entries.iter().filter(|entry| RESERVED.contains(&entry.key.as_str())) {
        ctx.invalid(entry.at, format!("{:?} is set by Shardlift; leave it out", entry.key));
    }
    json(ctx, node)
}

fn unknown(ctx: &mut Context, first: &Entry) -> Option<Json> {
    let known = COMMANDS.join(", ");
    match nearest(&first.key, COMMANDS.into_iter()) {
        Some(near) => {
            ctx.invalid(first.at, format!("unknown command {:?}; did you mean {near:?}?", first.key))
        }
        None => {
            ctx.unsupported(
                first.at,
                format!("command {:?} is not in this release; there are {known}", first.key),
            );
        }
    }
    None
}

/// The name of a collection of the shard's own database.
pub(super) fn collection(ctx: &mut Context, node: &Node, what: &str) -> Option<String> {
    let Value::Scalar(Scalar::Text(name, _)) = &node.value else {
        ctx.invalid(node.at, format!("{what} must be the name of a collection, not {}", node.describe()));
        return None;
    };
    let why = if name.is_empty() {
        "it is empty"
    } else if name.len() > MAX_COLLECTION {
        "it is longer than 190 bytes"
    } else if name.contains(['$', '\0']) {
        "it must not contain '$' or a NUL character"
    } else if name.starts_with("system.") {
        "collections named system.… belong to the server"
    } else if name.starts_with('.') || name.ends_with('.') {
        "it must not begin or end with '.'"
    } else if name.starts_with("shardlift.") {
        "the name shardlift belongs to Shardlift's own database; write a collection without its database"
    } else {
        return Some(name.clone());
    };
    ctx.invalid(node.at, format!("{what} {} is not the name of a collection: {why}", node.describe()));
    None
}
