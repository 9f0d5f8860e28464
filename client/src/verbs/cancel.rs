//! `shardlift cancel ID`.

use shardlift_domain::ids::MigrationId;
use shardlift_domain::migration::Verb;

use super::moves::ask;
use crate::cli::Session;
use crate::console::Ended;
use crate::exit::Exit;

/// Give a migration up; what is done stays done.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  shardlift cancel 0008_message_text\n\nThere is no way back: the same work needs a new id, unless nothing was changed yet."
)]
pub(crate) struct Cancel {
    /// The migration's id.
    id: MigrationId,
}

impl Cancel {
    pub(crate) async fn run(&self, session: &Session) -> Result<Exit, Ended> {
        ask(session, Verb::Cancel, &self.id).await
    }
}
