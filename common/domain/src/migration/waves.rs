//! Waves: which shards go together, and the gate behind each wave (promise P5).

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::ids::ShardId;

use super::state::{Migration, Phase, ShardMigration, Status, Step};

/// How far a rollout is. The default, one wave that does not soak, is what releases before rollouts have stored.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Rollout {
    /// The present wave; the first is 0.
    #[serde(default)]
    pub wave: u32,
    /// How long each wave soaks, in milliseconds, in order. Empty: one wave that does not soak.
    #[serde(default)]
    pub soaks_ms: Vec<u64>,
}

impl Rollout {
    /// Of waves that soak so long, before the first one has begun.
    pub fn of(soaks: impl IntoIterator<Item = Duration>) -> Self {
        let millis = |soak: Duration| u64::try_from(soak.as_millis()).unwrap_or(u64::MAX);
        let soaks_ms: Vec<u64> = soaks.into_iter().map(millis).collect();
        let plain = soaks_ms.len() == 1 && soaks_ms[0] == 0;
        Self { wave: 0, soaks_ms: if plain { Vec::new() } else { soaks_ms } }
    }

    /// Whether it is what happens without a rollout.
    pub fn is_plain(&self) -> bool {
        *self == Self::default()
    }

    /// How many waves there are.
    pub fn waves(&self) -> u32 {
        u32::try_from(self.soaks_ms.len()).unwrap_or(u32::MAX).max(1)
    }

    /// Whether no wave follows.
    pub fn is_last(&self) -> bool {
        self.wave.saturating_add(1) >= self.waves()
    }

    /// How long a wave soaks.
    pub fn soak(&self, wave: u32) -> Duration {
        let millis = usize::try_from(wave).ok().and_then(|wave| self.soaks_ms.get(wave));
        Duration::from_millis(millis.copied().unwrap_or(0))
    }

    /// Whether the end of the present wave is a gate, which the leader opens. What neither soaks nor is followed by
    /// another wave is simply completed.
    pub fn has_gate(&self) -> bool {
        !self.soak(self.wave).is_zero() || !self.is_last()
    }
}

impl Migration {
    /// Whether the wave of a shard has begun: of the others nothing but their precheck is wanted.
    pub fn has_begun(&self, part: &ShardMigration) -> bool {
        part.wave <= self.rollout.wave
    }

    /// The shards of the waves that have begun.
    pub fn begun(&self) -> impl Iterator<Item = &ShardId> {
        self.shards.iter().filter(|(_, part)| self.has_begun(part)).map(|(shard, _)| shard)
    }

    /// Whether the present wave is done and verified, and the leader is to open the gate behind it.
    pub fn at_gate(&self) -> bool {
        self.status == Status::Running
            && self.rollout.has_gate()
            && !self.is_undecided()
            && self.open_phase().is_none()
    }

    /// What a shard has to do, unless it is the turn of other waves. All shards collect when the last wave is verified.
    pub(super) fn open_step(&self, part: &ShardMigration) -> Option<Step> {
        let timely = |step: &Step| match step {
            Step::Precheck => true,
            Step::Collect => self.rollout.is_last(),
            _ => self.has_begun(part),
        };
        part.todo.filter(timely)
    }

    /// The earliest phase in which a shard has something to do. Nothing is changed anywhere before every shard of every
    /// wave has passed its precheck.
    pub(super) fn open_phase(&self) -> Option<Phase> {
        self.shards.values().filter_map(|part| self.open_step(part)).map(Step::phase).min()
    }

    /// The wave has soaked, and its shards are in health. Of another wave, or too early, this is old news.
    pub(super) fn soaked(&mut self, wave: u32) {
        if !self.at_gate() || wave != self.rollout.wave {
            return;
        }
        if self.rollout.is_last() {
            self.status = Status::Completed;
        } else {
            self.rollout.wave += 1;
            self.advance();
        }
    }
}
