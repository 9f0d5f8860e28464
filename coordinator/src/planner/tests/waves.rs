//! Which shards go together.

use std::collections::BTreeMap;
use std::time::Duration;

use shardlift_domain::ids::ShardId;
use shardlift_domain::migration::Status;
use shardlift_domain::plan::{ShardEstimate, Wave};
use shardlift_domain::spec::{Reach, WaveSpec};

use super::super::waves;
use super::golden::golden;
use super::{World, name, parse};

/// `reach` with a soak of so many seconds.
fn entry(reach: Reach, soak: u64) -> WaveSpec {
    WaveSpec { reach, soak: Duration::from_secs(soak) }
}

/// Shards `s0`, `s1`, … of these sizes in waves.
fn waves_of(rollout: &[WaveSpec], rows: &[u64]) -> (Vec<Wave>, Vec<String>) {
    let shards: Vec<ShardId> = (0..rows.len()).map(|number| name(&format!("s{number}"))).collect();
    let estimate = |(shard, rows): (&ShardId, &u64)| ShardEstimate {
        shard: shard.clone(),
        rows: Some(*rows),
        bytes: None,
    };
    let estimates: Vec<_> = shards.iter().zip(rows).map(estimate).collect();
    let mut notes = Vec::new();
    let waves = waves::of(rollout, shards, &estimates, &BTreeMap::new(), &mut notes);
    (waves, notes)
}

/// `s1 | s0 s2`.
fn shown(waves: &[Wave]) -> String {
    let wave = |wave: &Wave| wave.shards.iter().map(|shard| shard.as_str()).collect::<Vec<_>>().join(" ");
    waves.iter().map(wave).collect::<Vec<_>>().join(" | ")
}

#[test]
fn what_tenants_want_goes_before_the_size() {
    let shards: Vec<ShardId> = (0..3).map(|number| name(&format!("s{number}"))).collect();
    let ranks = BTreeMap::from([(shards[2].clone(), 1), (shards[1].clone(), 2)]);
    for rollout in [vec![entry(Reach::Shards(1), 0), entry(Reach::Percent(100), 0)], Vec::new()] {
        let waves = waves::of(&rollout, shards.clone(), &[], &ranks, &mut Vec::new());
        assert_eq!(shown(&waves).replace(" |", ""), "s2 s1 s0", "{rollout:?}");
    }
}

#[test]
fn the_smallest_shards_go_first_and_among_equals_the_name_decides() {
    let rollout = [entry(Reach::Shards(1), 60), entry(Reach::Percent(50), 0), entry(Reach::Percent(100), 0)];
    let (waves, notes) = waves_of(&rollout, &[500, 20, 90, 20, 7000]);
    assert_eq!((shown(&waves).as_str(), notes.len()), ("s1 | s3 s2 | s0 s4", 0));
    assert_eq!(waves[0].soak, Duration::from_secs(60));
    assert_eq!(
        shown(&waves_of(&[], &[500, 20, 90]).0),
        "s0 s1 s2",
        "without a rollout as the cluster has them"
    );
}

#[test]
fn a_wave_that_adds_nothing_is_left_out_and_its_soak_is_kept() {
    let rollout =
        [entry(Reach::Shards(2), 60), entry(Reach::Percent(25), 600), entry(Reach::Percent(100), 0)];
    let (waves, notes) = waves_of(&rollout, &[3, 2, 1]);
    assert_eq!(shown(&waves), "s2 s1 | s0");
    assert_eq!((waves[0].soak, notes.len()), (Duration::from_secs(600), 1));
    let (waves, _) = waves_of(&rollout, &[3]);
    assert_eq!((shown(&waves).as_str(), waves[0].soak), ("s0", Duration::from_secs(600)), "a single shard");
}

#[test]
fn a_rollout_of_thousands_reaches_every_shard_once() {
    let rollout: Vec<WaveSpec> = (1..=20).map(|step| entry(Reach::Percent(step * 5), 1)).collect();
    let rows: Vec<u64> = (0..10_000).map(|number| number * 7919 % 10_007).collect();
    let (waves, _) = waves_of(&rollout, &rows);
    let mut all: Vec<_> = waves.iter().flat_map(|wave| wave.shards.clone()).collect();
    assert_eq!((waves.len(), waves[0].shards.len(), all.len()), (20, 500, 10_000));
    all.sort();
    all.dedup();
    assert_eq!(all.len(), 10_000);
}

const ROLLOUT: &str = "rollout: [ { shards: 1, soak: 10m }, { percent: 60, soak: 1h } ]\n";

#[test]
fn a_plan_shows_the_waves_of_schema_and_data() {
    let schema = format!(
        "id: a_schema\nkind: schema\nengine: postgres\ncluster: chat\nup: [\"ALTER TABLE messages ADD COLUMN migrated boolean\"]\n{ROLLOUT}"
    );
    let data = format!(
        "id: b_data\nkind: data\nengine: mongodb\ncluster: chat-docs\nsource: {{ collection: messages, where: {{ migrated: {{ $ne: true }} }} }}\n\
         transform: {{ pipeline: [{{ $set: {{ migrated: true }} }}] }}\n{ROLLOUT}"
    );
    let specs = [parse(&schema), parse(&data)];
    golden("rollout", &World::new().plan(&specs));
    let known = World::new().knows(&specs[0], Status::Running, true);
    assert_eq!(
        known.plan(&specs[..1]).migrations[0].waves.len(),
        1,
        "as it was submitted, not as it would be now"
    );
}
