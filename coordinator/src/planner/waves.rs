//! Which shards go together: the smallest first, since a canary should be quick to do and small to undo.

use std::collections::BTreeMap;

use shardlift_domain::ids::ShardId;
use shardlift_domain::migration::Migration;
use shardlift_domain::plan::{ShardEstimate, Wave};
use shardlift_domain::spec::WaveSpec;

/// The waves of a rollout over these shards. An entry that adds no shard to those before it is left out, and its soak is
/// that of the wave before, if that one's is shorter.
pub(super) fn of(
    rollout: &[WaveSpec],
    shards: Vec<ShardId>,
    estimates: &[ShardEstimate],
    ranks: &BTreeMap<ShardId, i64>,
    notes: &mut Vec<String>,
) -> Vec<Wave> {
    let all = shards.len();
    let mut left = in_order(rollout, shards, estimates, ranks).into_iter();
    let mut waves: Vec<Wave> = Vec::new();
    for entry in rollout {
        let adds = entry.reach.of(all).saturating_sub(all - left.len());
        match waves.last_mut() {
            Some(before) if adds == 0 => {
                before.soak = before.soak.max(entry.soak);
                // At the end there is nothing that could be added.
                if left.len() > 0 {
                    notes.push(format!(
                        "rollout: {} of {all} adds no shard; that wave is left out",
                        entry.reach
                    ));
                }
            }
            _ => waves.push(Wave { shards: left.by_ref().take(adds).collect(), soak: entry.soak }),
        }
    }
    if waves.is_empty() {
        waves.push(Wave { shards: left.collect(), soak: std::time::Duration::ZERO });
    }
    waves
}

/// As tenants want it, then by estimated rows, then by name; without a rollout and without such wishes as the cluster has them.
fn in_order(
    rollout: &[WaveSpec],
    mut shards: Vec<ShardId>,
    estimates: &[ShardEstimate],
    ranks: &BTreeMap<ShardId, i64>,
) -> Vec<ShardId> {
    let rank = |shard: &ShardId| ranks.get(shard).copied().unwrap_or(i64::MAX);
    if rollout.is_empty() {
        shards.sort_by_key(rank);
    } else {
        let rows: BTreeMap<&ShardId, u64> =
            estimates.iter().map(|estimate| (&estimate.shard, estimate.rows.unwrap_or(0))).collect();
        shards
            .sort_by_cached_key(|shard| (rank(shard), rows.get(shard).copied().unwrap_or(0), shard.clone()));
    }
    shards
}

/// The waves of a migration that was submitted before.
pub(super) fn stored(migration: &Migration) -> Vec<Wave> {
    let rollout = &migration.rollout;
    (0..rollout.waves())
        .map(|number| {
            let members = migration.shards.iter().filter(|(_, part)| part.wave == number);
            let shards = members.map(|(shard, _)| shard.clone()).collect();
            Wave { shards, soak: rollout.soak(number) }
        })
        .collect()
}
