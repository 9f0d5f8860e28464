//! A migration followed as server-sent events: its history, each entry once and in order, and where it stands, as it
//! changes. As slow as its reader, over when the reader goes, and not over when the lead passes on.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::time::Duration;

use axum::response::sse::{Event, KeepAlive, Sse};
use futures::future::OptionFuture;
use futures::{Stream, StreamExt};
use serde::Serialize;
use serde_json::json;
use shardlift_domain::migration::Status;
use shardlift_proto::v1;
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};
use tokio_stream::wrappers::ReceiverStream;

use super::Rest;
use super::answers::{EventBody, MigrationBody, PartBody};
use super::problem::Problem;
use crate::api::access::Stay;

/// Events that may wait for the reader.
const QUEUE: usize = 64;
/// Entries of the history that are read at once.
const PAGE: u32 = 500;
/// Between two words, so that a connection that broke is noticed.
const KEEP_ALIVE: Duration = Duration::from_secs(10);
/// Before a migration that rests is looked at again, or a leader is looked for.
const AGAIN: Duration = Duration::from_secs(1);
/// What changed the history usually changed the migration, and is told at once; anything else after this long.
const HISTORY_WITHIN: Duration = Duration::from_secs(2);

/// What is followed.
pub(super) struct Wanted {
    /// The migration's id.
    pub(super) id: String,
    /// The history begins behind this sequence.
    pub(super) after: u64,
    /// Also how far each shard is.
    pub(super) shards: bool,
    /// It ends when the migration rests.
    pub(super) until_rest: bool,
}

/// Begins to follow. `place`: of the streams that may be open; it is free again at the end.
pub(super) fn begin(
    rest: Rest,
    wanted: Wanted,
    place: OwnedSemaphorePermit,
) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    let (out, queue) = mpsc::channel(QUEUE);
    let follower = Follower {
        rest,
        wanted,
        out,
        settled: None,
        due: Instant::now(),
        told: None,
        parts: BTreeMap::new(),
    };
    tokio::spawn(async move {
        follower.run().await;
        drop(place);
    });
    Sse::new(ReceiverStream::new(queue).map(Ok)).keep_alive(KeepAlive::new().interval(KEEP_ALIVE))
}

/// Why nothing more is told.
enum Stop {
    /// The reader has gone, or this coordinator ends.
    Gone,
    /// A call was refused.
    Refused(Problem),
    /// What was wanted has come.
    Enough,
}

impl From<tonic::Status> for Stop {
    fn from(status: tonic::Status) -> Self {
        Self::Refused(status.into())
    }
}

struct Follower {
    rest: Rest,
    wanted: Wanted,
    out: mpsc::Sender<Event>,
    /// The migration without its figures, when the history was read last.
    settled: Option<Settled>,
    /// When it is read again in any case.
    due: Instant,
    told: Option<MigrationBody>,
    parts: BTreeMap<String, v1::ShardMigration>,
}

impl Follower {
    /// Until there is nothing more to tell, or the reader's token ends.
    async fn run(mut self) {
        let stay = self.rest.caller.as_ref().map(|caller| caller.stay.clone());
        let over = OptionFuture::from(stay.map(Stay::over));
        let last = tokio::select! {
            last = self.follow() => last,
            Some(over) = over => Some(over.into()),
        };
        if let Some(problem) = last {
            let path = format!("/api/v1/migrations/{}/events", self.wanted.id);
            // It is the last word: whoever has gone does not miss it, and whoever does not read is not waited for.
            let _ = timeout(AGAIN, self.tell("problem", None, &problem.document(&path, ""))).await;
        }
    }

    /// Through changes of the leader; why nothing more is told, if that is a refusal.
    async fn follow(&mut self) -> Option<Problem> {
        loop {
            match self.watch().await {
                Ok(()) => {}
                // Nobody leads, or somebody else: the history goes on behind what was told.
                Err(Stop::Refused(problem)) if problem.retryable() => {}
                Err(Stop::Refused(problem)) => return Some(problem),
                Err(Stop::Gone | Stop::Enough) => return None,
            }
            tokio::select! {
                () = self.out.closed() => return None,
                () = self.rest.shared.closing.cancelled() => return None,
                () = sleep(AGAIN) => {}
            }
        }
    }

