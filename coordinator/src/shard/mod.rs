//! Where things are: the registry of clusters and shards, the router of keys, and whether shards agree.
//!
//! Everything here is pure: the present state is an argument, the next one is the answer. The orchestrator commits it.

mod chronicle;
mod consistency;
mod registry;
mod router;
#[cfg(test)]
mod tests;

pub use chronicle::chronicled;
pub use consistency::{Difference, Drift, Group, compare, groups};
pub use registry::{Edit, Edited, Present, discovered, edit, stale};
pub use router::{Routed, no_cluster, residence, route, routing_of};
