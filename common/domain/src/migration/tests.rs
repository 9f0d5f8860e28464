//! Every (state, event) pair, and random runs.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::failure::{ErrorCode, Failure};
use crate::ids::{Checksum, ClusterName, MigrationId, MigrationKey, ShardId, Version};
use crate::spec::{Engine, Kind};

fn shard(number: u8) -> ShardId {
    ShardId::new(format!("s{number}")).expect("a name")
}

fn fresh(kind: Kind, shards: u8) -> Migration {
    let part = ShardMigration { todo: Some(Step::Precheck), failure: None, verified: false };
    Migration {
        key: MigrationKey { id: MigrationId::new("m").expect("a name"), version: Version::FIRST },
        kind,
        engine: Engine::Postgres,
        cluster: ClusterName::new("c").expect("a name"),
        checksum: Checksum::of(b"m"),
        relation: None,
        has_where: true,
        waits_for: Vec::new(),
        status: Status::Pending,
        released: false,
        phase: Phase::Precheck,
        touched: false,
        stop: None,
        traceparent: None,
        shards: (0..shards).map(|number| (shard(number), part.clone())).collect::<BTreeMap<_, _>>(),
    }
}

fn with_status(status: Status) -> Migration {
    let mut migration = fresh(Kind::Data, 2);
    migration.status = status;
    migration.released = status != Status::Pending;
    migration.stop = (status == Status::Paused).then_some(Stop::Person);
    migration
}

fn done(number: u8, step: Step) -> Event {
    Event::StepDone { shard: shard(number), step, outcome: Outcome::Done }
}

fn failed(number: u8, step: Step, code: ErrorCode) -> Event {
    Event::StepFailed { shard: shard(number), step, failure: Failure::new(code, "it broke", "mend it") }
}

fn go(migration: &Migration, event: &Event) -> Migration {
    migration.on(event).expect("a legal move").migration
}

#[test]
fn every_verb_in_every_status_does_what_the_table_says() {
    use Status::*;
    // Rows: status. Columns: start, pause, resume, cancel, retry. `None` is illegal.
    let table = [
        (Pending, [Some(Pending), None, None, Some(Cancelled), None]),
        (Running, [Some(Running), Some(Paused), Some(Running), Some(Cancelled), Some(Running)]),
        (Paused, [None, Some(Paused), Some(Running), Some(Cancelled), None]),
        (Completed, [None; 5]),
        (Failed, [None, None, None, Some(Cancelled), Some(Running)]),
        (Cancelled, [None, None, None, Some(Cancelled), None]),
        (RollingBack, [None; 5]),
        (RolledBack, [None; 5]),
    ];
    assert_eq!(table.len(), Status::ALL.len());
    for (status, row) in table {
        for (verb, expected) in Verb::ALL.into_iter().zip(row) {
            let got = with_status(status).on(&Event::Asked(verb)).ok().map(|made| made.migration.status);
            assert_eq!(got, expected, "{verb:?} while {status}");
        }
    }
}

#[test]
fn every_other_event_in_every_status_does_what_the_table_says() {
    use Status::*;
    for status in Status::ALL {
        let before = with_status(status);
        let after = |event: &Event| go(&before, event).status;
        let works = matches!(status, Running | Paused | Failed);
        assert_eq!(after(&Event::Ready), status, "ready while {status} and not released");
        assert_eq!(after(&done(0, Step::Precheck)), status);
        assert_eq!(go(&before, &done(0, Step::Precheck)) != before, works, "done while {status}");
        let broken = after(&failed(0, Step::Precheck, ErrorCode::PrecheckRefused));
        assert_eq!(broken, if works { Failed } else { status });
        let halted = after(&failed(0, Step::Precheck, ErrorCode::VerifyMismatch));
        assert_eq!(halted, if matches!(status, Running | Paused) { Paused } else { status });
    }
}

