//! `shardlift purge ID`.

use std::io::{self, IsTerminal};

use shardlift_domain::failure::{ErrorCode, Failure};
use shardlift_domain::ids::MigrationId;
use shardlift_domain::migration::Verb;

use super::moves::ask;
use crate::cli::Session;
use crate::console::Ended;
use crate::exit::Exit;

/// Remove what a migration has kept for its rollback. It cannot be rolled back afterwards.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  shardlift purge 0008_message_text
  shardlift purge 0008_message_text --yes

Only once it is completed or cancelled. The before-images go in the background, some at a time, on every shard; `shardlift status ID`
says when they are gone. Completed migrations are purged by themselves after a while (`undo.purge_after` of the coordinator, 7 days
unless set). Also over are `shardlift mismatches ID` and the retrying of rows in quarantine, where `verify: transform` needs the images.")]
pub(crate) struct Purge {
    /// The migration's id.
    id: MigrationId,

    /// Do not ask.
    #[arg(long)]
    yes: bool,
}

impl Purge {
    pub(crate) async fn run(&self, session: &Session) -> Result<Exit, Ended> {
        if !self.yes && !self.confirmed(session)? {
            session.console.note("not purged\n");
            return Ok(Exit::Stopped);
        }
        ask(session, Verb::Purge, &self.id).await
    }

    fn confirmed(&self, session: &Session) -> Result<bool, Ended> {
        if !io::stdin().is_terminal() {
            let message = "standard input is not a terminal, so nobody can be asked whether to purge";
            let next = "give --yes to purge without a question";
            return Err(Failure::new(ErrorCode::RequestInvalid, message, next).into());
        }
        session.console.note(&format!(
            "Remove the before-images of {}? It cannot be rolled back afterwards. [y/N] ",
            self.id
        ));
        let mut answer = String::new();
        io::stdin().read_line(&mut answer)?;
        Ok(matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
    }
}
