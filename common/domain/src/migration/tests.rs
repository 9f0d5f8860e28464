//! Every (state, event) pair, and random runs.

mod told;
mod unique;
mod waves;

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::failure::{ErrorCode, Failure};
use crate::ids::{Checksum, ClusterName, MigrationId, MigrationKey, ShardId, Version};
use crate::quarantine::Held;
use crate::spec::{Engine, Kind, OnVerifyFailure};
use crate::verdict::Undone;

pub(super) fn shard(number: u8) -> ShardId {
    ShardId::new(format!("s{number}")).expect("a name")
}

pub(super) fn fresh(kind: Kind, shards: u8) -> Migration {
    let part = ShardMigration::fresh(0);
    Migration {
        key: MigrationKey { id: MigrationId::new("m").expect("a name"), version: Version::FIRST },
        kind,
        engine: Engine::Postgres,
        cluster: ClusterName::new("c").expect("a name"),
        checksum: Checksum::of(b"m"),
        relation: None,
        has_where: true,
        atomic: false,
        backup: false,
        decision: None,
        waits_for: Vec::new(),
        status: Status::Pending,
        released: false,
        phase: Phase::Precheck,
        touched: false,
        stop: None,
        on_verify_failure: OnVerifyFailure::Halt,
        undo: None,
        purge: None,
        throttling: Throttling::default(),
        author: None,
        approval: None,
        traceparent: None,
        quarantined: BTreeMap::new(),
        rollout: Rollout::default(),
        told: Default::default(),
        unique: None,
        shards: (0..shards).map(|number| (shard(number), part.clone())).collect::<BTreeMap<_, _>>(),
    }
}

fn with_status(status: Status) -> Migration {
    let mut migration = fresh(Kind::Data, 2);
    migration.status = status;
    migration.released = status != Status::Pending;
    migration.stop = (status == Status::Paused).then_some(Stop::Person);
    migration.touched = status != Status::Pending;
    let todo = match status {
        Status::Pending => Some(Step::Precheck),
        Status::Running | Status::Paused | Status::Failed | Status::Cancelled => Some(Step::Split),
        Status::RollingBack => Some(Step::Undo),
        Status::Completed | Status::RolledBack => None,
    };
    migration.shards.get_mut(&shard(1)).expect("there").todo = todo;
    if matches!(status, Status::RollingBack | Status::RolledBack) {
        migration.shards.get_mut(&shard(0)).expect("there").todo = None;
        migration.undo = Some(Undo { drop_data: false, reason: None, done: Undone::default() });
    }
    migration
}

pub(super) fn done(number: u8, step: Step) -> Event {
    Event::StepDone { shard: shard(number), step, outcome: Outcome::Done }
}

pub(super) fn failed(number: u8, step: Step, code: ErrorCode) -> Event {
    Event::StepFailed { shard: shard(number), step, failure: Failure::new(code, "it broke", "mend it") }
}

const BACK: Event = Event::Asked(Verb::Rollback { drop_data: false });

pub(super) fn go(migration: &Migration, event: &Event) -> Migration {
    migration.on(event).expect("a legal move").migration
}

#[test]
fn every_verb_in_every_status_does_what_the_table_says() {
    use Status::*;
    // Rows: status. Columns: start, pause, resume, cancel, retry; `None` is illegal. Then both forms of a rollback of what
    // was changed; what may be purged has ended, what may be throttled has not and does not go back; both stay as they are.
    let table = [
        (Pending, [Some(Pending), None, None, Some(Cancelled), None], None),
        (
            Running,
            [Some(Running), Some(Paused), Some(Running), Some(Cancelled), Some(Running)],
            Some(RollingBack),
        ),
        (Paused, [None, Some(Paused), Some(Running), Some(Cancelled), None], Some(RollingBack)),
        (Completed, [None; 5], Some(RollingBack)),
        (Failed, [None, None, None, Some(Cancelled), Some(Running)], Some(RollingBack)),
        (Cancelled, [None, None, None, Some(Cancelled), None], Some(RollingBack)),
        (RollingBack, [None, Some(Paused), Some(RollingBack), None, Some(RollingBack)], Some(RollingBack)),
        (RolledBack, [None; 5], Some(RolledBack)),
    ];
    assert_eq!(table.len(), Status::ALL.len());
    for (status, row, back) in table {
        let purged = status.is_final().then_some(status);
        let throttled = matches!(status, Pending | Running | Paused | Failed).then_some(status);
        let row: Vec<_> = row.into_iter().chain([back, back, purged, throttled]).collect();
        assert_eq!(row.len(), Verb::ALL.len());
        for (verb, expected) in Verb::ALL.into_iter().zip(row) {
            let got = with_status(status).on(&Event::Asked(verb)).ok().map(|made| made.migration.status);
            assert_eq!(got, expected, "{verb:?} while {status}");
        }
    }
}

