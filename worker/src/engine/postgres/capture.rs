//! Before-images: what a batch writes beside its changes, so that they can be undone and verified.
//!
//! One row of `shardlift.undo` for each batch, written by the statement that changes the rows: for each of them its key, the
//! old text of every column that the batch changes, a digest of what was written, and a digest of the transform's other
//! inputs. Every value has one text form in our sessions, so texts and digests hold for all types.
//!
//! A batch that runs in the shard reads its rows twice in one snapshot, once for their images and once to change them
//! ([`Capture::gathered`]): the server refuses to change a row that is not any more what the snapshot holds, so the images
//! are of the very versions that were changed. Where that was refused, and where the transform runs in the worker, rows are
//! locked first, and their images travel with the change of each ([`Capture::images`], [`Capture::kept`]).

use shardlift_domain::sql::{quote_ident, quote_literal};

use super::key::KeyColumn;
use super::table::Column;
use super::walk::Walk;

/// What the statement says when other rows were changed than were read.
pub(super) const MOVED: &str = "shardlift-moved:";

/// Which columns a batch keeps, and what of.
#[derive(Debug, Clone)]
pub(super) struct Capture {
    table: String,
    /// The key's columns, as expressions that an array can be made of.
    keys: Vec<String>,
    fields: Vec<String>,
    inputs: Vec<String>,
}

impl Capture {
    /// For a `SET` list: its columns, and as inputs the other columns that it names.
    pub(super) fn of_list(walk: &Walk, assignments: &[(String, String)]) -> Self {
        let fields: Vec<String> = assignments.iter().map(|(column, _)| column.clone()).collect();
        let text: Vec<&str> = assignments.iter().map(|(_, value)| value.as_str()).collect();
        let words = words(&text.join(" "));
        // Somebody who names the table may mean the whole row.
        let table = walk.table.sql.rsplit('"').nth(1).unwrap_or_default();
        let whole = words.iter().any(|word| word.as_str() == table);
        let named = |column: &&Column| whole || words.contains(&column.name);
        Self::new(walk, fields, named)
    }

    /// For a transform in the worker, which sees the whole row: the columns that any row of the batch changes, and as
    /// inputs all others.
    pub(super) fn of_columns(walk: &Walk, fields: Vec<String>) -> Self {
        Self::new(walk, fields, |_| true)
    }

    fn new(walk: &Walk, fields: Vec<String>, named: impl Fn(&&Column) -> bool) -> Self {
        let key = walk.key.columns();
        let other = |column: &&Column| {
            !fields.contains(&column.name) && !key.iter().any(|part| part.name == column.name)
        };
        let inputs = walk.table.columns.iter().filter(other).filter(named);
        let inputs = inputs.map(|column| column.name.clone()).collect();
        let keys = key.iter().map(|part| in_array(&walk.table.sql, part)).collect();
        Self { table: walk.table.sql.clone(), keys, fields, inputs }
    }

    /// What is read of all rows at once, before any of them is changed: an array for each column of the key and of the
    /// old values, and one of the inputs' digests.
    pub(super) fn gathered(&self) -> String {
        let keys = self.keys.iter().enumerate().map(|(n, key)| format!("array_agg({key}) AS shardlift_k{n}"));
        let mut list: Vec<String> = keys.collect();
        for (n, field) in self.fields.iter().enumerate() {
            list.push(format!("array_agg({}.{}::text) AS shardlift_o{n}", self.table, quote_ident(field)));
        }
        if !self.inputs.is_empty() {
            list.push(format!("array_agg({}) AS shardlift_in", digest(&self.table, &self.inputs)));
        }
        list.join(", ")
    }

    /// What the change of a row answers when images are gathered: its key, to see that it is the row that was read, and the
    /// digest of what was written.
    pub(super) fn answered(&self) -> String {
        let keys = self.keys.iter().enumerate().map(|(n, key)| format!("{key} AS shardlift_k{n}"));
        let out = format!("{} AS shardlift_out", digest(&self.table, &self.fields));
        keys.chain([out]).collect::<Vec<_>>().join(", ")
    }

