//! How the chat application uses its MongoDB collections: always in the form after the example library.

use bson::{Bson, DateTime, doc};

use super::documents::{Collection, Keys};
use super::tables::phrase;
use super::traffic::Usage;

/// Every collection the application writes to.
pub(super) fn collections() -> Vec<Collection> {
    vec![messages(), drafts(), deliveries(), channels(), tenants()]
}

/// Not the few documents so old that they have no tenant: re-keyed, they would break the validator.
fn messages() -> Collection {
    Collection {
        usage: Usage { name: "messages", weight: 40, churn: 22, moves: true },
        usable: doc! { "author": { "$ne": "odd" }, "tenant_id": { "$exists": true } },
        payload: "body.text",
        insert: |payload, _| {
            doc! {
                "tenant_id": "live", "author": "live", "sent_at": DateTime::from_millis(1_700_000_000_000),
                "body": { "text": payload }, "body_text": payload, "migrated": true, "applied": 1,
            }
        },
        update: |payload| doc! { "body": { "text": payload }, "body_text": payload },
        keys: Keys::ObjectId,
        fresh_payload: phrase,
    }
}

fn drafts() -> Collection {
    Collection {
        usage: Usage { name: "drafts", weight: 25, churn: 22, moves: true },
        usable: doc! {},
        payload: "body.text",
        insert: |payload, _| {
            doc! {
                "author": "live", "body": { "text": payload }, "body_text": payload,
                "schema_version": 2, "applied": 1,
            }
        },
        update: |payload| doc! { "body": { "text": payload }, "body_text": payload },
        keys: Keys::Text,
        fresh_payload: phrase,
    }
}

fn deliveries() -> Collection {
    let times = |payload: &str| {
        let at = payload.parse::<i64>().unwrap_or_default();
        doc! { "delivered_at": Bson::Int64(at), "delivered_ts": DateTime::from_millis(at) }
    };
    Collection {
        usage: Usage { name: "deliveries", weight: 25, churn: 22, moves: true },
        usable: doc! { "delivered_at": { "$type": "long" } },
        payload: "delivered_at",
        insert: |payload, _| {
            let at = payload.parse::<i64>().unwrap_or_default();
            doc! {
                "state": "sent", "delivered_at": Bson::Int64(at), "delivered_ts": DateTime::from_millis(at),
                "migrated": true, "applied": 1,
            }
        },
        update: times,
        keys: Keys::MessageAndRecipient,
        fresh_payload: |random| (1_700_000_000_000 + random.below(100_000_000_000)).to_string(),
    }
}

/// The topic is a field that no migration touches.
fn channels() -> Collection {
    Collection {
        usage: Usage { name: "channels", weight: 7, churn: 5, moves: false },
        usable: doc! { "name": { "$ne": "odd" } },
        payload: "topic",
        insert: |payload, _| {
            doc! {
                "name": "Live channel", "topic": payload, "members": [], "city": null,
                "schema_version": 2, "applied": 1,
            }
        },
        update: |payload| doc! { "topic": payload },
        keys: Keys::ObjectId,
        fresh_payload: phrase,
    }
}

/// The motto lives in the very document that the migration rewrites. Tenants are migrated without `where`,
/// so the application never writes their counter.
fn tenants() -> Collection {
    Collection {
        usage: Usage { name: "tenants", weight: 3, churn: 5, moves: false },
        usable: doc! { "settings.theme": { "$exists": true } },
        payload: "settings.motto",
        insert: |payload, _| {
            doc! { "name": "Live tenant", "live": true, "settings": { "plan": "FREE", "motto": payload } }
        },
        update: |payload| doc! { "settings.motto": payload },
        keys: Keys::Uuid,
        fresh_payload: phrase,
    }
}
