//! `shardlift conflicts ID`.

use serde_json::json;
use shardlift_domain::ids::MigrationId;

use crate::cli::Session;
use crate::console::Ended;
use crate::exit::Exit;
use crate::view::figures::counted;
use crate::view::harmless::line;

/// List the rows that a rollback has left alone, with the reasons. Keys only, no other values.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  shardlift conflicts 0008_message_text
  shardlift conflicts 0008_message_text --limit 10000 --output json

A row is left alone when it is not any more what the migration wrote, is gone, or cannot have its old values again. What it would
have got stays in its shard: shardlift.undo_conflict. Ends with 0 when there are none, and with 8 when there are some.")]
pub(crate) struct Conflicts {
    /// The migration's id.
    id: MigrationId,

    /// List at most so many.
    #[arg(long, value_name = "ROWS", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    limit: u32,
}

impl Conflicts {
    pub(crate) async fn run(&self, session: &Session) -> Result<Exit, Ended> {
        let (found, more) = session.client()?.conflicts(&self.id, self.limit).await?;
        let sentence = |_| {
            let rows = found.iter().map(|(shard, conflict)| {
                format!("{shard}: {}: {}\n", line(&conflict.key), line(&conflict.reason))
            });
            let mut text: String = rows.collect();
            let more = if more { "; there are more (--limit)" } else { "" };
            text.push_str(&format!("{} left alone{more}\n", counted(found.len(), "row")));
            text
        };
        let value = || {
            let row = |(shard, conflict): &(_, shardlift_domain::facts::Conflict)| json!({ "shard": shard, "key": conflict.key, "reason": conflict.reason });
            json!({ "conflicts": found.iter().map(row).collect::<Vec<_>>(), "more": more })
        };
        session.console.answer(sentence, value)?;
        Ok(if found.is_empty() { Exit::Done } else { Exit::Differs })
    }
}
