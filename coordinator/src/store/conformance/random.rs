//! Random migrations, driven by random events, come back as they were stored.

use std::sync::Arc;

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::{Just, ProptestConfig, Strategy, any, prop_oneof};
use proptest::sample::select;
use proptest::test_runner::TestRunner;
use shardlift_domain::migration::{Event, Migration, Outcome, ShardMigration, Step, Verb};
use shardlift_domain::progress::ShardProgress;
use shardlift_domain::spec::{Engine, Kind, SpecFile};
use shardlift_domain::{ErrorCode, Failure, Version};

use super::samples::{cluster, entry, id, moment, shard, stored, topology};
use super::{MemoryStore, MongodbDatabase, Place, PostgresDatabase, SqliteFile, lead};
use crate::store::{Change, HistoryEvent, Moved, Snapshot, Store, StoredMigration};

/// Something that happens between two commits.
#[derive(Debug, Clone)]
enum Happening {
    Submitted(Box<StoredMigration>),
    Moved(usize, Event),
    Progressed(usize, usize, ShardProgress),
    TopologyChanged(u64),
}

fn failure() -> impl Strategy<Value = Failure> {
    let parts =
        (select(ErrorCode::ALL), any::<String>(), any::<String>(), option::of(any::<String>()), 0..4usize);
    parts.prop_map(|(code, message, next, key, number)| {
        let failure = Failure::new(code, message, next).on_shard(&shard(number)).in_step(Step::Verify);
        match key {
            Some(key) => failure.at_key(key).in_migration(&stored("other", Version(3)).migration.key),
            None => failure,
        }
    })
}

fn event() -> impl Strategy<Value = Event> {
    let place = || (0..4usize, select(&Step::ALL[..]));
    prop_oneof![
        select(&Verb::ALL[..]).prop_map(Event::Asked),
        Just(Event::Ready),
        (place(), select(vec![Outcome::Done, Outcome::PendingFound]))
            .prop_map(|((number, step), outcome)| Event::StepDone { shard: shard(number), step, outcome }),
        (place(), failure()).prop_map(|((number, step), failure)| Event::StepFailed {
            shard: shard(number),
            step,
            failure
        }),
    ]
}

fn migration() -> impl Strategy<Value = StoredMigration> {
    let head = (
        select(vec![Kind::Schema, Kind::Data]),
        select(vec![Engine::Postgres, Engine::Mongodb]),
        any::<bool>(),
        option::of(any::<String>()),
        0..4usize,
        any::<String>(),
    );
    (head, vec(event(), 0..30)).prop_map(|((kind, engine, has_where, relation, shards, text), events)| {
        let sample = stored("sample", Version::FIRST);
        let part = ShardMigration::fresh(0);
        let mut migration = Migration {
            kind,
            engine,
            has_where,
            atomic: kind == Kind::Schema && has_where,
            backup: kind == Kind::Data && shards % 2 == 1,
            relation,
            cluster: cluster("chat"),
            waits_for: (0..shards).map(|number| id(&format!("before-{number}"))).collect(),
            shards: (0..shards).map(|number| (shard(number), part.clone())).collect(),
            ..sample.migration
        };
        for event in [Event::Asked(Verb::Start), Event::Ready].iter().chain(&events) {
            if let Ok(transition) = migration.on(event) {
                migration = transition.migration;
            }
        }
        let progress = (0..shards).map(|number| (shard(number), ShardProgress::default())).collect();
        StoredMigration {
            migration,
            progress,
            spec: SpecFile { name: "a.yaml".into(), text },
            times: sample.times,
        }
    })
}

fn progress() -> impl Strategy<Value = ShardProgress> {
    let count = || 0..=i64::MAX.unsigned_abs();
    (count(), count(), count(), count(), any::<[u32; 3]>()).prop_map(
        |(rows_done, rows_seen, rows_total, batches, [ranges, ranges_done, pass])| ShardProgress {
            rows_done,
            rows_seen,
            rows_total,
            batches,
            ranges,
            ranges_done,
            pass,
            ..ShardProgress::default()
        },
    )
}

