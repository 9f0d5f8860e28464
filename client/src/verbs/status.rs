//! `shardlift status ID`.

use shardlift_domain::ids::MigrationId;

use crate::cli::Session;
use crate::console::Ended;
use crate::exit::Exit;
use crate::view::{json, status};

/// Show one migration: where it stands, each shard, and everything that went wrong.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  shardlift status 0008_message_text
  shardlift status 0008_message_text --output json

In JSON each shard has `error` (why it failed for good: `retry` goes on) and `trouble` (what hinders it now; it is
tried again by itself). Both are null when all is well.
Ends with 0 whatever the status is; `watch` and `apply` end with 3 or 4 when a migration did not get through.")]
pub(crate) struct Status {
    /// The migration's id; its newest version is shown.
    id: MigrationId,
}

impl Status {
    pub(crate) async fn run(&self, session: &Session) -> Result<Exit, Ended> {
        let view = session.client()?.get(&self.id, None).await?;
        session.console.answer(|paint| status::status(paint, &view), || json::status(&view))?;
        Ok(Exit::Done)
    }
}
