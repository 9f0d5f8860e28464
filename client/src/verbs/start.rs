//! `shardlift start ID`.

use shardlift_domain::ids::MigrationId;
use shardlift_domain::migration::Verb;

use super::moves::ask;
use crate::cli::Session;
use crate::console::Ended;
use crate::exit::Exit;

/// Begin a submitted migration as soon as what it waits for is completed.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  shardlift start 0008_message_text\n\nAsked again, nothing changes. `apply` starts what it submits."
)]
pub(crate) struct Start {
    /// The migration's id.
    id: MigrationId,
}

impl Start {
    pub(crate) async fn run(&self, session: &Session) -> Result<Exit, Ended> {
        ask(session, Verb::Start, &self.id).await
    }
}
