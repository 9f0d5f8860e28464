//! What a schema migration needs of a shard.

use shardlift_domain::failure::ErrorCode;
use shardlift_domain::ids::MigrationKey;
use shardlift_domain::spec::SchemaChange;
use shardlift_domain::verdict::Severity;
use sqlx::Row;

use crate::engine::findings::Findings;
use crate::engine::postgres::error::OrTrouble;
use crate::engine::postgres::ledger;
use crate::engine::postgres::session::{QUICK, Session, within};
use crate::engine::{Direction, EngineError, EngineResult, SchemaJob};

pub(super) async fn look(
    session: &mut Session,
    migration: &MigrationKey,
    job: &SchemaJob,
    findings: &mut Findings,
) -> EngineResult<()> {
    if matches!(job.schema.up, SchemaChange::Commands(_)) {
        let next = "correct `engine` in the spec";
        findings.of_spec(
            Severity::Error,
            ErrorCode::SpecInvalid,
            "MongoDB commands cannot run on PostgreSQL",
            next,
        );
    }
    if job.schema.atomic {
        room_to_prepare(session, findings).await?;
    }
    if job.schema.on_block.is_some() {
        right_to_end(session, findings).await?;
    }
    match ledger::applied(session, migration, Direction::Up, &job.spec.checksum).await {
        Err(EngineError::Failed(failure)) if failure.code == ErrorCode::LedgerConflict => {
            findings.error(failure);
            Ok(())
        }
        other => other.map(drop),
    }
}

/// Whether the role may end sessions of others, and see how old and how large their transactions are.
async fn right_to_end(session: &mut Session, findings: &mut Findings) -> EngineResult<()> {
    let lacks = sqlx::query_scalar(
        "SELECT coalesce(string_agg(name, ' and ' ORDER BY name), '') \
         FROM unnest(ARRAY['pg_signal_backend', 'pg_read_all_stats']) AS needed (name) \
         WHERE NOT pg_has_role(name::name, 'USAGE')",
    );
    let lacks: String = within(QUICK, lacks.fetch_one(&mut session.conn)).await.or_trouble(&session.shard)?;
    if !lacks.is_empty() {
        let what =
            format!("the worker's role may not end who is in the way, as on_block says: it lacks {lacks}");
        let next =
            format!("GRANT {} TO the worker's role, or leave on_block out", lacks.replace(" and ", ", "));
        findings.of_spec(Severity::Error, ErrorCode::PrecheckRefused, what, next);
    }
    Ok(())
}

/// Whether a transaction can be prepared at all.
async fn room_to_prepare(session: &mut Session, findings: &mut Findings) -> EngineResult<()> {
    let read = sqlx::query(
        "SELECT current_setting('max_prepared_transactions')::int8, (SELECT count(*) FROM pg_prepared_xacts)",
    )
    .fetch_one(&mut session.conn);
    let row = within(QUICK, read).await.or_trouble(&session.shard)?;
    let most: i64 = row.try_get(0).or_trouble(&session.shard)?;
    let used: i64 = row.try_get(1).or_trouble(&session.shard)?;
    let what = match most - used {
        _ if most == 0 => {
            "max_prepared_transactions is 0, so `atomic: true` cannot prepare anything".to_owned()
        }
        room if room <= 0 => format!("max_prepared_transactions is {most}, and all of them are in use"),
        _ => return Ok(()),
    };
    let next =
        "set it to twice the number of this server's shards at least, such as 64, and restart the server";
    findings.of_shard(Severity::Error, ErrorCode::PrecheckRefused, what, next);
    Ok(())
}
