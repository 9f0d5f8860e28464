//! Who and what else is on the shard: transactions that others left open or prepared, indexes that are broken, tables
//! that belong to somebody else.

use std::time::Duration;

use shardlift_domain::failure::ErrorCode;
use shardlift_domain::spec::SchemaChange;
use shardlift_domain::sql::{parse_relation, touched};
use shardlift_domain::verdict::Severity;
use sqlx::{PgConnection, Row};

use crate::engine::findings::Findings;
use crate::engine::postgres::error::OrTrouble;
use crate::engine::postgres::session::{QUICK, Session, within};
use crate::engine::{EngineResult, Job};

/// A prepared transaction that is still there after so long was left behind by somebody.
const LEFT_BEHIND: Duration = Duration::from_secs(2);
/// One of Shardlift's own is finished by its coordinator within a minute.
const OURS_LEFT_BEHIND: Duration = Duration::from_secs(120);
const OURS: &str = "shardlift:";
/// A transaction that has been open for so long is told even if it holds no lock that is needed.
const LONG_OPEN: Duration = Duration::from_secs(60);

/// The numbers of the tables that are there, and those of them that only their owner may change so.
struct Tables {
    all: Vec<i64>,
    owned: Vec<i64>,
}

pub(super) async fn look(session: &mut Session, job: &Job, findings: &mut Findings) -> EngineResult<()> {
    let shard = session.shard.clone();
    let conn = &mut session.conn;
    let tables = within(QUICK, tables(conn, job)).await.or_trouble(&shard)?;
    prepared(session, job, &tables, findings).await?;
    let conn = &mut session.conn;
    within(QUICK, long_open(conn, job, &tables, findings)).await.or_trouble(&shard)?;
    within(QUICK, broken_indexes(conn, &tables, findings)).await.or_trouble(&shard)?;
    within(QUICK, foreign_tables(conn, &tables, findings)).await.or_trouble(&shard)
}

async fn tables(conn: &mut PgConnection, job: &Job) -> Result<Tables, sqlx::Error> {
    let named: Vec<(String, bool)> = match job {
        Job::Data(job) => parse_relation(&job.data.source.relation)
            .map(|table| (table.to_string(), false))
            .into_iter()
            .collect(),
        Job::Schema(job) => match &job.schema.up {
            SchemaChange::Sql(statements) => {
                touched(statements).into_iter().map(|(table, own)| (table.to_string(), own)).collect()
            }
            SchemaChange::Commands(_) => Vec::new(),
        },
    };
    let (names, own): (Vec<String>, Vec<bool>) = named.into_iter().unzip();
    let rows = sqlx::query(
        "SELECT to_regclass(name)::oid::int8, own FROM unnest($1::text[], $2::bool[]) AS t (name, own) \
         WHERE to_regclass(name) IS NOT NULL",
    )
    .bind(names)
    .bind(own)
    .fetch_all(conn)
    .await?;
    let mut tables = Tables { all: Vec::new(), owned: Vec::new() };
    for row in &rows {
        let oid: i64 = row.try_get(0)?;
        tables.all.push(oid);
        if row.try_get(1)? {
            tables.owned.push(oid);
        }
    }
    Ok(tables)
}

/// One prepared transaction.
struct Prepared {
    gid: String,
    owner: String,
    since: String,
    age: Duration,
    here: bool,
    holds: bool,
}

/// A prepared transaction that nobody finishes holds its locks for ever: schema changes would hang on them, and the final
/// search of a data migration waits for every older transaction of the whole server.
async fn prepared(
    session: &mut Session,
    job: &Job,
    tables: &Tables,
    findings: &mut Findings,
) -> EngineResult<()> {
    let shard = session.shard.clone();
    let mut found = within(QUICK, all_prepared(&mut session.conn, tables)).await.or_trouble(&shard)?;
    let searches = matches!(job, Job::Data(job) if job.data.source.pending.is_some());
    let matters = |one: &&Prepared| {
        let settled = one.gid.starts_with(OURS) && one.age < OURS_LEFT_BEHIND;
        !settled && (one.here || searches)
    };
    if found.iter().filter(matters).any(|one| one.age < LEFT_BEHIND) {
        // An application that commits in two phases always has some of these.
        tokio::time::sleep(LEFT_BEHIND).await;
        found = within(QUICK, all_prepared(&mut session.conn, tables)).await.or_trouble(&shard)?;
    }
    for one in found.iter().filter(matters).filter(|one| one.age >= LEFT_BEHIND) {
        // One of another database of the server is known by its name only: it may be finished at any moment.
        let severity = if one.holds || (one.here && searches) { Severity::Error } else { Severity::Warning };
        let what = format!(
            "the prepared transaction {:?} of {}, there since {}, holds its locks until somebody finishes it",
            one.gid, one.owner, one.since
        );
        let next = "its owner must COMMIT PREPARED or ROLLBACK PREPARED it";
        findings.of_shard(severity, ErrorCode::PrecheckRefused, what, next);
    }
    Ok(())
}

