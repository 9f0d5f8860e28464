//! What is about no migration: the topology, and what the history tells of the installation.

use std::sync::Arc;

use super::{Book, Refused};
use crate::orchestrator::chronicle::of_the_installation;
use crate::orchestrator::wake::Asker;
use crate::shard::{Edited, chronicled};
use crate::store::{Change, HistoryEvent};

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

    /// Keeps something that happened to the installation, with the next commit.
    pub(in crate::orchestrator) fn note_of_the_installation(
        &mut self,
        event: HistoryEvent,
        detail: serde_json::Value,
        by: &Asker,
    ) {
        self.staged.history.push(of_the_installation(event, detail, by));
    }
}
