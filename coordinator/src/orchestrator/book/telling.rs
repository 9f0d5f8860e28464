//! What a sink outside is to be told: the history behind its place.

use std::collections::BTreeMap;

use shardlift_domain::ids::{MigrationId, MigrationKey};

use super::Book;
use crate::store::{Change, HistoryEvent, Position, Recorded, Relayed, StoreError};

/// Somebody outside who is told what happens.
#[derive(Debug, Clone, Copy)]
pub struct Sink {
    /// Its name in the store.
    pub name: &'static str,
    /// What it is told of.
    pub kinds: &'static [HistoryEvent],
}

/// One thing to tell.
#[derive(Debug, Clone, PartialEq)]
pub struct Numbered {
    /// What happened.
    pub recorded: Recorded,
    /// It is the so many-th thing told of its migration: from 1, without gaps, over all versions.
    pub number: u64,
}

/// How far a sink is.
pub(super) struct Outgoing {
    sink: Sink,
    position: u64,
    /// Something behind the place may not be told yet.
    behind: bool,
    /// The end of the last look, if it saw all that there was, and nothing came since.
    all_until: Option<u64>,
}

impl Outgoing {
    /// This is stored now.
    pub(super) fn note(&mut self, change: &Change) {
        if change.history.iter().any(|entry| self.sink.kinds.contains(&entry.event)) {
            self.behind = true;
            self.all_until = None;
        }
    }
}

impl Book {
    /// Finds the place of a sink. One that was never told anything begins here: what happened before it was there is not news.
    pub(in crate::orchestrator) async fn tell(&mut self, sink: Option<Sink>) -> Result<(), StoreError> {
        let Some(sink) = sink else { return Ok(()) };
        let Position { told, newest } = self.store.position(sink.name).await?;
        if told.is_none() {
            let relayed = Some(Relayed { sink: sink.name.to_owned(), position: newest });
            self.commit_alone(Change { relayed, ..Change::default() }).await?;
        }
        let position = told.unwrap_or(newest);
        self.outgoing = Some(Outgoing { sink, position, behind: position < newest, all_until: None });
        Ok(())
    }

    /// The next things to tell, in their order; empty when all that is stored is told.
    pub(in crate::orchestrator) async fn untold(&mut self, limit: u32) -> Result<Vec<Numbered>, StoreError> {
        let Some(outgoing) = self.outgoing.as_mut().filter(|outgoing| outgoing.behind) else {
            return Ok(Vec::new());
        };
        let Sink { kinds, .. } = outgoing.sink;
        let found = self.store.told(kinds, outgoing.position, limit).await?;
        if found.is_empty() {
            outgoing.behind = false;
        } else if found.len() < usize::try_from(limit).unwrap_or(usize::MAX) {
            outgoing.all_until = found.last().map(|last| last.sequence);
        }
        let mut numbers: BTreeMap<MigrationId, u64> = BTreeMap::new();
        let mut numbered = Vec::with_capacity(found.len());
        for recorded in found {
            // Of the installation nothing is told.
            let Some(MigrationKey { id, .. }) = &recorded.entry.migration else { continue };
            let number = match numbers.get(id) {
                Some(number) => number + 1,
                None => self.store.count(id, kinds, recorded.sequence).await?,
            };
            numbers.insert(id.clone(), number);
            numbered.push(Numbered { recorded, number });
        }
        Ok(numbered)
    }

    /// How many things were told of a migration, once all are.
    pub(in crate::orchestrator) async fn told_of(&self, id: &MigrationId) -> Result<u64, StoreError> {
        match &self.outgoing {
            Some(outgoing) => self.store.count(id, outgoing.sink.kinds, u64::MAX).await,
            None => Ok(0),
        }
    }

    /// Whether a request of a broker was carried out.
    pub(in crate::orchestrator) async fn has_heard(
        &self,
        source: &str,
        id: &str,
    ) -> Result<bool, StoreError> {
        self.store.has_heard(source, id).await
    }

    /// The sink was told up to here; stored with the next commit.
    pub(in crate::orchestrator) fn relayed(&mut self, position: u64) {
        let Some(outgoing) = self.outgoing.as_mut().filter(|outgoing| outgoing.position < position) else {
            return;
        };
        outgoing.position = position;
        if outgoing.all_until.is_some_and(|end| end <= position) {
            outgoing.behind = false;
        }
        self.staged.relayed = Some(Relayed { sink: outgoing.sink.name.to_owned(), position });
    }
}
