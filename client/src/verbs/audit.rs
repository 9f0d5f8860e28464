//! `shardlift audit …`.

use clap::Subcommand;
use shardlift_client::model::AuditAsked;
use shardlift_domain::ids::MigrationId;
use shardlift_domain::{ErrorCode, Failure};
use shardlift_proto::v1::Timestamp;

use crate::cli::Session;
use crate::console::Ended;
use crate::exit::Exit;
use crate::view::audit;

/// See what was done, by whom, and whether that record still is what was written.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  shardlift audit list                                        the newest 100 entries, over all migrations
  shardlift audit list --id 0008_message_text --since 2026-11-28
  shardlift audit verify                                      walks along the chain of hashes; ends with 8 if it is broken
  shardlift audit verify --known 9f86d081…                    the head that was told last time must still be in it

docs/operations/audit.md tells what is found and what cannot be.")]
pub(crate) struct Audit {
    #[command(subcommand)]
    verb: Ask,
}

#[derive(Debug, Subcommand)]
enum Ask {
    /// List entries of the history, oldest first.
    List(List),
    /// Recompute every hash, and tell the first entry that does not fit.
    Verify {
        /// A head that was told before: finds also a history that was written anew as a whole.
        #[arg(long, value_name = "HASH")]
        known: Option<String>,
    },
}

#[derive(Debug, clap::Args)]
struct List {
    /// Only of this migration.
    #[arg(long)]
    id: Option<MigrationId>,
    /// Only by this person or coordinator.
    #[arg(long)]
    actor: Option<String>,
    /// Only of this kind, such as sessions_ended.
    #[arg(long, value_name = "KIND")]
    event: Option<String>,
    /// Not older than this: 2026-11-28 or 2026-11-28T21:00:00Z.
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// The first ones behind this sequence, instead of the newest.
    #[arg(long, value_name = "SEQUENCE")]
    after: Option<u64>,
    /// How many at most.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1000))]
    limit: u32,
}

impl Audit {
    pub(crate) async fn run(&self, session: &Session) -> Result<Exit, Ended> {
        match &self.verb {
            Ask::List(list) => list.run(session).await,
            Ask::Verify { known } => {
                let found = session.client()?.verify_audit(known.clone()).await?;
                session
                    .console
                    .answer(|paint| audit::verified(paint, &found), || audit::verified_json(&found))?;
                Ok(if found.broken.is_some() { Exit::Differs } else { Exit::Done })
            }
        }
    }
}

impl List {
    async fn run(&self, session: &Session) -> Result<Exit, Ended> {
        let asked = AuditAsked {
            after: self.after,
            id: self.id.as_ref().map(ToString::to_string),
            actor: self.actor.clone(),
            event: self.event.clone(),
            since: self.since.as_deref().map(time).transpose()?,
            limit: self.limit,
        };
        let (entries, more) = session.client()?.audit(asked).await?;
        session
            .console
            .answer(|paint| audit::entries(paint, &entries, more), || audit::entries_json(&entries, more))?;
        Ok(Exit::Done)
    }
}

/// A day, or a moment, in UTC.
fn time(text: &str) -> Result<Timestamp, Failure> {
    let whole = if text.contains('T') { text.to_owned() } else { format!("{text}T00:00:00Z") };
    whole.parse().map_err(|_| {
        let next = "give a day such as 2026-11-28, or a moment such as 2026-11-28T21:00:00Z";
        Failure::new(ErrorCode::RequestInvalid, format!("--since {text:?} is no time"), next)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_a_day_or_a_moment() {
        assert_eq!(time("1970-01-02").map(|time| time.seconds).ok(), Some(86_400));
        assert_eq!(time("1970-01-01T00:01:00Z").map(|time| time.seconds).ok(), Some(60));
        for wrong in ["", "yesterday", "2026-13-01", "1d"] {
            assert!(time(wrong).is_err(), "{wrong}");
        }
    }
}
