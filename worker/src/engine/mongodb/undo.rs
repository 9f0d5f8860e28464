//! Undoing a data migration: batch by batch from the newest before-image to the oldest, each one transaction.
//!
//! The transaction's snapshot holds the documents as they are; a document that somebody changes meanwhile is a write
//! conflict, and the batch is done again. `undoing` keeps who may go on, and the counts:
//!
//! ```text
//! _id {db, migration, version}   epoch, attempt, claim, session   restored, conflicts, batches, done
//! ```

use std::collections::HashMap;

use async_trait::async_trait;
use bson::{Bson, Document, RawDocumentBuf, doc};
use futures::TryStreamExt;
use mongodb::options::ReturnDocument;
use mongodb::{ClientSession, Collection, Database};
use shardlift_domain::facts::{Conflict, ConflictsPage, ConflictsRequest};
use shardlift_domain::ids::MigrationKey;
use shardlift_domain::verdict::Undone;
use uuid::Uuid;

use super::capture::{Fields, digest, entry};
use super::change::{too_large, update};
use super::connection::{Books, Connection};
use super::error::{self, Cause};
use super::fence::number;
use super::transaction::{COMMAND_LIMIT, abandon, answered, begin, commit, session};
use super::{bracket, checkpoint, codes, defect, fence, ledger};
use crate::engine::{DataJob, EngineError, EngineResult, UndoReport, UndoWriter};
use crate::lease::TaskLease;

struct Writer {
    database: Database,
    documents: Collection<Document>,
    books: Books,
    session: ClientSession,
    migration: MigrationKey,
    /// What a batch is conditioned on.
    condition: Document,
    done: Undone,
    open: bool,
}

/// Claims the undoing of the lease's migration, and seals its checkpoints.
pub(super) async fn open(
    connection: &Connection,
    lease: &TaskLease,
    job: &DataJob,
) -> EngineResult<Box<dyn UndoWriter>> {
    lease.check()?;
    let books = connection.books().await?;
    let session = session(connection).await?;
    let (condition, done) = answered(claim(connection, &books, &session, lease)).await?;
    let database = connection.application().await?;
    Ok(Box::new(Writer {
        documents: database.collection(&job.data.source.relation),
        database,
        books,
        session,
        migration: lease.task().migration.clone(),
        condition,
        done,
        open: false,
    }))
}

async fn claim(
    connection: &Connection,
    books: &Books,
    session: &ClientSession,
    lease: &TaskLease,
) -> EngineResult<(Document, Undone)> {
    let doing = "claiming the undoing";
    fence::admit(books, lease.leader()).await?;
    let name = ledger::name(books, &lease.task().migration);
    let (epoch, attempt) = checkpoint::token(lease.token());
    let fresh = doc! {
        "_id": &name, "epoch": 0_i64, "attempt": 0_i64, "claim": "", "session": null,
        "restored": 0_i64, "conflicts": 0_i64, "batches": 0_i64, "done": false,
    };
    match books.undoing().insert_one(fresh).await {
        Ok(_) => {}
        Err(error) if Cause::from(&error).code == codes::DUPLICATE_KEY => {}
        Err(error) => return Err(error::asking(doing)(error)),
    }
    let older = doc! { "$or": [
        { "epoch": { "$lt": epoch } }, { "epoch": epoch, "attempt": { "$lte": attempt } },
    ] };
    let newer = doc! { "$or": [
        { "epoch": { "$gt": epoch } }, { "epoch": epoch, "attempt": { "$gt": attempt } },
    ] };
    let mut walked = name.clone();
    walked.extend(newer);
    if books.checkpoint().find_one(walked).await.map_err(error::asking(doing))?.is_some() {
        return Err(EngineError::LeaseLost);
    }
    end_former(connection, books, session, &name).await?;
    let mine = Uuid::new_v4().to_string();
    let take = doc! { "$set": {
        "epoch": epoch, "attempt": attempt, "claim": &mine, "session": session.id(), "done": false,
    } };
    let mut free = doc! { "_id": &name };
    free.extend(older.clone());
    let undoing = books.undoing();
    let taken = undoing.find_one_and_update(free, take).return_document(ReturnDocument::After);
    let taken = taken.max_time(COMMAND_LIMIT).await.map_err(error::asking(doing))?;
    let taken = taken.ok_or(EngineError::LeaseLost)?;
    // No claim has this name, so no batch of an older right finds its checkpoint any more.
    let mut walked = name.clone();
    walked.extend(older);
    let seal = doc! { "$set": { "epoch": epoch, "attempt": attempt, "claim": "undone", "session": null } };
    books.checkpoint().update_many(walked, seal).await.map_err(error::asking(doing))?;
    let count = |field: &str| taken.get_i64(field).ok().and_then(|count| u64::try_from(count).ok());
    let done = Undone {
        restored: count("restored").unwrap_or_default(),
        conflicts: count("conflicts").unwrap_or_default(),
    };
    Ok((doc! { "_id": name, "epoch": epoch, "attempt": attempt, "claim": mine }, done))
}

