//! What must hold on a PostgreSQL shard after the whole library ran: every row changed exactly once,
//! rightly, and nothing left behind. The expected values are computed by other means than the transforms
//! use.

use anyhow::Context;
use sqlx::{AssertSqlSafe, Executor, PgConnection};

use super::super::NAMED_KEYS;
use super::attachments::FINGERPRINT;

/// What is wrong with a row, and the query for the keys (as text) of such rows.
type Rule = (&'static str, &'static str);

const MESSAGES: &[Rule] = &[
    ("messages: not migrated", "SELECT id::text FROM messages WHERE NOT migrated"),
    ("messages: not changed exactly once", "SELECT id::text FROM messages WHERE applied <> 1"),
    (
        "messages: body_text is not the body's text",
        "SELECT id::text FROM messages WHERE jsonb_typeof(body->'text') = 'string'
         AND body_text IS DISTINCT FROM pg_temp.plain(body->>'text')",
    ),
    (
        "messages: body_text is not the text of the body's blocks",
        r"SELECT id::text FROM messages WHERE body->'blocks'->0->>'type' = 'text'
          AND body_text IS DISTINCT FROM
          pg_temp.plain(body->'blocks'->0->>'text') || E'\n' || pg_temp.plain(body->'blocks'->2->>'text')",
    ),
    (
        "messages: body_text out of nothing",
        "SELECT id::text FROM messages WHERE body_text IS NOT NULL AND id <> 6
         AND jsonb_typeof(body->'text') IS DISTINCT FROM 'string'
         AND jsonb_typeof(body->'blocks'->0->'text') IS DISTINCT FROM 'string'",
    ),
];

const DRAFTS: &[Rule] = &[
    ("drafts: not migrated", "SELECT id::text FROM drafts WHERE schema_version <> 2"),
    ("drafts: not changed exactly once", "SELECT id::text FROM drafts WHERE applied <> 1"),
    (
        "drafts: body_text is not the body's text",
        "SELECT id::text FROM drafts WHERE jsonb_typeof(body->'text') = 'string'
         AND coalesce(body_text, '') <> pg_temp.plain(body->>'text')",
    ),
    (
        "drafts: body_text is not the text of the body's blocks",
        r"SELECT id::text FROM drafts WHERE jsonb_array_length(body->'blocks') = 3
          AND body_text IS DISTINCT FROM
          pg_temp.plain(body->'blocks'->0->>'text') || E'\n' || pg_temp.plain(body->'blocks'->2->>'text')",
    ),
];

const DIRECTORY: &[Rule] = &[
    (
        "tenants: present throughout, not changed exactly once",
        "SELECT id::text FROM tenants WHERE NOT live AND applied <> 1",
    ),
    ("tenants: changed twice", "SELECT id::text FROM tenants WHERE applied NOT IN (0, 1)"),
    ("tenants: old version", "SELECT id::text FROM tenants WHERE applied = 1 AND settings_version <> 2"),
    (
        "tenants: settings lack a default or an own value",
        "SELECT id::text FROM tenants WHERE applied = 1 AND NOT coalesce(
         settings ?& ARRAY['plan', 'retention_days'] AND
         settings->'plan' IN ('\"free\"', '\"pro\"', '\"enterprise\"', 'null'), false)",
    ),
    (
        "tenants: seats are not the tenant's own",
        "SELECT id::text FROM tenants WHERE settings ? 'theme' AND (settings->'limits'->>'seats')::bigint
         <> 5 + (settings->'theme'->>1)::bigint % 500",
    ),
    ("channels: not migrated", "SELECT id::text FROM channels WHERE slug_version <> 2"),
    ("channels: not changed exactly once", "SELECT id::text FROM channels WHERE applied <> 1"),
    (
        "channels: slug is empty or not in lower case",
        "SELECT id::text FROM channels WHERE coalesce(slug, '') = '' OR slug <> lower(slug) OR slug ~ '\\s'",
    ),
];

