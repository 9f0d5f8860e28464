//! Who stands in the way of a lock request: named by process, application, user, state and ages, never by query text.

use std::time::Duration;

use shardlift_domain::ended::EndedSession;
use shardlift_domain::spec::{EndBlockers, Written};
use sqlx::Row;

use super::error::words;
use super::session::{Access, QUICK, Session, within};
use crate::lease::TaskLease;

/// Looks, from a second session, who blocks the first.
pub(super) struct Lookout<'a> {
    access: &'a Access,
    pid: i32,
    session: Option<Session>,
    seen: Vec<String>,
    /// Who of them may be ended, and under which right.
    ends: Option<(&'a EndBlockers, &'a TaskLease)>,
    /// Who was.
    ended: Vec<String>,
    /// Looks in a row that found somebody in the way of the same statement.
    blocked: u32,
}

/// Whoever is in the way for so many looks may be ended: most let go by themselves before.
const PATIENCE: u32 = 2;

impl<'a> Lookout<'a> {
    /// For the session with this server process. Opens nothing until it is asked.
    pub(super) fn new(access: &'a Access, pid: i32) -> Self {
        Self { access, pid, session: None, seen: Vec::new(), ends: None, ended: Vec::new(), blocked: 0 }
    }

    /// The same, ending who is in the way as far as the spec says.
    pub(super) fn ending(self, ends: Option<&'a EndBlockers>, lease: &'a TaskLease) -> Self {
        Self { ends: ends.map(|ends| (ends, lease)), ..self }
    }

    /// Waits for the answer; meanwhile looks every `pause` who blocks.
    pub(super) async fn during<T>(&mut self, pause: Duration, answer: impl Future<Output = T>) -> T {
        let mut answer = std::pin::pin!(answer);
        self.blocked = 0;
        loop {
            tokio::select! {
                answer = &mut answer => return answer,
                () = tokio::time::sleep(pause) => self.look().await,
            }
        }
    }

    /// Who was seen last, in words.
    pub(super) fn words(&self) -> String {
        let held = if self.seen.is_empty() { "unknown sessions".into() } else { self.seen.join(", ") };
        if self.ended.is_empty() { held } else { format!("{held}; ended: {}", self.ended.join(", ")) }
    }

    /// Whether anybody was seen.
    pub(super) fn any(&self) -> bool {
        !self.seen.is_empty()
    }

    /// Ends the second session.
    pub(super) async fn close(self) {
        if let Some(session) = self.session {
            session.close().await;
        }
    }

    async fn look(&mut self) {
        if self.session.is_none() {
            self.session = self.access.control("lookout").await.ok();
        }
        let Some(session) = &mut self.session else { return };
        let rows = sqlx::query(
            "SELECT b.pid, a.application_name, a.state, extract(epoch FROM now() - a.xact_start)::int8, \
                    a.usename::text, extract(epoch FROM now() - a.query_start)::int8 \
             FROM unnest(pg_blocking_pids($1)) AS b (pid) LEFT JOIN pg_stat_activity a ON a.pid = b.pid LIMIT 10",
        )
        .bind(self.pid)
        .fetch_all(&mut session.conn);
        match within(QUICK, rows).await {
            Ok(rows) if !rows.is_empty() => {
                self.seen = rows.iter().map(line).collect();
                self.blocked += 1;
            }
            Ok(_) => self.blocked = 0,
            Err(_) => self.session = None,
        }
        if self.blocked >= PATIENCE {
            self.end().await;
        }
    }

    /// Ends those that the spec names, if it names any and their work is small enough.
    async fn end(&mut self) {
        let (Some((ends, lease)), Some(session)) = (self.ends, &mut self.session) else { return };
        let ended = sqlx::query(END)
            .bind(self.pid)
            .bind(&ends.applications)
            .bind(&ends.users)
            .bind(ends.younger_than.as_secs_f64())
            .bind(ends.written == Written::Anything)
            .fetch_all(&mut session.conn);
        match within(QUICK, ended).await {
            Ok(rows) => {
                for who in rows.iter().map(one_ended) {
                    tracing::warn!(shard = %self.access.shard, %who, "ended a session that was in the way of a schema change");
                    if self.ended.len() < TOLD {
                        self.ended.push(who.to_string());
                    }
                    lease.has_ended(who);
                }
            }
            Err(error) => {
                tracing::warn!(shard = %self.access.shard, error = words(&error), "could not end who is in the way");
            }
        }
    }
}

