//! `shardlift events [ID]`.

use std::time::Duration;

use shardlift_client::model::{AuditAsked, AuditEntry};
use shardlift_domain::ids::MigrationId;

use crate::cli::Session;
use crate::console::{Ended, Output};
use crate::exit::Exit;
use crate::view::audit;

/// How often it is asked whether anything has happened.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Entries of one answer while it goes on.
const PAGE: u32 = 1000;

/// Show what happened, oldest first, and go on with what happens.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  shardlift events                                    the newest 20, over all migrations
  shardlift events 0008_message_text --follow
  shardlift events --after 4711 --follow --output json | jq .event

Each line begins with its sequence. Whoever goes on with --after and the last one that was seen misses none and gets none
twice. With --output json each is one line, with --output yaml one document. Ctrl-C ends the following.")]
pub(crate) struct Events {
    /// Only of this migration.
    id: Option<MigrationId>,
    /// Goes on until Ctrl-C.
    #[arg(long, short)]
    follow: bool,
    /// All behind this sequence, instead of the newest ones.
    #[arg(long, value_name = "SEQUENCE")]
    after: Option<u64>,
    /// How many of the newest ones.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1000), conflicts_with = "after")]
    newest: u32,
}

impl Events {
    pub(crate) async fn run(&self, session: &Session) -> Result<Exit, Ended> {
        let interrupt = tokio::signal::ctrl_c();
        tokio::select! {
            ended = self.tell(session) => ended,
            caught = interrupt => {
                caught?;
                Ok(Exit::Interrupted)
            }
        }
    }

    async fn tell(&self, session: &Session) -> Result<Exit, Ended> {
        let client = session.client()?;
        let id = self.id.as_ref().map(ToString::to_string);
        let mut after = self.after;
        loop {
            let limit = if after.is_some() { PAGE } else { self.newest };
            let asked = AuditAsked { after, id: id.clone(), limit, ..AuditAsked::default() };
            let (entries, more) = client.audit(asked).await?;
            if entries.is_empty() && after.is_none() {
                session.console.remark("nothing was recorded\n")?;
            }
            for entry in &entries {
                session.console.say(&one(session.console.output, entry))?;
            }
            after = Some(entries.last().map_or(after.unwrap_or_default(), |last| last.sequence));
            if !more && !self.follow {
                return Ok(Exit::Done);
            }
            if !more {
                tokio::time::sleep(LOOK_EVERY).await;
            }
        }
    }
}

fn one(form: Output, entry: &AuditEntry) -> String {
    if form.is_table() { audit::sentence(entry) } else { form.one(&audit::entry_json(entry)) }
}
