//! Which migrations of an apply to watch now, and when nothing more will happen. Pure: news in, answers out.
//!
//! A migration is watched from the moment that everything it waits for is completed, so a plan of hundreds keeps
//! few streams open, and one that waits for a failed one is known to be stuck.

use std::collections::{BTreeMap, BTreeSet};

use shardlift_client::model::MigrationView;
use shardlift_domain::ids::MigrationId;
use shardlift_domain::migration::Status;
use shardlift_domain::plan::{Disposition, Plan};

/// The migrations being followed.
#[derive(Debug)]
pub(crate) struct Course {
    parts: BTreeMap<MigrationId, Part>,
    /// In the order of the plan; others as they are met.
    order: Vec<MigrationId>,
    /// Also follow what turns out to be in the way, and give up on what nobody has started or approved.
    judges: bool,
}

#[derive(Debug)]
struct Part {
    waits_for: BTreeSet<MigrationId>,
    /// Whether the user asked for it; others are only in the way.
    asked: bool,
    state: State,
}

#[derive(Debug)]
enum State {
    /// Not watched yet.
    Closed,
    /// Watched, last seen so.
    Watched(Option<Box<MigrationView>>),
    /// Watched until it rested.
    Ended(Box<MigrationView>),
    /// Completed before.
    Past,
}

impl Course {
    /// One migration, until it rests.
    pub(crate) fn single(id: &MigrationId) -> Self {
        let part = Part { waits_for: BTreeSet::new(), asked: true, state: State::Closed };
        Self { parts: BTreeMap::from([(id.clone(), part)]), order: vec![id.clone()], judges: false }
    }

    /// All migrations of a plan, until each rests or is stuck behind one that does.
    pub(crate) fn of(plan: &Plan) -> Self {
        let part = |planned: &shardlift_domain::plan::PlannedMigration| {
            let completed = planned.disposition == Disposition::Known { status: Status::Completed };
            Part {
                waits_for: planned.waits_for.iter().cloned().collect(),
                asked: true,
                state: if completed { State::Past } else { State::Closed },
            }
        };
        Self {
            parts: plan.migrations.iter().map(|planned| (planned.id.clone(), part(planned))).collect(),
            order: plan.migrations.iter().map(|planned| planned.id.clone()).collect(),
            judges: true,
        }
    }

    /// What to watch from now on; each is named once.
    pub(crate) fn open(&mut self) -> Vec<MigrationId> {
        let ready: Vec<MigrationId> = self
            .order
            .iter()
            .filter(|id| {
                let part = &self.parts[*id];
                matches!(part.state, State::Closed) && part.waits_for.iter().all(|other| self.is_past(other))
            })
            .cloned()
            .collect();
        for id in &ready {
            if let Some(part) = self.parts.get_mut(id) {
                part.state = State::Watched(None);
            }
        }
        ready
    }

    /// Takes news in.
    pub(crate) fn on(&mut self, view: MigrationView) {
        let nobody = !view.released || view.approval_needed.is_some();
        let abandoned = self.judges && view.status == Status::Pending && nobody;
        if self.judges && !view.rests() {
            for id in &view.waiting_for {
                self.meet(id);
            }
        }
        let Some(part) = self.parts.get_mut(view.id()) else { return };
        part.waits_for.extend(view.waiting_for.iter().cloned());
        let ended = view.rests() || abandoned;
        let view = Box::new(view);
        part.state = if ended { State::Ended(view) } else { State::Watched(Some(view)) };
    }

    /// Whether nothing more will happen without a person. Ask after [`Self::open`].
    pub(crate) fn is_over(&self) -> bool {
        let stuck = self.stuck();
        self.parts.iter().all(|(id, part)| match part.state {
            State::Past | State::Ended(_) => true,
            State::Closed | State::Watched(_) => stuck.contains(id),
        })
    }

    /// What was asked for and rests, in order.
    pub(crate) fn ended(&self) -> impl Iterator<Item = &MigrationView> {
        self.asked().filter_map(|(_, part)| match &part.state {
            State::Ended(view) => Some(view.as_ref()),
            _ => None,
        })
    }

    /// What was asked for and has been seen, in order.
    pub(crate) fn seen(&self) -> impl Iterator<Item = &MigrationView> {
        self.asked().filter_map(|(_, part)| match &part.state {
            State::Ended(view) | State::Watched(Some(view)) => Some(view.as_ref()),
            _ => None,
        })
    }

    /// What was asked for and waits for something that will not be completed by itself, with that, in order.
    pub(crate) fn blocked(&self) -> Vec<(&MigrationId, Vec<&MigrationId>)> {
        let stuck = self.stuck();
        let waits = |(id, part): (_, &'_ Part)| {
            let open = matches!(part.state, State::Closed | State::Watched(_)) && stuck.contains(id);
            open.then(|| (id, self.obstacles(id, &stuck)))
        };
        self.asked().filter_map(waits).collect()
    }

