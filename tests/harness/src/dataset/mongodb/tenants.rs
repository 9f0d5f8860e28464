//! Tenants: uuid keys, settings that are missing, empty, null or full. No migration may need `where` for
//! them.

use bson::{Bson, Document, doc};

use super::super::{PHRASES, Shares};
use super::{Purpose, dice, tenant_id};

/// The tenants of one shard, the odd ones last.
pub(super) fn documents(shard: u64, shares: &Shares) -> impl Iterator<Item = Document> {
    let odd = [Some(Bson::Null), Some(Bson::Document(doc! { "plan": null, "limits": null })), None];
    let regular = shares.tenants;
    (0..regular).map(move |number| tenant(shard, number)).chain(odd.into_iter().enumerate().map(
        move |(place, settings)| {
            let mut document =
                doc! { "_id": tenant_id(shard, regular + place as u64), "name": "odd", "live": false };
            if let Some(settings) = settings {
                document.insert("settings", settings);
            }
            document
        },
    ))
}

fn tenant(shard: u64, number: u64) -> Document {
    let mut random = dice(shard, Purpose::Tenant, number);
    let mut document = doc! {
        "_id": tenant_id(shard, number),
        "name": format!("{} {number}", random.pick(&PHRASES)),
        "live": false,
        "created_at": bson::DateTime::from_millis(1_577_836_800_000 + (number as i64) * 3_600_000),
    };
    if random.chance(95) {
        let seats = 5 + (number % 500) as i32;
        document.insert(
            "settings",
            doc! {
                "plan": *random.pick(&["Free", "PRO", "enterprise"]),
                "limits": { "seats": seats, "storage": { "gb": (number % 64) as i64 } },
                "theme": ["dark", seats, null, true],
            },
        );
    }
    document
}
