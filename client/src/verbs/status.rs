//! `shardlift status ID`.

use serde_json::json;
use shardlift_client::Client;
use shardlift_client::model::AuditAsked;
use shardlift_domain::ended::EndedSession;
use shardlift_domain::ids::{MigrationId, ShardId};
use shardlift_domain::spec::Kind;

use crate::cli::Session;
use crate::console::Ended;
use crate::exit::Exit;
use crate::view::{audit, json, status};

/// Newest events of the migration that are looked through for sessions that were ended.
const EVENTS: u32 = 1000;

/// Show one migration: where it stands, each shard, and everything that went wrong.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  shardlift status 0008_message_text
  shardlift status 0008_message_text --output json

In JSON each shard has `error` (why it failed for good: `retry` goes on) and `trouble` (what hinders it now; it is
tried again by itself). Both are null when all is well. `ended_sessions` of a schema change are those that `on_block` has
ended, of its newest 1,000 events.
Ends with 0 whatever the status is; `watch` and `apply` end with 3 or 4 when a migration did not get through.")]
pub(crate) struct Status {
    /// The migration's id; its newest version is shown.
    id: MigrationId,
}

impl Status {
    pub(crate) async fn run(&self, session: &Session) -> Result<Exit, Ended> {
        let client = session.client()?;
        let view = client.get(&self.id, None).await?;
        let changes_schema = view.kind == Kind::Schema;
        let ended = if changes_schema { self.ended(&client).await? } else { Vec::new() };
        let value = || {
            let mut value = json::status(&view);
            if changes_schema {
                value["ended_sessions"] = ended
                    .iter()
                    .map(|(shard, session)| json!({ "shard": shard, "session": session }))
                    .collect();
            }
            value
        };
        session.console.answer(|paint| status::status(paint, &view) + &status::ended(&ended), value)?;
        Ok(Exit::Done)
    }

    /// The sessions that were ended since they kept it from its locks, oldest first.
    async fn ended(&self, client: &Client) -> Result<Vec<(ShardId, EndedSession)>, Ended> {
        let asked = AuditAsked { id: Some(self.id.to_string()), limit: EVENTS, ..AuditAsked::default() };
        let (entries, _) = client.audit(asked).await?;
        Ok(entries.iter().flat_map(audit::ended_by).collect())
    }
}
