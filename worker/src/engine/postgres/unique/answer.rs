//! What the leader asks about digests while it compares shards, and their end.

use shardlift_domain::fence::Fence;
use shardlift_domain::ids::{ShardId, TaskId};
use shardlift_domain::migration::Step;
use shardlift_domain::sql::quote_ident;
use shardlift_domain::unique::{
    Collected, Counted, Digest, DigestSlice, KeyedDigest, UniqueAnswer, UniqueAsk, UniqueRequest,
};
use sqlx::postgres::PgRow;
use sqlx::{AssertSqlSafe, Connection, PgConnection, Row};

use super::STATEMENT;
use super::collect::Subject;
use super::collection::{Held, clear_some, give_up};
use crate::engine::postgres::error::OrTrouble;
use crate::engine::postgres::fence::{self, unsigned};
use crate::engine::postgres::key::shown;
use crate::engine::postgres::session::{Access, Purpose, QUICK, Session, within};
use crate::engine::unique::incomplete;
use crate::engine::{DataJob, EngineResult};

/// Rows of one digest that are told: who asks names some of each.
const ROWS: u32 = 5;
const SLICE: &str = "\
    SELECT digest, count(*) FROM shardlift.collected WHERE collection = $1 AND digest >= $2 AND ($3::bytea IS NULL OR digest < $3)
    GROUP BY digest ORDER BY digest LIMIT $4";

/// Answers one question.
pub(in crate::engine::postgres) async fn answer(
    access: &Access,
    leader: &Fence,
    request: &UniqueRequest,
    job: &DataJob,
) -> EngineResult<UniqueAnswer> {
    let name = format!("unique/{}", request.migration);
    let mut session = access.open(&name, Purpose::Batch(STATEMENT)).await?;
    let answer = match &request.ask {
        UniqueAsk::Clear => clear(&mut session, leader, request).await?,
        ask => {
            let shard = session.shard.clone();
            let held =
                within(QUICK, Held::of(&mut session.conn, &request.migration)).await.or_trouble(&shard)?;
            let held = held.filter(|held| held.done).ok_or_else(|| incomplete(&shard))?;
            match ask {
                UniqueAsk::Slice(slice) => {
                    let slice = within(STATEMENT + QUICK, slice_of(&mut session.conn, &held, *slice)).await;
                    UniqueAnswer::Slice(slice.or_trouble(&shard)?)
                }
                UniqueAsk::Rows(digests) => {
                    let task = task(request, &shard);
                    let subject = Subject::resolve(&mut session, &task, job).await?;
                    let rows = rows(&mut session.conn, &held, &subject, digests);
                    UniqueAnswer::Rows(within(STATEMENT + QUICK, rows).await.or_trouble(&shard)?)
                }
                UniqueAsk::Summary | UniqueAsk::Clear => {
                    UniqueAnswer::Summary(Collected { digests: held.digests, form: held.form })
                }
            }
        }
    };
    session.close().await;
    Ok(answer)
}

fn task(request: &UniqueRequest, shard: &ShardId) -> TaskId {
    TaskId { migration: request.migration.clone(), shard: shard.clone(), step: Step::Collect, range: None }
}

async fn slice_of(
    conn: &mut PgConnection,
    held: &Held,
    slice: DigestSlice,
) -> Result<Vec<Counted>, sqlx::Error> {
    let rows = sqlx::query(SLICE)
        .bind(held.id)
        .bind(slice.from.to_be_bytes().to_vec())
        .bind(slice.below.map(|below| below.to_be_bytes().to_vec()))
        .bind(i64::from(slice.limit))
        .fetch_all(conn)
        .await?;
    rows.iter().map(|row| Ok(Counted { digest: digest(row)?, rows: unsigned(row.try_get(1)?) })).collect()
}

/// The rows that have these digests now: what was changed or deleted since it was walked over has another one, or none.
async fn rows(
    conn: &mut PgConnection,
    held: &Held,
    subject: &Subject,
    digests: &[Digest],
) -> Result<Vec<KeyedDigest>, sqlx::Error> {
    let cases = (0..).zip(subject.digests(3));
    let cases: String = cases.map(|(number, digest)| format!(" WHEN {number} THEN {digest}")).collect();
    let same = (1..).zip(subject.walk.key.columns());
    let same = same.map(|(number, column)| {
        format!("source.{} = d.key[{number}]::{}", quote_ident(&column.name), column.cast)
    });
    let sql = format!(
        "SELECT wanted.digest, has.asked::int4, has.key FROM unnest($2::bytea[]) AS wanted (digest) CROSS JOIN LATERAL \
         (SELECT d.asked, d.key FROM shardlift.collected d JOIN {table} AS source ON {same} \
          WHERE d.collection = $1 AND d.digest = wanted.digest AND d.digest = CASE d.asked{cases} END LIMIT {ROWS}) AS has",
        table = subject.walk.table.sql,
        same = same.collect::<Vec<_>>().join(" AND "),
    );
    let wanted: Vec<Vec<u8>> = digests.iter().map(|digest| digest.to_be_bytes().to_vec()).collect();
    let rows = sqlx::query(AssertSqlSafe(sql)).bind(held.id).bind(wanted).bind(&subject.salt).fetch_all(conn);
    let row = |row: &PgRow| {
        let check = u32::try_from(row.try_get::<i32, _>(1)?).unwrap_or_default();
        Ok(KeyedDigest { digest: digest(row)?, check, key: shown(&row.try_get::<Vec<String>, _>(2)?) })
    };
    rows.await?.iter().map(row).collect()
}

fn digest(row: &PgRow) -> Result<Digest, sqlx::Error> {
    let bytes: Vec<u8> = row.try_get(0)?;
    let bytes = <[u8; 16]>::try_from(bytes.as_slice());
    bytes.map(Digest::from_be_bytes).map_err(|error| sqlx::Error::Decode(error.into()))
}

/// Removes some digests, under the shard's fence.
async fn clear(session: &mut Session, leader: &Fence, request: &UniqueRequest) -> EngineResult<UniqueAnswer> {
    let shard = session.shard.clone();
    fence::raise(&mut session.conn, &shard, leader).await?;
    let mut tx = within(QUICK, session.conn.begin()).await.or_trouble(&shard)?;
    fence::enter(&mut tx, &shard, leader).await?;
    within(QUICK, give_up(&mut tx, &request.migration)).await.or_trouble(&shard)?;
    let more = within(STATEMENT + QUICK, clear_some(&mut tx, &request.migration)).await.or_trouble(&shard)?;
    within(QUICK, tx.commit()).await.or_trouble(&shard)?;
    Ok(UniqueAnswer::Cleared(more))
}
