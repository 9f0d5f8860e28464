//! Connections to one shard, each with the guards of promise P3 and settings under which every value has one text form.
//!
//! There is no pool: control calls are rare, so each opens a session of its own and nothing is left behind in it.

use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use shardlift_domain::failure::{ErrorCode, Failure};
use shardlift_domain::ids::{ShardId, TaskId};
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions, Connection, PgConnection, Row};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::error::{OrTrouble, unreachable};
use crate::engine::replicas::Track;
use crate::engine::{EngineError, EngineResult};

/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(8);
/// How long one small statement may take, as seen from the worker.
pub(super) const QUICK: Duration = Duration::from_secs(15);
/// Control sessions at once; the sessions of tasks are bounded by the worker's slots.
const CONTROL_SESSIONS: usize = 8;
/// Server releases before this lack what we rely on.
pub(super) const OLDEST_SERVER: u32 = 120_000;

/// What a session is for decides its time limits.
#[derive(Debug, Clone, Copy)]
pub(super) enum Purpose {
    /// Small statements.
    Control,
    /// Batches; the limit of one statement.
    Batch(Duration),
    /// Scans and concurrent index builds: no limit by the server, the worker watches the lease.
    Unbounded,
}

/// How to reach one shard.
#[derive(Clone)]
pub(super) struct Access {
    pub(super) shard: ShardId,
    /// How far the log has come, for how far standbys are behind.
    pub(super) track: Arc<Track>,
    options: PgConnectOptions,
    permits: Arc<Semaphore>,
}

impl Access {
    /// Reads the connection string; opens nothing.
    pub(super) fn new(shard: ShardId, dsn: &str) -> Result<Self, Failure> {
        // The parser's own words may repeat parts of the string, so they are not passed on.
        let options = PgConnectOptions::from_str(dsn).map_err(|_| {
            Failure::new(
                ErrorCode::ConfigInvalid,
                format!("the dsn of shard {shard} is not a PostgreSQL connection string"),
                "write postgres://user:password@host:port/database",
            )
            .on_shard(&shard)
        })?;
        let options = options.disable_statement_logging().statement_cache_capacity(64);
        let permits = Arc::new(Semaphore::new(CONTROL_SESSIONS));
        Ok(Self { shard, track: Arc::default(), options, permits })
    }

    /// A session for control calls; waits while too many are open.
    pub(super) async fn control(&self, name: &str) -> EngineResult<Session> {
        let permit = Arc::clone(&self.permits).acquire_owned().await.ok();
        let mut session = self.open(name, Purpose::Control).await?;
        session.permit = permit;
        Ok(session)
    }

    /// A session without time limits for one task.
    pub(super) async fn unbounded(&self, task: &TaskId) -> EngineResult<Session> {
        self.open(&task_name(task), Purpose::Unbounded).await
    }

    /// A session that lives as long as its owner.
    pub(super) async fn open(&self, name: &str, purpose: Purpose) -> EngineResult<Session> {
        let options = self.options.clone().application_name(&format!("shardlift/{name}"));
        let connected = within(CONNECT, options.connect()).await.or_trouble(&self.shard)?;
        let mut session = Session {
            shard: self.shard.clone(),
            conn: connected,
            pid: 0,
            backend_start: String::new(),
            permit: None,
        };
        session.prepare(purpose).await?;
        Ok(session)
    }
}

/// The name under which a task's sessions appear in `pg_stat_activity`, without the prefix. The server cuts it at 63
/// bytes, so what tells sessions apart stands first.
pub(super) fn task_name(task: &TaskId) -> String {
    match task.range {
        Some(range) => format!("{}/{range}/{}", task.step, task.migration),
        None => format!("{}/{}", task.step, task.migration),
    }
}

/// One connection.
pub(super) struct Session {
    pub(super) shard: ShardId,
    pub(super) conn: PgConnection,
    /// The server process that serves it; with `backend_start` its name for all time.
    pub(super) pid: i32,
    pub(super) backend_start: String,
    permit: Option<OwnedSemaphorePermit>,
}

