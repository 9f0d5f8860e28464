//! The leader's side of the topology: changes by persons, by the file, and by what workers announce.

use std::collections::BTreeMap;

use shardlift_domain::facts::ShardHello;
use shardlift_domain::ids::ShardId;

use super::book::{Book, Refused, itself};
use super::leader::{Leader, StepDown, answer, store_trouble};
use super::role::with_uuids;
use super::wake::{Asker, Reply};
use crate::shard::{Edit, Present, discovered, edit};

impl Leader {
    /// A person, or the file, changes the topology. The answer: whether anything changed, and the revision now.
    pub(super) async fn on_edit(
        &mut self,
        edit: Edit,
        by: &Asker,
        reply: Reply<(bool, u64)>,
    ) -> Result<(), StepDown> {
        let edit = match edit {
            Edit::Declare(declared) => Edit::Declare(with_uuids(&declared, self.book.topology())),
            other => other,
        };
        match self.edit(edit, by).await {
            Ok(changed) => {
                answer(reply, Ok((changed, self.book.topology().revision)));
                Ok(())
            }
            Err(Refused::Person(failure)) => {
                self.outbox.tell(reply, Err(failure));
                Ok(())
            }
            Err(Refused::Store(error)) => {
                answer(reply, Err(store_trouble(&error)));
                Err(error.into())
            }
        }
    }

    /// Shards that a worker announces and that nobody declared join, where their cluster wants it.
    pub(super) async fn discover(&mut self, announced: &[ShardHello]) -> Result<(), StepDown> {
        for edit in discovered(self.book.topology(), announced) {
            match self.edit(edit, &itself()).await {
                Ok(_) => {}
                // Two of one id in one hello: the second finds the first there.
                Err(Refused::Person(failure)) => tracing::warn!(%failure, "an announced shard does not join"),
                Err(Refused::Store(error)) => return Err(error.into()),
            }
        }
        Ok(())
    }

    async fn edit(&mut self, edit: Edit, by: &Asker) -> Result<bool, Refused> {
        let mut needed = needed(&self.book);
        for (worker, present) in self.fleet.iter() {
            for shard in present.shards.keys() {
                needed.entry(shard.clone()).or_insert_with(|| format!("worker {worker} serves it"));
            }
        }
        let changed = self.book.edit(edit, &needed, by).await?;
        if changed {
            tracing::info!(revision = self.book.topology().revision, "the topology changed");
            self.changed();
        }
        Ok(changed)
    }
}

/// Shards that migrations need, and for what.
pub(super) fn needed(book: &Book) -> BTreeMap<ShardId, String> {
    let mut needed = BTreeMap::new();
    for migration in book.pages().map(super::book::Page::migration) {
        if !migration.status.is_final() {
            for shard in migration.shards.keys() {
                let why = || format!("migration {} is {} there", migration.key.id, migration.status);
                needed.entry(shard.clone()).or_insert_with(why);
            }
        }
    }
    needed
}

impl Book {
    /// Makes a change of the topology: store first, then memory. `false`: it is so already.
    pub(super) async fn edit(
        &mut self,
        change: Edit,
        needed: &BTreeMap<ShardId, String>,
        by: &Asker,
    ) -> Result<bool, Refused> {
        let present = Present { topology: self.topology(), directory: self.directory(), needed };
        match edit(&present, change).map_err(Refused::Person)? {
            Some(edited) => self.relocate(edited, by).await.map(|()| true),
            None => Ok(false),
        }
    }
}
