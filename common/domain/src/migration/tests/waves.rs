//! Waves: their order holds whatever the order of events, and the gates between them.

use std::time::Duration;

use super::*;

/// A running migration whose shards go in these waves, of which each soaks so many seconds.
pub(super) fn in_waves(kind: Kind, waves: &[u32], soaks: &[u64]) -> Migration {
    let mut migration = fresh(kind, u8::try_from(waves.len()).expect("few"));
    for (part, wave) in migration.shards.values_mut().zip(waves) {
        part.wave = *wave;
    }
    migration.rollout = Rollout::of(soaks.iter().copied().map(Duration::from_secs));
    go(&go(&migration, &Event::Asked(Verb::Start)), &Event::Ready)
}

fn soaked(wave: u32) -> Event {
    Event::Soaked { wave }
}

/// Does all steps that are wanted until none is.
fn run(mut migration: Migration) -> Migration {
    loop {
        let next = migration.wanted().next().map(|(shard, step)| (shard.clone(), step));
        let Some((shard, step)) = next else { return migration };
        migration = go(&migration, &Event::StepDone { shard, step, outcome: Outcome::Done });
    }
}

fn todos(migration: &Migration) -> Vec<Option<Step>> {
    migration.shards.values().map(|part| part.todo).collect()
}

#[test]
fn every_shard_is_prechecked_before_anything_changes_and_then_the_waves_go_one_by_one() {
    let mut migration = in_waves(Kind::Schema, &[1, 0, 2], &[60, 0, 0]);
    assert_eq!(migration.wanted().count(), 3, "the precheck of all waves");
    for number in [1, 0] {
        migration = go(&migration, &done(number, Step::Precheck));
    }
    assert_eq!((migration.phase, migration.touched), (Phase::Precheck, false), "one is not prechecked yet");
    migration = go(&migration, &done(2, Step::Precheck));
    assert_eq!(migration.wanted().collect::<Vec<_>>(), [(&shard(1), Step::Apply)]);
    assert!(!migration.at_gate() && !migration.on(&soaked(0)).expect("legal").changed, "too early");

    migration = run(migration);
    assert_eq!((migration.at_gate(), migration.phase), (true, Phase::Verify));
    assert_eq!(todos(&migration), [Some(Step::Apply), None, Some(Step::Apply)]);
    assert!(!migration.on(&soaked(1)).expect("legal").changed, "another wave");
    migration = go(&migration, &soaked(0));
    assert_eq!((migration.rollout.wave, migration.phase), (1, Phase::Schema));
    assert_eq!(migration.wanted().collect::<Vec<_>>(), [(&shard(0), Step::Apply)]);
    assert!(!migration.on(&soaked(0)).expect("legal").changed, "old news");

    migration = go(&run(migration), &soaked(1));
    assert_eq!(run(migration).status, Status::Completed, "nothing waits for the last wave");
}

#[test]
fn a_last_wave_that_soaks_is_completed_after_it() {
    let migration = run(in_waves(Kind::Data, &[0, 0], &[60]));
    assert_eq!((migration.status, migration.at_gate()), (Status::Running, true));
    assert_eq!(go(&migration, &soaked(0)).status, Status::Completed);
}

#[test]
fn a_gate_opens_only_while_the_migration_runs() {
    let at_gate = run(in_waves(Kind::Data, &[0, 1], &[60, 0]));
    for status in Status::ALL {
        let migration = Migration { status, ..at_gate.clone() };
        let made = migration.on(&soaked(0)).expect("legal");
        assert_eq!(made.changed, status == Status::Running, "soaked while {status}");
    }
    let paused = go(&at_gate, &Event::Asked(Verb::Pause));
    assert!(!paused.at_gate(), "a pause ends the soak");
    assert!(go(&paused, &Event::Asked(Verb::Resume)).at_gate(), "it begins anew");
}

#[test]
fn a_failure_halts_a_rollout_of_several_waves_and_the_others_are_left_alone() {
    for code in [ErrorCode::VerifyMismatch, ErrorCode::RowRejected, ErrorCode::PrecheckRefused] {
        let mut migration = in_waves(Kind::Data, &[0, 1], &[0, 0]);
        for number in [0, 1] {
            migration = go(&migration, &done(number, Step::Precheck));
        }
        migration = go(&migration, &failed(0, Step::Split, code));
        let Some(Stop::System { reason }) = &migration.stop else { panic!("{migration:?}") };
        assert_eq!((migration.status, reason.code), (Status::Paused, code));
        assert_eq!(todos(&migration)[1], Some(Step::Split), "untouched");
        let resumed = go(&migration, &Event::Asked(Verb::Resume));
        assert_eq!((resumed.status, resumed.wanted().count()), (Status::Running, 1));
    }
}

#[test]
fn a_rollback_of_a_halted_canary_leaves_the_other_waves_alone() {
    let mut migration = in_waves(Kind::Data, &[0, 1, 0], &[0, 0]);
    for number in [0, 1, 2] {
        migration = go(&migration, &done(number, Step::Precheck));
    }
    migration = go(&migration, &failed(0, Step::Split, ErrorCode::RowRejected));
    migration = go(&migration, &Event::Asked(Verb::Rollback { drop_data: false }));
    assert_eq!(migration.status, Status::RollingBack);
    assert_eq!(todos(&migration), [Some(Step::Undo), None, Some(Step::Undo)]);
    assert_eq!(run(migration).status, Status::RolledBack);
}

