//! Every verb and every event in every state of a vote.

use super::*;
use crate::failure::ErrorCode;
use crate::migration::tests::{done, failed, fresh, go, shard};
use crate::migration::{Event, Outcome};
use crate::spec::Kind;

const SHARDS: u8 = 3;

/// Running, with all prechecks passed.
fn voting() -> Migration {
    let mut migration = Migration { atomic: true, ..fresh(Kind::Schema, SHARDS) };
    migration = go(&go(&migration, &Event::Asked(Verb::Start)), &Event::Ready);
    all(migration, Step::Precheck)
}

fn all(migration: Migration, step: Step) -> Migration {
    (0..SHARDS).fold(migration, |migration, number| go(&migration, &done(number, step)))
}

fn decided() -> Migration {
    all(voting(), Step::Prepare)
}

fn aborting(event: &Event) -> Migration {
    go(&go(&voting(), &done(0, Step::Prepare)), event)
}

fn wanted(migration: &Migration) -> Vec<Step> {
    migration.wanted().map(|(_, step)| step).collect()
}

fn refused(migration: &Migration, verb: Verb) -> bool {
    migration.on(&Event::Asked(verb)).is_err()
}

#[test]
fn nobody_commits_before_everybody_has_prepared() {
    let mut migration = voting();
    assert_eq!(wanted(&migration), [Step::Prepare; 3]);
    for number in 0..SHARDS {
        assert_eq!(migration.decision, None);
        assert!(!migration.touched, "nothing stays yet");
        migration = go(&migration, &done(number, Step::Prepare));
    }
    assert_eq!(migration.decision, Some(Decision::Commit));
    assert!(migration.touched && migration.settles());
    assert_eq!(wanted(&migration), [Step::Commit; 3]);
    migration = all(migration, Step::Commit);
    assert_eq!((migration.phase, migration.settles()), (Phase::Verify, false));
    assert_eq!(all(migration, Step::Verify).status, Status::Completed);
}

#[test]
fn one_shard_that_cannot_prepare_stops_all() {
    let mut migration = aborting(&failed(1, Step::Prepare, ErrorCode::SchemaFailed));
    assert_eq!((migration.status, wanted(&migration)), (Status::Running, vec![Step::Abort; 3]));
    for number in 0..SHARDS {
        assert_eq!(migration.status, Status::Running, "not before every shard has rolled back");
        migration = go(&migration, &done(number, Step::Abort));
    }
    assert_eq!((migration.status, migration.touched), (Status::Failed, false));
    assert_eq!(migration.shards[&shard(1)].failure.as_ref().expect("told").code, ErrorCode::SchemaFailed);
    let retried = go(&migration, &Event::Asked(Verb::Retry));
    assert_eq!((retried.decision.as_ref(), wanted(&retried)), (None, vec![Step::Prepare; 3]));
    assert_eq!(all(retried, Step::Prepare).decision, Some(Decision::Commit));
}

#[test]
fn pause_and_cancel_before_the_decision_roll_back_first() {
    for (verb, rest) in [(Verb::Pause, Status::Paused), (Verb::Cancel, Status::Cancelled)] {
        let stopped = aborting(&Event::Asked(verb));
        assert_eq!((stopped.status, wanted(&stopped)), (Status::Running, vec![Step::Abort; 3]));
        let at_rest = all(stopped, Step::Abort);
        assert_eq!((at_rest.status, at_rest.touched, wanted(&at_rest)), (rest, false, vec![]));
    }
    let paused = all(aborting(&Event::Asked(Verb::Pause)), Step::Abort);
    let resumed = go(&paused, &Event::Asked(Verb::Resume));
    assert_eq!(wanted(&resumed), [Step::Prepare; 3]);
    assert_eq!(go(&paused, &Event::Asked(Verb::Cancel)).status, Status::Cancelled);
}

