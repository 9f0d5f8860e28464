//! `shardlift leader`.

use crate::cli::Session;
use crate::console::Ended;
use crate::exit::Exit;
use crate::view::cluster;
use crate::view::json;

/// Say which coordinator leads, in which epoch, and which others there are.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  shardlift leader\n  shardlift leader --output json")]
pub(crate) struct Leader;

impl Leader {
    pub(crate) async fn run(&self, session: &Session) -> Result<Exit, Ended> {
        let answer = session.client()?.leader().await?;
        session.console.answer(|paint| cluster::leader(paint, &answer), || json::leader(&answer))?;
        Ok(Exit::Done)
    }
}
