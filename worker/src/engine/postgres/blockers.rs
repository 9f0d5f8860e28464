//! Who stands in the way of a lock request: named by process, application, user, state and ages, never by query text.

use std::time::Duration;

use sqlx::Row;

use super::session::{Access, QUICK, Session, within};

/// Looks, from a second session, who blocks the first.
pub(super) struct Lookout<'a> {
    access: &'a Access,
    pid: i32,
    session: Option<Session>,
    seen: Vec<String>,
}

impl<'a> Lookout<'a> {
    /// For the session with this server process. Opens nothing until it is asked.
    pub(super) fn new(access: &'a Access, pid: i32) -> Self {
        Self { access, pid, session: None, seen: Vec::new() }
    }

    /// Waits for the answer; meanwhile looks every `pause` who blocks.
    pub(super) async fn during<T>(&mut self, pause: Duration, answer: impl Future<Output = T>) -> T {
        let mut answer = std::pin::pin!(answer);
        loop {
            tokio::select! {
                answer = &mut answer => return answer,
                () = tokio::time::sleep(pause) => self.look().await,
            }
        }
    }

    /// Who was seen last, in words.
    pub(super) fn words(&self) -> String {
        if self.seen.is_empty() { "unknown sessions".into() } else { self.seen.join(", ") }
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
            Ok(rows) if !rows.is_empty() => self.seen = rows.iter().map(line).collect(),
            Ok(_) => {}
            Err(_) => self.session = None,
        }
    }
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
