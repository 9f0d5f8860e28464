//! The leader's side of telling others: what is to be told, and that it was.

use chrono::{DateTime, Utc};
use shardlift_domain::ids::MigrationKey;
use shardlift_domain::migration::{Phase, Status};
use shardlift_domain::progress::ShardProgress;

use super::book::{Numbered, Page};
use super::leader::{Leader, StepDown, answer, store_trouble};
use super::wake::Reply;
use crate::store::StoreError;

/// What others do not know yet.
#[derive(Debug, Default)]
pub struct Untold {
    /// What happened, in its order. As much as was asked for: there may be more.
    pub history: Vec<Numbered>,
    /// How far what runs is, after all of that; none while there may be more.
    pub running: Vec<Running>,
}

/// How far a migration that runs is.
#[derive(Debug, Clone, PartialEq)]
pub struct Running {
    /// Which version.
    pub migration: MigrationKey,
    /// Where it stands.
    pub phase: Phase,
    /// Rows that were changed.
    pub rows_done: u64,
    /// Rows that there are, as estimated or counted.
    pub rows_total: u64,
    /// Shards on which nothing is left to do.
    pub shards_done: usize,
    /// All its shards.
    pub shards: usize,
    /// How many things were told of it before.
    pub number: u64,
    /// When.
    pub at: DateTime<Utc>,
}

impl Leader {
    /// Tells what others do not know; `running`: also how far what runs is. A store that cannot be read takes nobody's lead.
    pub(super) async fn on_untold(
        &mut self,
        limit: u32,
        running: bool,
        reply: Reply<Untold>,
    ) -> Result<(), StepDown> {
        if running {
            // The figures are of now: what was decided before them is to be told before them.
            self.store().await?;
        }
        let untold = self.untold(limit, running).await;
        answer(reply, untold.map_err(|error| store_trouble(&error)));
        Ok(())
    }

    async fn untold(&mut self, limit: u32, running: bool) -> Result<Untold, StoreError> {
        let mut untold = Untold { history: self.book.untold(limit).await?, running: Vec::new() };
        let all = untold.history.len() < usize::try_from(limit).unwrap_or(usize::MAX);
        if running && all {
            let pages = self.book.newest().filter(|page| page.migration().status == Status::Running);
            untold.running = pages.map(figures).collect();
            for running in &mut untold.running {
                running.number = self.book.told_of(&running.migration.id).await?;
            }
        }
        Ok(untold)
    }

    /// Whether a request of a broker was carried out.
    pub(super) async fn on_has_heard(&mut self, source: &str, id: &str, reply: Reply<bool>) {
        let heard = self.book.has_heard(source, id).await;
        answer(reply, heard.map_err(|error| store_trouble(&error)));
    }

    /// All up to this sequence was told; answered once that is stored.
    pub(super) fn on_relayed(&mut self, position: u64, reply: Reply<()>) {
        self.book.relayed(position);
        self.outbox.tell(reply, Ok(()));
    }
}

fn figures(page: &Page) -> Running {
    let migration = page.migration();
    let sum = |rows: fn(&ShardProgress) -> u64| page.stored.progress.values().map(rows).sum();
    Running {
        migration: migration.key.clone(),
        phase: migration.phase,
        rows_done: sum(|shard| shard.rows_done),
        rows_total: sum(|shard| shard.rows_total),
        shards_done: migration.shards.values().filter(|part| part.todo.is_none()).count(),
        shards: migration.shards.len(),
        number: 0,
        at: shardlift_runtime::clock::now(),
    }
}
