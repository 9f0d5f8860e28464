//! Messages, drafts and deliveries: the large collections, and the messages that a careless pipeline breaks
//! on.

use bson::{Bson, Document, doc};

use super::super::{PHRASES, Shares};
use super::{Purpose, dice, object_id, tenant_id};

const START: i64 = 1_640_995_200_000;

/// The messages of one shard: 3 % have no body, 15 % have blocks, a few are so old that they have no tenant.
pub(super) fn messages(shard: u64, shares: &Shares) -> impl Iterator<Item = Document> {
    let (tenants, channels) = (shares.tenants, shares.channels);
    (0..shares.messages).map(move |number| {
        let mut random = dice(shard, Purpose::Message, number);
        let mut document = doc! {
            "_id": object_id(shard, Purpose::Message, number),
            "channel_id": object_id(shard, Purpose::Channel, random.skewed(channels)),
            "author": format!("user-{}", random.skewed(5_000)),
            "sent_at": bson::DateTime::from_millis(START + (number as i64) * 3_000),
        };
        if number % 997 != 3 {
            document.insert("tenant_id", tenant_id(shard, random.skewed(tenants)));
        }
        let phrase = *random.pick(&PHRASES);
        match random.below(100) {
            0..=2 => {}
            3..=84 => {
                document.insert("body", doc! { "text": format!(" {phrase} {number}\n") });
            }
            _ => {
                document.insert("body", blocks(phrase, number));
            }
        }
        if random.chance(10) {
            document.insert(
                "reactions",
                doc! { "👍": random.below(9) as i32, "dotted.key": { "by": ["a", null] } },
            );
        }
        document
    })
}

fn blocks(phrase: &str, number: u64) -> Document {
    doc! { "blocks": [
        { "type": "text", "text": phrase },
        { "type": "image", "url": format!("https://cdn.example/{number}") },
        { "type": "text", "text": format!("  part {number} ") },
    ] }
}

/// Messages whose body is of another form, or deep, or long. The same on every shard but for the ids.
pub(super) fn odd_messages(shard: u64) -> Vec<Document> {
    let deep = (0..80).fold(doc! { "text": "deep" }, |inner, _| doc! { "quote": inner });
    let bodies = [
        Bson::Null,
        Bson::String("a body that is just a string".into()),
        Bson::Array(vec![doc! { "text": "an array where a document is expected" }.into()]),
        Bson::Int32(42),
        doc! { "text": null }.into(),
        doc! { "text": 42, "blocks": [] }.into(),
        doc! { "text": "" }.into(),
        doc! { "text": ["a", "list"] }.into(),
        doc! { "blocks": "oops" }.into(),
        doc! { "blocks": [null, 1, "x", [], {}, { "text": null }, { "text": "found" }, { "text": "twice" }] }
            .into(),
        doc! { "text": "$body.text is not a field path here", "blocks": [{ "text": "no" }] }.into(),
        doc! { "text": "long 长 ".repeat(20_000) }.into(),
        deep.into(),
    ];
    let first = 1 << 40;
    bodies
        .into_iter()
        .enumerate()
        .map(|(place, body)| {
            doc! {
                "_id": object_id(shard, Purpose::Message, first + place as u64),
                "tenant_id": tenant_id(shard, 0),
                "author": "odd",
                "sent_at": bson::DateTime::from_millis(START),
                "body": body,
            }
        })
        .collect()
}

/// Drafts, with string keys; whitespace of every kind, and block lists that hold more than text.
pub(super) fn drafts(shard: u64, shares: &Shares) -> impl Iterator<Item = Document> {
    (0..shares.drafts).map(move |number| {
        let mut random = dice(shard, Purpose::Draft, number);
        let phrase = *random.pick(&PHRASES);
        let mut document =
            doc! { "_id": format!("draft-{shard}-{number}"), "author": format!("user-{}", number % 500) };
        match number % 8 {
            0 => {}
            1 => {
                document.insert("body", Bson::Null);
            }
            2 | 3 => {
                document.insert("body", blocks(&format!("{phrase} \t again"), number));
            }
            _ => {
                document.insert(
                    "body",
                    doc! { "text": format!("\n{phrase}   {number} "), "kept": { "as": ["it", "is"] } },
                );
            }
        }
        document
    })
}

/// Deliveries, whose `_id` is a document of message and recipient.
pub(super) fn deliveries(shard: u64, shares: &Shares) -> impl Iterator<Item = Document> {
    (0..shares.deliveries).map(move |number| {
        let mut random = dice(shard, Purpose::Delivery, number);
        let message = object_id(shard, Purpose::Message, number / 3);
        let recipient = format!("user-{}-{}", ["Ä", "a", "東"][(number % 3) as usize], random.below(900));
        let mut document = doc! {
            "_id": { "message": message, "recipient": recipient },
            "state": *random.pick(&["Sent", "DELIVERED", "read"]),
        };
        let at = START + (number as i64) * 1_700;
        match random.below(10) {
            0 => {}
            1 => drop(document.insert("delivered_at", "never")),
            2 => drop(document.insert("delivered_at", Bson::Null)),
            3 => drop(document.insert("delivered_at", at.to_string())),
            4 => drop(document.insert("delivered_at", 1e300)),
            _ => drop(document.insert("delivered_at", at)),
        }
        if random.chance(1) {
            document.remove("state");
        }
        document
    })
}