    fn obstacles(&self, id: &MigrationId, stuck: &BTreeSet<&MigrationId>) -> Vec<&MigrationId> {
        let Some(part) = self.parts.get(id) else { return Vec::new() };
        self.order.iter().filter(|other| part.waits_for.contains(*other) && stuck.contains(other)).collect()
    }

    fn asked(&self) -> impl Iterator<Item = (&MigrationId, &Part)> {
        self.order.iter().map(|id| (id, &self.parts[id])).filter(|(_, part)| part.asked)
    }

    fn meet(&mut self, id: &MigrationId) {
        if !self.parts.contains_key(id) {
            let part = Part { waits_for: BTreeSet::new(), asked: false, state: State::Closed };
            self.parts.insert(id.clone(), part);
            self.order.push(id.clone());
        }
    }

    /// What is not part of the course is completed, or the plan would not have been accepted without it; if not,
    /// the migration that waits for it says so when it is watched.
    fn is_past(&self, id: &MigrationId) -> bool {
        match self.parts.get(id).map(|part| &part.state) {
            None | Some(State::Past) => true,
            Some(State::Ended(view)) => view.status == Status::Completed,
            Some(State::Closed | State::Watched(_)) => false,
        }
    }

    /// What rests without being completed, and what waits for that, through any number of others.
    fn stuck(&self) -> BTreeSet<&MigrationId> {
        let mut stuck: BTreeSet<&MigrationId> = BTreeSet::new();
        loop {
            let before = stuck.len();
            for (id, part) in &self.parts {
                let waits = || part.waits_for.iter().any(|other| stuck.contains(other));
                let is_stuck = match &part.state {
                    State::Past => false,
                    State::Ended(view) => view.status != Status::Completed,
                    State::Watched(Some(view)) => view.status == Status::Pending && waits(),
                    State::Closed | State::Watched(None) => waits(),
                };
                if is_stuck {
                    stuck.insert(id);
                }
            }
            if stuck.len() == before {
                return stuck;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::samples::{completed, failed, id, pending, plan};

    fn named(mut view: MigrationView, name: &str) -> MigrationView {
        view.key.id = id(name);
        view
    }

    /// 1 <- 2 <- 3, and 4 alone.
    fn chain() -> Course {
        let mut sample = plan();
        let one = sample.migrations.remove(1);
        sample.migrations = ["1", "2", "3", "4"]
            .iter()
            .zip([&[][..], &["1"], &["2"], &[]])
            .map(|(name, waits_for)| {
                let mut planned = one.clone();
                planned.id = id(name);
                planned.waits_for = waits_for.iter().map(|name| id(name)).collect();
                planned
            })
            .collect();
        Course::of(&sample)
    }

    #[test]
    fn each_is_watched_when_what_it_waits_for_is_completed() {
        let mut course = chain();
        assert_eq!(course.open(), [id("1"), id("4")]);
        assert_eq!(course.open(), []);
        course.on(named(completed(), "1"));
        assert_eq!(course.open(), [id("2")]);
        for name in ["4", "2"] {
            assert!(!course.is_over());
            course.on(named(completed(), name));
        }
        assert_eq!(course.open(), [id("3")]);
        course.on(named(completed(), "3"));
        assert!(course.is_over() && course.blocked().is_empty());
        assert_eq!(course.ended().count(), 4);
    }

    #[test]
    fn what_waits_for_a_failed_one_is_stuck_and_the_rest_goes_on() {
        let mut course = chain();
        course.open();
        course.on(named(failed(), "1"));
        assert_eq!(course.open(), []);
        assert!(!course.is_over(), "4 still runs");
        course.on(named(completed(), "4"));
        assert!(course.is_over());
        assert_eq!(course.blocked(), [(&id("2"), vec![&id("1")]), (&id("3"), vec![&id("2")])]);
    }

    #[test]
    fn an_obstacle_outside_the_plan_is_followed_too() {
        let mut course = chain();
        course.open();
        course.on(named(completed(), "4"));
        course.on(pending("1", &["0"]));
        assert_eq!(course.open(), [id("0")]);
        assert!(!course.is_over());
        let mut obstacle = pending("0", &[]);
        obstacle.released = false;
        course.on(obstacle);
        assert!(course.is_over(), "nobody has started it");
        assert_eq!(course.blocked()[0], (&id("1"), vec![&id("0")]));
        assert_eq!(course.ended().count(), 1, "it was not asked for");
    }

    #[test]
    fn what_was_completed_before_is_not_watched() {
        let mut course = Course::of(&plan());
        assert_eq!(course.open(), [id("0008_message_text")]);
    }

    #[test]
    fn a_single_one_is_followed_until_it_rests_whatever_it_waits_for() {
        let mut course = Course::single(&id("1"));
        assert_eq!(course.open(), [id("1")]);
        let mut view = pending("1", &["0"]);
        view.released = false;
        course.on(view);
        assert!(!course.is_over() && course.open().is_empty());
        course.on(named(failed(), "1"));
        assert!(course.is_over());
    }
}
