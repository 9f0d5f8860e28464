//! Saving a collection, and restoring documents: BSON as the server holds it, and beside it what mongodump writes.

mod restore;
mod save;

use std::time::Duration;

pub(super) use restore::{restore, try_out};
pub(super) use save::save;

/// Failures in a row after which something is given up.
const PATIENCE: u32 = 8;
/// The pause after each.
const PAUSE: Duration = Duration::from_millis(500);
