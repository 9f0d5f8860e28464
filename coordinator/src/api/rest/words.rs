//! The words of the API: those of the command line's JSON, one enum each, made from their wire twins.

use serde::{Deserialize, Serialize};
use shardlift_proto::v1;
use utoipa::ToSchema;

macro_rules! words {
    ($($(#[$doc:meta])* $name:ident { $($value:ident),+ $(,)? })+) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
        #[serde(rename_all = "snake_case")]
        pub(super) enum $name { $($value,)+ }

        impl $name {
            /// `None`: nothing, or something that this release does not know.
            pub(super) fn of(wire: v1::$name) -> Option<Self> {
                match wire {
                    $(v1::$name::$value => Some(Self::$value),)+
                    v1::$name::Unspecified => None,
                }
            }
        }

        impl From<$name> for v1::$name {
            fn from(word: $name) -> Self {
                match word { $($name::$value => Self::$value,)+ }
            }
        }
    )+};
}

words! {
    /// The database of a cluster.
    Engine { Postgres, Mongodb }
    /// What a migration changes.
    Kind { Schema, Data }
    /// Where a migration stands.
    Status { Pending, Running, Paused, Completed, Failed, Cancelled, RollingBack, RolledBack }
    /// What a running migration is busy with.
    Phase { Precheck, Backup, Schema, Data, Verify, Undo }
    /// One ordered piece of a migration on one shard.
    Step { Precheck, Backup, Apply, Prepare, Commit, Abort, Split, Backfill, Sweep, Verify, Collect, Undo }
    /// How much a finding weighs: an error refuses the plan.
    Severity { Note, Warning, Error }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use shardlift_domain::{migration, spec, verdict};

    use super::*;

    /// Larger than the wire's numbers, among which there may be gaps.
    const NUMBERS: std::ops::Range<i32> = 1..100;

    fn all<W: TryFrom<i32>, T: Serialize>(word: impl Fn(W) -> Option<T>) -> Vec<Value> {
        NUMBERS.filter_map(|number| W::try_from(number).ok()).map(|wire| json!(word(wire))).collect()
    }

    fn known<W: TryFrom<i32> + TryInto<T>, T: Serialize>() -> Vec<Value> {
        let domain = |wire: W| json!(wire.try_into().ok());
        NUMBERS.filter_map(|number| W::try_from(number).ok()).map(domain).collect()
    }

    #[test]
    fn the_words_are_those_of_the_domain() {
        assert_eq!(all(Engine::of), known::<v1::Engine, spec::Engine>());
        assert_eq!(all(Kind::of), known::<v1::Kind, spec::Kind>());
        assert_eq!(all(Status::of), known::<v1::Status, migration::Status>());
        assert_eq!(all(Phase::of), known::<v1::Phase, migration::Phase>());
        assert_eq!(all(Step::of), known::<v1::Step, migration::Step>());
        assert_eq!(all(Severity::of), known::<v1::Severity, verdict::Severity>());
        assert_eq!((all(Status::of).len(), all(Step::of).len()), (8, 12));
    }
}
