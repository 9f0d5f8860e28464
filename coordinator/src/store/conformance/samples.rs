//! Things to store.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde_json::json;
use shardlift_domain::failure::ErrorCode;
use shardlift_domain::migration::{
    Approval, Headline, Limit, Migration, Phase, Rollout, ShardMigration, Status, Throttling, Told,
    Uniqueness,
};
use shardlift_domain::progress::ShardProgress;
use shardlift_domain::quarantine::Held;
use shardlift_domain::routing::{KeyKind, Routing, Rule};
use shardlift_domain::spec::{Engine, Kind, OnVerifyFailure, SpecFile, Window};
use shardlift_domain::topology::{Cluster, ClusterRules, Joined, Topology, TopologyChange};
use shardlift_domain::{Checksum, ClusterName, MigrationId, MigrationKey, ShardId, Version};

use crate::store::{HistoryEntry, HistoryEvent, StoredMigration, Times};

pub(in crate::store) fn id(name: &str) -> MigrationId {
    MigrationId::new(name).expect("a name")
}

pub(in crate::store) fn shard(number: usize) -> ShardId {
    ShardId::new(format!("shard-{number}")).expect("a name")
}

pub(in crate::store) fn cluster(name: &str) -> ClusterName {
    ClusterName::new(name).expect("a name")
}

/// Seconds after some moment.
pub(in crate::store) fn moment(seconds: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_800_000_000 + seconds, 123_456_000).expect("a time")
}

/// A pending data migration on three shards.
pub(in crate::store) fn stored(name: &str, version: Version) -> StoredMigration {
    let migration = Migration {
        key: MigrationKey { id: id(name), version },
        kind: Kind::Data,
        engine: Engine::Postgres,
        cluster: cluster("chat"),
        checksum: Checksum::of(name.as_bytes()),
        relation: Some("public.messages".to_owned()),
        has_where: true,
        atomic: false,
        backup: false,
        decision: None,
        waits_for: vec![id("before")],
        status: Status::Pending,
        released: false,
        phase: Phase::Precheck,
        touched: false,
        stop: None,
        on_verify_failure: OnVerifyFailure::Halt,
        undo: None,
        quarantined: BTreeMap::from([(shard(0), Held { rows: 3, discarded: 1 })]),
        rollout: Rollout { wave: 1, soaks_ms: vec![0, 60_000] },
        told: Told {
            chat: true,
            shown: Some(Headline { status: Status::Running, reason: Some(ErrorCode::GateClosed) }),
            quiet: Some(1),
            ..Told::default()
        },
        unique: Some(Uniqueness { round: 2, holds: Some(false), kept: true }),
        purge: None,
        throttling: Throttling {
            rows_per_second: Limit::Of(50),
            window: Limit::Of(Window { from_minute: 1320, to_minute: 360 }),
        },
        author: Some("mira".to_owned()),
        approval: Some(Approval { by: "olaf".to_owned(), checksum: Checksum::of(b"read") }),
        traceparent: Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_owned()),
        shards: (0..3).map(|number| (shard(number), ShardMigration::fresh(u32::from(number > 0)))).collect(),
    };
    let progress: BTreeMap<_, _> =
        migration.shards.keys().map(|shard| (shard.clone(), ShardProgress::default())).collect();
    let spec =
        SpecFile { name: format!("{name}.yaml"), text: "id: …\n# 'quoted' \"text\" ✓\n".to_owned() };
    StoredMigration { migration, spec, progress, times: Times::created(moment(0)) }
}

/// Figures that all differ.
pub(in crate::store) fn figures(seed: u32) -> ShardProgress {
    let wide = u64::from(seed);
    ShardProgress {
        rows_done: wide,
        rows_seen: wide + 1,
        rows_total: wide + 2,
        batches: wide + 3,
        ranges: seed + 4,
        ranges_done: seed + 5,
        pass: seed + 6,
        ..ShardProgress::default()
    }
}

/// Two clusters, whose shards are not in the order of their names.
pub(in crate::store) fn topology(revision: u64) -> Topology {
    let cluster = |name: &str, engine, shards: [usize; 2]| Cluster {
        name: cluster(name),
        uuid: format!("uuid-of-{name}"),
        engine,
        shards: shards.into_iter().map(shard).collect(),
        rules: ClusterRules {
            routing: Some(Routing {
                key: KeyKind::Uuid,
                rule: Rule::Directory { default: Some(shard(shards[0])) },
            }),
            routing_declared: revision.is_multiple_of(2),
            discover: true,
            joined: [(shard(shards[1]), Joined::Worker)].into(),
        },
    };
    let clusters = [cluster("chat", Engine::Postgres, [2, 1]), cluster("chat-docs", Engine::Mongodb, [4, 3])];
    Topology {
        revision,
        clusters: clusters.into_iter().map(|cluster| (cluster.name.clone(), cluster)).collect(),
        changes: vec![TopologyChange { revision, what: "shard 'x' joined \"chat\" ✓".into() }],
    }
}

pub(in crate::store) fn entry(key: &MigrationKey, event: HistoryEvent) -> HistoryEntry {
    HistoryEntry {
        migration: Some(key.clone()),
        event,
        at: moment(1),
        actor: "someone".to_owned(),
        request: Some("r-1 ✓".to_owned()),
        detail: json!({ "b": [1, null, "…"], "a": { "x": 0.5 } }),
    }
}

/// An entry that is about no migration.
pub(in crate::store) fn of_the_installation(event: HistoryEvent) -> HistoryEntry {
    HistoryEntry { migration: None, ..entry(&stored("none", Version::FIRST).migration.key, event) }
}
