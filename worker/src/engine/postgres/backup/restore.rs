//! Rows back into a table.

use std::time::Duration;

use futures::StreamExt;
use shardlift_domain::backup::Restored;
use shardlift_domain::ids::ShardId;
use shardlift_domain::sql::quote_ident;
use sqlx::{Connection, PgConnection};

use crate::backup::format::{Cutter, RowsDigest, Torn};
use crate::backup::{Subject, Target, failed, in_the_way};
use crate::engine::postgres::error::OrTrouble;
use crate::engine::postgres::fence::signed;
use crate::engine::postgres::session::{Access, Purpose, QUICK, within};
use crate::engine::{EngineError, EngineResult};

/// How long the server may take for one part.
const PART_WITHIN: Duration = Duration::from_secs(120);
/// Longest name.
const LONGEST: usize = 63;
/// What says how far restores are.
const NOTES: &str = "CREATE TABLE IF NOT EXISTS shardlift_restore \
                     (relation text PRIMARY KEY, backup text NOT NULL, parts integer NOT NULL, rows bigint NOT NULL)";
/// Bytes that are sent at once.
const PIECE: usize = 128 * 1024;

/// Restores rows into a schema of their own and reads them back, in a transaction that is rolled back: whatever happens to
/// it, the server keeps nothing.
pub(in super::super) async fn try_out(
    access: &Access,
    subject: &Subject,
    rows: &[u8],
) -> EngineResult<RowsDigest> {
    let shard = &access.shard;
    let mut session = access.open("backup/sample", Purpose::Batch(PART_WITHIN)).await?;
    let schema = format!("shardlift_scratch_{}", session.pid);
    let mut tx = within(QUICK, session.conn.begin()).await.or_trouble(shard)?;
    enter(&mut tx, shard, &schema, &format!("CREATE SCHEMA {schema}")).await?;
    create(&mut tx, shard, subject).await?;
    copy_in(&mut tx, shard, subject, rows).await?;
    let digest = read_back(&mut tx, shard, subject).await?;
    within(QUICK, tx.rollback()).await.or_trouble(shard)?;
    session.close().await;
    Ok(digest)
}

/// Restores one part. The table `shardlift_restore` of the schema says how far each restore into it is, and is gone with the
/// last of them.
pub(in super::super) async fn restore(
    access: &Access,
    subject: &Subject,
    target: &Target,
    rows: &[u8],
) -> EngineResult<Restored> {
    let (shard, place) = (&access.shard, target.place());
    if place.is_empty() || place.len() > LONGEST || place == "shardlift" || place.starts_with("pg_") {
        return Err(in_the_way(format!("{place:?} is no schema that a table may be restored to")));
    }
    let mut session = access.open("backup/restore", Purpose::Batch(PART_WITHIN)).await?;
    let mut tx = within(QUICK, session.conn.begin()).await.or_trouble(shard)?;
    let schema = quote_ident(&place);
    enter(&mut tx, shard, &schema, &format!("CREATE SCHEMA IF NOT EXISTS {schema}")).await?;
    super::run(&mut tx, shard, format!("{NOTES}; LOCK TABLE shardlift_restore IN EXCLUSIVE MODE")).await?;
    let into = format!("{schema}.{}", subject.name);
    let (done, before) = begun(&mut tx, shard, subject, target, &into).await?;
    if done != target.part {
        within(QUICK, tx.rollback()).await.or_trouble(shard)?;
        return Ok(Restored { into, done, parts: target.parts, rows: before });
    }
    copy_in(&mut tx, shard, subject, rows).await?;
    let count = subject.format.split(rows).map_err(torn)?.len() as u64;
    let (done, rows) = (done + 1, before + count);
    note(&mut tx, shard, subject, (done, rows), done >= target.parts).await?;
    fail::fail_point!("pg-restore-before-commit", |_| std::process::abort());
    within(QUICK, tx.commit()).await.or_trouble(shard)?;
    session.close().await;
    Ok(Restored { into, done, parts: target.parts, rows })
}

