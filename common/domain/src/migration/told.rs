//! What services outside of Shardlift were told of a migration: stored, so that no leader forgets it or tells it again.

use serde::{Deserialize, Serialize};

use crate::failure::{ErrorCode, Failure};

use super::state::{Migration, Status, Stop};

/// What a channel shows of a migration, in a word.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Headline {
    /// Where it stands.
    pub status: Status,
    /// Why it is halted or failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<ErrorCode>,
}

/// Who is to be told of a migration, decided when it is submitted, and what was told.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Told {
    /// A chat channel shows how it goes.
    #[serde(default)]
    pub chat: bool,
    /// The MCP service hears how it ended.
    #[serde(default)]
    pub mcp: bool,
    /// What the channel shows now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shown: Option<Headline>,
    /// The end that the MCP service knows of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<Status>,
    /// The wave at whose gate adaptors may be quiet; the first is 0. Stored before the first of them is asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quiet: Option<u32>,
}

/// Something was told, or is about to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum News {
    /// The channel shows this.
    Shown(Headline),
    /// The MCP service knows that it has ended so.
    Ended(Status),
    /// Adaptors are about to be asked to be quiet at the gate of this wave.
    Quieting(u32),
    /// All adaptors were asked to go on.
    Loud,
}

impl Told {
    /// Nobody is to be told anything.
    pub fn is_nothing(&self) -> bool {
        *self == Self::default()
    }
}

impl Migration {
    /// What its channel should show; nothing before it runs.
    fn headline(&self) -> Option<Headline> {
        let silent = self.status == Status::Pending
            // Given up before anybody heard of it.
            || (self.status == Status::Cancelled && self.told.shown.is_none());
        (!silent).then(|| Headline { status: self.status, reason: self.reason().map(|failure| failure.code) })
    }

    /// Why it is halted or failed.
    pub fn reason(&self) -> Option<&Failure> {
        match (&self.stop, self.status) {
            (Some(Stop::System { reason }), _) => Some(reason),
            (_, Status::Failed) => self.failure(),
            _ => None,
        }
    }

    /// What its channel does not show yet.
    pub fn unshown(&self) -> Option<Headline> {
        self.headline().filter(|headline| self.told.chat && self.told.shown.as_ref() != Some(headline))
    }

    /// The end that the MCP service does not know yet. That it was undone concerns it only if it has heard that it was
    /// completed.
    pub fn untold_end(&self) -> Option<Status> {
        match (self.status, self.told.ended) {
            (Status::Completed, None) if self.told.mcp => Some(Status::Completed),
            (Status::RolledBack, Some(Status::Completed)) => Some(Status::RolledBack),
            _ => None,
        }
    }

    /// Whether adaptors may be quiet for its sake that are to go on: it is not at that gate any more.
    pub fn is_to_resume(&self) -> bool {
        self.told.quiet.is_some_and(|wave| !(self.at_gate() && wave == self.rollout.wave))
    }

    pub(super) fn heard(&mut self, news: &News) {
        match news {
            News::Shown(headline) => self.told.shown = Some(headline.clone()),
            News::Ended(status) => self.told.ended = Some(*status),
            News::Quieting(wave) => self.told.quiet = Some(*wave),
            News::Loud => self.told.quiet = None,
        }
    }

    /// Adaptors were not quiet in time: the gate of this wave stays closed, and a person decides. At another wave, or
    /// too late, this is old news.
    pub(super) fn not_quiet(&mut self, wave: u32, failure: &Failure) {
        if self.at_gate() && wave == self.rollout.wave {
            self.stop_by(Stop::System { reason: failure.clone() });
        }
    }
}
