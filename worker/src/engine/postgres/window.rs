//! Where the next window of a range ends: the key of its last row, found by walking the key's index.

use sqlx::{AssertSqlSafe, PgConnection, Row};

use super::checkpoint::Claim;
use super::key::Bound;
use super::walk::Walk;

/// The next window: everything after the range's last key up to `edge`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Window {
    /// The key of its last row; `None`: it is empty.
    pub(super) edge: Bound,
    /// How many rows it held when it was looked at.
    pub(super) rows: u32,
    /// Nothing comes after it in the range.
    pub(super) last: bool,
}

/// A window as a batch goes over it.
#[derive(Clone, Copy)]
pub(super) struct Stretch<'a> {
    /// Who may advance the checkpoint.
    pub(super) claim: &'a Claim,
    /// The key before the window; `None`: it begins with the table.
    pub(super) after: &'a Bound,
    pub(super) window: &'a Window,
}

/// The statements that find windows; they differ by which bounds there are.
#[derive(Debug, Clone)]
pub(super) struct Edges {
    walk: Walk,
}

impl Edges {
    pub(super) fn new(walk: Walk) -> Self {
        Self { walk }
    }

    /// What is walked.
    pub(super) fn walk(&self) -> &Walk {
        &self.walk
    }

    /// The window of at most `rows` rows in `(after, upper]`, whether pending or not.
    pub(super) async fn next(
        &self,
        conn: &mut PgConnection,
        after: &Bound,
        upper: &Bound,
        rows: u32,
    ) -> Result<Window, sqlx::Error> {
        let sql = self.nth(after.is_some(), upper.is_some());
        let full = sqlx::query(AssertSqlSafe(sql))
            .bind(after)
            .bind(upper)
            .bind(i64::from(rows.max(1)) - 1)
            .fetch_optional(&mut *conn)
            .await?;
        if let Some(row) = full {
            return Ok(Window { edge: Some(row.try_get(0)?), rows: rows.max(1), last: false });
        }
        let sql = self.rest(after.is_some(), upper.is_some());
        let rest = sqlx::query(AssertSqlSafe(sql)).bind(after).bind(upper).fetch_one(conn).await?;
        let count: i64 = rest.try_get(0)?;
        Ok(Window { edge: rest.try_get(1)?, rows: u32::try_from(count).unwrap_or(u32::MAX), last: true })
    }

    /// How the server would walk from the first key on, line by line.
    pub(super) async fn explain(&self, conn: &mut PgConnection) -> Result<Vec<String>, sqlx::Error> {
        let sql = format!("EXPLAIN {}", self.nth(false, false));
        let none: Bound = None;
        sqlx::query_scalar(AssertSqlSafe(sql)).bind(&none).bind(&none).bind(1000_i64).fetch_all(conn).await
    }

    /// The row so many places after the last key. The cursor is the key; the skip only measures one window from it,
    /// inside one snapshot, without handing its rows to anybody (five times faster than numbering them).
    fn nth(&self, after: bool, upper: bool) -> String {
        format!(
            "SELECT {texts} FROM (SELECT {list} FROM {table} WHERE {interval} \
             ORDER BY {list} OFFSET $3 LIMIT 1) w",
            texts = self.walk.key.texts("w"),
            list = self.walk.key.list(),
            table = self.walk.table.sql,
            interval = self.interval(after, upper),
        )
    }

    fn rest(&self, after: bool, upper: bool) -> String {
        format!(
            "SELECT (SELECT count(*) FROM {table} WHERE {interval}), \
             (SELECT {texts} FROM (SELECT {list} FROM {table} WHERE {interval} ORDER BY {descending} LIMIT 1) w)",
            texts = self.walk.key.texts("w"),
            list = self.walk.key.list(),
            descending = self.walk.key.descending(),
            table = self.walk.table.sql,
            interval = self.interval(after, upper),
        )
    }

    fn interval(&self, after: bool, upper: bool) -> String {
        self.walk.key.between(after.then_some(1), upper.then_some(2))
    }
}
