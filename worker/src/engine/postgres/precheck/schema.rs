//! What a schema migration needs of a shard.

use shardlift_domain::failure::ErrorCode;
use shardlift_domain::ids::MigrationKey;
use shardlift_domain::spec::SchemaChange;
use shardlift_domain::verdict::Severity;

use crate::engine::findings::Findings;
use crate::engine::postgres::ledger;
use crate::engine::postgres::session::Session;
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
    match ledger::applied(session, migration, Direction::Up, &job.spec.checksum).await {
        Err(EngineError::Failed(failure)) if failure.code == ErrorCode::LedgerConflict => {
            findings.error(failure);
            Ok(())
        }
        other => other.map(drop),
    }
}