#[test]
fn news_of_a_shard_whose_wave_has_not_begun_changes_nothing() {
    let mut migration = in_waves(Kind::Data, &[0, 1], &[0, 0]);
    for number in [0, 1] {
        migration = go(&migration, &done(number, Step::Precheck));
    }
    assert!(!migration.on(&done(1, Step::Split)).expect("legal").changed);
    assert!(!migration.on(&failed(1, Step::Split, ErrorCode::RowRejected)).expect("legal").changed);
}

#[test]
fn what_an_earlier_release_stored_goes_on_as_one_wave() {
    let mut stored = serde_json::to_value(with_status(Status::Running)).expect("serialises");
    stored.as_object_mut().expect("an object").remove("rollout");
    for part in stored["shards"].as_object_mut().expect("an object").values_mut() {
        part.as_object_mut().expect("an object").remove("wave");
    }
    let migration: Migration = serde_json::from_value(stored).expect("parses");
    assert_eq!((migration.rollout.waves(), migration.begun().count()), (1, 2));
    assert_eq!(run(migration).status, Status::Completed);
}

/// How far a shard is.
fn place(migration: &Migration, part: &ShardMigration) -> usize {
    let steps = migration.steps();
    part.todo.and_then(|todo| steps.iter().position(|step| *step == todo)).unwrap_or(steps.len())
}

fn check_waves(before: &Migration, after: &Migration) {
    let (from, to) = (before.rollout.wave, after.rollout.wave);
    assert!(to == from || to == from + 1, "a wave was left out or repeated: {from} -> {to}");
    let finished = |wave| {
        before
            .shards
            .values()
            .filter(|part| part.wave <= wave)
            .all(|part| part.todo.is_none() && part.verified)
    };
    assert!(to == from || finished(from), "a wave began before the one before it was done and verified");
    // On the way back waves play no part.
    for part in after.shards.values().filter(|_| after.undo.is_none()) {
        let place = place(after, part);
        assert!(place < 2 || part.wave <= to, "a shard is ahead of its wave: {part:?}");
        assert!(to == 0 || place > 0, "a second wave began before every precheck had passed");
    }
}

proptest! {
    #[test]
    fn the_order_of_waves_holds_whatever_the_order_of_events(
        events in prop::collection::vec((any_event(), any::<bool>()), 1..200),
        waves in prop::collection::vec(0..3u32, 3),
        soaks in prop::collection::vec(0..2u64, 3),
        data in any::<bool>(),
    ) {
        let mut migration = in_waves(if data { Kind::Data } else { Kind::Schema }, &waves, &soaks);
        for (event, crash) in events {
            let next = migration.on(&event).map_or_else(|_| migration.clone(), |made| made.migration);
            check_waves(&migration, &next);
            check_legal(&next);
            migration = next;
            if crash {
                let stored = serde_json::to_string(&migration).expect("serialises");
                migration = serde_json::from_str::<Migration>(&stored).expect("parses").recovered();
            }
        }
    }
}

#[test]
fn every_shard_of_a_wave_is_saved_before_any_of_it_changes_and_a_failure_halts_with_nothing_touched() {
    let mut migration = Migration { backup: true, ..in_waves(Kind::Data, &[0, 0, 1], &[0, 0]) };
    for number in 0..3 {
        migration = go(&migration, &done(number, Step::Precheck));
    }
    assert_eq!((migration.phase, migration.touched), (Phase::Backup, false));
    migration = go(&migration, &done(0, Step::Backup));
    assert_eq!(migration.wanted().collect::<Vec<_>>(), [(&shard(1), Step::Backup)], "nobody runs ahead");
    let halted = go(&migration, &failed(1, Step::Backup, ErrorCode::BackupFailed));
    assert!(matches!(&halted.stop, Some(Stop::System { reason }) if reason.code == ErrorCode::BackupFailed));
    assert_eq!((halted.status, halted.touched), (Status::Paused, false));
    assert!(halted.on(&Event::Asked(Verb::Rollback { drop_data: false })).is_err(), "nothing was changed");
    migration = go(&halted, &Event::Asked(Verb::Resume));
    assert_eq!(migration.wanted().collect::<Vec<_>>(), [(&shard(1), Step::Backup)]);
    migration = go(&migration, &done(1, Step::Backup));
    assert_eq!((migration.phase, migration.touched, migration.wanted().count()), (Phase::Data, true, 2));
    migration = go(&run(migration), &soaked(0));
    assert_eq!((migration.phase, todos(&migration)[2]), (Phase::Backup, Some(Step::Backup)));
    let back = go(&migration, &Event::Asked(Verb::Rollback { drop_data: false }));
    assert_eq!(todos(&back), [Some(Step::Undo), Some(Step::Undo), None], "what was only saved is left alone");
    assert_eq!(run(migration).status, Status::Completed);
}
