//! One spec under execution: its state, and the one table of moves.
//!
//! [`Migration::on`] is the only way in which a migration changes. It is pure: the orchestrator stores what it
//! returns before it acts on it, and after a crash recomputes the wanted work from the stored state.

mod approval;
mod decision;
mod moves;
mod purge;
mod quarantine;
mod resource;
mod state;
#[cfg(test)]
mod tests;
mod throttle;
mod told;
mod unique;
mod waves;

pub use approval::{Approval, ApprovalRule};
pub use decision::{Aftermath, Decision};
pub use moves::{Event, Illegal, Outcome, Transition, Verb};
pub use purge::Purge;
pub use resource::Resource;
pub use state::{Migration, Phase, ShardMigration, Status, Step, Stop, Undo};
pub use throttle::{InForce, Limit, Pace, ThrottleChange, Throttling};
pub use told::{Headline, News, Told};
pub use unique::Uniqueness;
pub use waves::Rollout;
