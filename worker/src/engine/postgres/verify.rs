//! Checks the result. It shares no scan and no comparison with what did the work: its SQL is its own.

use shardlift_domain::ids::MigrationKey;
use shardlift_domain::quarantine::Held;
use shardlift_domain::routing::KeyKind;
use shardlift_domain::spec::{SchemaChange, TenantKey, VerifyCheck, Where};
use shardlift_domain::sql::{Class, NonTransactionalKind, parse_relation, quote_ident, split};
use shardlift_domain::verdict::{CheckResult, VerifyReport};
use sqlx::{AssertSqlSafe, Connection, PgConnection, Row};

use super::session::Access;
use super::walk::misfit;
use super::watch::watched;
use super::{anew, assertion, references};
use crate::engine::{DataJob, EngineResult, Job, SchemaJob};
use crate::lease::TaskLease;

/// Makes every check that the spec asks for, each over one snapshot.
pub(super) async fn verify(access: &Access, lease: &TaskLease, job: &Job) -> EngineResult<VerifyReport> {
    lease.check()?;
    let mut session = access.unbounded(lease.task()).await?;
    let migration = &lease.task().migration;
    let pid = session.pid;
    let (checks, held) = match job {
        Job::Schema(job) => {
            (watched(access, lease, pid, schema(&mut session.conn, migration, job)).await?, None)
        }
        Job::Data(job) => {
            let relation = parse_relation(&job.data.source.relation).map_err(|problem| {
                misfit(&access.shard, format!("the table's name is no name: {}", problem.message))
            })?;
            let anew = anew::verify(access, lease, job).await?;
            let relation = relation.to_string();
            let data = data(&mut session.conn, migration, &relation, job, anew);
            watched(access, lease, pid, data).await?
        }
    };
    session.close().await;
    Ok(VerifyReport { checks, held })
}

async fn data(
    conn: &mut PgConnection,
    migration: &MigrationKey,
    relation: &str,
    job: &DataJob,
    anew: Vec<CheckResult>,
) -> Result<(Vec<CheckResult>, Option<Held>), sqlx::Error> {
    let mut tx = conn.begin().await?;
    sqlx::query("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY").execute(&mut *tx).await?;
    let counts = |check: &VerifyCheck| matches!(check, VerifyCheck::Remaining | VerifyCheck::Count { .. });
    let own = job.data.verify.iter().any(counts);
    let walk = if own { Some(walk(&mut tx, migration, relation, job).await?) } else { None };
    let mut checks = Vec::new();
    for check in &job.data.verify {
        checks.push(match check {
            // Shards are compared once all of them are verified.
            VerifyCheck::Unique(_) => continue,
            VerifyCheck::Assert(assertion) => assertion::ask(&mut tx, assertion).await?,
            VerifyCheck::References(wanted) => {
                references::check(&mut tx, relation, &job.data.source.key, wanted).await?
            }
            VerifyCheck::Transform(_) | VerifyCheck::Digest(_) => {
                let made = anew.iter().find(|result| result.check == check.label());
                made.cloned().unwrap_or_else(|| not_made(check))
            }
            check => walked(check, walk.unwrap_or_default()),
        });
    }
    let held = match job.data.on_error.budget() {
        Some(_) => Some(held(&mut tx, migration).await?),
        None => None,
    };
    Ok((checks, held))
}

/// What was walked over, and what is there now.
#[derive(Clone, Copy, Default)]
struct Walk {
    rows: i64,
    pending: i64,
    left_alone: i64,
    seen: i64,
    open: i64,
    ranges: i64,
}

