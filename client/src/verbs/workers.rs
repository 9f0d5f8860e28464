//! `shardlift workers`.

use crate::cli::Session;
use crate::console::Ended;
use crate::exit::Exit;
use crate::view::cluster;
use crate::view::json;

/// List the connected workers with their load.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  shardlift workers\n  shardlift workers --output json")]
pub(crate) struct Workers;

impl Workers {
    pub(crate) async fn run(&self, session: &Session) -> Result<Exit, Ended> {
        let answer = session.client()?.workers().await?;
        session.console.answer(|paint| cluster::workers(paint, &answer), || json::workers(&answer))?;
        Ok(Exit::Done)
    }
}
