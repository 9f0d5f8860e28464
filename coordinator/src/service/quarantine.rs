//! quarantine list, show, retry, discard: questions to the shards that hold rows, one after the other.

use std::time::Duration;

use shardlift_domain::failure::{ErrorCode, Failure};
use shardlift_domain::ids::{MigrationId, MigrationKey, ShardId};
use shardlift_domain::migration::{Migration, Status, Verb};
use shardlift_domain::quarantine::{
    QUARANTINE_PAGE, QuarantineAnswer, QuarantineAsk, QuarantineRequest, QuarantinedRow,
};
use tokio::sync::mpsc;

use super::Services;
use super::answers::{Within, misunderstood};
use crate::orchestrator::{Asker, Decided, MigrationView};

/// How long one answer of a shard may take.
const ANSWER_WITHIN: Within = Within {
    time: Duration::from_secs(25),
    lacks: "gave no answer",
    next: "look whether its server is overloaded, then ask again: a decision that was made is not made twice",
};

/// Which rows are meant.
#[derive(Debug, Clone)]
pub struct Rows {
    /// Of which migration, in its newest version.
    pub id: MigrationId,
    /// On which shard; `None`: on all that hold any.
    pub shard: Option<ShardId>,
    /// Which; none: all that wait for a decision.
    pub keys: Vec<String>,
}

/// What is to become of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// They are tried again.
    Retry,
    /// They are given up.
    Discard,
}

impl Services {
    /// Tells the rows, shard by shard. Ends early when whoever listens has gone.
    pub async fn quarantined(
        &self,
        rows: &Rows,
        found: &mpsc::Sender<(ShardId, QuarantinedRow)>,
    ) -> Result<(), Failure> {
        let view = self.orchestrator.get(rows.id.clone(), None).await?;
        for shard in shards(&view.migration, rows.shard.as_ref())? {
            let mut after = None;
            loop {
                let ask = QuarantineAsk::List { after, limit: QUARANTINE_PAGE };
                let QuarantineAnswer::Page { rows, next } =
                    self.ask_shard(&view.migration.key, &shard, ask).await?
                else {
                    return Err(misunderstood(&shard));
                };
                for row in rows {
                    if found.send((shard.clone(), row)).await.is_err() {
                        return Ok(());
                    }
                }
                after = next;
                if after.is_none() {
                    break;
                }
            }
        }
        Ok(())
    }

    /// Tells one row as it was, part by part.
    pub async fn show_quarantined(
        &self,
        id: MigrationId,
        shard: ShardId,
        key: String,
        parts: &mpsc::Sender<Vec<u8>>,
    ) -> Result<(), Failure> {
        let view = self.orchestrator.get(id, None).await?;
        let named = shards(&view.migration, Some(&shard))?;
        let (mut offset, mut total) = (0, u64::MAX);
        while offset < total && !named.is_empty() {
            let ask = QuarantineAsk::Show { key: key.clone(), offset };
            let answer = self.ask_shard(&view.migration.key, &shard, ask).await?;
            let QuarantineAnswer::Image { bytes, total: whole } = answer else {
                return Err(misunderstood(&shard));
            };
            (offset, total) = (offset + bytes.len() as u64, whole);
            if bytes.is_empty() || parts.send(bytes).await.is_err() {
                break;
            }
        }
        Ok(())
    }

    /// Decides about rows: how many it concerned, and the migration afterwards.
    ///
    /// A retry first lets the coordinator know that the shards are to be searched again, then changes the shards, so
    /// that nothing is forgotten wherever this ends. A migration that was completed is started again in any case.
    pub async fn decide_quarantined(
        &self,
        rows: &Rows,
        decision: Decision,
        by: Asker,
    ) -> Result<(MigrationView, u64), Failure> {
        let view = self.orchestrator.get(rows.id.clone(), None).await?;
        let shards = shards(&view.migration, rows.shard.as_ref())?;
        if rows.shard.is_none() && !rows.keys.is_empty() && shards.len() != 1 {
            return Err(invalid("keys are those of one shard", "name the shard with --shard"));
        }
        let mut view = view;
        if decision == Decision::Retry {
            view = self.orchestrator.reopen(rows.id.clone(), shards.clone()).await?;
        }
        let again = decision == Decision::Retry && view.migration.status == Status::Pending;
        let decided = self.decide_on_shards(view, shards, rows, decision).await;
        if again {
            let (view, _) = self.orchestrator.asked(rows.id.clone(), Verb::Start, by).await?;
            return decided.map(|(_, count)| (view, count));
        }
        decided
    }

    async fn decide_on_shards(
        &self,
        mut view: MigrationView,
        shards: Vec<ShardId>,
        rows: &Rows,
        decision: Decision,
    ) -> Result<(MigrationView, u64), Failure> {
        let mut count = 0;
        let migration = view.migration.key.clone();
        for shard in shards {
            let ask = match decision {
                Decision::Retry => QuarantineAsk::Retry(rows.keys.clone()),
                Decision::Discard => QuarantineAsk::Discard(rows.keys.clone()),
            };
            let answer = self.ask_shard(&migration, &shard, ask).await?;
            let QuarantineAnswer::Decided { rows, held } = answer else {
                return Err(misunderstood(&shard));
            };
            count += rows;
            let retried = decision == Decision::Retry && rows > 0;
            let decided = Decided { migration: migration.clone(), shard, held, retried };
            view = self.orchestrator.decided(decided).await?;
        }
        Ok((view, count))
    }

    async fn ask_shard(
        &self,
        migration: &MigrationKey,
        shard: &ShardId,
        ask: QuarantineAsk,
    ) -> Result<QuarantineAnswer, Failure> {
        let request = QuarantineRequest { migration: migration.clone(), ask };
        ANSWER_WITHIN.answered(shard, self.orchestrator.quarantine(shard.clone(), request)).await
    }
}

/// The named shard, or all that hold rows.
fn shards(migration: &Migration, named: Option<&ShardId>) -> Result<Vec<ShardId>, Failure> {
    match named {
        None => Ok(migration.quarantined.keys().cloned().collect()),
        Some(shard) if migration.shards.contains_key(shard) => Ok(vec![shard.clone()]),
        Some(shard) => Err(invalid(
            &format!("{} does not cover shard {shard}", migration.key),
            "name one of its shards: `shardlift status ID` lists them",
        )),
    }
}

fn invalid(message: &str, next: &str) -> Failure {
    Failure::new(ErrorCode::RequestInvalid, message, next)
}
