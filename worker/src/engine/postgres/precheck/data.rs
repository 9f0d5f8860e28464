//! What a data migration needs of a shard: a table with a key to walk by, and a transform that the server understands.

use shardlift_domain::failure::ErrorCode;
use shardlift_domain::fence::{Attempt, Epoch, Token};
use shardlift_domain::ids::MigrationKey;
use shardlift_domain::verdict::Severity;
use sqlx::{AssertSqlSafe, Connection, PgConnection, Row};
use uuid::Uuid;

use crate::engine::findings::Findings;
use crate::engine::postgres::batch_rows::RowsBatch;
use crate::engine::postgres::batch_sql::SqlBatch;
use crate::engine::postgres::checkpoint::{self, Claim};
use crate::engine::postgres::error::{OrTrouble, sqlstate, trouble, words};
use crate::engine::postgres::key::Key;
use crate::engine::postgres::session::{QUICK, Session, within};
use crate::engine::postgres::table::{self, Table};
use crate::engine::postgres::walk::{Scope, Walk, assignments, predicate};
use crate::engine::postgres::window::Edges;
use crate::engine::postgres::{anew, references, standbys, unique};
use crate::engine::{DataJob, EngineResult};

/// From this size on it is worth a word that a rewrite needs room.
const LARGE: i64 = 1024 * 1024 * 1024;
const MEND: &str = "correct the spec, or make the shard's schema like that of the others";

pub(super) async fn look(
    session: &mut Session,
    migration: &MigrationKey,
    job: &DataJob,
    findings: &mut Findings,
) -> EngineResult<()> {
    let shard = session.shard.clone();
    let refuse = |findings: &mut Findings, what: String| {
        findings.of_spec(Severity::Error, ErrorCode::PrecheckRefused, what, MEND);
    };
    let laid = within(QUICK, checkpoint::newest(&mut session.conn, migration)).await.or_trouble(&shard)?;
    if laid.is_some_and(|laid| laid.checksum != job.spec.checksum.as_str()) {
        let what = format!("{migration} was begun there with another content");
        findings.of_spec(Severity::Error, ErrorCode::LedgerConflict, what, "give the changed spec a new id");
    }
    if job.data.source.pending.is_none() && !job.data.source.immutable_key {
        refuse(findings, "without `where` the spec must say `immutable_key: true`".to_owned());
    }
    let relation = &job.data.source.relation;
    let found = within(QUICK, table::read(&mut session.conn, relation)).await.or_trouble(&shard)?;
    let Some(table) = found else {
        refuse(findings, format!("there is no table {relation}"));
        return Ok(());
    };
    match table.kind.as_str() {
        "r" if table.inherited => {
            refuse(
                findings,
                format!("other tables inherit from {relation}, so its key is not unique over all of them"),
            );
        }
        "r" | "p" => {}
        _ => refuse(findings, format!("{relation} is not a table")),
    }
    within(QUICK, room(&mut session.conn, &table, findings)).await.or_trouble(&shard)?;
    if job.data.max_replica_lag.is_some() {
        standbys::look(session, findings).await?;
    }
    let key = table::key(&mut session.conn, &table, &job.data.source.key);
    match within(QUICK, key).await.or_trouble(&shard)? {
        Err(why) => refuse(findings, why),
        Ok(key) => transform(session, migration, job, table, key, findings).await?,
    }
    Ok(())
}

/// SQL does not see how much room the disk has; what a rewrite may need it does.
async fn room(conn: &mut PgConnection, table: &Table, findings: &mut Findings) -> Result<(), sqlx::Error> {
    let row = sqlx::query(
        "SELECT pg_total_relation_size($1::int8::oid), coalesce(t.spcname::text, 'pg_default') \
         FROM pg_class c LEFT JOIN pg_tablespace t ON t.oid = c.reltablespace WHERE c.oid = $1::int8::oid",
    )
    .bind(table.oid)
    .fetch_one(conn)
    .await?;
    let (bytes, space): (i64, String) = (row.try_get(0)?, row.try_get(1)?);
    if bytes >= LARGE {
        let what = format!(
            "changing every row of {} may need up to {:.1} GiB more in tablespace {space} until vacuum has been there, \
             and as much WAL again; how much is free SQL cannot tell",
            table.sql,
            bytes as f64 / LARGE as f64
        );
        let next =
            "look that the disks have the room, or set throttle.rows_per_second so that vacuum keeps up";
        findings.of_spec(Severity::Note, ErrorCode::ShardOutOfResources, what, next);
    }
    Ok(())
}

