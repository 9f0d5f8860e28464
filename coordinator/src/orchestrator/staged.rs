//! What is decided and not stored yet: the moves of many reports, for one commit.

use std::collections::{BTreeMap, BTreeSet};

use shardlift_domain::ids::{MigrationKey, ShardId};
use shardlift_domain::progress::ShardProgress;

use crate::store::{Change, HistoryEntry, Relayed};

/// Moves that the book has made and the store has not.
#[derive(Default)]
pub(super) struct Staged {
    /// What moved, and the shards whose parts did.
    pub(super) moved: BTreeMap<MigrationKey, BTreeSet<ShardId>>,
    pub(super) history: Vec<HistoryEntry>,
    /// What was freed and what was acquired.
    pub(super) locks: Change,
    /// Up to where a sink was told.
    pub(super) relayed: Option<Relayed>,
}

impl Staged {
    pub(super) fn is_empty(&self) -> bool {
        self.moved.is_empty() && self.history.is_empty() && self.locks.is_empty() && self.relayed.is_none()
    }
}

/// Figures that differ from those in the store. They are saved about once a second, however many workers report; those of
/// a shard that takes a step, with that step.
#[derive(Default)]
pub(super) struct Unsaved {
    shards: BTreeMap<MigrationKey, BTreeSet<ShardId>>,
}

/// A shard of a migration with its figures, as a change names it.
type Figures = (MigrationKey, ShardId, ShardProgress);

impl Unsaved {
    pub(super) fn is_empty(&self) -> bool {
        self.shards.is_empty()
    }

    pub(super) fn add(&mut self, key: &MigrationKey, shard: &ShardId) {
        match self.shards.get_mut(key) {
            Some(shards) => drop(shards.insert(shard.clone())),
            None => drop(self.shards.insert(key.clone(), BTreeSet::from([shard.clone()]))),
        }
    }

    /// Takes everything out. `figures`: of a shard, as they are now.
    pub(super) fn take_all<'a>(
        &mut self,
        figures: impl Fn(&MigrationKey, &ShardId) -> Option<&'a ShardProgress>,
    ) -> Vec<Figures> {
        let all = std::mem::take(&mut self.shards).into_iter();
        let all = all.flat_map(|(key, shards)| shards.into_iter().map(move |shard| (key.clone(), shard)));
        all.filter_map(|(key, shard)| {
            let figures = figures(&key, &shard)?.clone();
            Some((key, shard, figures))
        })
        .collect()
    }

    /// Takes those of one migration out: of some shards, or of all of them.
    pub(super) fn take<'a>(
        &mut self,
        key: &MigrationKey,
        only: Option<&BTreeSet<ShardId>>,
        figures: impl Fn(&ShardId) -> Option<&'a ShardProgress>,
    ) -> Vec<Figures> {
        let Some(mine) = self.shards.get_mut(key) else { return Vec::new() };
        let taken = match only {
            Some(only) => only.iter().filter_map(|shard| mine.take(shard)).collect(),
            None => std::mem::take(mine),
        };
        if mine.is_empty() {
            self.shards.remove(key);
        }
        let told = taken.into_iter().filter_map(|shard| {
            let figures = figures(&shard)?.clone();
            Some((key.clone(), shard, figures))
        });
        told.collect()
    }
}
