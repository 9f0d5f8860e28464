//! Channels: members nested in an array, an address nested in documents, and some of it missing.

use bson::{Bson, Document, doc};

use super::super::{PHRASES, Shares};
use super::{Purpose, dice, object_id, tenant_id};

/// The channels of one shard, the odd ones last.
pub(super) fn documents(shard: u64, shares: &Shares) -> impl Iterator<Item = Document> {
    let (channels, tenants) = (shares.channels, shares.tenants);
    let odd = move |number: u64, members: Option<Bson>| {
        let mut document =
            doc! { "_id": object_id(shard, Purpose::Channel, channels + number), "name": "odd" };
        if let Some(members) = members {
            document.insert("members", members);
        }
        document
    };
    (0..channels).map(move |number| channel(shard, number, tenants)).chain([
        odd(0, None),
        odd(1, Some(Bson::Null)),
        odd(2, Some(Bson::Array(Vec::new()))),
        odd(3, Some(Bson::String("not a list".into()))),
        odd(4, Some(Bson::Array(vec![Bson::Document(doc! { "u": "user-1" })]))),
    ])
}

fn channel(shard: u64, number: u64, tenants: u64) -> Document {
    let mut random = dice(shard, Purpose::Channel, number);
    let count = random.below(6);
    let members: Vec<Document> = (0..count)
        .map(|member| {
            let mut document = doc! {
                "u": format!("user-{member}-{}", random.below(1_000)),
                "r": *random.pick(&["Owner", "ADMIN", "member"]),
            };
            if random.chance(70) {
                document.insert("p", doc! { "notify": { "push": random.chance(50), "mail": "daily" } });
            }
            document
        })
        .collect();
    let mut document = doc! {
        "_id": object_id(shard, Purpose::Channel, number),
        "tenant_id": tenant_id(shard, random.skewed(tenants)),
        "name": format!("{} {number}", random.pick(&PHRASES)),
        "topic": format!("Topic {number}"),
        "members": members,
    };
    if random.chance(60) {
        let city = *random.pick(&["Zürich", "東京", "São Paulo", "القاهرة"]);
        document.insert(
            "meta",
            doc! { "kept": number as i64, "contact": { "address": { "city": city, "zip": null } } },
        );
    }
    document
}
