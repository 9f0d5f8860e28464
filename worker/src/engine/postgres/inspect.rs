//! Reads what planning wants to know; changes nothing and needs none of Shardlift's tables.

use shardlift_domain::facts::{AppliedEntry, FactsRequest, RelationFacts, ShardFacts, ShardHello};
use shardlift_domain::failure::{ErrorCode, Failure};
use shardlift_domain::fence::Fence;
use shardlift_domain::ids::{Checksum, ClusterName, MigrationId, MigrationKey, Version};
use shardlift_domain::spec::Engine;
use shardlift_domain::sql::parse_relation;
use sqlx::{PgConnection, Row};

use super::bookkeeping::present;
use super::error::OrTrouble;
use super::fence::{self, unsigned};
use super::schema;
use super::session::{Access, QUICK, Session, within};
use crate::engine::EngineResult;

/// Whether the shard answers, and which leader it has seen.
pub(super) async fn hello(access: &Access, cluster: &ClusterName) -> ShardHello {
    let mut hello = ShardHello {
        shard: access.shard.clone(),
        cluster: cluster.clone(),
        engine: Engine::Postgres,
        fence: None,
        server_version: None,
        problem: None,
        alarm: None,
    };
    match greet(access).await {
        Ok(answer) => {
            hello.fence = answer.fence;
            hello.server_version = Some(answer.version);
            hello.problem = answer.read_only.then(|| read_only(access));
        }
        Err(error) => hello.problem = Some(error.into_failure()),
    }
    hello
}

struct Answer {
    fence: Option<Fence>,
    version: String,
    read_only: bool,
}

async fn greet(access: &Access) -> EngineResult<Answer> {
    let mut session = access.control("control").await?;
    let fence = within(QUICK, seen(&mut session.conn)).await.or_trouble(&access.shard)?;
    let version = version(&mut session).await?;
    let read_only = sqlx::query_scalar(
        "SELECT pg_is_in_recovery() OR current_setting('default_transaction_read_only') = 'on'",
    )
    .fetch_one(&mut session.conn);
    let read_only = within(QUICK, read_only).await.or_trouble(&access.shard)?;
    session.close().await;
    Ok(Answer { fence, version, read_only })
}

fn read_only(access: &Access) -> Failure {
    Failure::new(
        ErrorCode::ShardReadOnly,
        format!("shard {} accepts no writes: its server is a standby or was made read-only", access.shard),
        "make the server writable, or point the worker's dsn to the primary; work goes on by itself",
    )
    .on_shard(&access.shard)
}

async fn seen(conn: &mut PgConnection) -> Result<Option<Fence>, sqlx::Error> {
    if present(&mut *conn).await? { fence::read(conn).await } else { Ok(None) }
}

async fn version(session: &mut Session) -> EngineResult<String> {
    let version = sqlx::query_scalar("SHOW server_version").fetch_one(&mut session.conn);
    within(QUICK, version).await.or_trouble(&session.shard)
}

/// The facts that were asked for.
pub(super) async fn inspect(access: &Access, request: &FactsRequest) -> EngineResult<ShardFacts> {
    let mut session = access.control("control").await?;
    let server_version = version(&mut session).await?;
    let mut relations = Vec::with_capacity(request.relations.len());
    for name in &request.relations {
        relations.push(within(QUICK, relation(&mut session.conn, name)).await.or_trouble(&access.shard)?);
    }
    let applied = within(QUICK, applied(&mut session.conn)).await.or_trouble(&access.shard)?;
    let schema = schema::read(&mut session, request.schema).await?;
    session.close().await;
    Ok(ShardFacts {
        shard: access.shard.clone(),
        engine: Engine::Postgres,
        server_version,
        relations,
        applied,
        schema,
        findings: Vec::new(),
    })
}

/// Counted when the table is small, since a small table often was never analysed; otherwise the server's estimate,
/// and about 100 bytes per row where it has none.
const RELATION: &str = "\
    WITH RECURSIVE leaf AS (
      SELECT c.oid, c.relkind, c.reltuples FROM pg_class c WHERE c.oid = to_regclass($1)
      UNION ALL
      SELECT c.oid, c.relkind, c.reltuples FROM leaf
      JOIN pg_inherits i ON i.inhparent = leaf.oid JOIN pg_class c ON c.oid = i.inhrelid
    )
    SELECT count(*) > 0,
           coalesce(sum(CASE WHEN relkind = 'p' THEN 0 WHEN reltuples >= 0 AND pg_relation_size(oid) > 0 THEN reltuples
                        ELSE pg_relation_size(oid) / 100 END), 0)::int8,
           coalesce(sum(CASE WHEN relkind = 'p' THEN 0 ELSE pg_table_size(oid) END), 0)::int8
    FROM leaf";
const PRIMARY_KEY: &str = "\
    SELECT a.attname::text FROM pg_index i
    CROSS JOIN unnest(i.indkey::int2[]) WITH ORDINALITY AS k (attnum, n)
    JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
    WHERE i.indrelid = to_regclass($1) AND i.indisprimary AND k.n <= i.indnkeyatts ORDER BY k.n";
/// Bytes up to which a table is counted instead of estimated.
const COUNTED: u64 = 8 * 1024 * 1024;

async fn relation(conn: &mut PgConnection, name: &str) -> Result<RelationFacts, sqlx::Error> {
    let mut facts =
        RelationFacts { name: name.to_owned(), exists: false, rows: 0, bytes: 0, key: Vec::new() };
    let Ok(relation) = parse_relation(name) else { return Ok(facts) };
    let relation = relation.to_string();
    let row = sqlx::query(RELATION).bind(&relation).fetch_one(&mut *conn).await?;
    facts.exists = row.try_get(0)?;
    facts.rows = unsigned(row.try_get(1)?);
    facts.bytes = unsigned(row.try_get(2)?);
    facts.key = sqlx::query_scalar(PRIMARY_KEY).bind(&relation).fetch_all(&mut *conn).await?;
    if facts.exists && facts.bytes <= COUNTED {
        let count = sqlx::AssertSqlSafe(format!("SELECT count(*) FROM {relation}"));
        // Without the privilege to read it the estimate must do; the precheck will say more.
        if let Ok(rows) = sqlx::query_scalar::<_, i64>(count).fetch_one(conn).await {
            facts.rows = unsigned(rows);
        }
    }
    Ok(facts)
}

async fn applied(conn: &mut PgConnection) -> Result<Vec<AppliedEntry>, sqlx::Error> {
    if !present(&mut *conn).await? {
        return Ok(Vec::new());
    }
    let rows = sqlx::query(
        "SELECT migration, version, checksum FROM shardlift.applied a WHERE direction = 'up' AND NOT EXISTS \
         (SELECT FROM shardlift.applied b WHERE b.migration = a.migration AND b.version = a.version \
          AND b.direction = 'down') ORDER BY at, migration",
    )
    .fetch_all(conn)
    .await?;
    let mut applied = Vec::with_capacity(rows.len());
    for row in &rows {
        let Ok(id) = MigrationId::new(row.try_get::<String, _>(0)?) else { continue };
        let version = Version(u32::try_from(row.try_get::<i32, _>(1)?).unwrap_or_default());
        let checksum = Checksum::from_stored(row.try_get::<String, _>(2)?);
        applied.push(AppliedEntry { migration: MigrationKey { id, version }, checksum });
    }
    Ok(applied)
}