/// Ends the sessions that may still hold documents of the migration in an open transaction, as far as the privileges go.
async fn end_former(
    connection: &Connection,
    books: &Books,
    session: &ClientSession,
    name: &Document,
) -> EngineResult<()> {
    let doing = "looking for former owners";
    let ranges = books.checkpoint().find(name.clone()).projection(doc! { "session": 1 }).await;
    let ranges: Vec<Document> =
        ranges.map_err(error::asking(doing))?.try_collect().await.map_err(error::asking(doing))?;
    let undoing = books.undoing().find_one(doc! { "_id": name }).await.map_err(error::asking(doing))?;
    let mut owners: Vec<Bson> = Vec::new();
    for owner in ranges.iter().chain(&undoing).filter_map(|held| held.get_document("session").ok()) {
        let owner = Bson::Document(owner.clone());
        if owner.as_document() != Some(session.id()) && !owners.contains(&owner) {
            owners.push(owner);
        }
    }
    if !owners.is_empty()
        && let Err(error) = connection.admin(doc! { "killSessions": owners }).await
    {
        let cause = Cause::from(&error);
        tracing::warn!(code = cause.code, "the sessions of former owners could not be ended");
    }
    Ok(())
}

/// One row of the log.
struct Row {
    key: Bson,
    old: Document,
    written: i64,
}

impl Row {
    fn read(row: &Bson) -> Option<Self> {
        let row = row.as_document()?;
        let (key, old) = (row.get("k")?.clone(), row.get_document("o").ok()?.clone());
        Some(Self { key, old, written: row.get_i64("w").ok()? })
    }
}

const CHANGED: &str = "it was changed since";
const GONE: &str = "it is not there any more";

#[async_trait]
impl UndoWriter for Writer {
    fn done(&self) -> Undone {
        self.done
    }

    async fn run_batch(&mut self, lease: &TaskLease) -> EngineResult<UndoReport> {
        lease.check()?;
        if self.open {
            return Err(super::writer::unknown());
        }
        self.open = true;
        let result = answered(self.batch()).await;
        self.open = matches!(result, Err(EngineError::Connection(_)));
        result
    }
}

impl Writer {
    async fn batch(&mut self) -> EngineResult<UndoReport> {
        let log = self.books.undo();
        let newest = log.find_one(ledger::name(&self.books, &self.migration));
        let newest = newest.sort(doc! { "range": -1, "batch": -1, "part": -1 }).await;
        let Some(image) = newest.map_err(error::asking("reading before-images"))? else {
            let end = self.condition.clone();
            let ended = self.books.undoing().update_one(end, doc! { "$set": { "done": true } }).await;
            return match ended.map_err(error::asking("ending the undoing"))?.matched_count {
                1 => Ok(UndoReport { undone: self.done, rows: 0, last: true }),
                _ => Err(EngineError::LeaseLost),
            };
        };
        let rows = image.get_array("rows").map(Vec::len).unwrap_or_default();
        let restored = self.transaction(async |writer| writer.restore(&image).await).await;
        let (undone, rows) = match restored {
            Ok(undone) => (undone, rows),
            Err(EngineError::Row(_)) if rows > 1 => {
                // The one that is refused is found by dividing.
                (self.transaction(async |writer| writer.divide(&image).await).await?, 0)
            }
            Err(EngineError::Row(failure)) => {
                let why = failure.message;
                (self.transaction(async |writer| writer.set_aside(&image, &why).await).await?, 1)
            }
            Err(other) => return Err(other),
        };
        self.done += undone;
        Ok(UndoReport { undone: self.done, rows: u32::try_from(rows).unwrap_or(u32::MAX), last: false })
    }

