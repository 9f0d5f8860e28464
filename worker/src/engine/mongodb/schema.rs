//! The shard's collections, their rules and their indexes as lines `OBJECT: DEFINITION`.
//!
//! Keys of options are sorted, since their order means nothing; keys of an index keep theirs. Ids of collections and versions
//! of index formats do not count.

use bson::{Bson, Document, doc};
use futures::TryStreamExt;
use shardlift_domain::facts::{SchemaDepth, SchemaFacts};

use super::connection::Connection;
use super::{error, inspect};
use crate::engine::EngineResult;

/// As much of it as is asked for.
pub(super) async fn read(connection: &Connection, depth: SchemaDepth) -> EngineResult<Option<SchemaFacts>> {
    if depth == SchemaDepth::None {
        return Ok(None);
    }
    let doing = "listing collections";
    let command = doc! { "listCollections": 1 };
    let found = connection.application().await?.run_cursor_command(command).await;
    let found = found.map_err(error::asking(doing))?.try_collect::<Vec<Document>>().await;
    let mut lines = Vec::new();
    for collection in found.map_err(error::asking(doing))? {
        let name = collection.get_str("name").unwrap_or_default();
        if name.starts_with("system.") {
            continue;
        }
        let kind = collection.get_str("type").unwrap_or("collection");
        let options = collection.get_document("options").cloned().unwrap_or_default();
        lines.push(format!("{kind} {name}: {}", text(sorted(Bson::Document(options)))));
        if kind != "view" {
            for index in inspect::indexes(connection, name).await? {
                lines.push(index_line(name, index));
            }
        }
    }
    Ok(SchemaFacts::of(lines, depth))
}

fn index_line(collection: &str, mut index: Document) -> String {
    let key = index.remove("key").map(text).unwrap_or_default();
    let name = index.remove("name").and_then(|name| name.as_str().map(str::to_owned)).unwrap_or_default();
    for passing in ["v", "ns", "background", "textIndexVersion", "2dsphereIndexVersion"] {
        index.remove(passing);
    }
    let rest =
        if index.is_empty() { String::new() } else { format!(" {}", text(sorted(Bson::Document(index)))) };
    format!("index {collection}.{name}: {key}{rest}")
}

fn text(value: Bson) -> String {
    value.into_relaxed_extjson().to_string()
}

/// With the keys of documents in order, at any depth.
fn sorted(value: Bson) -> Bson {
    match value {
        Bson::Document(document) => {
            let mut entries: Vec<(String, Bson)> =
                document.into_iter().map(|(key, value)| (key, sorted(value))).collect();
            entries.sort_by(|one, other| one.0.cmp(&other.0));
            Bson::Document(entries.into_iter().collect())
        }
        Bson::Array(items) => Bson::Array(items.into_iter().map(sorted).collect()),
        leaf => leaf,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_reads_the_same_whatever_its_format_but_not_whatever_its_key() {
        let index = |key: Document, v: i32| doc! { "v": v, "key": key, "name": "by_x", "unique": true };
        let one = index_line("messages", index(doc! { "x": 1, "y": -1 }, 1));
        assert_eq!(one, r#"index messages.by_x: {"x":1,"y":-1} {"unique":true}"#);
        assert_eq!(one, index_line("messages", index(doc! { "x": 1, "y": -1 }, 2)));
        assert_ne!(one, index_line("messages", index(doc! { "y": -1, "x": 1 }, 2)));
    }

    #[test]
    fn the_order_of_keys_in_rules_means_nothing() {
        let one = doc! { "validator": { "b": [{ "y": 1, "x": 2 }], "a": 1 }, "capped": false };
        let other = doc! { "capped": false, "validator": { "a": 1, "b": [{ "x": 2, "y": 1 }] } };
        assert_eq!(sorted(Bson::Document(one)), sorted(Bson::Document(other)));
    }
}
