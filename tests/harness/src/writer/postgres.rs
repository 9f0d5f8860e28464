//! The application's PostgreSQL side: one connection, autocommit, every parameter as text.

use std::sync::Arc;

use anyhow::Context;
use sqlx::{AssertSqlSafe, Connection, PgConnection};

use super::tables::{Forms, Table};
use super::traffic::{Outcome, Store, Usage, Write};
use crate::dataset::Random;
use crate::dataset::items::KEY_SEPARATOR;

pub(super) struct Postgres {
    dsn: String,
    tables: Arc<[Table]>,
    session: Option<PgConnection>,
}

impl Postgres {
    pub(super) fn new(dsn: String, tables: Arc<[Table]>) -> Self {
        Self { dsn, tables, session: None }
    }

    fn session(&mut self) -> anyhow::Result<&mut PgConnection> {
        self.session.as_mut().context("the writer is not connected")
    }

    /// Rows touched by `sql`.
    async fn execute(&mut self, sql: &str, parameters: &[&str]) -> Result<u64, sqlx::Error> {
        let Some(session) = self.session.as_mut() else { return Err(sqlx::Error::PoolClosed) };
        let mut query = sqlx::query(AssertSqlSafe(sql.to_owned()));
        for parameter in parameters {
            query = query.bind((*parameter).to_owned());
        }
        query.execute(session).await.map(|done| done.rows_affected())
    }

    /// The new form, if it is wanted and its columns are there; else the old one, whose rows the migration
    /// will find.
    async fn in_form(&mut self, forms: &Forms, new: bool, parameters: &[&str]) -> Result<u64, sqlx::Error> {
        if new {
            match self.execute(&forms.new, parameters).await {
                Err(error) if code(&error).as_deref() == Some(UNDEFINED_COLUMN) => {}
                ended => return ended,
            }
        }
        self.execute(&forms.old, parameters).await
    }
}

const UNDEFINED_COLUMN: &str = "42703";
const UNIQUE_VIOLATION: &str = "23505";

fn code(error: &sqlx::Error) -> Option<String> {
    error.as_database_error()?.code().map(std::borrow::Cow::into_owned)
}

/// A message of the server says that the statement was not committed, unless the server was going away with
/// it.
fn outcome(ended: Result<u64, sqlx::Error>) -> Outcome {
    let error = match ended {
        Ok(0) => return Outcome::Missing,
        Ok(_) => return Outcome::Done,
        Err(error) => error,
    };
    match code(&error) {
        Some(code) if code == UNIQUE_VIOLATION => Outcome::Taken,
        Some(code) if !code.starts_with("57P") && !code.starts_with("08") => {
            Outcome::Refused(error.to_string())
        }
        _ => Outcome::Unknown(error.to_string()),
    }
}

impl Store for Postgres {
    fn usages(&self) -> Vec<Usage> {
        self.tables.iter().map(|table| table.usage).collect()
    }

    fn fresh_key(&self, table: usize, random: &mut Random, rows: u64) -> anyhow::Result<String> {
        Ok(self.tables[table].keys.fresh(random, rows))
    }

    fn fresh_payload(&self, table: usize, random: &mut Random) -> String {
        (self.tables[table].payload)(random)
    }

    async fn connect(&mut self) -> anyhow::Result<()> {
        self.session = None;
        self.session = Some(PgConnection::connect(&self.dsn).await.context("connecting as the application")?);
        Ok(())
    }

    async fn sample(&mut self, table: usize) -> anyhow::Result<(Vec<(String, String)>, u64)> {
        let tables = self.tables.clone();
        let session = self.session()?;
        let rows = sqlx::query_as(AssertSqlSafe(tables[table].sample.clone())).fetch_all(&mut *session).await;
        let count: i64 =
            sqlx::query_scalar(AssertSqlSafe(tables[table].count.clone())).fetch_one(session).await?;
        Ok((rows.context("looking for rows to use")?, u64::try_from(count)?))
    }

    async fn apply(&mut self, table: usize, write: &Write, new_form: bool) -> Outcome {
        let tables = self.tables.clone();
        let table = &tables[table];
        let split = |key: &'_ str| key.split(KEY_SEPARATOR).map(str::to_owned).collect::<Vec<String>>();
        let (mut parameters, last) = match write {
            Write::Insert { key, payload } | Write::Update { key, payload } => {
                (split(key), vec![payload.clone()])
            }
            Write::Delete { key } => (split(key), Vec::new()),
            Write::Move { from, to } => (split(from), split(to)),
        };
        parameters.extend(last);
        let parameters: Vec<&str> = parameters.iter().map(String::as_str).collect();
        outcome(match write {
            Write::Insert { .. } => self.in_form(&table.insert, new_form, &parameters).await,
            Write::Update { .. } => self.in_form(&table.update, new_form, &parameters).await,
            Write::Delete { .. } => self.execute(&table.delete, &parameters).await,
            Write::Move { .. } => self.execute(&table.rekey, &parameters).await,
        })
    }

    async fn read(&mut self, table: usize, key: &str) -> anyhow::Result<Option<String>> {
        let sql = self.tables[table].read.clone();
        let mut query = sqlx::query_scalar(AssertSqlSafe(sql));
        for part in key.split(KEY_SEPARATOR) {
            query = query.bind(part.to_owned());
        }
        query.fetch_optional(self.session()?).await.context("reading what the application wrote")
    }

    fn label(&self, key: &str) -> String {
        format!("({})", key.replace(KEY_SEPARATOR, ", "))
    }
}
