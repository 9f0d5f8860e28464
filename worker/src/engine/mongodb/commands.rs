//! The database commands that a schema migration may hold, and what a crash in the middle of one means.
//!
//! MongoDB's commands are not transactional. A command of which nobody knows whether it ran is run again if that is
//! harmless; otherwise the shard is inspected for its effect.

use bson::{Bson, Document};
use serde_json::Value;
use shardlift_domain::spec::SchemaChange;
use shardlift_domain::{ErrorCode, Failure};

use super::connection::Connection;
use super::{extjson, inspect};
use crate::engine::EngineResult;

/// The commands that are known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Known {
    Create,
    CreateIndexes,
    CollMod,
    RenameCollection,
    Drop,
    DropIndexes,
}

const NAMES: [(&str, Known); 6] = [
    ("create", Known::Create),
    ("createIndexes", Known::CreateIndexes),
    ("collMod", Known::CollMod),
    ("renameCollection", Known::RenameCollection),
    ("drop", Known::Drop),
    ("dropIndexes", Known::DropIndexes),
];

/// One command of a spec.
#[derive(Debug, Clone)]
pub(super) struct Command {
    pub(super) known: Known,
    /// The collection that it is about.
    pub(super) target: String,
    /// For `renameCollection`: the new name.
    pub(super) to: Option<String>,
    pub(super) document: Document,
}

/// The commands of one direction of a schema change.
pub(super) fn parse(change: &SchemaChange, database: &str) -> Result<Vec<Command>, Failure> {
    match change {
        SchemaChange::Commands(commands) => commands.iter().map(|json| parse_one(json, database)).collect(),
        SchemaChange::Sql(_) => Err(unsupported("a MongoDB spec holds SQL statements")),
    }
}

fn parse_one(json: &Value, database: &str) -> Result<Command, Failure> {
    let mut document = extjson::document(json, "a command").map_err(|error| error.into_failure())?;
    let Some((name, value)) = document.iter().next().map(|(name, value)| (name.clone(), value.clone()))
    else {
        return Err(unsupported("a command is empty"));
    };
    let Some((_, known)) = NAMES.into_iter().find(|(known, _)| *known == name) else {
        return Err(unsupported(&format!("the command {name} is not known")));
    };
    let Bson::String(target) = value else {
        return Err(unsupported(&format!("{name} does not name its collection as a text")));
    };
    let local = |name: &str| name.strip_prefix(&format!("{database}.")).unwrap_or(name).to_owned();
    let mut to = None;
    if known == Known::RenameCollection {
        let Ok(new) = document.get_str("to").map(local) else {
            return Err(unsupported("renameCollection lacks `to`"));
        };
        document.insert("renameCollection", format!("{database}.{}", local(&target)));
        document.insert("to", format!("{database}.{new}"));
        to = Some(new);
    }
    Ok(Command { known, target: local(&target), to, document })
}

fn unsupported(what: &str) -> Failure {
    let known: Vec<_> = NAMES.into_iter().map(|(name, _)| name).collect();
    Failure::new(
        ErrorCode::SpecUnsupported,
        what.to_owned(),
        format!("use only these commands: {}", known.join(", ")),
    )
}

impl Command {
    /// Whether it may be run again when nobody knows whether it ran.
    pub(super) fn repeatable(&self) -> bool {
        matches!(self.known, Known::CreateIndexes | Known::CollMod)
    }

    /// Whether the shard shows its effect.
    pub(super) async fn effective(&self, connection: &Connection) -> EngineResult<bool> {
        let there = async |name: &str| -> EngineResult<bool> {
            Ok(inspect::collection(connection, name).await?.is_some())
        };
        match self.known {
            Known::Create | Known::CollMod => {
                let found = inspect::collection(connection, &self.target).await?;
                Ok(found.is_some_and(|found| self.options_are_there(&found)))
            }
            Known::Drop => Ok(!there(&self.target).await?),
            Known::RenameCollection => match &self.to {
                Some(to) => Ok(!there(&self.target).await? && there(to).await?),
                None => Ok(false),
            },
            Known::CreateIndexes => {
                let have = inspect::indexes(connection, &self.target).await?;
                Ok(self
                    .index_names()
                    .iter()
                    .all(|name| have.iter().any(|index| index.get_str("name").ok() == Some(name))))
            }
            Known::DropIndexes => {
                let have = inspect::indexes(connection, &self.target).await?;
                Ok(!have.iter().any(|index| self.drops(index)))
            }
        }
    }

