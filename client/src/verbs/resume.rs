//! `shardlift resume ID`.

use shardlift_domain::ids::MigrationId;
use shardlift_domain::migration::Verb;

use super::moves::ask;
use crate::cli::Session;
use crate::console::Ended;
use crate::exit::Exit;

/// Go on with a migration that is paused or halted.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  shardlift resume 0008_message_text\n\nRead why it halted first: shardlift status ID."
)]
pub(crate) struct Resume {
    /// The migration's id.
    id: MigrationId,
}

impl Resume {
    pub(crate) async fn run(&self, session: &Session) -> Result<Exit, Ended> {
        ask(session, Verb::Resume, &self.id).await
    }
}
