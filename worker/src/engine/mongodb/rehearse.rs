//! The real change of a batch on a sample, in transactions that are aborted.

use std::time::Instant;

use async_trait::async_trait;
use bson::{Bson, Document, RawDocumentBuf, doc};
use mongodb::{ClientSession, Collection, Database};
use shardlift_domain::rehearsal::{RehearsalRequest, SampleField, SampleRow, ShardRehearsal};
use shardlift_domain::spec::Undo;
use shardlift_domain::{ErrorCode, Failure, MigrationKey};

use super::bracket::{self, Lower, window};
use super::capture::{Fields, Found, Images, Log};
use super::change::{both, by_pipeline, none_pending};
use super::checkpoint::Layout;
use super::connection::{Books, Connection};
use super::lookahead::{Edge, Lookahead};
use super::rewrite::rewrite;
use super::transaction::{COMMAND_LIMIT, abandon, answered, begin, by_id, session};
use super::writer::{Change, change, pending, selection};
use super::{error, facts, inspect, split};
use crate::engine::rehearsal::{First, PARTS, Stage, Tried, run};
use crate::engine::{DataJob, EngineError, EngineResult};

/// A range number that no real range has.
const NO_RANGE: u32 = i32::MAX.unsigned_abs();

/// Rehearses.
pub(super) async fn rehearse(
    connection: &Connection,
    request: &RehearsalRequest,
    job: &DataJob,
) -> EngineResult<ShardRehearsal> {
    let name = job.data.source.relation.as_str();
    if inspect::collection(connection, name).await?.is_none() {
        let message = format!("there is no collection {name}");
        let next = "mend source.collection, or let the spec depend on the one that creates it";
        return Err(EngineError::Failed(Failure::new(ErrorCode::PrecheckRefused, message, next)));
    }
    let database = connection.application().await?;
    let layouts = split::survey(&database.collection(name), PARTS).await?;
    let mut stage = Rehearsing {
        session: session(connection).await?,
        raw: database.collection(name),
        documents: database.collection(name),
        database,
        books: connection.books().await?,
        change: change(job)?,
        selection: selection(job)?,
        search: pending(job)?.is_some(),
        undo: job.data.undo,
        migration: request.migration.clone(),
    };
    let parts = layouts.into_iter().filter_map(|Layout { lower, upper }| Some(Part { lower, upper: upper? }));
    answered(run(&mut stage, parts.collect(), request.rows, request.shown)).await
}

/// From `lower` up to and including `upper`.
struct Part {
    lower: Lower,
    upper: Bson,
}

struct Rehearsing {
    session: ClientSession,
    database: Database,
    documents: Collection<Document>,
    raw: Collection<RawDocumentBuf>,
    books: Books,
    change: Change,
    /// The documents that are changed.
    selection: Option<Document>,
    /// Whether changed documents must not be found by `where` any more.
    search: bool,
    undo: Undo,
    migration: MigrationKey,
}

#[async_trait]
impl Stage for Rehearsing {
    type Part = Part;

    async fn first(&mut self, part: &Part, rows: u32) -> EngineResult<Option<First<Part>>> {
        let ahead = Lookahead::read(&self.raw, &part.lower, &part.upper, rows, true).await?;
        let Some(Edge { key, keys, last }) = ahead.edge(rows) else { return Ok(None) };
        let counted = match keys {
            Some(keys) => keys,
            None => super::lookahead::count(&self.raw, window(&part.lower, &key)).await?,
        };
        let rest = Part { lower: Lower::After(key.clone()), upper: part.upper.clone() };
        let part = Part { lower: part.lower.clone(), upper: key };
        Ok((counted > 0).then_some(First { part, rows: counted, rest: (!last).then_some(rest) }))
    }

    async fn try_out(&mut self, rows: &First<Part>, shown: usize) -> EngineResult<Tried> {
        begin(&mut self.session).await?;
        let tried = self.play(&rows.part, shown).await;
        abandon(&mut self.session).await;
        tried.map_err(|error| match error {
            EngineError::Row(failure) if rows.rows == 1 && failure.place.key.is_none() => {
                EngineError::Row(failure.at_key(bracket::text(&rows.part.upper)))
            }
            error => error,
        })
    }
}

