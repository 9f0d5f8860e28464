//! What a coordinator answers, as types of our own: a peer's message is checked once, here, and nowhere trusted.

mod audit;
mod cluster;
mod indoubt;
mod migration;
mod mismatch;
mod topology;

pub use audit::{AuditAsked, AuditEntry, AuditFact, Verified};
pub use cluster::{Coordinator, Drained, Leader, ShardPresence, WorkerPresence};
pub use indoubt::InDoubt;
pub use migration::{Gate, MigrationView, ShardView};
pub use mismatch::Differing;
pub use topology::{ClusterDrift, ClusterView, Found, Routed, TopologyEdit, TopologyView};
