//! Uniqueness over all shards: nothing is completed before all of them were compared, and nothing old decides.

use super::waves::in_waves;
use super::*;

/// Three shards, of which two go with the last wave.
fn asking(soaks: &[u64]) -> Migration {
    let waves: &[u32] = if soaks.len() == 1 { &[0, 0, 0] } else { &[0, 1, 1] };
    let mut migration = in_waves(Kind::Data, waves, soaks);
    migration.unique = Some(Uniqueness::default());
    migration
}

fn compared(round: u32, found: bool) -> Event {
    let failure = || Failure::new(ErrorCode::VerifyMismatch, "two rows are the same", "mend them");
    Event::Compared { round, found: found.then(failure) }
}

/// Does all that is wanted, but for this step; gates between waves open.
fn run_but(mut migration: Migration, but: Option<Step>) -> Migration {
    loop {
        let next = migration.wanted().find(|(_, step)| Some(*step) != but);
        let next = next.map(|(shard, step)| (shard.clone(), step));
        migration = match next {
            Some((shard, step)) => go(&migration, &Event::StepDone { shard, step, outcome: Outcome::Done }),
            None if migration.at_gate() && !migration.rollout.is_last() => {
                go(&migration, &Event::Soaked { wave: migration.rollout.wave })
            }
            None => return migration,
        }
    }
}

fn collecting(migration: &Migration) -> usize {
    migration.wanted().filter(|(_, step)| *step == Step::Collect).count()
}

#[test]
fn all_waves_collect_after_the_last_one_is_verified_and_then_they_are_compared() {
    let mut migration = asking(&[1, 0]);
    migration = run_but(migration, Some(Step::Collect));
    assert_eq!((migration.rollout.wave, collecting(&migration)), (1, 3), "also the shards of the first wave");
    assert!(migration.unique.is_some_and(|unique| unique.kept), "from now on there may be digests");
    assert!(!migration.compares() && !migration.on(&compared(0, false)).expect("legal").changed, "too early");
    migration = run_but(migration, None);
    assert_eq!((migration.status, migration.compares(), migration.at_gate()), (Status::Running, true, false));
    assert!(!migration.on(&compared(1, false)).expect("legal").changed, "another round");
    migration = go(&migration, &compared(0, false));
    assert_eq!((migration.status, migration.clears()), (Status::Completed, true));
    migration = go(&migration, &Event::Cleared);
    assert!(!migration.clears());
}

#[test]
fn a_last_wave_soaks_after_the_comparison() {
    let migration = run_but(asking(&[60]), None);
    assert!(migration.compares() && !migration.at_gate());
    let migration = go(&migration, &compared(0, false));
    assert!(migration.at_gate());
    let paused = go(&migration, &Event::Asked(Verb::Pause));
    let resumed = go(&paused, &Event::Asked(Verb::Resume));
    assert!(resumed.at_gate() && collecting(&resumed) == 0, "what was found to hold is not asked again");
    assert_eq!(go(&resumed, &Event::Soaked { wave: 0 }).status, Status::Completed);
}

#[test]
fn rows_that_are_the_same_halt_it_and_a_resume_collects_anew() {
    let halted = go(&run_but(asking(&[0]), None), &compared(0, true));
    assert_eq!(halted.reason().map(|reason| reason.code), Some(ErrorCode::VerifyMismatch));
    assert!(!halted.clears(), "a resume may follow");
    let resumed = go(&halted, &Event::Asked(Verb::Resume));
    assert_eq!((resumed.status, collecting(&resumed)), (Status::Running, 3));
    let again = run_but(resumed, None);
    assert!(!again.on(&compared(0, false)).expect("legal").changed, "news of the round before");
    assert_eq!(go(&again, &compared(1, false)).status, Status::Completed);
    let cancelled = go(&halted, &Event::Asked(Verb::Cancel));
    assert!(cancelled.clears());
}

#[test]
fn a_pause_during_the_comparison_keeps_the_digests() {
    let paused = go(&run_but(asking(&[0]), None), &Event::Asked(Verb::Pause));
    assert!(!paused.on(&compared(0, false)).expect("legal").changed, "somebody wants it to rest");
    let resumed = go(&paused, &Event::Asked(Verb::Resume));
    assert!(resumed.compares() && collecting(&resumed) == 0);
}

#[test]
fn rows_that_are_the_same_roll_it_back_where_the_spec_says_so() {
    let mut migration = run_but(asking(&[0]), None);
    migration.on_verify_failure = OnVerifyFailure::Rollback;
    let back = run_but(go(&migration, &compared(0, true)), None);
    assert_eq!((back.status, back.clears()), (Status::RolledBack, true));
    assert!(back.undo.as_ref().is_some_and(|undo| undo.reason.is_some()));
    assert!(!go(&back, &Event::Cleared).clears());
    let unknown = Failure::new(ErrorCode::VerifyIncomparable, "a shard has another type", "mend it");
    let halted = go(&migration, &Event::Compared { round: 0, found: Some(unknown) });
    assert_eq!(halted.status, Status::Paused, "nobody knows whether rows are the same");
}

#[test]
fn rows_that_are_tried_again_are_compared_with_all_others_again() {
    let over = go(&go(&run_but(asking(&[0]), None), &compared(0, false)), &Event::Cleared);
    let again = go(&over, &reopened(1));
    let again = go(&go(&again, &Event::Asked(Verb::Start)), &Event::Ready);
    assert_eq!(again.wanted().collect::<Vec<_>>(), [(&shard(1), Step::Sweep)]);
    let again = run_but(again, Some(Step::Collect));
    assert_eq!(collecting(&again), 3);
    let again = run_but(again, None);
    assert!(again.compares() && !again.on(&compared(0, false)).expect("legal").changed);
    assert_eq!(go(&again, &compared(1, false)).status, Status::Completed);
    let mut halfway = run_but(asking(&[0]), None);
    halfway = go(&go(&halfway, &Event::Asked(Verb::Pause)), &reopened(1));
    halfway = run_but(go(&halfway, &Event::Asked(Verb::Resume)), None);
    assert!(!halfway.on(&compared(0, false)).expect("legal").changed, "begun before the row was tried again");
    assert!(halfway.on(&compared(1, false)).expect("legal").changed);
}
