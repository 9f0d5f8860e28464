//! The gates between waves: how long each has soaked, by this leader's clock, and whether its shards are in health.
//!
//! Nothing here is stored. After a take-over a soak begins anew: it may last longer than was asked for, never shorter.

use std::collections::BTreeMap;

use shardlift_domain::failure::{ErrorCode, Failure};
use shardlift_domain::ids::MigrationKey;
use shardlift_domain::migration::{Event, Migration};
use shardlift_domain::task::Millis;

use super::book::Page;
use super::leader::Leader;
use super::view::GateView;

/// The gates at which migrations stand, and since when.
#[derive(Default)]
pub(super) struct Gates(BTreeMap<MigrationKey, Soak>);

struct Soak {
    wave: u32,
    since: Millis,
}

impl Gates {
    /// How long the soak of a migration at its gate still lasts; one that has just come there begins it.
    fn left(&mut self, migration: &Migration, now: Millis) -> Millis {
        let wave = migration.rollout.wave;
        let soak = self.0.entry(migration.key.clone()).or_insert(Soak { wave, since: now });
        if soak.wave != wave {
            *soak = Soak { wave, since: now };
        }
        whole(migration).saturating_sub(now.saturating_sub(soak.since))
    }

    /// The same for somebody who only looks.
    fn seen(&self, migration: &Migration, now: Millis) -> Millis {
        let soak = self.0.get(&migration.key).filter(|soak| soak.wave == migration.rollout.wave);
        whole(migration).saturating_sub(soak.map_or(0, |soak| now.saturating_sub(soak.since)))
    }
}

fn whole(migration: &Migration) -> Millis {
    let rollout = &migration.rollout;
    Millis::try_from(rollout.soak(rollout.wave).as_millis()).unwrap_or(Millis::MAX)
}

impl Leader {
    /// Opens every gate whose wave has soaked and is in health.
    pub(super) fn open_gates(&mut self) {
        let now = self.clock.millis();
        let at_gate = self.book.pages().map(Page::migration).filter(|migration| migration.at_gate());
        let soaked: Vec<(MigrationKey, u32)> = {
            let gates = &mut self.gates;
            let mut here = BTreeMap::new();
            for migration in at_gate {
                let left = gates.left(migration, now);
                here.insert(migration.key.clone(), (migration.rollout.wave, left));
            }
            // Whoever is not at a gate any more, such as a paused migration, begins its soak anew when it is again.
            gates.0.retain(|key, _| here.contains_key(key));
            here.into_iter().filter(|(_, (_, left))| *left == 0).map(|(key, (wave, _))| (key, wave)).collect()
        };
        for (key, wave) in soaked {
            if self.book.page(&key).is_some_and(|page| self.alarm(page.migration()).is_none()) {
                self.apply(&key, &Event::Soaked { wave });
            }
        }
    }

    /// What a migration at its gate waits for.
    pub(super) fn gate(&self, migration: &Migration) -> Option<GateView> {
        migration.at_gate().then(|| {
            let soak_left = self.gates.seen(migration, self.clock.millis());
            GateView { soak_left, closed: self.alarm(migration).filter(|_| soak_left == 0) }
        })
    }

    /// The first shard of the waves so far that is not in health: nobody reaches it.
    fn alarm(&self, migration: &Migration) -> Option<Failure> {
        let shard = migration.begun().find(|shard| !self.reaches(shard))?;
        let problem = self.shard_problem(shard);
        let message = format!(
            "wave {} of {} is done, but shard {shard} is not in health: {}",
            migration.rollout.wave + 1,
            migration.rollout.waves(),
            problem.message
        );
        let next = "the gate opens by itself when the shard is in health again; pause or cancel it otherwise";
        Some(Failure::new(ErrorCode::GateClosed, message, next).in_migration(&migration.key).on_shard(shard))
    }
}
