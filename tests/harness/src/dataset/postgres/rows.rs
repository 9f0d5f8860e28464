//! The bulk of the rows, generated inside the database: nothing crosses the wire but the sizes and the
//! phrases.

use anyhow::Context;
use sqlx::{Executor, PgConnection};

use super::super::{PHRASES, Shares};

const HELPERS: &str = include_str!("rows.sql");

/// $1 shard, $2 phrases, $3 rows. One in 20 has no settings; plans come in every spelling.
const TENANTS: &str = r#"
INSERT INTO tenants (id, name, settings, live, created_at)
SELECT pg_temp.key('tenant', $1, n),
  ($2::text[])[1 + pg_temp.below(n, $1 * 100 + 1, cardinality($2::text[]))] || ' ' || n,
  CASE WHEN pg_temp.dice(n, $1 * 100 + 2) < 0.05 THEN NULL
    WHEN pg_temp.dice(n, $1 * 100 + 2) < 0.10 THEN '{}'::jsonb
    ELSE jsonb_build_object(
      'plan', (ARRAY['Free', 'PRO', 'enterprise'])[1 + pg_temp.below(n, $1 * 100 + 3, 3)],
      'limits', jsonb_build_object('seats', 5 + n % 500, 'storage', jsonb_build_object('gb', n % 64)),
      'theme', jsonb_build_array('dark', n, NULL, true)) END,
  false, timestamptz '2020-01-01 00:00:00Z' + n * interval '1 hour'
FROM generate_series(0, $3 - 1) AS n"#;

/// $4 tenants. Large tenants have most of the channels.
const CHANNELS: &str = r#"
INSERT INTO channels (id, tenant_id, name, topic, created_at)
SELECT pg_temp.key('channel', $1, n), pg_temp.key('tenant', $1, pg_temp.skewed(n, $1 * 100 + 10, $4)),
  CASE WHEN n % 50 = 7 THEN NULL
    ELSE ($2::text[])[1 + pg_temp.below(n, $1 * 100 + 11, cardinality($2::text[]))] || ' ' || n END,
  CASE WHEN n % 3 > 0 THEN 'Topic ' || n END, timestamptz '2021-01-01 00:00:00Z' + n * interval '7 minutes'
FROM generate_series(0, $3 - 1) AS n"#;

/// $5 channels. Ids leave gaps for the application. 15 % of the bodies are blocks, some text has wild
/// whitespace.
const MESSAGES: &str = r#"
INSERT INTO messages (id, tenant_id, channel_id, author, body, sent_at)
SELECT n * 8, pg_temp.key('tenant', $1, pg_temp.skewed(channel, $1 * 100 + 10, $4)),
  pg_temp.key('channel', $1, channel), 'user-' || pg_temp.skewed(n, $1 * 100 + 21, 5000),
  CASE WHEN kind < 0.03 THEN NULL
    WHEN kind < 0.80 THEN jsonb_build_object('text', phrase || ' ' || n)
    WHEN kind < 0.85 THEN
      jsonb_build_object('text', E' \t' || phrase || E' \n\n  ' || n || ' ', 'edited', true)
    ELSE jsonb_build_object('blocks', jsonb_build_array(
      jsonb_build_object('type', 'text', 'text', phrase),
      jsonb_build_object('type', 'image', 'url', 'https://cdn.example/' || n),
      jsonb_build_object('type', 'text', 'text', '  part   ' || n))) END,
  timestamptz '2022-01-01 00:00:00Z' + n * interval '3 seconds'
FROM (SELECT n, pg_temp.skewed(n, $1 * 100 + 20, $5) AS channel, pg_temp.dice(n, $1 * 100 + 22) AS kind,
    ($2::text[])[1 + pg_temp.below(n, $1 * 100 + 23, cardinality($2::text[]))] AS phrase
  FROM generate_series(1, $3) AS n) AS numbered"#;

const DRAFTS: &str = r#"
INSERT INTO drafts (id, author, body, saved_at)
SELECT n * 8, 'user-' || n % 500,
  CASE WHEN n % 40 = 3 THEN NULL
    WHEN n % 4 = 0 THEN jsonb_build_object('blocks', jsonb_build_array(
      jsonb_build_object('type', 'text', 'text', phrase || E' \t ' || n),
      jsonb_build_object('type', 'divider'),
      jsonb_build_object('type', 'text', 'text', ' continued ')))
    ELSE jsonb_build_object('text', E'\n' || phrase || '   ' || n) END,
  timestamptz '2024-01-01 00:00:00Z' + n * interval '1 minute'
FROM (SELECT n, ($2::text[])[1 + pg_temp.below(n, $1 * 100 + 30, cardinality($2::text[]))] AS phrase
  FROM generate_series(1, $3) AS n) AS numbered"#;

/// Three recipients to a message, in the order of the composite key.
const DELIVERIES: &str = r#"
INSERT INTO deliveries (message_id, recipient_id, state, delivered_at)
SELECT (n / 3 + 1) * 8,
  'user-' || (ARRAY['Ä', 'a', '東'])[1 + n % 3] || '-' || pg_temp.below(n, $1 * 100 + 40, 900),
  (ARRAY['Sent', 'DELIVERED', 'read', NULL])[1 + pg_temp.below(n, $1 * 100 + 41, 4)],
  CASE WHEN pg_temp.dice(n, $1 * 100 + 42) < 0.1 THEN NULL ELSE (1640995200000 + n * 1700)::text END
FROM generate_series(0, $3 - 1) AS n"#;

/// Loads the tables of `shares`.
pub(super) async fn load(session: &mut PgConnection, shard: i64, shares: &Shares) -> anyhow::Result<()> {
    session.execute(HELPERS).await.context("creating the loader's helpers")?;
    let (tenants, channels) = (shares.tenants as i64, shares.channels as i64);
    insert(session, "tenants", TENANTS, shard, &[tenants]).await?;
    insert(session, "channels", CHANNELS, shard, &[channels, tenants]).await?;
    insert(session, "messages", MESSAGES, shard, &[shares.messages as i64, tenants, channels]).await?;
    insert(session, "drafts", DRAFTS, shard, &[shares.drafts as i64]).await?;
    insert_deliveries(session, shard, shares.deliveries as i64).await
}

/// `$1` shard, `$2` phrases, then the sizes.
async fn insert(
    session: &mut PgConnection,
    table: &str,
    sql: &'static str,
    shard: i64,
    sizes: &[i64],
) -> anyhow::Result<()> {
    let mut query = sqlx::query(sql).bind(shard).bind(PHRASES.as_slice());
    for size in sizes {
        query = query.bind(*size);
    }
    query.execute(session).await.with_context(|| format!("loading {table}"))?;
    Ok(())
}

/// Deliveries hold no phrase, and a parameter that a statement does not use cannot be bound.
async fn insert_deliveries(session: &mut PgConnection, shard: i64, rows: i64) -> anyhow::Result<()> {
    let sql = DELIVERIES.replace("$3", "$2");
    sqlx::query(sqlx::AssertSqlSafe(sql))
        .bind(shard)
        .bind(rows)
        .execute(session)
        .await
        .context("loading deliveries")?;
    Ok(())
}
