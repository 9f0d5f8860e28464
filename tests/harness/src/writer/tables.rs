//! How the application writes to a PostgreSQL table: in the old form, and in the new one once its columns
//! exist.

use std::fmt::Write as _;

use super::traffic::Usage;
use crate::dataset::items::{KeyKind, key_columns};
use crate::dataset::{PHRASES, Random};

/// The statements for one table. Parameters are text: the parts of the key first, then (for a move) the
/// parts of the new key, or the payload.
#[derive(Debug, Clone)]
pub(super) struct Table {
    pub(super) usage: Usage,
    pub(super) sample: String,
    pub(super) count: String,
    pub(super) read: String,
    pub(super) delete: String,
    pub(super) rekey: String,
    pub(super) insert: Forms,
    pub(super) update: Forms,
    pub(super) keys: Keys,
    pub(super) payload: fn(&mut Random) -> String,
}

/// The same write, in the form the application wrote before the migration and in the one after it.
#[derive(Debug, Clone)]
pub(super) struct Forms {
    pub(super) old: String,
    pub(super) new: String,
}

/// Where fresh keys come from.
#[derive(Debug, Clone, Copy)]
pub(super) enum Keys {
    /// Among, below and above the numbers of the data set, which are multiples of 8.
    Number,
    /// Random uuids.
    Uuid,
    /// Such a number, and a recipient.
    NumberAndRecipient,
    /// As the table `items` was loaded.
    Items(KeyKind),
}

impl Keys {
    pub(super) fn fresh(self, random: &mut Random, rows: u64) -> String {
        match self {
            Self::Number => number(random, rows).to_string(),
            Self::Uuid => KeyKind::Uuid.fresh(random, rows),
            Self::NumberAndRecipient => format!(
                "{}{}live-{}",
                number(random, rows / 3),
                crate::dataset::items::KEY_SEPARATOR,
                random.pick(&["ä", "Z", "西"])
            ),
            Self::Items(kind) => kind.fresh(random, rows),
        }
    }
}

/// Never a multiple of 8; a third is below all that was loaded.
fn number(random: &mut Random, rows: u64) -> i64 {
    let size = rows as i64 * 8 + 800;
    let base = (random.below(size as u64 * 3 / 2) as i64 - size / 2) / 8 * 8;
    base + 12 + (random.below(4) as i64)
}

/// What differs between tables, as SQL; `{p}` stands for the payload.
pub(super) struct Description {
    pub(super) usage: Usage,
    pub(super) key: &'static [(&'static str, &'static str)],
    /// The payload of a row, as text.
    pub(super) payload: &'static str,
    /// Rows of the data set that the application may use.
    pub(super) usable: &'static str,
    /// (columns, values) besides the key, and those that the new form adds.
    pub(super) insert: (&'static str, &'static str),
    pub(super) insert_new: (&'static str, &'static str),
    /// Assignments, and those that the new form adds.
    pub(super) update: &'static str,
    pub(super) update_new: &'static str,
    pub(super) keys: Keys,
    pub(super) fresh_payload: fn(&mut Random) -> String,
}

impl Description {
    /// Writes the statements out.
    pub(super) fn table(self) -> Table {
        let name = self.usage.name;
        let parts = self.key.len();
        let names: Vec<&str> = self.key.iter().map(|(column, _)| *column).collect();
        let text_key: Vec<String> = names.iter().map(|column| format!("{column}::text")).collect();
        let text_key = text_key.join(" || chr(31) || ");
        let at = condition(self.key, 1);
        let payload_place = format!("${}::text", parts + 1);
        let fill = |sql: String| sql.replace("{p}", &payload_place);
        let insert = |extra: (&str, &str)| {
            fill(format!(
                "INSERT INTO {name} ({}, {}{}) VALUES ({}, {}{})",
                names.join(", "),
                self.insert.0,
                extra.0,
                values(self.key, 1),
                self.insert.1,
                extra.1
            ))
        };
        let update = |extra: &str| fill(format!("UPDATE {name} SET {}{extra} WHERE {at}", self.update));
        Table {
            sample: format!(
                "SELECT {text_key}, coalesce({}, '') FROM {name} WHERE {}
                 ORDER BY md5({text_key}) LIMIT 2000",
                self.payload, self.usable
            ),
            count: format!("SELECT count(*) FROM {name}"),
            read: format!("SELECT coalesce({}, '') FROM {name} WHERE {at}", self.payload),
            delete: format!("DELETE FROM {name} WHERE {at}"),
            rekey: format!("UPDATE {name} SET {} WHERE {at}", assignments(self.key, parts + 1)),
            insert: Forms { old: insert(("", "")), new: insert(self.insert_new) },
            update: Forms { old: update(""), new: update(self.update_new) },
            usage: self.usage,
            keys: self.keys,
            payload: self.fresh_payload,
        }
    }
}

fn each(
    key: &[(&str, &str)],
    first: usize,
    separator: &str,
    one: impl Fn(&str, &str, usize) -> String,
) -> String {
    let mut joined = String::new();
    for (place, (column, of_type)) in key.iter().enumerate() {
        let between = if place > 0 { separator } else { "" };
        let _infallible = write!(joined, "{between}{}", one(column, of_type, first + place));
    }
    joined
}

fn condition(key: &[(&str, &str)], first: usize) -> String {
    each(key, first, " AND ", |column, of_type, place| format!("{column} = ${place}::text::{of_type}"))
}

fn assignments(key: &[(&str, &str)], first: usize) -> String {
    each(key, first, ", ", |column, of_type, place| format!("{column} = ${place}::text::{of_type}"))
}

fn values(key: &[(&str, &str)], first: usize) -> String {
    each(key, first, ", ", |_, of_type, place| format!("${place}::text::{of_type}"))
}

/// A phrase that no row has had before.
pub(super) fn phrase(random: &mut Random) -> String {
    format!("{} live {}", random.pick(&PHRASES), random.below(1 << 40))
}

/// The table `items`, loaded with keys of `kind`.
pub(super) fn items(kind: KeyKind) -> Table {
    Description {
        usage: Usage { name: "items", weight: 1, churn: 22, moves: true },
        key: key_columns(kind),
        payload: "payload",
        usable: "true",
        insert: ("payload", "{p}"),
        insert_new: (", migrated, applied", ", true, 1"),
        update: "payload = {p}",
        update_new: "",
        keys: Keys::Items(kind),
        fresh_payload: phrase,
    }
    .table()
}
