//! plan with a rehearsal: each shard tries the transforms on a sample, and rolls back. Values of rows pass through to
//! whoever asked, and are kept nowhere (promise P12).

use std::collections::BTreeMap;
use std::time::Duration;

use futures::StreamExt;
use shardlift_domain::failure::{ErrorCode, Failure};
use shardlift_domain::ids::{MigrationId, MigrationKey, ShardId};
use shardlift_domain::plan::Plan;
use shardlift_domain::rehearsal::{
    MOST_REHEARSED_ROWS, REHEARSED_ROWS, Rehearsal, RehearsalRequest, SHOWN_ROWS, SampleRow, ShardRehearsal,
};
use shardlift_domain::spec::SpecFile;
use tokio::time::{Instant, timeout_at};

use super::Services;
use crate::planner::rehearsal::{Answers, skipped, told};

/// How long all of it may take; a person waits.
const WITHIN: Duration = Duration::from_secs(80);
/// Shards that are asked at once.
const AT_ONCE: usize = 64;
/// Shards of which rows are shown, for each migration.
const SHOWN_SHARDS: usize = 4;

/// A row that is shown to whoever asked.
#[derive(Debug, Clone)]
pub struct ShownRow {
    /// Of which migration.
    pub migration: MigrationId,
    /// Where it is.
    pub shard: ShardId,
    /// Before and after.
    pub row: SampleRow,
}

impl Services {
    /// Makes a plan, and has each shard go over about so many rows (0: a number that is good for most). `shown`: also tells
    /// a few rows before and after.
    pub async fn rehearse(
        &self,
        files: &[SpecFile],
        rows: u32,
        shown: bool,
    ) -> Result<(Plan, Vec<ShownRow>), Vec<Failure>> {
        if rows > MOST_REHEARSED_ROWS {
            let message =
                format!("a rehearsal goes over at most {MOST_REHEARSED_ROWS} rows of a shard, not {rows}");
            let failure = Failure::new(ErrorCode::RequestInvalid, message, "ask for fewer rows");
            return Err(vec![failure]);
        }
        let rows = if rows == 0 { REHEARSED_ROWS } else { rows };
        let planned = self.planned(files).await?;
        let mut asked: BTreeMap<ShardId, Vec<RehearsalRequest>> = BTreeMap::new();
        for migration in planned.plan.migrations.iter().filter(|each| skipped(each).is_none()) {
            let place = planned.tenancy.specs.iter().position(|spec| spec.id == migration.id);
            let Some(file) = place.and_then(|place| planned.tenancy.files.get(place)) else { continue };
            for (number, shard) in migration.shards().enumerate() {
                asked.entry(shard.clone()).or_default().push(RehearsalRequest {
                    migration: MigrationKey { id: migration.id.clone(), version: migration.version },
                    file: file.clone(),
                    rows,
                    shown: if shown && number < SHOWN_SHARDS { SHOWN_ROWS } else { 0 },
                });
            }
        }
        let deadline = Instant::now() + WITHIN;
        let shards = asked.into_iter().map(|(shard, requests)| self.on_shard(shard, requests, deadline));
        let answered: Vec<Answered> = futures::stream::iter(shards).buffer_unordered(AT_ONCE).collect().await;
        let (mut answers, mut samples) = (BTreeMap::<MigrationId, Answers>::new(), Vec::new());
        for (migration, shard, found) in answered.into_iter().flatten() {
            let found = found.map(|ShardRehearsal { measured, samples: rows }| {
                let row = |row| ShownRow { migration: migration.clone(), shard: shard.clone(), row };
                samples.extend(rows.into_iter().map(row));
                measured
            });
            answers.entry(migration).or_default().insert(shard, found);
        }
        samples.sort_by(|one, other| (&one.migration, &one.shard).cmp(&(&other.migration, &other.shard)));
        let mut plan = planned.plan;
        plan.rehearsals = plan
            .migrations
            .iter()
            .filter_map(|migration| {
                let spec = planned.tenancy.specs.iter().find(|spec| spec.id == migration.id)?;
                let answers = answers.remove(&migration.id).unwrap_or_default();
                let early = planned.early.contains(&migration.id);
                let skipped = skipped(migration);
                Some(Rehearsal { skipped, ..told(migration, spec, answers, early) })
            })
            .collect();
        Ok((plan, samples))
    }

    /// One migration after another, so that a shard has one rehearsal at a time.
    async fn on_shard(&self, shard: ShardId, requests: Vec<RehearsalRequest>, deadline: Instant) -> Answered {
        let mut answered = Vec::with_capacity(requests.len());
        for request in requests {
            let migration = request.migration.id.clone();
            let asked = self.orchestrator.rehearse(shard.clone(), request);
            let found = timeout_at(deadline, asked).await.unwrap_or_else(|_| Err(silent(&shard)));
            answered.push((migration, shard.clone(), found));
        }
        answered
    }
}

type Answered = Vec<(MigrationId, ShardId, Result<ShardRehearsal, Failure>)>;

fn silent(shard: &ShardId) -> Failure {
    Failure::new(
        ErrorCode::ShardUnreachable,
        format!("the rehearsal did not end within {} s", WITHIN.as_secs()),
        "ask for fewer rows or for fewer specs at once, or look whether the shard's server is overloaded",
    )
    .on_shard(shard)
}
