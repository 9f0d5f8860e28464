//! The rules for MongoDB commands.

use std::collections::BTreeSet;

use serde_json::Value as Json;

/// The rules that are broken: number of the command (from 1) and name of the rule.
pub(super) fn dangers(commands: &[Json]) -> Vec<(usize, String)> {
    let mut fresh = BTreeSet::new();
    let mut found = Vec::new();
    for (at, command) in commands.iter().enumerate() {
        let Some((name, target)) = command.as_object().and_then(|object| object.iter().next()) else {
            continue;
        };
        let target = target.as_str().unwrap_or_default();
        let rules = match name.as_str() {
            "create" => {
                fresh.insert(target.to_owned());
                create(command)
            }
            "drop" if !fresh.contains(target) => vec!["drop-collection"],
            "dropIndexes" => drop_indexes(command),
            "renameCollection" if !fresh.contains(target) => rename(command),
            "collMod" if !fresh.contains(target) => coll_mod(command),
            "createIndexes" => create_indexes(command, fresh.contains(target)),
            _ => Vec::new(),
        };
        found.extend(rules.into_iter().map(|rule| (at + 1, rule.to_owned())));
    }
    found
}

fn is_true(value: Option<&Json>) -> bool {
    value.and_then(Json::as_bool).unwrap_or(false)
}

fn create(command: &Json) -> Vec<&'static str> {
    if is_true(command.get("capped")) { vec!["capped-collection"] } else { Vec::new() }
}

fn drop_indexes(command: &Json) -> Vec<&'static str> {
    // Without `index` the server drops all, as for "*".
    match command.get("index") {
        None => vec!["drop-all-indexes"],
        Some(Json::String(name)) if name == "*" => vec!["drop-all-indexes"],
        Some(_) => vec!["drop-index"],
    }
}

fn rename(command: &Json) -> Vec<&'static str> {
    let drops = is_true(command.get("dropTarget"));
    if drops { vec!["rename-collection", "rename-drops-target"] } else { vec!["rename-collection"] }
}

fn coll_mod(command: &Json) -> Vec<&'static str> {
    let mut rules = Vec::new();
    let word = |field: &str, default: &'static str| {
        command.get(field).and_then(Json::as_str).unwrap_or(default).to_owned()
    };
    let empty = |validator: &Json| validator.as_object().is_some_and(|object| object.is_empty());
    let validates = command.get("validator").is_some_and(|validator| !empty(validator));
    if validates
        && word("validationLevel", "strict") == "strict"
        && word("validationAction", "error") == "error"
    {
        rules.push("strict-validator");
    }
    if command.get("index").is_some_and(|index| index.get("expireAfterSeconds").is_some())
        || command.get("expireAfterSeconds").is_some_and(|seconds| seconds.as_str() != Some("off"))
    {
        rules.push("ttl-index");
    }
    rules
}

fn create_indexes(command: &Json, fresh: bool) -> Vec<&'static str> {
    let indexes = command.get("indexes").and_then(Json::as_array).map(Vec::as_slice).unwrap_or_default();
    let mut rules = BTreeSet::new();
    for index in indexes {
        if index.get("name").is_none() {
            rules.insert("index-without-name");
        }
        if is_true(index.get("unique")) && !fresh {
            rules.insert("unique-index");
        }
        if index.get("expireAfterSeconds").is_some() && !fresh {
            rules.insert("ttl-index");
        }
    }
    rules.into_iter().collect()
}
