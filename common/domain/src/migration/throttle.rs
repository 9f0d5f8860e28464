//! The throttle in force: what the spec says, and what an operator has said since.

use serde::{Deserialize, Serialize};

use crate::spec::{Kind, Throttle, Window};

use super::state::Migration;

/// One part of the throttle, as an operator has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Limit<T> {
    /// What the spec says.
    #[default]
    AsInSpec,
    /// No limit, whatever the spec says.
    Lifted,
    /// This, whatever the spec says.
    Of(T),
}

impl<T> Limit<T> {
    fn over(self, spec: Option<T>) -> Option<T> {
        match self {
            Limit::AsInSpec => spec,
            Limit::Lifted => None,
            Limit::Of(limit) => Some(limit),
        }
    }
}

/// What an operator has said of a migration's throttle since it was submitted. Stored with it; its spec stays as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub struct Throttling {
    /// Of the rows per second on one shard.
    pub rows_per_second: Limit<u32>,
    /// Of the time of day.
    pub window: Limit<Window>,
}

impl Throttling {
    /// Whether nobody has said anything else than the spec.
    pub fn is_as_in_spec(&self) -> bool {
        *self == Self::default()
    }
}

/// What an operator says of the throttle now; a part that is not named stays as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ThrottleChange {
    /// The rows per second on one shard.
    pub rows_per_second: Option<Limit<u32>>,
    /// The time of day.
    pub window: Option<Limit<Window>>,
}

impl ThrottleChange {
    /// Everything as the spec says.
    pub const AS_IN_SPEC: Self =
        Self { rows_per_second: Some(Limit::AsInSpec), window: Some(Limit::AsInSpec) };
}

/// The throttle that holds now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InForce {
    /// What holds.
    pub now: Throttle,
    /// What the spec says, if that is something else.
    pub in_spec: Option<Throttle>,
}

/// What a worker is told of the pace of a range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// Ranges of the shard that run at once: each takes its share of the shard's rows per second.
    pub sharers: u32,
    /// What holds instead of the spec's throttle; `None`: the spec's.
    pub throttle: Option<Throttle>,
}

impl Default for Pace {
    /// As the spec says, and alone.
    fn default() -> Self {
        Self { sharers: 1, throttle: None }
    }
}

impl Migration {
    /// The throttle that holds, given what the spec says.
    pub fn throttle_in_force(&self, spec: Throttle) -> InForce {
        let Throttling { rows_per_second, window } = self.throttling;
        let now = Throttle {
            rows_per_second: rows_per_second.over(spec.rows_per_second),
            window: window.over(spec.window),
        };
        InForce { now, in_spec: (now != spec).then_some(spec) }
    }

    /// An operator changes it while there is something to throttle; otherwise why not.
    pub(super) fn throttle(&mut self, change: ThrottleChange) -> Result<(), &'static str> {
        if self.kind == Kind::Schema {
            return Err(
                "a schema change walks no rows: `lock_timeout` and `hold_timeout` of its spec protect the application",
            );
        }
        if self.undo.is_some() {
            return Err("a rollback is not throttled; to have it stand still, pause it");
        }
        let Throttling { rows_per_second, window } = &mut self.throttling;
        *rows_per_second = change.rows_per_second.unwrap_or(*rows_per_second);
        *window = change.window.unwrap_or(*window);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{fresh, go};
    use super::super::{Event, Status, Step, Verb};
    use super::*;

    const NIGHT: Window = Window { from_minute: 1320, to_minute: 360 };
    const DAY: Window = Window { from_minute: 480, to_minute: 1020 };
    const SPEC: Throttle = Throttle { rows_per_second: Some(50), window: Some(NIGHT) };

    fn said(migration: &Migration, rate: Option<Limit<u32>>, window: Option<Limit<Window>>) -> Migration {
        let change = ThrottleChange { rows_per_second: rate, window };
        go(migration, &Event::Asked(Verb::Throttle(change)))
    }

    #[test]
    fn a_part_that_is_not_named_stays_and_the_spec_holds_where_nobody_said_otherwise() {
        let force = |migration: &Migration| migration.throttle_in_force(SPEC);
        let migration = fresh(Kind::Data, 1);
        assert_eq!(force(&migration), InForce { now: SPEC, in_spec: None });
        let faster = said(&migration, Some(Limit::Of(5_000)), None);
        let now = Throttle { rows_per_second: Some(5_000), window: Some(NIGHT) };
        assert_eq!(force(&faster), InForce { now, in_spec: Some(SPEC) });
        let by_day = said(&faster, None, Some(Limit::Of(DAY)));
        assert_eq!(force(&by_day).now, Throttle { rows_per_second: Some(5_000), window: Some(DAY) });
        let free = said(&by_day, Some(Limit::Lifted), Some(Limit::Lifted));
        assert_eq!(force(&free).now, Throttle::default());
        let back = go(&free, &Event::Asked(Verb::Throttle(ThrottleChange::AS_IN_SPEC)));
        assert_eq!(back, migration);
        let same = said(&migration, Some(Limit::Of(50)), None);
        assert_eq!(force(&same).in_spec, None, "what the spec says as well is no difference");
    }

    #[test]
    fn what_walks_no_rows_or_goes_back_is_not_throttled() {
        let ask = Event::Asked(Verb::Throttle(ThrottleChange::AS_IN_SPEC));
        assert!(fresh(Kind::Schema, 1).on(&ask).is_err());
        let mut running =
            Migration { status: Status::Running, released: true, touched: true, ..fresh(Kind::Data, 1) };
        running.shards.values_mut().for_each(|part| part.todo = Some(Step::Split));
        let back = go(&running, &Event::Asked(Verb::Rollback { drop_data: false }));
        let stopped = go(&back, &Event::Asked(Verb::Pause));
        assert!(running.on(&ask).is_ok() && stopped.on(&ask).is_err(), "{stopped:?}");
    }

    #[test]
    fn what_was_said_is_there_after_a_take_over_and_a_store_of_before_knows_nothing_of_it() {
        let slow = said(&fresh(Kind::Data, 1), Some(Limit::Of(7)), Some(Limit::Lifted));
        let mut stored = serde_json::to_value(&slow).expect("serialises");
        let read = |stored: &serde_json::Value| serde_json::from_value::<Migration>(stored.clone());
        assert_eq!(read(&stored).expect("parses").recovered(), slow);
        stored.as_object_mut().expect("an object").remove("throttling");
        assert!(read(&stored).expect("parses").throttling.is_as_in_spec());
    }
}