const DELIVERIES: &[Rule] = &[
    (
        "deliveries: not migrated",
        "SELECT (message_id, recipient_id)::text FROM deliveries WHERE NOT migrated",
    ),
    (
        "deliveries: not changed exactly once",
        "SELECT (message_id, recipient_id)::text FROM deliveries WHERE applied <> 1",
    ),
    (
        "deliveries: delivered_ts is not the delivered_at",
        "SELECT (message_id, recipient_id)::text FROM deliveries WHERE CASE
         WHEN length(delivered_at) = 13 AND translate(delivered_at, '0123456789', '') = ''
         THEN (extract(epoch FROM delivered_ts) * 1000)::bigint::text IS DISTINCT FROM delivered_at
         ELSE delivered_ts IS NOT NULL END",
    ),
    (
        "deliveries: state_code is not the state",
        "SELECT (message_id, recipient_id)::text FROM deliveries WHERE state_code IS DISTINCT FROM
         coalesce(array_position(ARRAY['sent', 'delivered', 'read'], lower(state)), 0)",
    ),
];

const ATTACHMENTS: &[Rule] = &[
    ("attachments: not migrated", "SELECT id FROM attachments WHERE NOT migrated"),
    ("attachments: not changed exactly once", "SELECT id FROM attachments WHERE applied <> 1"),
    ("attachments: no title", "SELECT id FROM attachments WHERE title IS NULL"),
    (
        "attachments: title is not the title of meta",
        "SELECT id FROM attachments WHERE jsonb_typeof(meta->'title') = 'string' AND title <> meta->>'title'",
    ),
    ("attachments: a blank note is left", "SELECT id FROM attachments WHERE btrim(note) = ''"),
    (
        "attachments: a note was lost",
        "SELECT id FROM attachments WHERE note IS NULL AND right(id, 6)::integer % 4 = 1",
    ),
];

const LEFT_BEHIND: &[Rule] = &[
    ("an invalid index is left", "SELECT indexrelid::regclass::text FROM pg_index WHERE NOT indisvalid"),
    (
        "a prepared transaction is left",
        "SELECT gid FROM pg_prepared_xacts WHERE database = current_database()",
    ),
    ("a constraint is not validated", "SELECT conname::text FROM pg_constraint WHERE NOT convalidated"),
    (
        "the index messages_tenant_author is missing",
        "SELECT 'messages_tenant_author' WHERE to_regclass('messages_tenant_author') IS NULL",
    ),
    (
        "the constraint messages_migrated is missing",
        "SELECT 'messages' WHERE NOT EXISTS (SELECT FROM pg_constraint WHERE conname = 'messages_migrated')",
    ),
];

/// Whitespace collapsed, by splitting and joining: the transforms replace a pattern, or run in the worker.
const PLAIN: &str = r"CREATE OR REPLACE FUNCTION pg_temp.plain(words text) RETURNS text
    LANGUAGE sql IMMUTABLE AS
    $$ SELECT array_to_string(array_remove(regexp_split_to_array(words, '\s+'), ''), ' ') $$";

/// Every violation on the shard behind `dsn` after the whole library ran; empty when every row was changed
/// exactly once. Each is one line: what, how many rows, the keys of the first few.
///
/// # Errors
/// When the shard cannot be read, or a column that the library adds is missing.
pub async fn check_postgres(dsn: &str) -> anyhow::Result<Vec<String>> {
    let mut session = super::session(dsn).await?;
    session.execute(PLAIN).await.context("creating the check's helper")?;
    let mut violations = Vec::new();
    for rules in [MESSAGES, DRAFTS, DIRECTORY, DELIVERIES, ATTACHMENTS, LEFT_BEHIND] {
        for (what, keys) in rules {
            violations.extend(broken(&mut session, what, keys).await?);
        }
    }
    let changed = format!("SELECT id FROM attachments WHERE fingerprint <> {FINGERPRINT}");
    violations.extend(broken(&mut session, "attachments: an untouched column changed", &changed).await?);
    Ok(violations)
}

async fn broken(session: &mut PgConnection, what: &str, keys: &str) -> anyhow::Result<Option<String>> {
    let sql = format!(
        "SELECT count(*), coalesce(array_to_string((array_agg(key))[1:{NAMED_KEYS}], ', '), '')
         FROM ({keys}) AS broken (key)"
    );
    let (rows, named): (i64, String) = sqlx::query_as(AssertSqlSafe(sql))
        .fetch_one(session)
        .await
        .with_context(|| format!("checking \"{what}\""))?;
    Ok((rows > 0).then(|| format!("{what}: {rows} row(s), such as {named}")))
}
