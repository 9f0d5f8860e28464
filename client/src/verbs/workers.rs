//! `shardlift workers`: who is connected; and which of them are to be given nothing new.

use clap::Subcommand;
use shardlift_domain::Failure;
use shardlift_domain::failure::ErrorCode;
use shardlift_domain::ids::WorkerId;

use crate::cli::Session;
use crate::console::Ended;
use crate::exit::Exit;
use crate::view::cluster;
use crate::view::json;

/// List the connected workers with their load, or drain one.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  shardlift workers\n  shardlift workers --output json\n  shardlift workers drain worker-a\n  shardlift workers undrain worker-a"
)]
pub(crate) struct Workers {
    #[command(subcommand)]
    change: Option<Change>,
}

#[derive(Debug, Subcommand)]
enum Change {
    /// Give a worker nothing new.
    ///
    /// Its ranges are withdrawn at their next batch and go to other workers of the shard; where there is none, they are
    /// finished. Other steps are finished, too. Kept for the life of the worker's process, over changes of the leader,
    /// and not stored: a worker that was started again takes work.
    #[command(after_help = "Example:\n  shardlift workers drain worker-a")]
    Drain(Named),
    /// Let a drained worker take work again.
    #[command(after_help = "Example:\n  shardlift workers undrain worker-a")]
    Undrain(Named),
}

#[derive(Debug, clap::Args)]
struct Named {
    /// The worker, as `shardlift workers` shows it.
    worker: String,
}

impl Workers {
    pub(crate) async fn run(&self, session: &Session) -> Result<Exit, Ended> {
        match &self.change {
            None => {
                let answer = session.client()?.workers().await?;
                session
                    .console
                    .answer(|paint| cluster::workers(paint, &answer), || json::workers(&answer))?;
            }
            Some(Change::Drain(named)) => drain(session, named, true).await?,
            Some(Change::Undrain(named)) => drain(session, named, false).await?,
        }
        Ok(Exit::Done)
    }
}

async fn drain(session: &Session, named: &Named, draining: bool) -> Result<(), Ended> {
    let worker = WorkerId::new(named.worker.as_str()).map_err(|error| {
        Failure::new(
            ErrorCode::RequestInvalid,
            error.to_string(),
            "use a name as `shardlift workers` shows it",
        )
    })?;
    let answer = session.client()?.drain(&worker, draining).await?;
    session.console.answer(|_| cluster::drained(&answer), || json::drained(&answer))?;
    Ok(())
}
