//! Votes that do not come to an end: while one shard has still to prepare, the others hold their locks. When nobody has
//! prepared for longer than any shard may take, all roll back.

use std::collections::BTreeMap;
use std::time::Duration;

use shardlift_domain::failure::{ErrorCode, Failure};
use shardlift_domain::ids::{MigrationKey, ShardId};
use shardlift_domain::migration::{Event, Migration, Step};
use shardlift_domain::spec::SpecBody;
use shardlift_domain::task::Millis;

use super::book::Page;
use super::leader::Leader;

/// Granted beyond what the spec allows a shard for its locks and its statements: for workers to come back.
const GRACE: Duration = Duration::from_secs(20);

/// How many shards of each vote have prepared, and since when it is so many. Volatile: another leader counts anew.
#[derive(Default)]
pub(super) struct Votes(BTreeMap<MigrationKey, (usize, Millis)>);

impl Leader {
    /// Ends votes that make no progress, with the reason.
    pub(super) fn end_slow_votes(&mut self, now: Millis) {
        let open: Vec<&Page> = self.book.pages().filter(|page| page.migration().votes()).collect();
        if open.is_empty() {
            self.votes.0.clear();
            return;
        }
        let mut votes = BTreeMap::new();
        let mut late = Vec::new();
        for page in open {
            let migration = page.migration();
            let prepared = at(migration, Step::Commit).count();
            let known = self.votes.0.get(&migration.key).filter(|(count, _)| *count == prepared);
            let since = known.map_or(now, |(_, since)| *since);
            votes.insert(migration.key.clone(), (prepared, since));
            let waited = Duration::from_millis(now.saturating_sub(since));
            if prepared > 0 && waited > patience(page) {
                late.push((
                    migration.key.clone(),
                    at(migration, Step::Prepare).cloned().collect::<Vec<_>>(),
                    waited,
                ));
            }
        }
        self.votes = Votes(votes);
        for (key, shards, waited) in late {
            let Some(shard) = shards.first().cloned() else { continue };
            let failure = self.not_prepared(&key, &shards, waited);
            self.apply(&key, &Event::StepFailed { shard, step: Step::Prepare, failure });
        }
    }

    fn not_prepared(&self, key: &MigrationKey, shards: &[ShardId], waited: Duration) -> Failure {
        let names: Vec<&str> = shards.iter().take(5).map(ShardId::as_str).collect();
        let more = if shards.len() > names.len() { ", …" } else { "" };
        let trouble = shards.iter().find_map(|shard| {
            let page = self.book.page(key)?;
            let activity = self.board.activity(key, shard);
            activity.trouble.or_else(|| self.stuck(page, shard, activity.open, activity.waiting))
        });
        let why = trouble.map(|failure| format!(": {}", failure.message)).unwrap_or_default();
        Failure::new(
            ErrorCode::SchemaNotPrepared,
            format!(
                "{}{more} did not prepare for {} s while other shards held their locks, so all of them rolled back{why}",
                names.join(", "),
                waited.as_secs()
            ),
            "nothing was changed on any shard: see to it that every shard and its worker answer, then retry",
        )
        .in_migration(key)
        .in_step(Step::Prepare)
    }
}

fn patience(page: &Page) -> Duration {
    match &page.spec.body {
        SpecBody::Schema(schema) => schema.lock_timeout + schema.hold_timeout + GRACE,
        SpecBody::Data(_) => GRACE,
    }
}

fn at(migration: &Migration, step: Step) -> impl Iterator<Item = &ShardId> {
    migration.shards.iter().filter(move |(_, part)| part.todo == Some(step)).map(|(shard, _)| shard)
}