fn happening() -> impl Strategy<Value = Happening> {
    prop_oneof![
        2 => migration().prop_map(|new| Happening::Submitted(Box::new(new))),
        6 => (0..4usize, event()).prop_map(|(which, event)| Happening::Moved(which, event)),
        3 => (0..4usize, 0..4usize, progress())
            .prop_map(|(which, number, figures)| Happening::Progressed(which, number, figures)),
        1 => (1..9u64).prop_map(Happening::TopologyChanged),
    ]
}

/// Makes it happen to `expected`, and says what to commit.
fn make_happen(expected: &mut Snapshot, happening: Happening, tick: i64) -> Change {
    let mut change = Change::default();
    let count = expected.migrations.len();
    match happening {
        Happening::Submitted(mut new) => {
            new.migration.key.id = id(&format!("m-{count}"));
            expected.migrations.push((*new).clone());
            change.new.push(*new);
        }
        Happening::TopologyChanged(revision) => {
            expected.topology = topology(revision);
            change.topology = Some(topology(revision));
        }
        Happening::Moved(..) | Happening::Progressed(..) if count == 0 => {}
        Happening::Moved(which, event) => {
            let known = &mut expected.migrations[which % count];
            if let Ok(transition) = known.migration.on(&event) {
                let before = std::mem::replace(&mut known.migration, transition.migration);
                known.times.started_at = Some(moment(tick));
                known.times.completed_at = known.migration.status.is_final().then(|| moment(tick + 1));
                change.moved.push(Moved::between(&before, known.migration.clone(), known.times));
            }
        }
        Happening::Progressed(which, number, figures) => {
            let known = &mut expected.migrations[which % count];
            if let Some(progress) = known.progress.get_mut(&shard(number)) {
                *progress = figures.clone();
                change.progress.push((known.migration.key.clone(), shard(number), figures));
            }
        }
    }
    change
}

/// Stores what happens in a place and in the memory twin; both must hold what was expected.
fn whatever_happens_is_loaded_as_it_was_stored<P: Place, F: Future<Output = P>>(
    cases: u32,
    place: impl Fn() -> F,
) {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let mut runner =
        TestRunner::new(ProptestConfig { cases, failure_persistence: None, ..Default::default() });
    let verdict = runner.run(&vec(happening(), 1..12), |happenings| {
        runtime.block_on(async {
            let (place, twin): (_, Arc<dyn Store>) = (place().await, Arc::new(MemoryStore::new()));
            let store = place.open().await;
            let (permit, twins) = (lead(&store, "leader").await, lead(&twin, "leader").await);
            let mut expected = Snapshot::default();
            for (tick, happening) in (0..).zip(happenings) {
                let mut change = make_happen(&mut expected, happening, tick);
                for stored in &expected.migrations {
                    let event = HistoryEvent::ALL[tick as usize % HistoryEvent::ALL.len()];
                    change.history.push(entry(&stored.migration.key, event));
                }
                twin.commit(&twins, change.clone()).await.expect("the twin commits");
                store.commit(&permit, change).await.expect("commits");
            }
            let other = place.open().await;
            assert_eq!(twin.load().await.expect("the twin loads"), expected);
            assert_eq!(other.load().await.expect("loads"), expected);
            for stored in &expected.migrations {
                let id = &stored.migration.key.id;
                let history = other.history(id, 7).await.expect("reads the history");
                assert_eq!(history, twin.history(id, 7).await.expect("reads the twin's"));
            }
        });
        Ok(())
    });
    verdict.unwrap_or_else(|failure| panic!("{failure}"));
}

#[test]
fn memory_whatever_happens_is_loaded_as_it_was_stored() {
    whatever_happens_is_loaded_as_it_was_stored(200, || async { MemoryStore::new() });
}

#[test]
fn sqlite_whatever_happens_is_loaded_as_it_was_stored() {
    whatever_happens_is_loaded_as_it_was_stored(40, || async {
        SqliteFile(tempfile::tempdir().expect("a directory"))
    });
}

#[test]
fn postgres_whatever_happens_is_loaded_as_it_was_stored() {
    whatever_happens_is_loaded_as_it_was_stored(30, PostgresDatabase::new);
}

#[test]
fn mongodb_whatever_happens_is_loaded_as_it_was_stored() {
    whatever_happens_is_loaded_as_it_was_stored(20, MongodbDatabase::new);
}