/// Most sessions that are named as ended.
const TOLD: usize = 10;

/// Of those in the way: clients that hold what is waited for, that are nobody's replication, no superuser's and not ours, and of
/// which everything is so that the spec asks for. Looked at and ended in one statement, so that it is nobody else's number.
const END: &str = "\
    SELECT pid, name, state, open_for, usename, quiet_for, word FROM (
        SELECT a.pid, a.application_name AS name, a.state, extract(epoch FROM clock_timestamp() - a.xact_start)::int8 AS open_for,
               a.usename::text AS usename, extract(epoch FROM clock_timestamp() - a.query_start)::int8 AS quiet_for,
               upper(substring(a.query FROM '^[\\s(]*([A-Za-z]+)')) AS word
        FROM unnest(pg_blocking_pids($1)) AS b (pid)
        JOIN pg_stat_activity a ON a.pid = b.pid
        JOIN pg_roles r ON r.oid = a.usesysid
        WHERE a.backend_type = 'client backend' AND NOT r.rolsuper AND NOT r.rolreplication
          AND a.application_name = ANY ($2) AND a.application_name NOT LIKE 'shardlift/%'
          AND (cardinality($3::text[]) = 0 OR a.usename::text = ANY ($3))
          AND a.wait_event_type IS DISTINCT FROM 'Lock'
          AND a.xact_start > clock_timestamp() - make_interval(secs => $4)
          AND ($5 OR a.backend_xid IS NULL)
        OFFSET 0
    ) AS chosen
    WHERE pg_terminate_backend(pid)";

/// Words that a statement may begin with. Any other one may be somebody's name or value.
const STATEMENTS: [&str; 27] = [
    "SELECT",
    "WITH",
    "VALUES",
    "TABLE",
    "INSERT",
    "UPDATE",
    "DELETE",
    "MERGE",
    "COPY",
    "LOCK",
    "CALL",
    "DO",
    "EXECUTE",
    "FETCH",
    "DECLARE",
    "CLOSE",
    "EXPLAIN",
    "BEGIN",
    "START",
    "SAVEPOINT",
    "RELEASE",
    "ROLLBACK",
    "SET",
    "SHOW",
    "CREATE",
    "ALTER",
    "DROP",
];

fn one_ended(row: &sqlx::postgres::PgRow) -> EndedSession {
    let text = |n: usize| row.try_get::<Option<String>, _>(n).ok().flatten().unwrap_or_default();
    let seconds = |n: usize| {
        let seconds = row.try_get::<Option<i64>, _>(n).ok().flatten();
        seconds.and_then(|seconds| u64::try_from(seconds).ok()).unwrap_or_default()
    };
    EndedSession {
        pid: row.try_get::<i32, _>(0).ok().and_then(|pid| u32::try_from(pid).ok()).unwrap_or_default(),
        application: text(1),
        user: text(4),
        state: text(2),
        open_seconds: seconds(3),
        quiet_seconds: seconds(5),
        statement: class(&text(6)).to_owned(),
    }
}

/// The class of a statement by its first word.
fn class(word: &str) -> &'static str {
    STATEMENTS.into_iter().find(|known| *known == word).unwrap_or("a statement")
}

fn line(row: &sqlx::postgres::PgRow) -> String {
    let pid: i32 = row.try_get(0).unwrap_or_default();
    if pid == 0 {
        return "a prepared transaction (see pg_prepared_xacts)".into();
    }
    let name: Option<String> = row.try_get(1).unwrap_or_default();
    let state: Option<String> = row.try_get(2).unwrap_or_default();
    let age: Option<i64> = row.try_get(3).unwrap_or_default();
    let user: Option<String> = row.try_get(4).unwrap_or_default();
    let query: Option<i64> = row.try_get(5).unwrap_or_default();
    let name = name.filter(|name| !name.is_empty()).unwrap_or_else(|| "unnamed".into());
    let user = user.map_or_else(String::new, |user| format!(", user {user}"));
    let age = age.map_or_else(String::new, |seconds| format!(", transaction open for {seconds} s"));
    let query = query.map_or_else(String::new, |seconds| format!(", last statement {seconds} s ago"));
    format!("pid {pid} ({name}{user}, {}{age}{query})", state.unwrap_or_else(|| "state unknown".into()))
}
