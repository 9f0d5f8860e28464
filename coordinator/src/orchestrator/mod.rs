//! The heart: event -> state -> commit -> effects.
//!
//! One task owns everything ([`role`]): it is a follower, or a leader with a permit. [`wake`] lists all that can
//! wake it. The leader's parts: [`book`] is what the store holds, [`chronicle`] what the history says of a move, [`board`]
//! the tasks and who has them, [`fleet`] the workers; [`leader`] ties them, [`places`] is its side of the topology, [`traces`]
//! tells operators of them; [`gates`] is the clock between waves; [`votes`] ends votes on atomic changes that make no
//! progress; [`approval`] is that of a second person; [`unique`] is which shards are to be compared; [`courtesy`] is what services outside are to be told; [`backup`] knows which migrations save what they change; [`throttle`] how fast
//! ranges may go; [`effects`] is the only place where a decision becomes a message, once the [`outbox`] is opened after the
//! commit. [`pulse`] is what doors know of a session without the heart. [`question`] is what workers are asked,
//! [`queries`] who waits for which answer.
//! [`telling`] is what a broker is told. [`view`] is what doors may see, [`standing`] who leads.

mod approval;
mod aside;
mod backup;
mod board;
mod book;
mod chronicle;
mod compare;
mod courtesy;
mod deadlines;
mod drain;
mod effects;
mod fleet;
mod gates;
mod holders;
mod leader;
mod outbox;
mod places;
mod pulse;
mod purge;
mod queries;
mod question;
mod refusals;
mod reports;
mod role;
mod share;
mod staged;
mod standing;
mod telling;
#[cfg(test)]
mod tests;
mod throttle;
mod traces;
mod undo;
mod unique;
mod view;
mod votes;
mod wake;

pub use book::{Numbered, Sink};
pub use courtesy::{Courtesy, Quiet};
pub use fleet::{Order, Report, SessionId};
pub use pulse::Pulse;
pub use question::{Answer, Question};
pub use refusals::Refusal;
pub use role::{Declare, Parts, run};
pub use standing::Standing;
pub use telling::{Running, Untold};
pub use unique::Comparing;
pub use view::{
    Drained, GateView, LeaderView, MigrationView, PlanningView, ShardStatus, ShardView, WorkerView,
};
pub(crate) use wake::not_leader;
pub use wake::{Asker, BackedUp, Comparable, Decided, Handle, Joining, Purgeable, Room, Submission, Welcome};
