//! Checks the result. It shares no scan and no comparison with what did the work: its SQL is its own.

use shardlift_domain::ids::MigrationKey;
use shardlift_domain::routing::KeyKind;
use shardlift_domain::spec::{SchemaChange, TenantKey, VerifyCheck, Where};
use shardlift_domain::sql::{Class, NonTransactionalKind, parse_relation, quote_ident, split};
use shardlift_domain::verdict::{CheckResult, VerifyReport};
use sqlx::{AssertSqlSafe, Connection, PgConnection, Row};

use super::session::Access;
use super::walk::misfit;
use super::watch::watched;
use crate::engine::{DataJob, EngineResult, Job, SchemaJob};
use crate::lease::TaskLease;

/// Makes every check that the spec asks for, each over one snapshot.
pub(super) async fn verify(access: &Access, lease: &TaskLease, job: &Job) -> EngineResult<VerifyReport> {
    lease.check()?;
    let mut session = access.unbounded(lease.task()).await?;
    let migration = &lease.task().migration;
    let pid = session.pid;
    let checks = match job {
        Job::Schema(job) => watched(access, lease, pid, schema(&mut session.conn, migration, job)).await?,
        Job::Data(job) => {
            let relation = parse_relation(&job.data.source.relation).map_err(|problem| {
                misfit(&access.shard, format!("the table's name is no name: {}", problem.message))
            })?;
            watched(access, lease, pid, data(&mut session.conn, migration, &relation.to_string(), job))
                .await?
        }
    };
    session.close().await;
    Ok(VerifyReport { checks })
}

async fn data(
    conn: &mut PgConnection,
    migration: &MigrationKey,
    relation: &str,
    job: &DataJob,
) -> Result<Vec<CheckResult>, sqlx::Error> {
    let mut tx = conn.begin().await?;
    sqlx::query("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY").execute(&mut *tx).await?;
    let predicate = match &job.data.source.pending {
        Some(Where::Sql(text)) => format!("({text}){}", of_tenants(job)),
        _ => "false".into(),
    };
    let scan = format!("SELECT count(*), sum(CASE WHEN {predicate} THEN 1 ELSE 0 END)::int8 FROM {relation}");
    let scanned = sqlx::query(AssertSqlSafe(scan)).bind(tenants(job)).fetch_one(&mut *tx).await?;
    let rows: i64 = scanned.try_get(0)?;
    let pending = scanned.try_get::<Option<i64>, _>(1)?.unwrap_or_default();
    let walked = sqlx::query(
        "SELECT coalesce(sum(rows_seen) FILTER (WHERE pass = 1), 0)::int8, count(*) FILTER (WHERE NOT done), count(*) \
         FROM shardlift.checkpoint WHERE migration = $1 AND version = $2",
    )
    .bind(migration.id.as_str())
    .bind(i64::from(migration.version.0))
    .fetch_one(&mut *tx)
    .await?;
    let (seen, open, ranges): (i64, i64, i64) = (walked.try_get(0)?, walked.try_get(1)?, walked.try_get(2)?);
    let finished = open == 0 && ranges > 0;
    let checks = job.data.verify.iter().map(|check| match check {
        VerifyCheck::Remaining => CheckResult {
            check: check.label().into(),
            passed: pending == 0 && finished,
            detail: format!("expected 0 pending rows, found {pending} of {rows}; {open} of {ranges} ranges open"),
        },
        VerifyCheck::Count { tolerance } => CheckResult {
            check: check.label().into(),
            passed: close(seen, rows, *tolerance) && finished,
            detail: format!(
                "the first pass saw {seen} rows, there are {rows} now (allowed difference {}%); {open} of {ranges} \
                 ranges open",
                tolerance * 100.0
            ),
        },
    });
    Ok(checks.collect())
}

/// ` AND` the row is one of the tenants: compared as texts, unlike the writer.
fn of_tenants(job: &DataJob) -> String {
    let scope = job.data.source.tenants.as_ref();
    scope.map(|scope| format!(" AND {}::text = ANY ($1)", quote_ident(&scope.field))).unwrap_or_default()
}

/// The texts of the tenants: a UUID as the server writes it, too.
fn tenants(job: &DataJob) -> Vec<String> {
    let keys = job.data.source.tenants.iter().flat_map(|scope| &scope.keys).map(TenantKey::text);
    keys.flat_map(|key| {
        [KeyKind::Uuid.parse(&key).map_or_else(|_| key.clone(), |uuid| uuid.canonical()), key]
    })
    .collect()
}

#[allow(clippy::cast_precision_loss, reason = "a tolerance")]
fn close(seen: i64, now: i64, tolerance: f64) -> bool {
    (seen - now).abs() as f64 <= tolerance * now.max(1) as f64
}

async fn schema(
    conn: &mut PgConnection,
    migration: &MigrationKey,
    job: &SchemaJob,
) -> Result<Vec<CheckResult>, sqlx::Error> {
    let entry: Option<String> = sqlx::query_scalar(
        "SELECT checksum FROM shardlift.applied WHERE migration = $1 AND version = $2 AND direction = 'up'",
    )
    .bind(migration.id.as_str())
    .bind(i64::from(migration.version.0))
    .fetch_optional(&mut *conn)
    .await?;
    let ours = job.spec.checksum.as_str();
    let mut checks = vec![CheckResult {
        check: "ledger".into(),
        passed: entry.as_deref() == Some(ours),
        detail: format!("expected checksum {ours}, found {}", entry.as_deref().unwrap_or("no entry")),
    }];
    let built = indexes(&job.schema.up);
    if !built.is_empty() {
        let mut bad = Vec::new();
        for (index, table) in &built {
            let valid: Option<bool> = sqlx::query_scalar(
                "SELECT i.indisvalid AND i.indisready FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid \
                 WHERE i.indrelid = to_regclass($1) AND c.relname = $2",
            )
            .bind(table)
            .bind(index)
            .fetch_optional(&mut *conn)
            .await?;
            if valid != Some(true) {
                bad.push(format!(
                    "{} is {}",
                    quote_ident(index),
                    if valid.is_none() { "missing" } else { "invalid" }
                ));
            }
        }
        checks.push(CheckResult {
            check: "indexes".into(),
            passed: bad.is_empty(),
            detail: if bad.is_empty() { format!("{} valid", built.len()) } else { bad.join(", ") },
        });
    }
    Ok(checks)
}

/// Indexes that the change builds concurrently and does not drop again, each with its table.
fn indexes(change: &SchemaChange) -> Vec<(String, String)> {
    let SchemaChange::Sql(statements) = change else { return Vec::new() };
    let mut built: Vec<(String, String)> = Vec::new();
    for statement in statements.iter().filter_map(|text| split(text).ok()).flatten() {
        match statement.class {
            Class::NonTransactional(NonTransactionalKind::CreateIndexConcurrently { index, table }) => {
                built.push((index, table.to_string()));
            }
            Class::NonTransactional(NonTransactionalKind::DropIndexConcurrently { index }) => {
                built.retain(|(name, _)| *name != index.name);
            }
            _ => {}
        }
    }
    built
}