async fn transform(
    session: &mut Session,
    migration: &MigrationKey,
    job: &DataJob,
    table: Table,
    key: Key,
    findings: &mut Findings,
) -> EngineResult<()> {
    let pending = predicate(&session.shard, job.data.source.pending.as_ref())?;
    let tenants = match Scope::of(&table, job.data.source.tenants.as_ref()) {
        Ok(tenants) => tenants,
        Err(why) => {
            findings.of_spec(Severity::Error, ErrorCode::PrecheckRefused, why, MEND);
            return Ok(());
        }
    };
    let sets_aside = job.data.on_error.budget().is_some();
    let walk = Walk { migration: migration.clone(), table, key, pending, tenants, sets_aside };
    let assignments = assignments(&session.shard, &job.data.transform)?;
    let before = findings.len();
    columns(&walk, assignments.as_deref(), findings);
    if findings.len() > before {
        return Ok(());
    }
    in_order(session, &walk, findings).await?;
    for wanted in job.data.references() {
        references::look(session, &walk.table.sql, &job.data.source.key, wanted, findings).await?;
    }
    for wanted in job.data.unique() {
        unique::look(session, &walk.table, wanted, findings).await?;
    }
    let plan = match (&assignments, &job.transformer) {
        (Some(list), _) => {
            explain_sql(&mut session.conn, &SqlBatch::new(&walk, list, job.data.undo), migration).await
        }
        (None, Some(transformer)) => {
            explain_rows(&mut session.conn, &RowsBatch::new(walk.clone(), transformer.clone(), job.data.undo))
                .await
        }
        (None, None) => return Ok(()),
    };
    match plan {
        Ok(()) => match (&assignments, job.data.anew()) {
            (Some(list), Some(_)) => anew::check(session, &walk, list, findings).await,
            _ => Ok(()),
        },
        Err(error)
            if sqlstate(&error).is_some_and(|code| code.starts_with("57") || code.starts_with("08")) =>
        {
            Err(trouble(&session.shard, error))
        }
        Err(error) if sqlstate(&error).is_some() => {
            let what = format!("the batch cannot be planned on {}: {}", walk.table.sql, words(&error));
            findings.of_spec(Severity::Error, ErrorCode::TransformInvalid, what, MEND);
            Ok(())
        }
        Err(error) => Err(trouble(&session.shard, error)),
    }
}

/// Whether every column that the transform sets can be set.
fn columns(walk: &Walk, assignments: Option<&[(String, String)]>, findings: &mut Findings) {
    for (column, _) in assignments.into_iter().flatten() {
        let problem = match walk.table.columns.iter().find(|candidate| candidate.name == *column) {
            None => "does not exist",
            Some(_) if walk.key.columns().iter().any(|part| part.name == *column) => "is part of the key",
            Some(found) if found.generated => "is computed by the server",
            Some(_) => continue,
        };
        let what = format!("the transform sets column {column}, which {problem}");
        findings.of_spec(Severity::Error, ErrorCode::TransformInvalid, what, MEND);
    }
}

/// Whether the server finds windows through the key's index, under the settings of a batch.
async fn in_order(session: &mut Session, walk: &Walk, findings: &mut Findings) -> EngineResult<()> {
    let shard = session.shard.clone();
    let plan = async {
        let mut tx = session.conn.begin().await?;
        sqlx::query("SELECT set_config('enable_seqscan', 'off', true)").execute(&mut *tx).await?;
        let plan = Edges::new(walk.clone()).explain(&mut tx).await?;
        tx.rollback().await?;
        Ok(plan)
    };
    let plan = within(QUICK, plan).await.or_trouble(&shard)?;
    if plan.iter().any(|line| line.contains("Seq Scan")) {
        let what = format!(
            "the server finds no index of {} in the order of its key: every batch would read it all",
            walk.table.sql
        );
        let next = "REINDEX the key's index, or name another one under source.key";
        findings.of_spec(Severity::Error, ErrorCode::PrecheckRefused, what, next);
    }
    Ok(())
}

/// The server compiles the real statement and checks privileges, without running it.
async fn explain_sql(
    conn: &mut PgConnection,
    batch: &SqlBatch,
    migration: &MigrationKey,
) -> Result<(), sqlx::Error> {
    let claim = Claim {
        migration: migration.clone(),
        index: 0,
        token: Token { epoch: Epoch::NONE, attempt: Attempt(0) },
        id: Uuid::nil(),
        last_key: None,
    };
    let query = claim.bind(sqlx::query(AssertSqlSafe(format!("EXPLAIN {}", batch.sample()))));
    let query = query.bind(None::<Vec<String>>).bind(0_i64).bind(false).bind(None::<Vec<String>>);
    let query = query.bind(None::<Vec<String>>);
    within(QUICK, query.execute(conn)).await.map(drop)
}

async fn explain_rows(conn: &mut PgConnection, batch: &RowsBatch) -> Result<(), sqlx::Error> {
    let query = sqlx::query(AssertSqlSafe(format!("EXPLAIN {}", batch.sample())));
    let query = query.bind(None::<Vec<String>>).bind(None::<Vec<String>>).bind(None::<Vec<String>>);
    within(QUICK, query.execute(conn)).await.map(drop)
}