    /// Until the migration rests, or the lead passes on.
    async fn watch(&mut self) -> Result<(), Stop> {
        let request = v1::WatchRequest { id: self.wanted.id.clone() };
        let mut watched = self.rest.migrations().watch(request).await?.into_inner();
        loop {
            let news = tokio::select! {
                () = self.out.closed() => return Err(Stop::Gone),
                () = self.rest.shared.closing.cancelled() => return Err(Stop::Gone),
                news = watched.message() => news?,
            };
            let Some(news) = news else { return Ok(()) };
            self.look(news.migration.unwrap_or_default()).await?;
        }
    }

    /// What led here comes first, then where the migration stands.
    async fn look(&mut self, mut migration: v1::Migration) -> Result<(), Stop> {
        let parts = std::mem::take(&mut migration.shards);
        let settled = settled(&migration, &parts);
        if self.settled.as_ref() != Some(&settled) || self.due <= Instant::now() {
            self.history().await?;
            (self.settled, self.due) = (Some(settled), Instant::now() + HISTORY_WITHIN);
        }
        let rests = Status::try_from(migration.status()).is_ok_and(Status::rests);
        let body = MigrationBody::from(migration);
        if self.told.as_ref() != Some(&body) {
            self.tell("status", None, &body).await?;
        }
        if self.wanted.shards {
            self.shards(parts).await?;
        }
        if self.wanted.until_rest && rests {
            self.tell("end", None, &json!({ "status": json!(body)["status"] })).await?;
            return Err(Stop::Enough);
        }
        self.told = Some(body);
        Ok(())
    }

    /// Everything behind what was told already.
    async fn history(&mut self) -> Result<(), Stop> {
        loop {
            let (id, after) = (self.wanted.id.clone(), Some(self.wanted.after));
            let request = v1::EventsRequest { id, after, limit: PAGE };
            let page = self.rest.migrations().events(request).await?.into_inner();
            for event in page.events {
                let event = EventBody::from(event);
                self.tell("history", Some(event.sequence), &event).await?;
                self.wanted.after = event.sequence;
            }
            if !page.more {
                return Ok(());
            }
        }
    }

    /// The shards that changed; at first all of them.
    async fn shards(&mut self, parts: Vec<v1::ShardMigration>) -> Result<(), Stop> {
        let mut changed: Vec<PartBody> = Vec::new();
        for part in parts {
            if self.parts.get(&part.shard) != Some(&part) {
                self.parts.insert(part.shard.clone(), part.clone());
                changed.push(part.into());
            }
        }
        if changed.is_empty() {
            return Ok(());
        }
        self.tell("shards", None, &json!({ "shards": changed })).await
    }

    async fn tell(&self, kind: &str, sequence: Option<u64>, body: &impl Serialize) -> Result<(), Stop> {
        let event = Event::default().event(kind).retry(AGAIN).data(json!(body).to_string());
        let event = match sequence {
            Some(sequence) => event.id(sequence.to_string()),
            None => event,
        };
        self.out.send(event).await.map_err(|_| Stop::Gone)
    }
}

/// A migration without its shards, and a digest of them: ten thousand need not be kept by each reader of a stream.
type Settled = (v1::Migration, u64);

/// Without what changes with every batch: what is left changes with an entry of the history only. `migration`: without its
/// shards.
fn settled(migration: &v1::Migration, parts: &[v1::ShardMigration]) -> Settled {
    let mut digest = DefaultHasher::new();
    for part in parts {
        let held = part.held.unwrap_or_default();
        let error = part.error.as_ref().map(|failure| (&failure.code, &failure.message));
        (&part.shard, part.step, part.verified, part.wave, held.rows, held.discarded, error)
            .hash(&mut digest);
    }
    let head = v1::Migration {
        rows_done: 0,
        rows_total: 0,
        rows_restored: 0,
        conflicts: 0,
        gate: None,
        ..migration.clone()
    };
    (head, digest.finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_settle_nothing_and_steps_do() {
        let part =
            v1::ShardMigration { shard: "a".into(), step: v1::Step::Backfill.into(), ..Default::default() };
        let migration = |rows_done| v1::Migration { rows_done, ..v1::Migration::default() };
        let mut later = part.clone();
        (later.batches, later.rows_per_second) = (3, 9.5);
        let before = settled(&migration(1), &[part]);
        assert_eq!(before, settled(&migration(7), std::slice::from_ref(&later)));
        later.set_step(v1::Step::Sweep);
        assert_ne!(before, settled(&migration(7), &[later]));
    }
}
