//! The schema of the shard as lines `OBJECT: DEFINITION`, the same on every server that has the same schema.
//!
//! Order of columns, sizes, statistics, owners and privileges do not count, nor what belongs to an extension, nor
//! Shardlift's own schema.

use shardlift_domain::facts::{SchemaDepth, SchemaFacts};
use sqlx::{Connection, PgConnection};

use super::error::OrTrouble;
use super::session::{QUICK, Session, within};
use crate::engine::EngineResult;

/// With an empty search path every name in a definition is written with its schema.
const LINES: &str = r"
WITH ns AS (
  SELECT oid, nspname FROM pg_namespace
  WHERE nspname NOT IN ('pg_catalog', 'information_schema', 'shardlift') AND nspname !~ '^pg_(toast|temp)'
), owned AS (
  SELECT classid, objid FROM pg_depend WHERE deptype = 'e'
), rel AS (
  SELECT c.oid, c.relkind, ns.nspname || '.' || c.relname AS name, c.relpersistence, c.relispartition, c.relpartbound, c.reloptions
  FROM pg_class c JOIN ns ON ns.oid = c.relnamespace
  WHERE NOT EXISTS (SELECT FROM owned WHERE classid = 'pg_class'::regclass AND objid = c.oid)
)
SELECT 'schema ' || nspname || ': ' FROM ns WHERE nspname <> 'public'
UNION ALL
SELECT 'table ' || name || ': ' || CASE relkind WHEN 'p' THEN 'partitioned by ' || pg_get_partkeydef(oid) WHEN 'f' THEN 'foreign' ELSE 'table' END
    || CASE WHEN relpersistence = 'u' THEN ' unlogged' ELSE '' END
    || CASE WHEN relispartition THEN ' ' || pg_get_expr(relpartbound, oid) ELSE '' END
    || coalesce(' with (' || array_to_string(reloptions, ', ') || ')', '')
  FROM rel WHERE relkind IN ('r', 'p', 'f')
UNION ALL
SELECT 'view ' || name || ': ' || regexp_replace(pg_get_viewdef(oid), '\s+', ' ', 'g') FROM rel WHERE relkind IN ('v', 'm')
UNION ALL
SELECT 'column ' || rel.name || '.' || a.attname || ': ' || format_type(a.atttypid, a.atttypmod)
    || CASE WHEN a.attnotnull THEN ' not null' ELSE '' END
    || CASE WHEN a.attcollation <> t.typcollation THEN ' collate ' || (SELECT quote_ident(collname) FROM pg_collation WHERE oid = a.attcollation) ELSE '' END
    || CASE a.attidentity WHEN 'a' THEN ' identity always' WHEN 'd' THEN ' identity by default' ELSE '' END
    || coalesce(CASE WHEN a.attgenerated <> '' THEN ' generated ' ELSE ' default ' END || pg_get_expr(d.adbin, d.adrelid), '')
  FROM rel JOIN pg_attribute a ON a.attrelid = rel.oid JOIN pg_type t ON t.oid = a.atttypid
  LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
  WHERE rel.relkind IN ('r', 'p', 'f') AND a.attnum > 0 AND NOT a.attisdropped
UNION ALL
SELECT 'index ' || rel.name || ': ' || pg_get_indexdef(i.indexrelid) || CASE WHEN i.indisvalid THEN '' ELSE ' INVALID' END
  FROM rel JOIN pg_index i ON i.indexrelid = rel.oid
UNION ALL
SELECT 'constraint ' || rel.name || '.' || k.conname || ': ' || pg_get_constraintdef(k.oid)
  FROM rel JOIN pg_constraint k ON k.conrelid = rel.oid WHERE rel.relkind IN ('r', 'p', 'f')
UNION ALL
SELECT 'trigger ' || rel.name || '.' || t.tgname || ': ' || pg_get_triggerdef(t.oid) || CASE t.tgenabled WHEN 'D' THEN ' disabled' ELSE '' END
  FROM rel JOIN pg_trigger t ON t.tgrelid = rel.oid WHERE NOT t.tgisinternal
UNION ALL
SELECT 'sequence ' || rel.name || ': ' || format_type(s.seqtypid, NULL) || ' increment ' || s.seqincrement || CASE WHEN s.seqcycle THEN ' cycle' ELSE '' END
  FROM rel JOIN pg_sequence s ON s.seqrelid = rel.oid
UNION ALL
SELECT 'function ' || ns.nspname || '.' || p.proname || '(' || pg_get_function_identity_arguments(p.oid) || '): '
    || coalesce('returns ' || pg_get_function_result(p.oid), 'procedure') || ' body ' || md5(p.prosrc)
  FROM pg_proc p JOIN ns ON ns.oid = p.pronamespace
  WHERE NOT EXISTS (SELECT FROM owned WHERE classid = 'pg_proc'::regclass AND objid = p.oid)
UNION ALL
SELECT 'type ' || ns.nspname || '.' || t.typname || ': ' || CASE t.typtype
      WHEN 'e' THEN 'enum (' || (SELECT string_agg(quote_literal(enumlabel), ', ' ORDER BY enumsortorder) FROM pg_enum WHERE enumtypid = t.oid) || ')'
      ELSE 'domain ' || format_type(t.typbasetype, t.typtypmod) || CASE WHEN t.typnotnull THEN ' not null' ELSE '' END
        || coalesce(' ' || (SELECT string_agg(pg_get_constraintdef(oid), ' ' ORDER BY conname) FROM pg_constraint WHERE contypid = t.oid), '') END
  FROM pg_type t JOIN ns ON ns.oid = t.typnamespace
  WHERE t.typtype IN ('e', 'd') AND NOT EXISTS (SELECT FROM owned WHERE classid = 'pg_type'::regclass AND objid = t.oid)
UNION ALL
SELECT 'extension ' || extname || ': ' || extversion FROM pg_extension WHERE extname <> 'plpgsql'";

/// As much of it as is asked for.
pub(super) async fn read(session: &mut Session, depth: SchemaDepth) -> EngineResult<Option<SchemaFacts>> {
    if depth == SchemaDepth::None {
        return Ok(None);
    }
    let lines = within(QUICK, lines(&mut session.conn)).await.or_trouble(&session.shard)?;
    Ok(SchemaFacts::of(lines, depth))
}

async fn lines(conn: &mut PgConnection) -> Result<Vec<String>, sqlx::Error> {
    let mut tx = conn.begin().await?;
    sqlx::query("SET TRANSACTION READ ONLY").execute(&mut *tx).await?;
    sqlx::query("SET LOCAL search_path = ''").execute(&mut *tx).await?;
    let lines: Vec<String> = sqlx::query_scalar(LINES).fetch_all(&mut *tx).await?;
    tx.rollback().await?;
    Ok(lines)
}
