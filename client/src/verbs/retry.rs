//! `shardlift retry ID`.

use shardlift_domain::ids::MigrationId;
use shardlift_domain::migration::Verb;

use super::moves::ask;
use crate::cli::Session;
use crate::console::Ended;
use crate::exit::Exit;

/// Try the failed steps of a migration again.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  shardlift retry 0008_message_text\n\nMend the cause first: shardlift status ID shows it. What is done is not done again."
)]
pub(crate) struct Retry {
    /// The migration's id.
    id: MigrationId,
}

impl Retry {
    pub(crate) async fn run(&self, session: &Session) -> Result<Exit, Ended> {
        ask(session, Verb::Retry, &self.id).await
    }
}