impl Session {
    async fn prepare(&mut self, purpose: Purpose) -> EngineResult<()> {
        let version = self.version();
        if version < OLDEST_SERVER {
            return Err(EngineError::Failed(
                Failure::new(
                    ErrorCode::PrecheckRefused,
                    format!("the server of shard {} is older than PostgreSQL 12", self.shard),
                    "upgrade the server",
                )
                .on_shard(&self.shard),
            ));
        }
        let settings = settings(purpose, version);
        let names: Vec<&str> = settings.iter().map(|(name, _)| *name).collect();
        let values: Vec<&str> = settings.iter().map(|(_, value)| value.as_str()).collect();
        let set = sqlx::query(
            "SELECT set_config(name, value, false) FROM unnest($1::text[], $2::text[]) AS s (name, value)",
        )
        .bind(names)
        .bind(values)
        .execute(&mut self.conn);
        within(QUICK, set).await.or_trouble(&self.shard)?;
        let who =
            sqlx::query("SELECT pid, backend_start::text FROM pg_stat_activity WHERE pid = pg_backend_pid()")
                .fetch_one(&mut self.conn);
        let who = within(QUICK, who).await.or_trouble(&self.shard)?;
        self.pid = who.try_get(0).or_trouble(&self.shard)?;
        self.backend_start = who.try_get(1).or_trouble(&self.shard)?;
        Ok(())
    }

    /// The server's version as a number: 150018 is 15.18.
    pub(super) fn version(&self) -> u32 {
        self.conn.server_version_num().unwrap_or_default()
    }

    /// Says goodbye. Dropping a session closes it as well, only less politely.
    pub(super) async fn close(self) {
        if within(Duration::from_secs(2), self.conn.close()).await.is_err() {
            tracing::debug!(shard = %self.shard, pid = self.pid, "a session did not close in time");
        }
    }

    /// An error of the connection itself.
    pub(super) fn broken(&self, why: &str) -> EngineError {
        unreachable(&self.shard, why)
    }
}

/// Guards of promise P3, one text form for every value, and the same meaning of statements whatever the role's or the
/// database's own defaults are. `search_path` and `synchronous_commit` stay as they are.
fn settings(purpose: Purpose, version: u32) -> Vec<(&'static str, String)> {
    let (lock, statement) = match purpose {
        Purpose::Control => (Duration::from_secs(5), Duration::from_secs(10)),
        Purpose::Batch(limit) => (Duration::from_secs(2), limit),
        Purpose::Unbounded => (Duration::ZERO, Duration::ZERO),
    };
    let mut settings = vec![
        ("lock_timeout", millis(lock)),
        ("statement_timeout", millis(statement)),
        ("idle_in_transaction_session_timeout", "10000".into()),
        ("tcp_keepalives_idle", "10".into()),
        ("tcp_keepalives_interval", "5".into()),
        ("tcp_keepalives_count", "3".into()),
        ("tcp_user_timeout", "25000".into()),
        ("default_transaction_isolation", "read committed".into()),
        ("TimeZone", "UTC".into()),
        ("DateStyle", "ISO, MDY".into()),
        ("IntervalStyle", "postgres".into()),
        ("bytea_output", "hex".into()),
        ("extra_float_digits", "1".into()),
        ("xmloption", "content".into()),
        // Rows hidden by a policy would be missed in silence: refuse instead.
        ("row_security", "off".into()),
    ];
    if matches!(purpose, Purpose::Batch(_)) {
        // The walk is by key: a plan that reads the whole table for one window is never right.
        settings.push(("enable_seqscan", "off".into()));
        settings.push(("plan_cache_mode", "force_custom_plan".into()));
        settings.push(("max_parallel_workers_per_gather", "0".into()));
        settings.push(("jit", "off".into()));
    }
    if version >= 140_000 {
        settings.push(("client_connection_check_interval", "2000".into()));
    }
    settings
}

/// A time as the server's settings want it.
pub(super) fn millis(time: Duration) -> String {
    time.as_millis().to_string()
}

/// Waits no longer than this for an answer: a half-open connection would never give one.
pub(super) async fn within<T>(
    limit: Duration,
    answer: impl Future<Output = Result<T, sqlx::Error>>,
) -> Result<T, sqlx::Error> {
    match tokio::time::timeout(limit, answer).await {
        Ok(answer) => answer,
        Err(_) => Err(sqlx::Error::Io(std::io::Error::from(std::io::ErrorKind::TimedOut))),
    }
}
