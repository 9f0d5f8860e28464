//! `shardlift list`.

use crate::cli::Session;
use crate::console::Ended;
use crate::exit::Exit;
use crate::view::json;
use crate::view::list;

/// List all migrations, in the order in which they were submitted.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  shardlift list\n  shardlift list --output json")]
pub(crate) struct List;

impl List {
    pub(crate) async fn run(&self, session: &Session) -> Result<Exit, Ended> {
        let answer = session.client()?.list(&[]).await?;
        session.console.answer(|paint| list::list(paint, &answer), || json::list(&answer))?;
        Ok(Exit::Done)
    }
}
