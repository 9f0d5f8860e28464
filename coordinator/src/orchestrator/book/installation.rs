//! What is about no migration: the topology, and what the history tells of the installation.

use std::sync::Arc;

use serde_json::json;
use shardlift_domain::Epoch;
use shardlift_domain::ids::MigrationKey;

use super::{Book, Refused};
use crate::orchestrator::chronicle::of_the_installation;
use crate::orchestrator::wake::Asker;
use crate::shard::{Edited, chronicled};
use crate::store::{Change, HistoryEntry, HistoryEvent};

impl Book {
    /// Replaces the topology, and changes entries of directories with it.
    pub(in crate::orchestrator) async fn relocate(
        &mut self,
        edited: Edited,
        by: &Asker,
    ) -> Result<(), Refused> {
        let detail = chronicled(&self.topology, &self.directory, &edited);
        let Edited { topology, entries } = edited;
        let change = Change {
            topology: Some(topology.clone()),
            directory: entries.clone(),
            history: vec![of_the_installation(HistoryEvent::TopologyChanged, detail, by)],
            ..Change::default()
        };
        self.commit(change).await?;
        self.topology = Arc::new(topology);
        // Copied only while somebody looks at it.
        let directory = Arc::make_mut(&mut self.directory);
        entries.iter().for_each(|entry| directory.apply(entry));
        Ok(())
    }

    /// A coordinator of this name leads after this epoch.
    pub(in crate::orchestrator) fn has_taken_over(&mut self, name: &str, before: Epoch) {
        let detail = json!({ "epoch": self.permit.fence().epoch, "before": { "epoch": before } });
        self.took_over = Some(of_the_installation(HistoryEvent::TakenOver, detail, &name.into()));
    }

    /// Keeps something that happened to the installation, with the next commit.
    pub(in crate::orchestrator) fn note_of_the_installation(
        &mut self,
        event: HistoryEvent,
        detail: serde_json::Value,
        by: &Asker,
    ) {
        self.staged.history.push(of_the_installation(event, detail, by));
    }

    /// Keeps that something was refused to somebody, about a migration or not, with the next commit.
    pub(in crate::orchestrator) fn note_refusal(
        &mut self,
        migration: Option<&MigrationKey>,
        detail: serde_json::Value,
        by: &Asker,
    ) {
        let migration = migration.filter(|key| self.pages.contains_key(key)).cloned();
        let entry = of_the_installation(HistoryEvent::Refused, detail, by);
        self.staged.history.push(HistoryEntry { migration, ..entry });
    }
}
