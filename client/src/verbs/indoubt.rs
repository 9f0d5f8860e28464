//! `shardlift indoubt [--all]`.

use crate::cli::Session;
use crate::console::Ended;
use crate::exit::Exit;
use crate::view::indoubt;

/// List prepared transactions of atomic migrations: where, how old, which locks they hold, what was decided. Reads only.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  shardlift indoubt
  shardlift indoubt --all --output json

DECISION: open (some shard has still to prepare), commit, abort, unknown (no migration here has prepared it), foreign (not
ours: only its owner may finish it). The leader and the shard's worker end what is ours by themselves within 60 s.
Ends with 0, and with 5 when a shard could not be asked.")]
pub(crate) struct Indoubt {
    /// Also what is not ours; it is never touched.
    #[arg(long)]
    all: bool,
}

impl Indoubt {
    pub(crate) async fn run(&self, session: &Session) -> Result<Exit, Ended> {
        let found = session.client()?.in_doubt(self.all).await?;
        session
            .console
            .answer(|paint| indoubt::in_doubt(paint, &found), || indoubt::in_doubt_json(&found))?;
        Ok(if found.unknown.is_empty() { Exit::Done } else { Exit::Refused })
    }
}