#[test]
fn every_verb_in_every_state_of_a_vote_does_what_the_table_says() {
    let pausing = aborting(&Event::Asked(Verb::Pause));
    let cancelling = aborting(&Event::Asked(Verb::Cancel));
    let failing = aborting(&failed(1, Step::Prepare, ErrorCode::SchemaFailed));
    let stuck = go(&failing, &failed(0, Step::Abort, ErrorCode::ShardRefused));
    let half = go(&decided(), &failed(0, Step::Commit, ErrorCode::ShardRefused));
    assert_eq!((stuck.status, half.status), (Status::Failed, Status::Failed));
    // Columns: start, pause, resume, cancel, retry; whether it is refused.
    let table = [
        ("voting", voting(), [false, false, false, false, false]),
        ("decided", decided(), [false, true, false, true, false]),
        ("decided, a shard failed", half, [true, true, true, true, false]),
        ("pausing", pausing, [true, false, true, false, false]),
        ("cancelling", cancelling, [true, true, true, false, false]),
        ("failing", failing, [true, true, true, false, false]),
        ("failing, a shard failed", stuck, [true, true, true, false, false]),
    ];
    for (what, migration, row) in table {
        for (verb, expected) in Verb::ALL.into_iter().zip(row) {
            assert_eq!(refused(&migration, verb), expected, "{verb:?} while {what}");
        }
        for drop_data in [false, true] {
            assert!(refused(&migration, Verb::Rollback { drop_data }), "rollback while {what}");
        }
    }
}

#[test]
fn what_is_decided_is_carried_out_though_one_shard_failed_with_it() {
    let half = go(&decided(), &failed(0, Step::Commit, ErrorCode::ShardRefused));
    assert_eq!((half.status, wanted(&half)), (Status::Failed, vec![Step::Commit; 2]));
    let half = go(&go(&half, &done(1, Step::Commit)), &done(2, Step::Commit));
    assert_eq!((half.status, wanted(&half)), (Status::Failed, vec![]));
    let retried = go(&half, &Event::Asked(Verb::Retry));
    assert_eq!((retried.decision.as_ref(), wanted(&retried)), (Some(&Decision::Commit), vec![Step::Commit]));

    let stuck = aborting(&Event::Asked(Verb::Pause));
    let stuck = go(&stuck, &failed(0, Step::Abort, ErrorCode::ShardRefused));
    assert_eq!((stuck.status, wanted(&stuck)), (Status::Failed, vec![Step::Abort; 2]));
    let cancelled = go(&stuck, &Event::Asked(Verb::Cancel));
    assert_eq!((cancelled.status, wanted(&cancelled)), (Status::Running, vec![Step::Abort; 3]));
    assert_eq!(all(cancelled, Step::Abort).status, Status::Cancelled);
}

#[test]
fn late_news_of_an_older_round_decides_nothing() {
    let pausing = go(&aborting(&Event::Asked(Verb::Pause)), &done(0, Step::Abort));
    for event in [
        done(0, Step::Prepare),
        done(1, Step::Prepare),
        done(1, Step::Commit),
        failed(0, Step::Prepare, ErrorCode::SchemaFailed),
    ] {
        assert!(!pausing.on(&event).expect("legal").changed, "{event:?}");
    }
    let outcome = Outcome::Done;
    let abort = Event::StepDone { shard: shard(0), step: Step::Abort, outcome };
    assert!(!decided().on(&abort).expect("legal").changed, "nothing takes a decision back");
    assert!(!voting().on(&abort).expect("legal").changed);
}

#[test]
fn after_a_take_over_only_a_decision_keeps_what_was_prepared() {
    let open = go(&voting(), &done(0, Step::Prepare));
    assert_eq!(wanted(&open.recovered()), [Step::Prepare; 3], "prepared anew under the new epoch");
    let half = go(&decided(), &done(0, Step::Commit)).recovered();
    assert_eq!(wanted(&half), [Step::Commit; 2]);
    let aborting = aborting(&Event::Asked(Verb::Cancel)).recovered();
    assert_eq!(wanted(&aborting), [Step::Abort; 3]);
}

#[test]
fn once_every_shard_has_committed_it_can_be_taken_back() {
    let committed = all(decided(), Step::Commit);
    assert!(!committed.presses() && decided().presses());
    let back = go(&committed, &Event::Asked(Verb::Rollback { drop_data: false }));
    assert_eq!((back.status, wanted(&back)), (Status::RollingBack, vec![Step::Undo; 3]));
    let late = go(&go(&back, &done(0, Step::Commit)), &done(1, Step::Prepare));
    assert_eq!(late, back, "an old report says nothing any more");
    assert_eq!(all(back, Step::Undo).status, Status::RolledBack);
}