async fn all_prepared(conn: &mut PgConnection, tables: &Tables) -> Result<Vec<Prepared>, sqlx::Error> {
    let rows = sqlx::query(
        "SELECT p.gid, p.owner::text, to_char(p.prepared AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS \"UTC\"'), \
                (extract(epoch FROM clock_timestamp() - p.prepared) * 1000)::int8, \
                p.database = current_database(), \
                EXISTS (SELECT FROM pg_locks l WHERE l.virtualtransaction = '-1/' || p.transaction::text \
                        AND l.locktype = 'relation' AND l.relation::int8 = ANY ($1::int8[]) \
                        AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())) \
         FROM pg_prepared_xacts p ORDER BY p.prepared LIMIT 100",
    )
    .bind(&tables.all)
    .fetch_all(conn)
    .await?;
    rows.iter()
        .map(|row| {
            Ok(Prepared {
                gid: row.try_get(0)?,
                owner: row.try_get(1)?,
                since: row.try_get(2)?,
                age: Duration::from_millis(row.try_get::<i64, _>(3)?.unsigned_abs()),
                here: row.try_get(4)?,
                holds: row.try_get(5)?,
            })
        })
        .collect()
}

/// Open transactions that a lock request of ours would wait for, and those that hold up concurrent index builds and final
/// searches.
async fn long_open(
    conn: &mut PgConnection,
    job: &Job,
    tables: &Tables,
    findings: &mut Findings,
) -> Result<(), sqlx::Error> {
    let (patience, locks) = match job {
        Job::Schema(job) => (job.schema.lock_timeout, true),
        Job::Data(_) => (LONG_OPEN, false),
    };
    let rows = sqlx::query(
        "SELECT a.pid, coalesce(a.application_name, ''), coalesce(a.usename::text, ''), coalesce(a.state, ''), \
                to_char(a.xact_start AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS \"UTC\"'), held \
         FROM pg_stat_activity a, LATERAL (SELECT EXISTS (SELECT FROM pg_locks l WHERE l.pid = a.pid AND l.granted \
              AND l.locktype = 'relation' AND l.relation::int8 = ANY ($1::int8[]) \
              AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())) AND $2) AS h (held) \
         WHERE a.datname = current_database() AND a.pid <> pg_backend_pid() AND a.xact_start IS NOT NULL \
           AND a.application_name NOT LIKE 'shardlift/%' \
           AND clock_timestamp() - a.xact_start > make_interval(secs => CASE WHEN held THEN $3 ELSE $4 END) \
         ORDER BY a.xact_start LIMIT 5",
    )
    .bind(&tables.all)
    .bind(locks)
    .bind(patience.as_secs_f64())
    .bind(LONG_OPEN.as_secs_f64())
    .fetch_all(conn)
    .await?;
    for row in &rows {
        let (pid, name, user, state): (i32, String, String, String) =
            (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?, row.try_get(3)?);
        let (since, held): (String, bool) = (row.try_get(4)?, row.try_get(5)?);
        let name = if name.is_empty() { "unnamed".to_owned() } else { name };
        let effect = if held {
            "holds a lock that the change needs"
        } else {
            "holds up concurrent index builds and final searches"
        };
        let what = format!(
            "pid {pid} ({name}, user {user}, {state}) has a transaction open since {since}, which {effect}"
        );
        let next = "let it end; the work waits for it, in short tries that let others pass";
        findings.of_shard(Severity::Warning, ErrorCode::SchemaLocked, what, next);
    }
    Ok(())
}

async fn broken_indexes(
    conn: &mut PgConnection,
    tables: &Tables,
    findings: &mut Findings,
) -> Result<(), sqlx::Error> {
    let broken: Vec<String> = sqlx::query_scalar(
        "SELECT format('%s on %s', i.indexrelid::regclass, i.indrelid::regclass) FROM pg_index i \
         WHERE i.indrelid::int8 = ANY ($1::int8[]) AND NOT i.indisvalid \
           AND NOT EXISTS (SELECT FROM pg_stat_progress_create_index p WHERE p.index_relid = i.indexrelid) \
         ORDER BY 1 LIMIT 20",
    )
    .bind(&tables.all)
    .fetch_all(conn)
    .await?;
    for index in broken {
        let what = format!("the index {index} is invalid: it costs every write and serves no query");
        let next = "DROP INDEX CONCURRENTLY it, or REINDEX INDEX CONCURRENTLY";
        findings.of_shard(Severity::Warning, ErrorCode::PrecheckRefused, what, next);
    }
    Ok(())
}

async fn foreign_tables(
    conn: &mut PgConnection,
    tables: &Tables,
    findings: &mut Findings,
) -> Result<(), sqlx::Error> {
    let rows = sqlx::query(
        "SELECT c.oid::regclass::text, current_user::text, pg_get_userbyid(c.relowner)::text FROM pg_class c \
         WHERE c.oid::int8 = ANY ($1::int8[]) AND NOT pg_has_role(c.relowner, 'USAGE') ORDER BY 1",
    )
    .bind(&tables.owned)
    .fetch_all(conn)
    .await?;
    for row in &rows {
        let (table, user, owner): (String, String, String) =
            (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
        let what = format!(
            "only the owner of {table}, {owner}, may change it so, and {user} is no member of that role"
        );
        let next = format!("GRANT {owner} TO {user}, or let the worker connect as {owner}");
        findings.of_spec(Severity::Error, ErrorCode::PrecheckRefused, what, next);
    }
    Ok(())
}