    /// The same of all rows, in the order in which they were changed.
    pub(super) fn collected(&self) -> String {
        let names = (0..self.keys.len()).map(|n| format!("shardlift_k{n}"));
        let all = names.chain(["shardlift_out".to_owned()]);
        all.map(|name| format!("array_agg({name}) AS {name}")).collect::<Vec<_>>().join(", ")
    }

    /// Whether other rows were changed than were read, or in another order.
    pub(super) fn differ(&self, before: &str, after: &str) -> String {
        let differ = |n| format!("{before}.shardlift_k{n} IS DISTINCT FROM {after}.shardlift_k{n}");
        (0..self.keys.len()).map(differ).collect::<Vec<_>>().join(" OR ")
    }

    /// The statement that writes the row of the log, from what was gathered and what was collected; `name` as in
    /// [`Capture::log`].
    pub(super) fn log_gathered(&self, name: &str, before: &str, after: &str) -> String {
        let all = |letter: char, count: usize| {
            let parts: Vec<String> =
                (0..count).map(|n| format!("{before}.shardlift_{letter}{n}::text[]")).collect();
            parts.join(" || ")
        };
        let inputs = match self.inputs.is_empty() {
            true => format!("array_fill({NOTHING}, ARRAY[{after}.changed::int])"),
            false => format!("{before}.shardlift_in"),
        };
        format!(
            "{LOG} SELECT {name}, {fields}, {input_fields}, {after}.changed, {keys}, {old}, {after}.shardlift_out, {inputs} \
             FROM {before}, {after} WHERE {after}.changed > 0",
            fields = names(&self.fields),
            input_fields = names(&self.inputs),
            keys = all('k', self.keys.len()),
            old = all('o', self.fields.len()),
        )
    }

    /// What is read of a row beside its key: old texts, and the digest of the inputs.
    pub(super) fn images(&self) -> String {
        let mut list: Vec<String> = Vec::with_capacity(self.fields.len() + 1);
        for (n, field) in self.fields.iter().enumerate() {
            list.push(format!("{}.{}::text AS shardlift_o{n}", self.table, quote_ident(field)));
        }
        list.push(format!("{} AS shardlift_in", digest(&self.table, &self.inputs)));
        list.join(", ")
    }

    /// What the change of a row answers: all that is kept of it.
    pub(super) fn kept(&self, before: &str) -> String {
        let keys = (0..self.keys.len()).map(|n| format!("{before}.shardlift_k{n}"));
        let olds = (0..self.fields.len()).map(|n| format!("{before}.shardlift_o{n}"));
        let mut list: Vec<String> = keys.chain(olds).collect();
        list.push(format!("{before}.shardlift_in"));
        list.push(format!("{} AS shardlift_out", digest(&self.table, &self.fields)));
        list.join(", ")
    }

    /// The statement that writes the row of the log, from what `changed` answers. `name`: what stands for migration,
    /// version, range and batch.
    pub(super) fn log(&self, name: &str) -> String {
        let all = |letter: char, count: usize| {
            let parts: Vec<String> =
                (0..count).map(|n| format!("array_agg(shardlift_{letter}{n})")).collect();
            parts.join(" || ")
        };
        format!(
            "{LOG} SELECT {name}, {fields}, {inputs}, count(*), {keys}, {old}, array_agg(shardlift_out), \
             array_agg(shardlift_in) FROM changed HAVING count(*) > 0",
            fields = names(&self.fields),
            inputs = names(&self.inputs),
            keys = all('k', self.keys.len()),
            old = all('o', self.fields.len()),
        )
    }
}

const LOG: &str = "INSERT INTO shardlift.undo \
    (migration, version, range_index, batch, fields, input_fields, rows, keys, old, written, inputs)";
