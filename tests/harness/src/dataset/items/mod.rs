//! The tiny table (collection) `items` of the scenarios: any kind of key, a payload that belongs to the
//! application, and the counter by which a change that was applied twice is seen.
//!
//! PostgreSQL: `items(id …, payload text, applied int DEFAULT 0, migrated bool DEFAULT false, origin
//! text)`. MongoDB: the same fields. A migration adds 1 to `applied` and turns `migrated` true; it never
//! touches `payload`. `origin` is `loader` for rows that were there from the start, else `application`.

mod compare;
mod ids;
mod keys;
mod mongodb;
mod postgres;

pub use ids::IdKind;
pub use keys::KeyKind;
pub use mongodb::{items_lost_writes_mongodb, items_violations_mongodb, load_items_mongodb};
pub use postgres::{items_lost_writes_postgres, items_violations_postgres, load_items_postgres};

pub(crate) use ids::{id_from_text, id_to_text};
pub(crate) use keys::{KEY_SEPARATOR, key_columns};

use super::{PHRASES, Random};

/// Which promise the migration gave, and so what its end must look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// The spec has `where: migrated = false`: every row is migrated, and was changed exactly once.
    WithWhere,
    /// The spec has no `where`: rows present throughout were changed exactly once, rows inserted during the
    /// run at most once, none twice. `migrated` follows `applied`.
    WithoutWhere,
}

/// What the loader wrote into the payload of item `number`.
pub(crate) fn payload(number: u64) -> String {
    let mut random = Random::new(number, 0x17E5);
    format!("{} {number}", random.pick(&PHRASES))
}