    /// One transaction under the claim: the work, then the count.
    async fn transaction(
        &mut self,
        work: impl AsyncFnOnce(&mut Self) -> EngineResult<Undone>,
    ) -> EngineResult<Undone> {
        begin(&mut self.session).await?;
        let worked = match work(self).await {
            Ok(undone) => self.count(undone).await.map(|()| undone),
            Err(error) => Err(error),
        };
        match worked {
            Ok(undone) => {
                fail::fail_point!("mg-undo-before-commit", |_| std::process::abort());
                commit(&mut self.session).await?;
                fail::fail_point!("mg-undo-after-commit", |_| std::process::abort());
                Ok(undone)
            }
            Err(error) => {
                abandon(&mut self.session).await;
                Err(error)
            }
        }
    }

    async fn count(&mut self, more: Undone) -> EngineResult<()> {
        let count = doc! { "$inc": {
            "restored": number(more.restored), "conflicts": number(more.conflicts), "batches": 1_i64,
        } };
        let undoing = self.books.undoing();
        let counted = undoing.update_one(self.condition.clone(), count);
        let counted = counted.session(&mut self.session).await;
        match counted.map_err(error::asking("counting what was undone"))?.matched_count {
            1 => Ok(()),
            _ => Err(EngineError::LeaseLost),
        }
    }

    async fn restore(&mut self, image: &Document) -> EngineResult<Undone> {
        let fields = Fields::read(image);
        let rows = rows(image)?;
        let now = self.present(&rows).await?;
        let (mut statements, mut aside) = (Vec::new(), Vec::new());
        for row in &rows {
            let Some(document) = now.get(&bracket::text(&row.key)) else {
                aside.push((row, GONE));
                continue;
            };
            if digest(&fields.kept(document))? == row.written {
                statements.push(statement(&fields, row)?);
            } else {
                aside.push((row, CHANGED));
            }
        }
        let restored = statements.len() as u64;
        if !statements.is_empty()
            && update(&mut self.session, &self.database, self.documents.name(), &statements).await?
                != restored
        {
            return Err(defect("a document of a batch's snapshot was not found again"));
        }
        let conflicts = aside.len() as u64;
        self.keep(image, &aside).await?;
        self.clear(image).await?;
        Ok(Undone { restored, conflicts })
    }

    /// The documents of these rows as they are now.
    async fn present(&mut self, rows: &[Row]) -> EngineResult<HashMap<String, Document>> {
        let doing = "reading documents";
        let keys: Vec<Bson> = rows.iter().map(|row| row.key.clone()).collect();
        let found = self.documents.find(doc! { "_id": { "$in": keys } }).max_time(COMMAND_LIMIT);
        let mut found = found.session(&mut self.session).await.map_err(error::asking(doing))?;
        let mut documents = HashMap::with_capacity(rows.len());
        while let Some(next) = found.next(&mut self.session).await {
            let document = next.map_err(error::asking(doing))?;
            if let Some(key) = document.get("_id") {
                documents.insert(bracket::text(key), document);
            }
        }
        Ok(documents)
    }

    /// Keeps rows as conflicts.
    async fn keep(&mut self, image: &Document, aside: &[(&Row, &str)]) -> EngineResult<()> {
        if aside.is_empty() {
            return Ok(());
        }
        let doing = "keeping conflicts";
        let held = self.books.undoing().find_one(self.condition.clone()).session(&mut self.session).await;
        let held = held.map_err(error::asking(doing))?.ok_or(EngineError::LeaseLost)?;
        let first = held.get_i64("conflicts").unwrap_or_default() + 1;
        let fields = image.get("fields").cloned().unwrap_or(Bson::Null);
        let documents = (first..).zip(aside).map(|(number, (row, reason))| {
            let mut id = ledger::name(&self.books, &self.migration);
            id.insert("number", number);
            let mut document = doc! { "_id": id.clone() };
            document.extend(id);
            document.extend(doc! {
                "key": &row.key, "fields": &fields, "old": &row.old, "written": row.written, "reason": *reason,
            });
            document
        });
        let documents: Vec<Document> = documents.collect();
        let kept = self.books.undo_conflict().insert_many(documents).session(&mut self.session).await;
        kept.map(drop).map_err(error::asking(doing))
    }

