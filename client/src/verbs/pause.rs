//! `shardlift pause ID`.

use shardlift_domain::ids::MigrationId;
use shardlift_domain::migration::Verb;

use super::moves::ask;
use crate::cli::Session;
use crate::console::Ended;
use crate::exit::Exit;

/// Hand out no more work of a migration; open batches finish.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  shardlift pause 0008_message_text\n\nNothing is lost or undone. Go on with `shardlift resume`."
)]
pub(crate) struct Pause {
    /// The migration's id.
    id: MigrationId,
}

impl Pause {
    pub(crate) async fn run(&self, session: &Session) -> Result<Exit, Ended> {
        ask(session, Verb::Pause, &self.id).await
    }
}