/// How many parts and rows are there; makes the table when it is none.
async fn begun(
    conn: &mut PgConnection,
    shard: &ShardId,
    subject: &Subject,
    target: &Target,
    into: &str,
) -> EngineResult<(u32, u64)> {
    let known = sqlx::query_as("SELECT backup, parts, rows FROM shardlift_restore WHERE relation = $1");
    let known: Option<(String, i32, i64)> =
        within(QUICK, known.bind(&subject.name).fetch_optional(&mut *conn)).await.or_trouble(shard)?;
    match known {
        Some((backup, parts, rows)) if backup == target.backup() => {
            return Ok((u32::try_from(parts).unwrap_or_default(), u64::try_from(rows).unwrap_or_default()));
        }
        Some((backup, ..)) => return Err(in_the_way(format!("{into} is half of another backup, {backup}"))),
        None => {}
    }
    let there = sqlx::query_scalar("SELECT to_regclass($1) IS NOT NULL").bind(into);
    if within(QUICK, there.fetch_one(&mut *conn)).await.or_trouble(shard)? {
        return Err(in_the_way(format!("{into} is there already")));
    }
    create(conn, shard, subject).await?;
    let begin =
        sqlx::query("INSERT INTO shardlift_restore (relation, backup, parts, rows) VALUES ($1, $2, 0, 0)");
    let begin = begin.bind(&subject.name).bind(target.backup());
    within(QUICK, begin.execute(conn)).await.or_trouble(shard)?;
    Ok((0, 0))
}

async fn note(
    conn: &mut PgConnection,
    shard: &ShardId,
    subject: &Subject,
    (parts, rows): (u32, u64),
    last: bool,
) -> EngineResult<()> {
    let noted = match last {
        true => sqlx::query("DELETE FROM shardlift_restore WHERE relation = $1").bind(&subject.name),
        false => sqlx::query("UPDATE shardlift_restore SET parts = $2, rows = $3 WHERE relation = $1")
            .bind(&subject.name)
            .bind(i32::try_from(parts).unwrap_or(i32::MAX))
            .bind(signed(rows)),
    };
    within(QUICK, noted.execute(&mut *conn)).await.or_trouble(shard)?;
    let others = sqlx::query_scalar("SELECT EXISTS (SELECT FROM shardlift_restore)");
    if within(QUICK, others.fetch_one(&mut *conn)).await.or_trouble(shard)? {
        return Ok(());
    }
    super::run(conn, shard, "DROP TABLE shardlift_restore".into()).await
}

/// From here on names without a schema are those of this one.
pub(super) async fn enter(
    conn: &mut PgConnection,
    shard: &ShardId,
    schema: &str,
    make: &str,
) -> EngineResult<()> {
    super::run(conn, shard, format!("{make}; SET LOCAL search_path = {schema}")).await
}

/// An empty table of the same shape.
pub(super) async fn create(conn: &mut PgConnection, shard: &ShardId, subject: &Subject) -> EngineResult<()> {
    for statement in &subject.create {
        super::run(conn, shard, statement.clone()).await?;
    }
    Ok(())
}

/// Rows into the table.
pub(super) async fn copy_in(
    conn: &mut PgConnection,
    shard: &ShardId,
    subject: &Subject,
    rows: &[u8],
) -> EngineResult<()> {
    let statement = format!("COPY {} ({}) FROM STDIN (FORMAT binary)", subject.name, super::columns(subject));
    let copied = async {
        let mut copy = conn.copy_in_raw(&statement).await?;
        copy.send(subject.format.head()).await?;
        for piece in rows.chunks(PIECE) {
            copy.send(piece).await?;
        }
        copy.send(subject.format.tail()).await?;
        copy.finish().await
    };
    within(PART_WITHIN, copied).await.or_trouble(shard).map(drop)
}

async fn read_back(conn: &mut PgConnection, shard: &ShardId, subject: &Subject) -> EngineResult<RowsDigest> {
    let statement =
        format!("COPY (SELECT {} FROM {}) TO STDOUT (FORMAT binary)", super::columns(subject), subject.name);
    let mut pieces = within(QUICK, conn.copy_out_raw(&statement)).await.or_trouble(shard)?;
    let (mut cutter, mut digest) = (Cutter::new(subject.format), RowsDigest::default());
    while let Some(piece) =
        within(PART_WITHIN, async { pieces.next().await.transpose() }).await.or_trouble(shard)?
    {
        cutter.feed(&piece);
        let (bytes, _) = cutter.take().map_err(torn)?;
        subject.format.split(&bytes).map_err(torn)?.into_iter().for_each(|row| digest.add(row));
    }
    cutter.end().map_err(torn)?;
    Ok(digest)
}

fn torn(torn: Torn) -> EngineError {
    failed(format!("what the server copies is not understood: {torn}"), "report this as a defect")
}
