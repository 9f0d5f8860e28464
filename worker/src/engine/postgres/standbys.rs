//! Standbys that stream from the shard: how far they are behind, for specs with `throttle.max_replica_lag`.

use std::time::Duration;

use shardlift_domain::failure::{ErrorCode, Failure};
use shardlift_domain::verdict::Severity;
use sqlx::Row;
use sqlx::postgres::PgRow;
use tokio::time::Instant;

use super::error::OrTrouble;
use super::session::{QUICK, Session, within};
use crate::engine::findings::Findings;
use crate::engine::replicas::Track;
use crate::engine::{EngineError, EngineResult, Lag};

/// Where the log is, and each standby that replays it. Not subscribers of logical replication, base backups, nor receivers
/// that only write the log to a disk. What the role may not see has no state.
const STANDBYS: &str = "\
    SELECT pg_wal_lsn_diff(pg_current_wal_flush_lsn(), '0/0')::int8, hidden.count, s.name, s.replayed, s.seconds
    FROM (SELECT count(*) FROM pg_stat_replication WHERE state IS NULL) AS hidden
    LEFT JOIN (
        SELECT r.application_name || coalesce(' at ' || host(r.client_addr), '') AS name,
               pg_wal_lsn_diff(r.replay_lsn, '0/0')::int8 AS replayed,
               coalesce(extract(epoch FROM r.replay_lag), 0)::float8 AS seconds
        FROM pg_stat_replication r
        WHERE r.state IN ('streaming', 'catchup') AND r.replay_lsn IS NOT NULL
          AND NOT EXISTS (SELECT 1 FROM pg_replication_slots slot
                          WHERE slot.active_pid = r.pid AND slot.slot_type = 'logical')
    ) AS s ON true";

/// The standby that is furthest behind; refused if there are some that may not be seen.
pub(super) async fn lag(session: &mut Session, track: &Track) -> EngineResult<Option<Lag>> {
    let Seen { hidden, lag } = seen(session, track).await?;
    if hidden {
        let failure = Failure::new(ErrorCode::PrecheckRefused, MAY_NOT_SEE, GRANT);
        return Err(EngineError::Failed(failure.on_shard(&session.shard)));
    }
    Ok(lag)
}

/// What the role may see of them.
pub(super) struct Seen {
    hidden: bool,
    /// The one that is furthest behind.
    pub(super) lag: Option<Lag>,
}

pub(super) async fn seen(session: &mut Session, track: &Track) -> EngineResult<Seen> {
    let rows = within(QUICK, sqlx::query(STANDBYS).fetch_all(&mut session.conn)).await;
    let rows = rows.or_trouble(&session.shard)?;
    let now = Instant::now();
    let read: Result<Vec<Seen>, _> = rows.iter().map(|row| one(row, now, track)).collect();
    let all = read.or_trouble(&session.shard)?;
    let hidden = all.iter().any(|seen| seen.hidden);
    Ok(Seen { hidden, lag: Lag::furthest(all.into_iter().filter_map(|seen| seen.lag)) })
}

fn one(row: &PgRow, now: Instant, track: &Track) -> Result<Seen, sqlx::Error> {
    let position = |column: usize| -> Result<Option<u64>, sqlx::Error> {
        Ok(row.try_get::<Option<i64>, _>(column)?.map(|position| u64::try_from(position).unwrap_or(0)))
    };
    if let Some(written) = position(0)? {
        track.note(now, written);
    }
    let hidden = row.try_get::<i64, _>(1)? > 0;
    let (name, seconds): (Option<String>, Option<f64>) = (row.try_get(2)?, row.try_get(4)?);
    let lag = position(3)?.zip(name).map(|(replayed, replica)| {
        let told = Duration::try_from_secs_f64(seconds.unwrap_or_default()).unwrap_or_default();
        Lag { replica, behind: track.behind(now, replayed).max(told) }
    });
    Ok(Seen { hidden, lag })
}

const MAY_NOT_SEE: &str =
    "the worker's role may not see how far standbys are behind, which throttle.max_replica_lag needs";
const GRANT: &str = "GRANT pg_read_all_stats TO the worker's role, or leave throttle.max_replica_lag out";

/// Whether the bound can be kept, and whether it means anything here.
pub(super) async fn look(session: &mut Session, findings: &mut Findings) -> EngineResult<()> {
    let allowed =
        sqlx::query("SELECT pg_has_role('pg_read_all_stats', 'USAGE')").fetch_one(&mut session.conn);
    let allowed: bool =
        within(QUICK, allowed).await.and_then(|row| row.try_get(0)).or_trouble(&session.shard)?;
    if !allowed {
        findings.of_spec(Severity::Error, ErrorCode::PrecheckRefused, MAY_NOT_SEE, GRANT);
    } else if lag(session, &Track::default()).await?.is_none() {
        let what = "throttle.max_replica_lag has no effect as long as no standby streams from the shard";
        let next = "nothing, if it has none; a standby that connects later counts from then on";
        findings.of_spec(Severity::Note, ErrorCode::ShardLagging, what, next);
    }
    Ok(())
}
