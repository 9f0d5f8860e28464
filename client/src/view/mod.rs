//! What a person or a script sees: pure functions from answers to text, and the two ways of following a run.
//!
//! Nothing here asks a coordinator. Free text of servers goes through [`harmless`] before it is shown.

pub(crate) mod audit;
pub(crate) mod bars;
pub(crate) mod cluster;
pub(crate) mod failure;
pub(crate) mod figures;
pub(crate) mod harmless;
pub(crate) mod indoubt;
pub(crate) mod json;
pub(crate) mod lines;
pub(crate) mod list;
pub(crate) mod paint;
pub(crate) mod plan;
pub(crate) mod rehearsal;
pub(crate) mod status;
pub(crate) mod table;
pub(crate) mod topology;
pub(crate) mod yaml;

#[cfg(test)]
mod hostile_tests;
#[cfg(test)]
pub(crate) mod samples;
