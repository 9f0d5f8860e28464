//! Rows whose routing key lives on another shard: a walk by key that reads only, one page at a time.

use futures::TryStreamExt;
use shardlift_domain::facts::{Misplaced, PlacementPage, PlacementRequest};
use shardlift_domain::failure::{ErrorCode, Failure};
use shardlift_domain::ids::ShardId;
use shardlift_domain::sql::parse_ident;
use sqlx::{AssertSqlSafe, Connection, PgConnection, Row};

use super::error::OrTrouble;
use super::key::{Key, shown};
use super::session::{Access, QUICK, within};
use super::table::{self, Table};
use crate::engine::{EngineError, EngineResult, PLACEMENT_PAGE};

/// Looks through one page.
pub(super) async fn look(access: &Access, request: &PlacementRequest) -> EngineResult<PlacementPage> {
    let mut session = access.control("placement").await?;
    let shard = access.shard.clone();
    let found = within(QUICK, table::read(&mut session.conn, &request.relation)).await.or_trouble(&shard)?;
    let table = found.ok_or_else(|| refused(&shard, format!("there is no table {}", request.relation)))?;
    let name = parse_ident(&request.column).unwrap_or_else(|_| request.column.clone());
    let column = table.columns.iter().find(|column| column.name == name);
    let column = column
        .ok_or_else(|| refused(&shard, format!("{} has no column {}", table.sql, request.column)))?
        .sql();
    let key = within(QUICK, table::key(&mut session.conn, &table, &[])).await.or_trouble(&shard)?;
    let key = key.map_err(|why| refused(&shard, why))?;
    let page =
        within(QUICK, walk(&mut session.conn, &table, &key, &column, request)).await.or_trouble(&shard)?;
    session.close().await;
    Ok(page)
}

async fn walk(
    conn: &mut PgConnection,
    table: &Table,
    key: &Key,
    column: &str,
    request: &PlacementRequest,
) -> Result<PlacementPage, sqlx::Error> {
    let sql = format!(
        "SELECT {texts}, {column}::text FROM {table} WHERE {interval} ORDER BY {list} LIMIT {PLACEMENT_PAGE}",
        texts = key.texts(&table.sql),
        table = table.sql,
        interval = key.between(request.after.as_ref().map(|_| 1), None),
        list = key.list(),
    );
    let mut tx = conn.begin().await?;
    sqlx::query("SET TRANSACTION READ ONLY").execute(&mut *tx).await?;
    // A plan that sorts the whole table for one page is never right.
    sqlx::query("SET LOCAL enable_seqscan = off").execute(&mut *tx).await?;
    let mut page = PlacementPage::default();
    let mut last = None;
    {
        let mut rows = sqlx::query(AssertSqlSafe(sql)).bind(&request.after).fetch(&mut *tx);
        while let Some(row) = rows.try_next().await? {
            let at: Vec<String> = row.try_get(0)?;
            let routing: Option<String> = row.try_get(1)?;
            page.walked += 1;
            if !routing.as_ref().is_some_and(|text| request.residence.holds(text)) {
                page.misplaced.push(Misplaced { row: shown(&at), key: routing });
            }
            last = Some(at);
            if page.misplaced.len() >= request.limit as usize {
                break;
            }
        }
    }
    tx.rollback().await?;
    let full = page.walked >= u64::from(PLACEMENT_PAGE) || page.misplaced.len() >= request.limit as usize;
    page.next = last.filter(|_| full);
    Ok(page)
}

fn refused(shard: &ShardId, why: String) -> EngineError {
    EngineError::Failed(
        Failure::new(
            ErrorCode::RequestInvalid,
            why,
            "correct --relation or --key; see `shardlift placement --help`",
        )
        .on_shard(shard),
    )
}
