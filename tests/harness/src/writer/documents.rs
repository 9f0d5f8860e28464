//! How the application writes to a MongoDB collection. Documents need no columns, so the new form is always
//! possible.

use bson::oid::ObjectId;
use bson::{Bson, Document, doc};

use super::traffic::Usage;
use crate::dataset::Random;
use crate::dataset::items::IdKind;

/// The writes to one collection.
#[derive(Debug, Clone)]
pub(super) struct Collection {
    pub(super) usage: Usage,
    /// Documents of the data set that the application may use.
    pub(super) usable: Document,
    /// Path of the payload.
    pub(super) payload: &'static str,
    /// A document without its `_id`; the flag says "in the new form".
    pub(super) insert: fn(&str, bool) -> Document,
    /// The fields to set.
    pub(super) update: fn(&str) -> Document,
    pub(super) keys: Keys,
    pub(super) fresh_payload: fn(&mut Random) -> String,
}

/// Where fresh `_id`s come from.
#[derive(Debug, Clone, Copy)]
pub(super) enum Keys {
    /// ObjectIds among those of the data set, and before and after them.
    ObjectId,
    /// Random uuids.
    Uuid,
    /// Strings.
    Text,
    /// Documents of message and recipient.
    MessageAndRecipient,
    /// As the collection `items` was loaded.
    Items(IdKind),
}

impl Keys {
    pub(super) fn fresh(self, random: &mut Random, documents: u64) -> Bson {
        match self {
            Self::ObjectId => object_id(random, documents).into(),
            Self::Uuid => {
                let bytes = random.bytes16().to_vec();
                Bson::Binary(bson::Binary { subtype: bson::spec::BinarySubtype::Uuid, bytes })
            }
            Self::Text => Bson::String(format!(
                "{}-{}",
                random.pick(&["draft-0-1", "draft", "live", "é"]),
                random.next()
            )),
            Self::MessageAndRecipient => doc! {
                "message": object_id(random, documents / 3),
                "recipient": format!("live-{}", random.pick(&["ä", "Z", "西"])),
            }
            .into(),
            Self::Items(kind) => kind.fresh(random, documents),
        }
    }
}

/// The data set's ObjectIds begin with a time from 2022 on, three seconds apart; the 0xff tells these from
/// them.
fn object_id(random: &mut Random, documents: u64) -> ObjectId {
    let seconds = 1_640_995_200_u32 - 3_000 + random.below(documents * 3 + 6_000) as u32;
    let mut bytes = [0xff_u8; 12];
    bytes[..4].copy_from_slice(&seconds.to_be_bytes());
    bytes[5..].copy_from_slice(&random.next().to_be_bytes()[1..]);
    ObjectId::from_bytes(bytes)
}

/// The collection `items`, loaded with `_id`s of `kind`.
pub(super) fn items(kind: IdKind) -> Collection {
    Collection {
        usage: Usage { name: "items", weight: 1, churn: 22, moves: true },
        usable: doc! {},
        payload: "payload",
        insert: |payload, new| {
            doc! { "payload": payload, "migrated": new, "applied": i32::from(new), "origin": "application" }
        },
        update: |payload| doc! { "payload": payload },
        keys: Keys::Items(kind),
        fresh_payload: super::tables::phrase,
    }
}
