//! Sessions with the guards of promise P3: none outlives its use by much, none waits for ever.

use std::fmt;
use std::str::FromStr;

use shardlift_runtime::config::Secret;
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions, PgConnection};
use tokio::sync::{Mutex, MutexGuard};

use super::super::StoreError;
use super::super::error::{ANSWER, answered};

/// What every session is told first.
///
/// A leader that is stopped in the middle of a commit holds the fence row: the server ends its transaction before a
/// take-over, which waits for that row, gives up. The server gives up on a statement no later than we do.
const GUARDS: [(&str, &str); 12] = [
    ("statement_timeout", "5000"),
    ("lock_timeout", "4500"),
    ("idle_in_transaction_session_timeout", "3000"),
    ("tcp_keepalives_idle", "10"),
    ("tcp_keepalives_interval", "5"),
    ("tcp_keepalives_count", "3"),
    ("tcp_user_timeout", "20000"),
    // An acknowledged commit survives a crash; only `off` is overruled, stronger settings stay.
    ("synchronous_commit", "on"),
    ("TimeZone", "UTC"),
    ("DateStyle", "ISO, MDY"),
    ("row_security", "off"),
    ("jit", "off"),
];

/// The way to the database, and the session that is open at the moment.
pub(super) struct Sessions {
    options: PgConnectOptions,
    open: Mutex<Option<PgConnection>>,
}

impl Sessions {
    /// Reads the address; opens nothing.
    pub(super) fn new(url: &Secret) -> Result<Self, StoreError> {
        // The parser takes any scheme, and its own words may repeat parts of the address.
        let text = url.expose();
        let known = ["postgres://", "postgresql://"].iter().any(|scheme| text.starts_with(scheme));
        let parsed = known.then(|| PgConnectOptions::from_str(text).ok()).flatten();
        let options = parsed.ok_or_else(|| StoreError::Location {
            place: "at `store.url`".to_owned(),
            why: "it is not an address such as postgres://user:password@host:5432/database".to_owned(),
        })?;
        let options = options.application_name("shardlift-coordinator/store").disable_statement_logging();
        Ok(Self { options, open: Mutex::new(None) })
    }

    /// Host, port and database, for people.
    pub(super) fn place(&self) -> String {
        let options = &self.options;
        let database = options.get_database().unwrap_or_else(|| options.get_username());
        format!("postgres://{}:{}/{database}", options.get_host(), options.get_port())
    }

    /// The session that is open, or a new one. It is closed unless its user says in the end that it may be kept: a
    /// future that was dropped leaves an answer unread, and perhaps a transaction open.
    pub(super) async fn take(&self) -> Result<Session<'_>, StoreError> {
        let waiting = tokio::time::timeout(ANSWER, self.open.lock());
        let mut slot = waiting.await.map_err(|_| StoreError::silent("wait for its session"))?;
        let kept = slot.take();
        let reused = kept.is_some();
        let connection = match kept {
            Some(connection) => connection,
            None => self.connect().await?,
        };
        Ok(Session { sessions: self, slot, connection, reused })
    }

    /// A guarded session of its own.
    pub(super) async fn connect(&self) -> Result<PgConnection, StoreError> {
        let mut connection = answered("connect", self.options.connect()).await?;
        let (names, values): (Vec<&str>, Vec<&str>) = GUARDS.into_iter().unzip();
        let set = "SELECT set_config(name, value, false) FROM unnest($1::text[], $2::text[]) AS s (name, value) \
                   WHERE name <> 'synchronous_commit' OR current_setting(name) = 'off'";
        let set = sqlx::query(set).bind(names).bind(values).execute(&mut connection);
        answered("set its session up", set).await?;
        if connection.server_version_num().is_some_and(|version| version >= 140_000) {
            let set = sqlx::query("SET client_connection_check_interval = 2000").execute(&mut connection);
            answered("set its session up", set).await?;
        }
        Ok(connection)
    }
}

impl fmt::Debug for Sessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sessions").field("place", &self.place()).finish_non_exhaustive()
    }
}

/// One session, for one use.
pub(super) struct Session<'a> {
    sessions: &'a Sessions,
    slot: MutexGuard<'a, Option<PgConnection>>,
    pub(super) connection: PgConnection,
    reused: bool,
}

impl Session<'_> {
    /// Begins a transaction. A session that was kept may have died since; nothing has happened yet, so a new one does
    /// as well.
    pub(super) async fn begin(&mut self, statement: &'static str) -> Result<(), StoreError> {
        let begun = answered("begin", sqlx::raw_sql(statement).execute(&mut self.connection)).await;
        if begun.is_ok() || !self.reused {
            return begun.map(drop);
        }
        self.connection = self.sessions.connect().await?;
        answered("begin", sqlx::raw_sql(statement).execute(&mut self.connection)).await.map(drop)
    }

    /// Ends the transaction. When no answer comes, nobody knows how it ended.
    pub(super) async fn end(mut self, statement: &'static str) -> Result<(), StoreError> {
        answered("commit", sqlx::raw_sql(statement).execute(&mut self.connection)).await?;
        self.keep();
        Ok(())
    }

    /// Nothing is left open or unread: it may be used again.
    pub(super) fn keep(self) {
        let Self { mut slot, connection, .. } = self;
        *slot = Some(connection);
    }
}