    /// Whether what the command says of the collection is what the collection has. Options that the server stores in
    /// another form than they are written (collation, sizes) are not compared.
    fn options_are_there(&self, found: &Document) -> bool {
        const COMPARED: [&str; 6] =
            ["validator", "validationLevel", "validationAction", "capped", "viewOn", "pipeline"];
        let options = found.get_document("options").cloned().unwrap_or_default();
        self.document.iter().filter(|(name, _)| COMPARED.contains(&name.as_str())).all(
            |(name, wanted)| match (options.get(name), wanted) {
                (Some(have), wanted) => have == wanted,
                (None, Bson::Document(empty)) => empty.is_empty(),
                (None, Bson::Boolean(truth)) => !truth,
                (None, _) => false,
            },
        )
    }

    /// Names of the indexes that `createIndexes` makes.
    fn index_names(&self) -> Vec<&str> {
        let indexes = self.document.get_array("indexes").map(Vec::as_slice).unwrap_or_default();
        indexes.iter().filter_map(|index| index.as_document()?.get_str("name").ok()).collect()
    }

    /// Whether `dropIndexes` means this index.
    fn drops(&self, index: &Document) -> bool {
        let name = index.get_str("name").unwrap_or_default();
        match self.document.get("index") {
            Some(Bson::String(all)) if all == "*" => name != "_id_",
            Some(Bson::String(one)) => one == name,
            Some(Bson::Array(names)) => names.iter().any(|one| one.as_str() == Some(name)),
            Some(Bson::Document(key)) => index.get_document("key").ok() == Some(key),
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bson::doc;
    use serde_json::json;

    fn command(json: Value) -> Command {
        parse_one(&json, "chat").expect("it is known")
    }

    #[test]
    fn unknown_commands_are_refused_with_the_list_of_known_ones() {
        let failure = parse_one(&json!({ "dropDatabase": 1 }), "chat").expect_err("it is not known");
        assert_eq!(failure.code, ErrorCode::SpecUnsupported);
        assert!(failure.next.contains("createIndexes"), "{failure:?}");
        assert!(parse_one(&json!({}), "chat").is_err());
        assert!(parse_one(&json!({ "create": 1 }), "chat").is_err());
    }

    #[test]
    fn a_rename_stays_within_the_shards_database() {
        let renamed = command(json!({ "renameCollection": "chat.a", "to": "b.c" }));
        assert_eq!(renamed.document, doc! { "renameCollection": "chat.a", "to": "chat.b.c" });
        assert_eq!((renamed.target.as_str(), renamed.to.as_deref()), ("a", Some("b.c")));
    }

    #[test]
    fn options_are_compared_where_the_server_stores_them_as_written() {
        let create =
            command(json!({ "create": "a", "validator": { "x": 1 }, "collation": { "locale": "en" } }));
        assert!(create.options_are_there(&doc! { "options": { "validator": { "x": 1 } } }));
        assert!(!create.options_are_there(&doc! { "options": {} }));
        let lifted = command(json!({ "collMod": "a", "validator": {} }));
        assert!(lifted.options_are_there(&doc! { "options": {} }));
    }

    #[test]
    fn an_index_is_dropped_by_name_list_key_or_all() {
        let index = doc! { "name": "x_1", "key": { "x": 1 } };
        for named in [json!("x_1"), json!(["y", "x_1"]), json!({ "x": 1 }), json!("*")] {
            assert!(command(json!({ "dropIndexes": "a", "index": named })).drops(&index));
        }
        assert!(!command(json!({ "dropIndexes": "a", "index": "y" })).drops(&index));
        assert!(!command(json!({ "dropIndexes": "a", "index": "*" })).drops(&doc! { "name": "_id_" }));
    }
}
