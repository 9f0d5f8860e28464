//! How the chat application uses its PostgreSQL tables, before and after the example library.

use super::tables::{Description, Keys, Table, phrase};
use super::traffic::Usage;
use crate::dataset::Random;

/// Every table the application writes to.
pub(super) fn tables() -> Vec<Table> {
    [messages(), drafts(), deliveries(), channels(), tenants()].into_iter().map(Description::table).collect()
}

fn messages() -> Description {
    Description {
        usage: Usage { name: "messages", weight: 40, churn: 22, moves: true },
        key: &[("id", "bigint")],
        payload: "body->>'text'",
        usable: "author <> 'odd'",
        insert: (
            "tenant_id, channel_id, author, body",
            "md5('live')::uuid, md5('live')::uuid, 'live', jsonb_build_object('text', {p})",
        ),
        insert_new: (", body_text, migrated, applied", ", {p}, true, 1"),
        update: "body = jsonb_build_object('text', {p})",
        update_new: ", body_text = {p}",
        keys: Keys::Number,
        fresh_payload: phrase,
    }
}

fn drafts() -> Description {
    Description {
        usage: Usage { name: "drafts", weight: 25, churn: 22, moves: true },
        key: &[("id", "bigint")],
        payload: "body->>'text'",
        usable: "author <> 'odd'",
        insert: ("author, body", "'live', jsonb_build_object('text', {p})"),
        insert_new: (", body_text, schema_version, applied", ", {p}, 2, 1"),
        update: "body = jsonb_build_object('text', {p})",
        update_new: ", body_text = {p}",
        keys: Keys::Number,
        fresh_payload: phrase,
    }
}

fn deliveries() -> Description {
    Description {
        usage: Usage { name: "deliveries", weight: 25, churn: 22, moves: true },
        key: &[("message_id", "bigint"), ("recipient_id", "text")],
        payload: "delivered_at",
        usable: "recipient_id LIKE 'user-%'",
        insert: ("state, delivered_at", "'sent', {p}"),
        insert_new: (
            ", delivered_ts, state_code, migrated, applied",
            ", to_timestamp({p}::numeric / 1000), 1, true, 1",
        ),
        update: "delivered_at = {p}",
        update_new: ", delivered_ts = to_timestamp({p}::numeric / 1000)",
        keys: Keys::NumberAndRecipient,
        fresh_payload: |random: &mut Random| (1_700_000_000_000 + random.below(100_000_000_000)).to_string(),
    }
}

/// The topic is a column that no migration touches.
fn channels() -> Description {
    Description {
        usage: Usage { name: "channels", weight: 7, churn: 5, moves: false },
        key: &[("id", "uuid")],
        payload: "topic",
        usable: "tenant_id <> md5('odd')::uuid",
        insert: ("tenant_id, name, topic", "md5('live')::uuid, 'Live channel', {p}"),
        insert_new: (", slug, slug_version, applied", ", 'live-channel', 2, 1"),
        update: "topic = {p}",
        update_new: "",
        keys: Keys::Uuid,
        fresh_payload: phrase,
    }
}

/// The motto lives in the very document that the migration rewrites. Tenants are migrated without `where`,
/// so the application neither writes their counter nor ever changes their key.
fn tenants() -> Description {
    Description {
        usage: Usage { name: "tenants", weight: 3, churn: 5, moves: false },
        key: &[("id", "uuid")],
        payload: "settings->>'motto'",
        usable: "jsonb_typeof(settings) = 'object' AND settings ? 'theme'",
        insert: ("name, settings", "'Live tenant', jsonb_build_object('plan', 'FREE', 'motto', {p})"),
        insert_new: ("", ""),
        update: "settings = jsonb_set(settings, '{motto}', to_jsonb({p}))",
        update_new: "",
        keys: Keys::Uuid,
        fresh_payload: phrase,
    }
}