#[test]
fn what_changed_nothing_has_nothing_to_roll_back() {
    for status in [Status::Running, Status::Paused, Status::Failed, Status::Cancelled] {
        let untouched = Migration { touched: false, ..with_status(status) };
        let illegal = untouched.on(&BACK).expect_err("nothing was changed");
        assert_eq!(illegal.verb, Verb::Rollback { drop_data: false });
    }
}

#[test]
fn from_the_moment_of_a_purge_there_is_no_way_back() {
    const PURGE: Event = Event::Asked(Verb::Purge);
    for status in [Status::Completed, Status::Cancelled] {
        let purging = go(&with_status(status), &PURGE);
        assert!(purging.purges() && purging.status == status);
        assert_eq!(go(&purging, &PURGE), purging, "twice is once");
        assert!(purging.on(&BACK).is_err(), "{status}");
        let over = go(&purging, &Event::Purged { number: 0 });
        assert!(!over.purges() && over.on(&BACK).is_err());
        assert_eq!(go(&over, &Event::Purged { number: 0 }), over);
        assert_eq!(go(&over, &PURGE), over);
    }
    let untouched = Migration { touched: false, ..with_status(Status::Cancelled) };
    assert_eq!(go(&untouched, &PURGE), untouched, "it keeps nothing");
    let back = go(&with_status(Status::Completed), &BACK);
    assert_eq!(go(&back, &Event::Purged { number: 0 }), back, "old news of a purge that nobody asked for");
    assert!(Migration { kind: Kind::Schema, ..with_status(Status::Completed) }.on(&PURGE).is_err());
}

#[test]
fn rows_that_are_tried_again_after_a_purge_leave_images_that_go_as_well() {
    let over =
        go(&go(&with_status(Status::Completed), &Event::Asked(Verb::Purge)), &Event::Purged { number: 0 });
    let again = go(&over, &Event::Reopened { shard: shard(1) });
    assert!(again.status == Status::Pending && !again.purges(), "not while it runs");
    assert!(again.purge.is_some_and(|purge| !purge.done));
    let mut done_again = again.clone();
    done_again.status = Status::Completed;
    let late = go(&done_again, &Event::Purged { number: 0 });
    assert_eq!(late, done_again, "news of the purge before says nothing of what was left since");
    assert!(!go(&done_again, &Event::Purged { number: 1 }).purges());
    let mut failing = again.clone();
    failing.status = Status::Running;
    failing.phase = Phase::Verify;
    failing.on_verify_failure = OnVerifyFailure::Rollback;
    failing.shards.get_mut(&shard(0)).expect("there").todo = Some(Step::Verify);
    let halted = go(&failing, &failed(0, Step::Verify, ErrorCode::VerifyMismatch));
    assert_eq!(halted.status, Status::Paused, "nothing is there to roll back with");
}

#[test]
fn only_shards_that_were_touched_are_undone() {
    let migration = go(&with_status(Status::Failed), &BACK);
    assert_eq!((migration.status, migration.phase), (Status::RollingBack, Phase::Undo));
    assert_eq!(migration.wanted().collect::<Vec<_>>(), [(&shard(1), Step::Undo)]);
    let after = go(&migration, &done(1, Step::Split));
    assert_eq!(after, migration, "what was under way before says nothing any more");
    let outcome = Outcome::Undone(Undone { restored: 7, conflicts: 1 });
    let over = go(&migration, &Event::StepDone { shard: shard(1), step: Step::Undo, outcome });
    assert_eq!((over.status, over.wanted().count()), (Status::RolledBack, 0));
    assert_eq!(over.undo.map(|undo| undo.done), Some(Undone { restored: 7, conflicts: 1 }));
}