/// The digest of no columns.
const NOTHING: &str = "0::bigint";

/// The digest of some columns of a row: of the text form of each, seeded by its place, put together by exclusive or. Nulls
/// count nothing, so they are told apart from empty texts. (The text of the whole row would cost three times as much.)
pub(super) fn digest(table: &str, columns: &[String]) -> String {
    if columns.is_empty() {
        return NOTHING.to_owned();
    }
    let part = |(n, column): (usize, &String)| {
        let column = quote_ident(column);
        format!("coalesce(hashtextextended({table}.{column}::text COLLATE \"C\", {}), 0)", n + 1)
    };
    format!("({})", columns.iter().enumerate().map(part).collect::<Vec<_>>().join(" # "))
}

/// A key's column as an element of an array. Only of types whose arrays are flat, and compared as exactly as their texts
/// are; others are gathered as text.
fn in_array(table: &str, part: &KeyColumn) -> String {
    let plain = matches!(part.cast.as_str(), "smallint" | "integer" | "bigint" | "uuid" | "date");
    let column = quote_ident(&part.name);
    if plain { format!("{table}.{column}") } else { format!("{table}.{column}::text") }
}

fn names(columns: &[String]) -> String {
    let columns: Vec<String> = columns.iter().map(|column| quote_literal(column)).collect();
    format!("ARRAY[{}]::text[]", columns.join(", "))
}

/// Everything in an SQL text that may be a name, as the catalog would have it. Too much does no harm: the digest is then of
/// more columns than it need be.
fn words(sql: &str) -> Vec<String> {
    let mut words = Vec::new();
    for (n, part) in sql.split('"').enumerate() {
        if n % 2 == 1 {
            words.push(part.to_owned());
        }
        let plain = part.split(|c: char| !c.is_alphanumeric() && c != '_' && c != '$');
        words.extend(plain.filter(|word| !word.is_empty()).map(str::to_lowercase));
    }
    words
}

#[cfg(test)]
mod tests {
    use super::super::key::{Key, KeyColumn};
    use super::super::table::{Shape, Table};
    use super::*;
    use shardlift_domain::ids::{MigrationId, MigrationKey, Version};

    fn walk() -> Walk {
        let column = |name: &str| Column {
            name: name.into(),
            cast: "text".into(),
            shape: Shape::Text,
            generated: false,
        };
        let columns = ["id", "body", "Title", "done", "other"].map(column).to_vec();
        Walk {
            migration: MigrationKey { id: MigrationId::new("m").expect("a name"), version: Version::FIRST },
            table: Table {
                oid: 1,
                sql: "\"public\".\"notes\"".into(),
                kind: "r".into(),
                inherited: false,
                columns,
            },
            key: Key::new(vec![KeyColumn { name: "id".into(), cast: "text".into() }]),
            pending: Some("not done".into()),
            tenants: None,
            sets_aside: false,
        }
    }

    fn capture(value: &str) -> Capture {
        Capture::of_list(&walk(), &[("done".into(), "true".into()), ("other".into(), value.into())])
    }

    #[test]
    fn inputs_are_the_columns_that_the_list_names_and_does_not_set() {
        assert_eq!(capture("upper(BODY) || done || id").inputs, ["body"]);
        assert_eq!(capture("\"Title\" || notes.body").inputs, ["body", "Title"]);
        assert_eq!(capture("to_jsonb(notes)->>'x'").inputs, ["body", "Title"], "the whole row");
        assert_eq!(capture("42").inputs, Vec::<String>::new());
    }

    #[test]
    fn a_worker_transform_has_every_other_column_as_its_input() {
        let capture = Capture::of_columns(&walk(), vec!["done".into()]);
        assert_eq!(capture.inputs, ["body", "Title", "other"]);
        assert!(capture.log("$1, $2, $3, $4").contains("ARRAY['done']::text[]"));
    }
}
