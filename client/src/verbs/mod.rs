//! One verb per file: its arguments, its help, and what it does with the library.

pub(crate) mod apply;
pub(crate) mod cancel;
pub(crate) mod completions;
pub(crate) mod conflicts;
pub(crate) mod drift;
pub(crate) mod indoubt;
pub(crate) mod leader;
pub(crate) mod list;
pub(crate) mod mismatches;
mod moves;
pub(crate) mod new;
pub(crate) mod pause;
pub(crate) mod placement;
pub(crate) mod plan;
pub(crate) mod purge;
pub(crate) mod quarantine;
pub(crate) mod resume;
pub(crate) mod retry;
pub(crate) mod rollback;
pub(crate) mod route;
pub(crate) mod shards;
mod skeleton;
pub(crate) mod start;
pub(crate) mod status;
pub(crate) mod topology;
pub(crate) mod watch;
pub(crate) mod workers;
