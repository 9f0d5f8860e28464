//! The gates between waves: how long each has soaked, by this leader's clock, and whether its shards are in health.
//!
//! Nothing here is stored. After a take-over a soak begins anew: it may last longer than was asked for, never shorter.

use std::collections::BTreeMap;
use std::time::Duration;

use shardlift_domain::failure::{ErrorCode, Failure};
use shardlift_domain::ids::{MigrationKey, ShardId};
use shardlift_domain::migration::{Event, Migration, News};
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
    /// It has soaked, and adaptors are asked to be quiet.
    quieting: Option<Quieting>,
}

struct Quieting {
    since: Millis,
    /// All of them are; or why not, if that is known.
    quiet: Option<Result<(), Failure>>,
}

/// Whether the adaptors of a migration's tenants are quiet at its gate.
enum Hush {
    Quiet,
    Waits,
    Late(Failure),
}

impl Gates {
    /// How long the soak of a migration at its gate still lasts; one that has just come there begins it.
    fn left(&mut self, migration: &Migration, now: Millis) -> Millis {
        let wave = migration.rollout.wave;
        let begun = || Soak { wave, since: now, quieting: None };
        let soak = self.0.entry(migration.key.clone()).or_insert_with(begun);
        if soak.wave != wave {
            *soak = begun();
        }
        whole(migration).saturating_sub(now.saturating_sub(soak.since))
    }

    /// A service tells whether adaptors are quiet. Of another gate this is old news.
    pub(super) fn quieted(&mut self, key: &MigrationKey, wave: u32, quiet: Result<(), Failure>) {
        let soak = self.0.get_mut(key).filter(|soak| soak.wave == wave);
        if let Some(quieting) = soak.and_then(|soak| soak.quieting.as_mut()) {
            quieting.quiet = Some(quiet);
        }
    }

    /// Since when adaptors are asked, from now on if they were not; and what is known of them.
    fn hush(&mut self, key: &MigrationKey, now: Millis) -> (Millis, Option<Result<(), Failure>>) {
        let Some(soak) = self.0.get_mut(key) else { return (now, None) };
        let quieting = soak.quieting.get_or_insert(Quieting { since: now, quiet: None });
        (quieting.since, quieting.quiet.clone())
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
            here.into_iter().filter(|(_, (_, left))| *left == 0).map(|(key, (wave, _))| (key, wave)).collect()
        };
        for (key, wave) in soaked {
            if self.book.page(&key).is_some_and(|page| self.alarm(page.migration()).is_some()) {
                continue;
            }
            match self.hush(&key, wave, now) {
                Hush::Quiet => self.apply(&key, &Event::Soaked { wave }),
                Hush::Waits => {}
                Hush::Late(failure) => self.apply(&key, &Event::NotQuiet { wave, failure }),
            }
        }
    }

    /// Whoever is not at a gate any more, such as a paused migration, begins its soak anew when it is again, be it in the next
    /// moment.
    pub(super) fn leave_gate(&mut self, key: &MigrationKey) {
        if !self.book.page(key).is_some_and(|page| page.migration().at_gate()) {
            self.gates.0.remove(key);
        }
    }

    /// Has adaptors be quiet before a gate opens, where a service asks them and the spec names tenants. That they may be
    /// quiet is stored before anybody asks them, so that every leader has them go on.
    fn hush(&mut self, key: &MigrationKey, wave: u32, now: Millis) -> Hush {
        let Some(within) = self.seat.quiet_within else { return Hush::Quiet };
        let Some(page) = self.book.page(key).filter(|page| page.spec.tenants().is_some()) else {
            return Hush::Quiet;
        };
        let stored = page.migration().told.quiet == Some(wave);
        let (since, quiet) = self.gates.hush(key, now);
        if !stored {
            self.apply(key, &Event::Told(News::Quieting(wave)));
            return Hush::Waits;
        }
        let waited = Duration::from_millis(now.saturating_sub(since));
        match quiet {
            Some(Ok(())) => Hush::Quiet,
            other if waited > within => Hush::Late(not_quiet(key, wave, within, other.and_then(Result::err))),
            _ => Hush::Waits,
        }
    }

    /// What a migration at its gate waits for.
    pub(super) fn gate(&self, migration: &Migration) -> Option<GateView> {
        migration.at_gate().then(|| {
            let soak_left = self.gates.seen(migration, self.clock.millis());
            GateView { soak_left, closed: if soak_left == 0 { self.alarm(migration) } else { None } }
        })
    }

    /// The first shard of the waves so far that is not in health: nobody reaches it, or who does tells an alarm.
    fn alarm(&self, migration: &Migration) -> Option<Failure> {
        let mut ill = migration.begun().filter_map(|shard| Some((shard, self.illness(shard)?)));
        let (shard, problem) = ill.next()?;
        let more = match ill.count() {
            0 => String::new(),
            1 => " (and one more shard is not)".to_owned(),
            more => format!(" (and {more} more shards are not)"),
        };
        let message = format!(
            "wave {} of {} is done, but shard {shard} is not in health: {}{more}",
            migration.rollout.wave + 1,
            migration.rollout.waves(),
            problem.message
        );
        let next = "the gate opens by itself when the shard is in health again; pause or cancel it otherwise";
        Some(Failure::new(ErrorCode::GateClosed, message, next).in_migration(&migration.key).on_shard(shard))
    }

    /// What is wrong with a shard: nobody reaches it, or one of its workers tells of its health.
    pub(super) fn illness(&self, shard: &ShardId) -> Option<Failure> {
        if !self.reaches(shard) {
            return Some(self.shard_problem(shard));
        }
        self.fleet.serving(shard).find_map(|(_, worker)| worker.shards.get(shard)?.alarm.clone())
    }
}

fn not_quiet(key: &MigrationKey, wave: u32, within: Duration, why: Option<Failure>) -> Failure {
    let why = why.map_or_else(|| "there was no answer yet".to_owned(), |failure| failure.message);
    let message = format!(
        "the channel adaptors of its tenants were not quiet within {} s at the gate of wave {}, and were asked to go on: {why}",
        within.as_secs(),
        wave + 1
    );
    let next = "see to the adaptor service, then resume the migration: its wave soaks anew, and they are asked again";
    Failure::new(ErrorCode::GateNotQuiet, message, next).in_migration(key)
}
