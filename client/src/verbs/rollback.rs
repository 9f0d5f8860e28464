//! `shardlift rollback ID`.

use std::io::{self, IsTerminal};

use shardlift_domain::failure::{ErrorCode, Failure};
use shardlift_domain::ids::MigrationId;
use shardlift_domain::migration::Verb;

use super::moves::ask;
use crate::cli::Session;
use crate::console::Ended;
use crate::exit::Exit;

/// Take back what a migration has changed, on every shard that it has touched.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  shardlift rollback 0008_message_text
  shardlift rollback 0001_message_columns --drop-data --yes

Data needs `undo: capture` in its spec, schema a `down`. A row gets its old values back only if it still is what was written;
others are left alone and listed by `shardlift conflicts ID`. What depends on the migration is rolled back first.
Once it is rolled back, the same id may be submitted again as its next version.")]
pub(crate) struct Rollback {
    /// The migration's id.
    id: MigrationId,

    /// Also drop values that the application has written since, where a `down` does.
    #[arg(long)]
    drop_data: bool,

    /// Do not ask.
    #[arg(long)]
    yes: bool,
}

impl Rollback {
    pub(crate) async fn run(&self, session: &Session) -> Result<Exit, Ended> {
        if !self.yes && !self.confirmed(session)? {
            session.console.note("not rolled back\n");
            return Ok(Exit::Stopped);
        }
        ask(session, Verb::Rollback { drop_data: self.drop_data }, &self.id).await
    }

    fn confirmed(&self, session: &Session) -> Result<bool, Ended> {
        if !io::stdin().is_terminal() {
            let message = "standard input is not a terminal, so nobody can be asked whether to roll back";
            let next = "give --yes to roll back without a question";
            return Err(Failure::new(ErrorCode::RequestInvalid, message, next).into());
        }
        let lost = if self.drop_data { ", values that were written since included" } else { "" };
        session.console.note(&format!("Roll back {}{lost}? [y/N] ", self.id));
        let mut answer = String::new();
        io::stdin().read_line(&mut answer)?;
        Ok(matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
    }
}