#[test]
fn news_of_another_step_changes_nothing() {
    for status in Status::ALL {
        for step in Step::ALL.into_iter().filter(|step| *step != Step::Precheck) {
            assert!(!with_status(status).on(&done(0, step)).expect("legal").changed);
            let failure = failed(0, step, ErrorCode::SchemaFailed);
            assert!(!with_status(status).on(&failure).expect("legal").changed);
        }
    }
}

#[test]
fn a_data_migration_passes_its_phases_shard_by_shard() {
    let mut migration = go(&fresh(Kind::Data, 2), &Event::Asked(Verb::Start));
    migration = go(&migration, &Event::Ready);
    assert_eq!(
        (migration.status, migration.phase, migration.touched),
        (Status::Running, Phase::Precheck, false)
    );
    migration = go(&migration, &done(0, Step::Precheck));
    assert_eq!(migration.wanted().collect::<Vec<_>>(), [(&shard(1), Step::Precheck)], "nobody runs ahead");
    migration = go(&migration, &done(1, Step::Precheck));
    assert_eq!((migration.phase, migration.touched), (Phase::Data, true));
    for step in [Step::Split, Step::Backfill, Step::Sweep, Step::Verify] {
        for number in 0..2 {
            migration = go(&migration, &done(number, step));
        }
    }
    assert_eq!(migration.status, Status::Completed);
    assert!(migration.shards.values().all(|part| part.verified));
}

#[test]
fn a_difference_that_verification_found_is_searched_for_again_after_a_resume() {
    let mut migration = with_status(Status::Running);
    for part in migration.shards.values_mut() {
        part.todo = Some(Step::Verify);
    }
    migration.phase = Phase::Verify;
    let halted = go(&migration, &failed(0, Step::Verify, ErrorCode::VerifyMismatch));
    assert_eq!((halted.status, halted.shards[&shard(0)].todo), (Status::Paused, Some(Step::Verify)));
    let resumed = go(&halted, &Event::Asked(Verb::Resume));
    assert_eq!((resumed.phase, resumed.shards[&shard(0)].todo), (Phase::Data, Some(Step::Sweep)));
    assert_eq!(resumed.shards[&shard(1)].todo, Some(Step::Verify), "the others wait");
}

#[test]
fn a_sweep_that_finds_rows_sends_the_shard_back() {
    let mut migration = with_status(Status::Running);
    for part in migration.shards.values_mut() {
        part.todo = Some(Step::Sweep);
    }
    migration.phase = Phase::Data;
    let found = Event::StepDone { shard: shard(0), step: Step::Sweep, outcome: Outcome::PendingFound };
    let migration = go(&go(&migration, &found), &done(1, Step::Sweep));
    assert_eq!(migration.shards[&shard(0)].todo, Some(Step::Backfill));
    assert_eq!(migration.phase, Phase::Data, "verification waits for the slowest shard");
}

#[test]
fn a_halt_is_a_pause_with_a_reason() {
    let migration = with_status(Status::Running);
    let halted = go(&migration, &failed(0, Step::Precheck, ErrorCode::SweepNotConverging));
    assert!(matches!(halted.stop, Some(Stop::System { .. })));
    let resumed = go(&halted, &Event::Asked(Verb::Resume));
    assert_eq!((resumed.status, resumed.failure()), (Status::Running, None));
}

#[test]
fn work_that_ends_while_paused_counts_and_completes_on_resume() {
    let mut migration = with_status(Status::Paused);
    for part in migration.shards.values_mut() {
        part.todo = Some(Step::Verify);
    }
    migration = go(&go(&migration, &done(0, Step::Verify)), &done(1, Step::Verify));
    assert_eq!(migration.status, Status::Paused);
    assert_eq!(go(&migration, &Event::Asked(Verb::Resume)).status, Status::Completed);
}

#[test]
fn after_a_take_over_ranges_are_read_again() {
    let mut migration = with_status(Status::Running);
    migration.shards.get_mut(&shard(0)).expect("there").todo = Some(Step::Backfill);
    assert_eq!(migration.recovered().shards[&shard(0)].todo, Some(Step::Split));
}