    async fn clear(&mut self, image: &Document) -> EngineResult<()> {
        let log = self.books.undo();
        let cleared = log.delete_one(doc! { "_id": image.get("_id") });
        let cleared = cleared.session(&mut self.session).await.map_err(error::asking("clearing the log"))?;
        // Somebody else undoes the same: the count would tell as well.
        if cleared.deleted_count == 1 { Ok(()) } else { Err(EngineError::LeaseLost) }
    }

    async fn set_aside(&mut self, image: &Document, why: &str) -> EngineResult<Undone> {
        let rows = rows(image)?;
        let aside: Vec<(&Row, &str)> = rows.iter().map(|row| (row, why)).collect();
        self.keep(image, &aside).await?;
        self.clear(image).await?;
        Ok(Undone { restored: 0, conflicts: aside.len() as u64 })
    }

    /// Makes two of one document of the log.
    async fn divide(&mut self, image: &Document) -> EngineResult<Undone> {
        let doing = "dividing before-images";
        let mut rows = image.get_array("rows").cloned().unwrap_or_default();
        let later = rows.split_off(rows.len() / 2);
        let mut name = image.get_document("_id").cloned().unwrap_or_default();
        name.remove("part");
        let log = self.books.undo();
        let newest = log.find_one(name.clone()).sort(doc! { "part": -1 });
        let newest = newest.session(&mut self.session).await.map_err(error::asking(doing))?;
        let part = newest.and_then(|newest| newest.get_i64("part").ok()).unwrap_or_default();
        let more = entry(&name, part + 1, &Fields::read(image), later);
        let inserted = log.insert_one(more).session(&mut self.session).await;
        inserted.map_err(error::asking(doing))?;
        let shorter = doc! { "$set": { "rows": rows } };
        let kept = log.update_one(doc! { "_id": image.get("_id") }, shorter);
        kept.session(&mut self.session).await.map_err(error::asking(doing))?;
        Ok(Undone::default())
    }
}

fn rows(image: &Document) -> EngineResult<Vec<Row>> {
    let rows = image.get_array("rows").ok();
    let rows = rows.and_then(|rows| rows.iter().map(Row::read).collect::<Option<Vec<Row>>>());
    rows.ok_or_else(|| defect("a document of the undo log cannot be read"))
}

/// The statement that gives a document its old values.
fn statement(fields: &Fields, row: &Row) -> EngineResult<RawDocumentBuf> {
    let change = match fields {
        Fields::Whole => row.old.clone(),
        Fields::Named(names) => {
            let missing = names.iter().filter(|name| !row.old.contains_key(*name));
            let missing: Document = missing.map(|name| (name.clone(), Bson::String(String::new()))).collect();
            let mut change = Document::new();
            for (operator, part) in [("$set", row.old.clone()), ("$unset", missing)] {
                if !part.is_empty() {
                    change.insert(operator, part);
                }
            }
            change
        }
    };
    let statement = doc! { "q": { "_id": { "$eq": &row.key } }, "u": change };
    RawDocumentBuf::try_from(&statement).map_err(too_large)
}

/// One page of what undoing has left alone.
pub(super) async fn conflicts(
    connection: &Connection,
    request: &ConflictsRequest,
) -> EngineResult<ConflictsPage> {
    let doing = "listing conflicts";
    let books = connection.books().await?;
    let mut wanted = ledger::name(&books, &request.migration);
    wanted.insert("number", doc! { "$gt": number(request.after.unwrap_or_default()) });
    let conflicts = books.undo_conflict();
    let found = conflicts.find(wanted).sort(doc! { "number": 1 }).limit(i64::from(request.limit));
    let found: Vec<Document> = found
        .projection(doc! { "number": 1, "key": 1, "reason": 1 })
        .await
        .map_err(error::asking(doing))?
        .try_collect()
        .await
        .map_err(error::asking(doing))?;
    let last = found.last().and_then(|last| u64::try_from(last.get_i64("number").ok()?).ok());
    let conflict = |document: &Document| Conflict {
        key: document.get("key").map(bracket::text).unwrap_or_default(),
        reason: document.get_str("reason").unwrap_or_default().to_owned(),
    };
    Ok(ConflictsPage {
        conflicts: found.iter().map(conflict).collect(),
        next: last.filter(|_| found.len() >= request.limit as usize),
    })
}
