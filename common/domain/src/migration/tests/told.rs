//! What services outside are still to be told follows from the state, whoever asks.

use std::time::Duration;

use super::*;

fn at_its_gate() -> Migration {
    let mut migration = fresh(Kind::Schema, 2);
    migration.rollout = Rollout::of([Duration::ZERO, Duration::ZERO]);
    migration.shards.get_mut(&shard(1)).expect("there").wave = 1;
    let mut migration = go(&go(&migration, &Event::Asked(Verb::Start)), &Event::Ready);
    for number in [0, 1] {
        migration = go(&migration, &done(number, Step::Precheck));
    }
    for step in [Step::Apply, Step::Verify] {
        migration = go(&migration, &done(0, step));
    }
    assert!(migration.at_gate());
    migration
}

fn not_quiet(wave: u32) -> Event {
    let failure = Failure::new(ErrorCode::GateNotQuiet, "they were not quiet", "see to them");
    Event::NotQuiet { wave, failure }
}

#[test]
fn adaptors_that_may_be_quiet_are_to_go_on_wherever_the_gate_is_left() {
    let asked = go(&at_its_gate(), &Event::Told(News::Quieting(0)));
    assert!(!asked.is_to_resume(), "the gate needs them quiet");
    let ways =
        [Event::Soaked { wave: 0 }, Event::Asked(Verb::Pause), Event::Asked(Verb::Cancel), not_quiet(0)];
    for way in ways {
        let left = go(&asked, &way);
        assert!(left.is_to_resume(), "{way:?}");
        assert!(!go(&left, &Event::Told(News::Loud)).is_to_resume(), "{way:?}");
    }
}

#[test]
fn a_gate_that_is_not_quiet_in_time_halts_and_old_news_of_it_do_not() {
    let halted = go(&at_its_gate(), &not_quiet(0));
    assert_eq!(halted.status, Status::Paused);
    assert_eq!(halted.reason().map(|failure| failure.code), Some(ErrorCode::GateNotQuiet));
    let open = go(&at_its_gate(), &Event::Soaked { wave: 0 });
    for (migration, wave) in [(at_its_gate(), 1), (open.clone(), 0), (halted.clone(), 0)] {
        assert_eq!(go(&migration, &not_quiet(wave)), migration, "{wave}");
    }
    let resumed = go(&halted, &Event::Asked(Verb::Resume));
    assert!(resumed.at_gate(), "it soaks anew and asks again");
}

#[test]
fn a_channel_is_shown_what_it_does_not_show_yet_and_only_where_somebody_wants_that() {
    let mut migration = at_its_gate();
    assert_eq!(migration.unshown(), None, "nobody wants to hear of it");
    migration.told.chat = true;
    let running = Headline { status: Status::Running, reason: None };
    assert_eq!(migration.unshown(), Some(running.clone()));
    let shown = go(&migration, &Event::Told(News::Shown(running)));
    assert_eq!(shown.unshown(), None);
    let halted = go(&shown, &not_quiet(0));
    let headline = Headline { status: Status::Paused, reason: Some(ErrorCode::GateNotQuiet) };
    assert_eq!(halted.unshown(), Some(headline));
    let mut unwanted = fresh(Kind::Schema, 1);
    unwanted.told.chat = true;
    assert_eq!(unwanted.unshown(), None, "it waits");
    assert_eq!(go(&unwanted, &Event::Asked(Verb::Cancel)).unshown(), None, "nobody has heard of it");
}

#[test]
fn an_end_is_told_once_and_that_it_was_undone_only_to_who_heard_of_it() {
    let mut migration = with_status(Status::Completed);
    assert_eq!(migration.untold_end(), None);
    migration.told.mcp = true;
    assert_eq!(migration.untold_end(), Some(Status::Completed));
    let told = go(&migration, &Event::Told(News::Ended(Status::Completed)));
    assert_eq!(told.untold_end(), None);
    let mut undone = with_status(Status::RolledBack);
    undone.told.mcp = true;
    assert_eq!(undone.untold_end(), None);
    undone.told.ended = Some(Status::Completed);
    assert_eq!(undone.untold_end(), Some(Status::RolledBack));
    assert_eq!(go(&undone, &Event::Told(News::Ended(Status::RolledBack))).untold_end(), None);
}