async fn walk(
    tx: &mut PgConnection,
    migration: &MigrationKey,
    relation: &str,
    job: &DataJob,
) -> Result<Walk, sqlx::Error> {
    let predicate = match &job.data.source.pending {
        Some(Where::Sql(text)) => format!("({text}){}", of_tenants(job)),
        _ => "false".into(),
    };
    let aside = aside(tx, migration, relation).await?;
    let scan = format!(
        "SELECT count(*), sum(CASE WHEN {predicate} THEN 1 ELSE 0 END)::int8, \
         sum(CASE WHEN {predicate} AND {aside} THEN 1 ELSE 0 END)::int8 FROM {relation}"
    );
    let scanned = sqlx::query(AssertSqlSafe(scan)).bind(tenants(job)).fetch_one(&mut *tx).await?;
    let rows: i64 = scanned.try_get(0)?;
    let all = scanned.try_get::<Option<i64>, _>(1)?.unwrap_or_default();
    let left_alone = scanned.try_get::<Option<i64>, _>(2)?.unwrap_or_default();
    let pending = all - left_alone;
    let walked = sqlx::query(
        "SELECT coalesce(sum(rows_seen) FILTER (WHERE pass = 1), 0)::int8, count(*) FILTER (WHERE NOT done), count(*) \
         FROM shardlift.checkpoint WHERE migration = $1 AND version = $2",
    )
    .bind(migration.id.as_str())
    .bind(i64::from(migration.version.0))
    .fetch_one(&mut *tx)
    .await?;
    let (seen, open, ranges) = (walked.try_get(0)?, walked.try_get(1)?, walked.try_get(2)?);
    Ok(Walk { rows, pending, left_alone, seen, open, ranges })
}

fn walked(check: &VerifyCheck, walk: Walk) -> CheckResult {
    let Walk { rows, pending, left_alone, seen, open, ranges } = walk;
    let finished = open == 0 && ranges > 0;
    let (passed, detail) = match check {
        VerifyCheck::Count { tolerance } => (
            close(seen, rows, *tolerance),
            format!(
                "the first pass saw {seen} rows, there are {rows} now (allowed difference {}%); {open} of {ranges} \
                 ranges open",
                tolerance * 100.0
            ),
        ),
        _ => (
            pending == 0,
            format!(
                "expected 0 pending rows, found {pending} of {rows}{}; {open} of {ranges} ranges open",
                beside(left_alone)
            ),
        ),
    };
    CheckResult { check: check.label().into(), passed: passed && finished, detail }
}

fn not_made(check: &VerifyCheck) -> CheckResult {
    CheckResult { check: check.label().into(), passed: false, detail: "it was not made".into() }
}

/// A condition that holds for rows in quarantine. The columns of their keys stand beside them.
async fn aside(
    conn: &mut PgConnection,
    migration: &MigrationKey,
    relation: &str,
) -> Result<String, sqlx::Error> {
    let columns: Option<Vec<String>> = sqlx::query_scalar(
        "SELECT key_columns FROM shardlift.quarantine WHERE migration = $1 AND version = $2 LIMIT 1",
    )
    .bind(migration.id.as_str())
    .bind(i64::from(migration.version.0))
    .fetch_optional(conn)
    .await?;
    let Some(columns) = columns else { return Ok("false".into()) };
    let key: Vec<String> =
        columns.iter().map(|column| format!("{relation}.{}::text", quote_ident(column))).collect();
    Ok(format!(
        "ARRAY[{}] IN (SELECT kept.key FROM shardlift.quarantine kept WHERE kept.migration = '{}' \
         AND kept.version = {} AND kept.state IN ('held', 'discarded'))",
        key.join(", "),
        migration.id,
        migration.version.0
    ))
}

fn beside(left_alone: i64) -> String {
    if left_alone == 0 { String::new() } else { format!(" beside {left_alone} in quarantine") }
}

/// Counted by itself, not by who sets rows aside.
async fn held(conn: &mut PgConnection, migration: &MigrationKey) -> Result<Held, sqlx::Error> {
    let states: Vec<(String, i64)> = sqlx::query_as(
        "SELECT state, count(*) FROM shardlift.quarantine WHERE migration = $1 AND version = $2 GROUP BY state",
    )
    .bind(migration.id.as_str())
    .bind(i64::from(migration.version.0))
    .fetch_all(conn)
    .await?;
    let of = |word: &str| states.iter().find(|(state, _)| state == word).map_or(0, |(_, count)| *count);
    let count = |word| u64::try_from(of(word)).unwrap_or_default();
    Ok(Held { rows: count("held"), discarded: count("discarded") })
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
    if !job.schema.verify.is_empty() {
        let mut tx = conn.begin().await?;
        sqlx::query("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY").execute(&mut *tx).await?;
        for assertion in &job.schema.verify {
            checks.push(assertion::ask(&mut tx, assertion).await?);
        }
    }
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