impl Rehearsing {
    async fn play(&mut self, part: &Part, shown: usize) -> EngineResult<Tried> {
        let place = window(&part.lower, &part.upper);
        let filter = both(&place, self.selection.as_ref());
        let before = self.read(filter.clone(), shown).await?;
        let began = Instant::now();
        let (changed, images) = self.change(filter.clone()).await?;
        if let Some(images) = images {
            let log = Log { books: &self.books, migration: &self.migration, range: NO_RANGE, batch: 1 };
            images.write(&mut self.session, &self.raw, place.clone(), &log).await?;
        }
        if self.search {
            none_pending(&mut self.session, &self.documents, filter).await?;
        }
        let took = began.elapsed();
        let mut samples = Vec::with_capacity(before.len());
        for old in before {
            let key = old.get("_id").cloned().unwrap_or(Bson::Null);
            let new = self.read(doc! { "_id": { "$eq": &key } }, 1).await?;
            samples.extend(new.first().and_then(|new| compared(&key, &old, new)));
        }
        let kept = if self.undo == Undo::Capture { 2 } else { 1 };
        let log_bytes = self.average(place).await?.saturating_mul(changed).saturating_mul(kept);
        Ok(Tried { changed, took, log_bytes, samples })
    }

    async fn change(&mut self, filter: Document) -> EngineResult<(u64, Option<Images>)> {
        match &self.change {
            Change::InShard(pipeline) => {
                let mut found = None;
                if self.undo == Undo::Capture {
                    let fields = Fields::of(pipeline);
                    let read = Found::read(&mut self.session, &self.raw, fields, filter.clone()).await?;
                    if read.cut.is_some() {
                        return Err(too_much());
                    }
                    found = Some(read);
                }
                by_pipeline(&mut self.session, &self.raw, &self.database, (filter, pipeline), found).await
            }
            Change::InWorker(transformer) => {
                let (database, raw) = (&self.database, &self.raw);
                let rewritten =
                    rewrite(&mut self.session, database, raw, transformer.as_ref(), filter, self.undo)
                        .await?;
                match rewritten.cut {
                    Some(_) => Err(too_much()),
                    None => Ok((rewritten.changed, rewritten.images)),
                }
            }
        }
    }

    async fn read(&mut self, filter: Document, limit: usize) -> EngineResult<Vec<Document>> {
        if limit == 0 {
            return Ok(Vec::new());
        }
        let doing = "reading documents";
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let find = self.documents.find(filter).sort(doc! { "_id": 1 }).hint(by_id()).limit(limit);
        let find = find.max_time(COMMAND_LIMIT).session(&mut self.session);
        let mut cursor = find.await.map_err(error::asking(doing))?;
        let mut found = Vec::new();
        while let Some(next) = cursor.next(&mut self.session).await {
            found.push(next.map_err(error::asking(doing))?);
        }
        Ok(found)
    }

    /// Bytes of a document of the window, on average, as it is in the transaction.
    async fn average(&mut self, window: Document) -> EngineResult<u64> {
        let pipeline = [
            doc! { "$match": window },
            doc! { "$group": { "_id": null, "bytes": { "$avg": { "$bsonSize": "$$ROOT" } } } },
        ];
        let doing = "measuring documents";
        let sizes = self.documents.aggregate(pipeline).max_time(COMMAND_LIMIT).session(&mut self.session);
        let mut sizes = sizes.await.map_err(error::asking(doing))?;
        let Some(size) = sizes.next(&mut self.session).await else { return Ok(0) };
        Ok(facts::number(&size.map_err(error::asking(doing))?, "bytes"))
    }
}

/// A sample of documents that are this large is halved.
fn too_much() -> EngineError {
    EngineError::TooSlow(Failure::new(
        ErrorCode::RowContended,
        "the documents of the sample are too large for one transaction",
        "nothing: a smaller sample is tried",
    ))
}

fn compared(key: &Bson, old: &Document, new: &Document) -> Option<SampleRow> {
    let text = |value: Option<&Bson>| value.map(|value| value.clone().into_relaxed_extjson().to_string());
    let added = new.keys().filter(|name| !old.contains_key(name.as_str()));
    let names = old.keys().chain(added);
    let fields = names.filter_map(|name| SampleField::of(name, text(old.get(name)), text(new.get(name))));
    let fields: Vec<SampleField> = fields.collect();
    (!fields.is_empty()).then(|| SampleRow { key: bracket::text(key), fields })
}
