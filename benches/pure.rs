//! Criterion benches of the pure parts: what one event and one spec cost.

use std::collections::BTreeMap;
use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use shardlift_domain::ids::{Checksum, MigrationKey, ShardId, Version};
use shardlift_domain::migration::{Event, Migration, Outcome, Phase, Rollout, ShardMigration, Status, Step};
use shardlift_domain::spec::{Engine, Kind, SpecFile, parse};

const SPEC: &str = "id: m\nkind: data\nengine: postgres\ncluster: c\nsource: { table: items, where: not migrated }\n\
                    transform: { sql: { applied: applied + 1, migrated: \"true\" } }\n";

fn running(shards: u32) -> Migration {
    let name = |number| ShardId::new(format!("s{number}")).expect("a name");
    let part = ShardMigration::fresh(0);
    Migration {
        key: MigrationKey { id: "m".parse().expect("a name"), version: Version::FIRST },
        kind: Kind::Data,
        engine: Engine::Postgres,
        cluster: "c".parse().expect("a name"),
        checksum: Checksum::of(b"m"),
        relation: Some("items".into()),
        has_where: true,
        atomic: false,
        backup: false,
        decision: None,
        waits_for: Vec::new(),
        status: Status::Running,
        released: true,
        phase: Phase::Precheck,
        touched: false,
        stop: None,
        on_verify_failure: shardlift_domain::spec::OnVerifyFailure::Halt,
        undo: None,
        purge: None,
        throttling: Default::default(),
        author: None,
        approval: None,
        traceparent: None,
        quarantined: BTreeMap::new(),
        rollout: Rollout::default(),
        told: Default::default(),
        unique: None,
        shards: (0..shards).map(|number| (name(number), part.clone())).collect::<BTreeMap<_, _>>(),
    }
}

fn moves(criterion: &mut Criterion) {
    let migration = running(1000);
    let shard = ShardId::new("s500").expect("a name");
    let event = Event::StepDone { shard, step: Step::Precheck, outcome: Outcome::Done };
    criterion.bench_function("one event of a migration on 1000 shards", |bencher| {
        bencher.iter(|| black_box(migration.on(black_box(&event))));
    });
}

fn specs(criterion: &mut Criterion) {
    let file = SpecFile { name: "m.yaml".into(), text: SPEC.into() };
    criterion
        .bench_function("parse one data spec", |bencher| bencher.iter(|| black_box(parse(black_box(&file)))));
}

criterion_group!(pure, moves, specs);
criterion_main!(pure);