#[test]
fn what_collides_shares_a_shard_and_a_table() {
    let on = |relation: Option<&str>| Migration {
        relation: relation.map(str::to_owned),
        ..with_status(Status::Pending)
    };
    let held = |migration: &Migration| migration.resources().collect::<BTreeSet<_>>();
    let (messages, same, drafts, all) =
        (on(Some("public.messages")), on(Some("messages")), on(Some("drafts")), on(None));
    for (one, other, expected) in [
        (&messages, &same, true),
        (&messages, &drafts, false),
        (&messages, &all, true),
        (&all, &drafts, true),
    ] {
        assert_eq!(one.collides_with(other), expected);
        for resource in one.resources() {
            assert_eq!(resource.collides_with_any(&held(other)), expected, "{resource}");
        }
    }
    let mut elsewhere = all.clone();
    let part = elsewhere.shards.values().next().expect("has one").clone();
    elsewhere.shards = [(shard(77), part)].into();
    assert!(messages.resources().all(|resource| !resource.collides_with_any(&held(&elsewhere))));
    assert_eq!(
        messages.resources().next().expect("has one").to_string().rsplit('/').next(),
        Some("messages")
    );
}

fn any_event() -> impl Strategy<Value = Event> {
    let step = prop::sample::select(Step::ALL.to_vec());
    let codes = vec![ErrorCode::VerifyMismatch, ErrorCode::SweepNotConverging, ErrorCode::RowRejected];
    prop_oneof![
        2 => prop::sample::select(Verb::ALL.to_vec()).prop_map(Event::Asked),
        1 => Just(Event::Ready),
        8 => (0..3u8, step.clone(), any::<bool>()).prop_map(|(number, step, found)| Event::StepDone {
            shard: shard(number),
            step,
            outcome: if found { Outcome::PendingFound } else { Outcome::Done },
        }),
        1 => (0..3u8, step, prop::sample::select(codes)).prop_map(|(number, step, code)| failed(number, step, code)),
    ]
}

fn check_legal(migration: &Migration) {
    assert_eq!(migration.stop.is_some(), migration.status == Status::Paused, "{migration:?}");
    if migration.status == Status::Completed {
        assert!(migration.shards.values().all(|part| part.todo.is_none() && part.verified));
    }
    if migration.status != Status::Running {
        assert_eq!(migration.wanted().count(), 0);
    }
    for (_, step) in migration.wanted() {
        assert_eq!(step.phase(), migration.phase);
        assert!(migration.steps().contains(&step));
    }
    let furthest = migration.shards.values().filter_map(|part| part.todo).map(Step::phase).min();
    if migration.status == Status::Running {
        assert_eq!(furthest, Some(migration.phase), "a phase waits for its slowest shard");
    }
}

proptest! {
    #[test]
    fn only_legal_states_appear_and_repeats_change_nothing(
        events in prop::collection::vec((any_event(), any::<bool>()), 1..120),
        data in any::<bool>(),
    ) {
        let mut migration = fresh(if data { Kind::Data } else { Kind::Schema }, 3);
        for (event, crash) in events {
            if let Ok(made) = migration.on(&event) {
                prop_assert_eq!(made.changed, made.migration != migration);
                migration = made.migration;
                let repeat = migration.on(&event).map(|made| made.changed);
                // Going on with nothing left to do completes: then, and only then, a repeat hears that it is finished.
                let goes_on = matches!(event, Event::Asked(Verb::Resume | Verb::Retry));
                if goes_on && migration.status == Status::Completed {
                    prop_assert_eq!(repeat.map_err(|illegal| illegal.status), Err(Status::Completed));
                } else {
                    prop_assert_eq!(repeat, Ok(false), "a repeat of {:?}", event);
                }
            }
            check_legal(&migration);
            if crash {
                let stored = serde_json::to_string(&migration).expect("serialises");
                migration = serde_json::from_str::<Migration>(&stored).expect("parses").recovered();
                check_legal(&migration);
            }
        }
    }
}