#[test]
fn a_rollback_that_was_stopped_goes_on_where_it_stands() {
    let mut migration = go(&with_status(Status::Completed), &BACK);
    migration = go(&migration, &done(0, Step::Undo));
    migration = go(&migration, &failed(1, Step::Undo, ErrorCode::UndoDropsData));
    assert!(matches!(migration.stop, Some(Stop::System { .. })), "a person must decide");
    let resumed = go(&migration, &Event::Asked(Verb::Resume));
    assert_eq!((resumed.status, resumed.failure()), (Status::RollingBack, None));
    migration = go(&migration, &Event::Asked(Verb::Rollback { drop_data: true }));
    assert_eq!(migration.wanted().collect::<Vec<_>>(), [(&shard(1), Step::Undo)]);
    assert!(migration.undo.as_ref().is_some_and(|undo| undo.drop_data));
    migration = go(&migration, &failed(1, Step::Undo, ErrorCode::SchemaFailed));
    assert_eq!(migration.status, Status::Failed);
    let given_up = go(&migration, &Event::Asked(Verb::Cancel));
    assert_eq!(given_up.status, Status::Cancelled);
    for (from, verb) in [(&migration, Verb::Retry), (&given_up, Verb::Rollback { drop_data: false })] {
        let again = go(from, &Event::Asked(verb));
        assert_eq!(again.wanted().collect::<Vec<_>>(), [(&shard(1), Step::Undo)]);
    }
}

#[test]
fn a_spec_may_want_its_own_rollback_when_verification_fails() {
    let mut migration = with_status(Status::Running);
    migration.on_verify_failure = OnVerifyFailure::Rollback;
    for part in migration.shards.values_mut() {
        part.todo = Some(Step::Verify);
    }
    let back = go(&migration, &failed(0, Step::Verify, ErrorCode::VerifyMismatch));
    assert_eq!((back.status, back.wanted().count()), (Status::RollingBack, 2));
    assert!(back.undo.is_some_and(|undo| undo.reason.is_some()));
    let paused = go(&migration, &Event::Asked(Verb::Pause));
    let halted = go(&paused, &failed(0, Step::Verify, ErrorCode::VerifyMismatch));
    assert_eq!(halted.status, Status::Paused, "who paused it decides");
}

