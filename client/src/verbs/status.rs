//! `shardlift status ID`.

use serde_json::{Value, json};
use shardlift_client::Client;
use shardlift_client::model::AuditAsked;
use shardlift_domain::ended::EndedSession;
use shardlift_domain::failure::Failure;
use shardlift_domain::ids::{MigrationId, ShardId};
use shardlift_domain::spec::Kind;

use crate::cli::Session;
use crate::console::Ended;
use crate::exit::Exit;
use crate::view::{audit, json, status};

/// How often sessions may have been ended, so that all of them are told: the most that one page of the history has.
const EVENTS: u32 = 1000;

/// Show one migration: where it stands, each shard, and everything that went wrong.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  shardlift status 0008_message_text
  shardlift status 0008_message_text --output json

In JSON each shard has `error` (why it failed for good: `retry` goes on) and `trouble` (what hinders it now; it is
tried again by itself). Both are null when all is well. `ended_sessions` of a schema change are those that `on_block` has
ended; null when that could not be asked for, and standard error says why.
Ends with 0 whatever the status is; `watch` and `apply` end with 3 or 4 when a migration did not get through.")]
pub(crate) struct Status {
    /// The migration's id; its newest version is shown.
    id: MigrationId,
}

impl Status {
    pub(crate) async fn run(&self, session: &Session) -> Result<Exit, Ended> {
        let client = session.client()?;
        let view = client.get(&self.id, None).await?;
        let ended = match view.kind {
            Kind::Schema => self.ended(&client).await,
            Kind::Data => Ok(Vec::new()),
        };
        let sessions = ended.as_deref().ok();
        let value = || {
            let mut value = json::status(&view);
            if view.kind == Kind::Schema {
                value["ended_sessions"] = json!(sessions.map(ended_json));
            }
            value
        };
        session.console.answer(|paint| status::status(paint, &view) + &status::ended(sessions), value)?;
        // Where it stands is known all the same.
        if let Err(failures) = &ended {
            session.console.complain(failures, &[]);
        }
        Ok(Exit::Done)
    }

    /// The sessions that were ended since they kept it from its locks, oldest first.
    async fn ended(&self, client: &Client) -> Result<Vec<(ShardId, EndedSession)>, Vec<Failure>> {
        let asked = AuditAsked {
            id: Some(self.id.to_string()),
            event: Some("sessions_ended".to_owned()),
            limit: EVENTS,
            ..AuditAsked::default()
        };
        let (entries, _) = client.audit(asked).await?;
        Ok(entries.iter().flat_map(audit::ended_by).collect())
    }
}

fn ended_json(sessions: &[(ShardId, EndedSession)]) -> Vec<Value> {
    sessions.iter().map(|(shard, session)| json!({ "shard": shard, "session": session })).collect()
}
