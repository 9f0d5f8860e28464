//! `shardlift shards`.

use crate::cli::Session;
use crate::console::Ended;
use crate::exit::Exit;
use crate::view::cluster;
use crate::view::json;

/// List the declared shards, who serves them, and what is wrong with them.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  shardlift shards\n  shardlift shards --output json")]
pub(crate) struct Shards;

impl Shards {
    pub(crate) async fn run(&self, session: &Session) -> Result<Exit, Ended> {
        let answer = session.client()?.shards().await?;
        session.console.answer(|paint| cluster::shards(paint, &answer), || json::shards(&answer))?;
        Ok(Exit::Done)
    }
}