#[test]
fn a_shard_that_does_not_get_its_locks_in_time_takes_all_back_but_not_what_a_person_has_stopped() {
    let mut migration = with_status(Status::Running);
    for part in migration.shards.values_mut() {
        part.todo = Some(Step::Apply);
    }
    let late = failed(0, Step::Apply, ErrorCode::SchemaLockDeadline);
    let back = go(&migration, &late);
    assert_eq!((back.status, back.wanted().count()), (Status::RollingBack, 2));
    assert!(back.undo.is_some_and(|undo| undo.reason.is_some()));
    let paused = go(&go(&migration, &Event::Asked(Verb::Pause)), &late);
    assert!(paused.undo.is_none() && paused.status != Status::RollingBack, "{paused:?}");
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

fn aside(number: u8, held: Held) -> Event {
    let over = (held.rows > 1).then(|| Failure::new(ErrorCode::QuarantineOverBudget, "too many", "decide"));
    Event::Quarantined { shard: shard(number), held, over }
}

#[test]
fn a_row_too_many_halts_it_wherever_its_shard_is_and_only_a_further_one_halts_it_again() {
    let running = with_status(Status::Running);
    let one = go(&running, &aside(0, Held { rows: 1, discarded: 0 }));
    assert_eq!(one.status, Status::Running);
    let halted = go(&one, &aside(0, Held { rows: 2, discarded: 0 }));
    assert!(
        matches!(&halted.stop, Some(Stop::System { reason }) if reason.code == ErrorCode::QuarantineOverBudget)
    );
    let resumed = go(&halted, &Event::Asked(Verb::Resume));
    assert_eq!(go(&resumed, &aside(0, Held { rows: 2, discarded: 1 })).status, Status::Running);
    assert_eq!(go(&resumed, &aside(0, Held { rows: 3, discarded: 0 })).status, Status::Paused);
}

#[test]
fn a_schema_change_has_no_rows_to_set_aside() {
    let running = Migration { kind: Kind::Schema, ..with_status(Status::Running) };
    assert_eq!(go(&running, &aside(0, Held { rows: 2, discarded: 0 })), running);
}

fn reopened(number: u8) -> Event {
    Event::Reopened { shard: shard(number) }
}

#[test]
fn rows_may_be_tried_again_only_where_a_search_can_follow() {
    for status in Status::ALL {
        let may = matches!(status, Status::Paused | Status::Failed | Status::Completed);
        assert_eq!(with_status(status).may_reopen().is_ok(), may, "{status}");
        let without = Migration { has_where: false, ..with_status(status) };
        assert!(without.may_reopen().is_err(), "nothing would find them");
        let after = go(&without, &reopened(0));
        assert_eq!(after, without);
    }
}

#[test]
fn a_completed_migration_that_is_reopened_waits_to_be_started_and_searches_that_shard_alone() {
    let mut migration = with_status(Status::Completed);
    for part in migration.shards.values_mut() {
        *part = ShardMigration { todo: None, failure: None, verified: true, wave: 0 };
    }
    let held = Held { rows: 2, discarded: 0 };
    migration = go(&migration, &aside(1, held));
    assert_eq!((migration.held(), migration.status), (held, Status::Completed));
    migration = go(&migration, &reopened(1));
    assert_eq!((migration.status, migration.released), (Status::Pending, false));
    assert_eq!(go(&migration, &Event::Ready).status, Status::Pending, "nobody said start");
    migration = go(&migration, &aside(1, Held::default()));
    assert!(migration.quarantined.is_empty());
    migration = go(&go(&migration, &Event::Asked(Verb::Start)), &Event::Ready);
    assert_eq!(migration.wanted().collect::<Vec<_>>(), [(&shard(1), Step::Sweep)]);
    migration = go(&go(&migration, &done(1, Step::Sweep)), &done(1, Step::Verify));
    assert_eq!(migration.status, Status::Completed);
}

#[test]
fn a_shard_that_is_still_walked_needs_no_second_search_and_one_that_is_verified_goes_back() {
    let mut migration = with_status(Status::Paused);
    migration.shards.get_mut(&shard(0)).expect("there").todo = Some(Step::Backfill);
    migration.shards.get_mut(&shard(1)).expect("there").todo = Some(Step::Verify);
    migration = go(&go(&migration, &reopened(0)), &reopened(1));
    let todo: Vec<_> = migration.shards.values().map(|part| part.todo).collect();
    assert_eq!(todo, [Some(Step::Backfill), Some(Step::Sweep)]);
    assert_eq!(migration.status, Status::Paused);
}

fn any_event() -> impl Strategy<Value = Event> {
    let step = prop::sample::select(Step::ALL.to_vec());
    let codes = vec![
        ErrorCode::VerifyMismatch,
        ErrorCode::SweepNotConverging,
        ErrorCode::RowRejected,
        ErrorCode::UndoDropsData,
    ];
    prop_oneof![
        2 => prop::sample::select(Verb::ALL.to_vec()).prop_map(Event::Asked),
        1 => Just(Event::Ready),
        1 => (0_u8..3).prop_map(reopened),
        1 => (0_u8..3, 0_u64..3).prop_map(|(number, rows)| {
            aside(number, Held { rows, discarded: 0 })
        }),
        2 => (0..3u32).prop_map(|wave| Event::Soaked { wave }),
        2 => (0..3u32, any::<bool>()).prop_map(|(round, found)| {
            let failure = || Failure::new(ErrorCode::VerifyMismatch, "it broke", "mend it");
            Event::Compared { round, found: found.then(failure) }
        }),
        1 => Just(Event::Cleared),
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
    if !matches!(migration.status, Status::Running | Status::RollingBack) && !migration.settles() {
        assert_eq!(migration.wanted().count(), 0);
    }
    if migration.undo.is_some() {
        assert!(migration.shards.values().all(|part| matches!(part.todo, None | Some(Step::Undo))));
        assert!(!matches!(migration.status, Status::Pending | Status::Running | Status::Completed));
    }
    if migration.status == Status::RolledBack {
        assert!(migration.undo.is_some() && migration.shards.values().all(|part| part.todo.is_none()));
    }
    for (_, step) in migration.wanted() {
        assert_eq!(step.phase(), migration.phase);
        assert!(migration.steps().contains(&step) || step == Step::Abort);
    }
    check_vote(migration);
    if migration.status == Status::Completed {
        assert!(migration.unique.is_none_or(|unique| unique.holds == Some(true)), "{migration:?}");
    }
    if migration.status == Status::Running && !migration.at_gate() && !migration.compares() {
        assert_eq!(migration.open_phase(), Some(migration.phase), "a phase waits for its slowest shard");
    }
}

/// The move in place, after a check that it tells of exactly the parts that differ.
fn made_in_place(before: &Migration, event: &Event) -> (bool, Migration) {
    let mut after = before.clone();
    let told = after.make(event).expect("legal");
    let differ = after.shards.iter().filter(|(shard, part)| before.shards[*shard] != **part);
    assert_eq!(told.clone().unwrap_or_default(), differ.map(|(shard, _)| shard.clone()).collect::<Vec<_>>());
    (told.is_some(), after)
}

#[test]
fn an_illegal_move_in_place_changes_nothing() {
    for status in Status::ALL {
        for verb in Verb::ALL {
            let before = with_status(status);
            let mut after = before.clone();
            if after.make(&Event::Asked(verb)).is_err() {
                assert_eq!(after, before, "{verb:?} while {status}");
            }
        }
    }
}

/// All or nothing: nobody has committed what is not decided, and nothing at rest is prepared.
fn check_vote(migration: &Migration) {
    let at = |step: Step| migration.shards.values().filter(move |part| part.todo == Some(step)).count();
    let past = migration
        .shards
        .values()
        .filter(|part| matches!(part.todo, Some(Step::Verify | Step::Undo) | None))
        .count();
    match &migration.decision {
        None if migration.atomic => assert_eq!(past + at(Step::Abort), 0),
        Some(Decision::Commit) => {
            assert_eq!(past + at(Step::Commit), migration.shards.len());
            assert!(!matches!(migration.status, Status::Paused | Status::Cancelled) || at(Step::Commit) == 0);
        }
        Some(Decision::Abort { .. }) => assert_eq!(past + at(Step::Commit), 0),
        None => assert_eq!(at(Step::Prepare) + at(Step::Commit) + at(Step::Abort), 0),
    }
    let rests = matches!(migration.status, Status::Paused | Status::Cancelled | Status::Completed);
    assert!(!migration.atomic || !rests || !(migration.settles() || migration.votes()), "{migration:?}");
}

proptest! {
    #[test]
    fn only_legal_states_appear_and_repeats_change_nothing(
        events in prop::collection::vec((any_event(), any::<bool>()), 1..120),
        data in any::<bool>(),
        back in any::<bool>(),
        rollout in any::<bool>(),
        atomic in any::<bool>(),
        backup in any::<bool>(),
        unique in any::<bool>(),
    ) {
        let kind = if data { Kind::Data } else { Kind::Schema };
        // A spec cannot ask for both.
        let mut migration = if rollout {
            waves::in_waves(kind, &[0, 1, 1], &[1, 0])
        } else {
            Migration { atomic: atomic && !data, ..fresh(kind, 3) }
        };
        migration.backup = data && backup;
        migration.unique = (data && unique).then(Uniqueness::default);
        if back {
            migration.on_verify_failure = OnVerifyFailure::Rollback;
        }
        for (event, crash) in events {
            if let Ok(made) = migration.on(&event) {
                prop_assert_eq!(made.changed, made.migration != migration);
                prop_assert_eq!(made_in_place(&migration, &event), (made.changed, made.migration.clone()));
                migration = made.migration;
                let repeat = migration.on(&event).map(|made| made.changed);
                // Going on with nothing left to do completes: then, and only then, a repeat hears that it is finished.
                let goes_on = matches!(event, Event::Asked(Verb::Resume | Verb::Retry));
                let over = matches!(migration.status, Status::Completed | Status::RolledBack);
                if goes_on && over {
                    prop_assert_eq!(repeat.map_err(|illegal| illegal.status), Err(migration.status));
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
