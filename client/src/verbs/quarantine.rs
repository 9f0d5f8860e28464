//! `shardlift quarantine …`.

use clap::Subcommand;
use serde_json::json;
use shardlift_domain::ids::{MigrationId, ShardId};
use shardlift_domain::quarantine::QuarantinedRow;

use crate::cli::Session;
use crate::console::Ended;
use crate::exit::Exit;
use crate::view::figures::counted;
use crate::view::harmless::{self, line};
use crate::view::list::standing;
use crate::view::{json as answers, status};

/// Look at rows that could not be changed and were set aside, and decide about them.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  shardlift quarantine list 0008_message_text
  shardlift quarantine show 0008_message_text --shard chat-pg-01 4711       the row as it was: values are shown
  shardlift quarantine retry 0008_message_text --shard chat-pg-01 4711      after the row or the shard was mended
  shardlift quarantine discard 0008_message_text                            all that wait for a decision

Keys are written as the list shows them. docs/operations/quarantine.md tells what each does in which state.")]
pub(crate) struct Quarantine {
    #[command(subcommand)]
    verb: Ask,
}

#[derive(Debug, Subcommand)]
enum Ask {
    /// List the rows: key, error class, message, attempts. Shows no values.
    List {
        /// The migration's id.
        id: MigrationId,
        /// Only of this shard.
        #[arg(long)]
        shard: Option<ShardId>,
    },
    /// Show one row as it was when it was set aside.
    Show {
        /// The migration's id.
        id: MigrationId,
        /// Where the row is.
        #[arg(long)]
        shard: ShardId,
        /// Its key.
        #[arg(allow_hyphen_values = true)]
        key: String,
    },
    /// Have rows tried again: they are pending, and their shards are searched once more.
    Retry(Rows),
    /// Give rows up: they stay as they are for good, and count as decided.
    Discard(Rows),
}

#[derive(Debug, clap::Args)]
struct Rows {
    /// The migration's id.
    id: MigrationId,
    /// Only of this shard.
    #[arg(long)]
    shard: Option<ShardId>,
    /// Only these keys; none: all that wait for a decision.
    #[arg(allow_negative_numbers = true, requires = "shard")]
    keys: Vec<String>,
}

impl Quarantine {
    pub(crate) async fn run(&self, session: &Session) -> Result<Exit, Ended> {
        match &self.verb {
            Ask::List { id, shard } => list(session, id, shard.as_ref()).await,
            Ask::Show { id, shard, key } => show(session, id, shard, key).await,
            Ask::Retry(rows) => decide(session, rows, true).await,
            Ask::Discard(rows) => decide(session, rows, false).await,
        }
    }
}

async fn list(session: &Session, id: &MigrationId, shard: Option<&ShardId>) -> Result<Exit, Ended> {
    let mut found = session.client()?.quarantine(id, shard).await?;
    let mut rows = Vec::new();
    while let Some((shard, row)) = found.next().await? {
        session.console.remark(&sentence(&shard, &row))?;
        // Bounded by the budget, and by what was given up.
        rows.push(json!({
            "shard": shard, "key": row.key, "class": row.class, "message": row.message,
            "attempts": row.attempts, "discarded": row.discarded, "at": row.at,
        }));
    }
    let sum = format!("{} in quarantine\n", counted(rows.len(), "row"));
    session.console.answer(|_| sum, || json!({ "rows": rows }))?;
    Ok(Exit::Done)
}

/// `chat-pg-01  4711  row.rejected: null value in column "title"  (2 attempts, 2026-11-23T01:02:03Z)`.
fn sentence(shard: &ShardId, row: &QuarantinedRow) -> String {
    let discarded = if row.discarded { ", discarded" } else { "" };
    let attempts = counted(row.attempts as usize, "attempt");
    format!(
        "{shard}  {}  {}: {}  ({attempts}, {}{discarded})\n",
        line(&row.key),
        line(&row.class),
        line(&row.message),
        line(&row.at)
    )
}

/// Written as it comes: a row may be large.
async fn show(session: &Session, id: &MigrationId, shard: &ShardId, key: &str) -> Result<Exit, Ended> {
    let mut found = session.client()?.quarantined(id, shard, key).await?;
    let mut rest = Vec::new();
    while let Some(mut part) = found.next().await? {
        rest.append(&mut part);
        let whole = match std::str::from_utf8(&rest) {
            Ok(text) => text.len(),
            Err(cut) => cut.valid_up_to(),
        };
        let after = rest.split_off(whole);
        session.console.say(&harmless::json(&String::from_utf8_lossy(&rest)))?;
        rest = after;
    }
    session.console.say(&harmless::json(&format!("{}\n", String::from_utf8_lossy(&rest))))?;
    Ok(Exit::Done)
}

async fn decide(session: &Session, rows: &Rows, retry: bool) -> Result<Exit, Ended> {
    let client = session.client()?;
    let (view, count) = client.decide(&rows.id, rows.shard.as_ref(), &rows.keys, retry).await?;
    let what = if retry { "pending again" } else { "given up" };
    let concerned = counted(usize::try_from(count).unwrap_or(usize::MAX), "row");
    let mut text = format!("{}: {concerned} {what}; {}\n", rows.id, standing(&view));
    if let Some(hint) = status::hint(&view) {
        text.push_str(&format!("{hint}\n"));
    }
    session.console.answer(|_| text, || json!({ "rows": count, "migration": answers::status(&view) }))?;
    Ok(Exit::Done)
}
