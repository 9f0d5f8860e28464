//! Giving up what a migration has kept for its rollback.

use serde::{Deserialize, Serialize};

use crate::spec::Kind;

use super::state::{Migration, Status};

/// That the before-images of a migration are given up. It is stored before the first of them goes: from then on there is no
/// way back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Purge {
    /// Nothing is left on any shard.
    pub done: bool,
    /// How often it was begun again, since rows that were tried again left new ones. News of an earlier one means nothing.
    #[serde(default)]
    pub number: u32,
}

impl Migration {
    /// Whether before-images are to be removed now.
    pub fn purges(&self) -> bool {
        self.status.is_final() && self.purge.is_some_and(|purge| !purge.done)
    }

    /// A person, or time, wants them gone; otherwise why not.
    pub(super) fn give_up_images(&mut self) -> Result<(), &'static str> {
        match self.status {
            _ if self.kind == Kind::Schema => Err("a schema change keeps no before-images"),
            Status::Completed | Status::Cancelled => {
                if self.touched && self.purge.is_none() {
                    self.purge = Some(Purge { done: false, number: 0 });
                }
                Ok(())
            }
            // Undoing has removed them.
            Status::RolledBack => Ok(()),
            Status::Pending => Err("it has kept nothing yet; cancel it if it is not wanted"),
            Status::Running | Status::Paused | Status::Failed => Err(
                "it has not ended, and what it has kept may be needed to roll it back: wait until it is completed, or cancel it first",
            ),
            Status::RollingBack => Err("it is being undone, which removes what it has kept: wait for that"),
        }
    }

    /// No shard holds any more of those that this purge was to remove.
    pub(super) fn images_gone(&mut self, number: u32) {
        if self.purges()
            && let Some(purge) = self.purge.as_mut().filter(|purge| purge.number == number)
        {
            purge.done = true;
        }
    }
}
