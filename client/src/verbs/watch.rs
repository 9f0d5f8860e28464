//! `shardlift watch ID`.

use shardlift_domain::ids::MigrationId;

use crate::cli::Session;
use crate::console::{Console, Ended};
use crate::course::Course;
use crate::exit::Exit;
use crate::follow::{Followed, display, follow};
use crate::view::status;

/// Follow one migration until it rests: bars on a terminal, plain lines elsewhere.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  shardlift watch 0008_message_text
  shardlift watch 0008_message_text --output json | jq .status

Ctrl-C stops the watching, never the migration. A coordinator that goes away, or a
lead that passes on, is waited for.
With --output json each change is one line, of the shape of `shardlift status ID --output json`.
Ends with 0 when it is completed, 3 when it failed, 4 when it is paused, halted, cancelled or
rolled back.")]
pub(crate) struct Watch {
    /// The migration's id; its newest version is watched.
    id: MigrationId,
}

impl Watch {
    pub(crate) async fn run(&self, session: &Session) -> Result<Exit, Ended> {
        let client = session.client()?;
        let mut course = Course::single(&self.id);
        let mut display = display(&session.console);
        match follow(&client, &mut course, display.as_mut()).await? {
            Followed::Interrupted => {
                Ok(interrupted(&session.console, &format!("shardlift watch {}", self.id)))
            }
            Followed::ToTheEnd => {
                let Some(view) = course.ended().next() else { return Ok(Exit::Internal) };
                explain(&session.console, view);
                Ok(Exit::of_migration(view))
            }
        }
    }
}

/// Says that only the watching has ended.
pub(super) fn interrupted(console: &Console, again: &str) -> Exit {
    console.note(&format!("stopped watching; what was started keeps running. Look again: {again}\n"));
    Exit::Interrupted
}

/// What went wrong with a migration that rests, and the way out.
pub(super) fn explain(console: &Console, view: &shardlift_client::model::MigrationView) {
    let failures: Vec<_> = status::failures(view).into_iter().cloned().collect();
    if !failures.is_empty() {
        console.complain(&failures, &[]);
    }
    if let (crate::console::Output::Table, Some(hint)) = (console.output, status::hint(view)) {
        console.note(&format!("{hint}\n"));
    }
}
