//! Repairing what verification has recorded: each document in a transaction of its own. Its snapshot holds the document as it
//! is compared; one that somebody changes meanwhile is a write conflict, and is looked at again.

use async_trait::async_trait;
use bson::{Bson, Document, RawDocumentBuf, doc};
use futures::TryStreamExt;
use mongodb::Database;
use shardlift_domain::fence::Fence;
use shardlift_domain::mismatch::LogPlace;
use shardlift_domain::repair::{Fate, RepairPage, RepairRequest};

use super::given::Candidate;
use super::log::{Fields, Logged, Row};
use super::progress::{self, difference, order, place, place_of};
use super::written::later;
use super::{Look, unreadable};
use crate::engine::anew::{Known, TRANSFORM};
use crate::engine::mongodb::change::{too_large, update};
use crate::engine::mongodb::connection::Connection;
use crate::engine::mongodb::error::Cause;
use crate::engine::mongodb::transaction::{COMMAND_LIMIT, abandon, answered, begin, commit};
use crate::engine::mongodb::{error, fence, ledger};
use crate::engine::repair::{self, ALTERED, Mender, Present, Recorded, declared, judge};
use crate::engine::{DataJob, EngineResult};

const DOING: &str = "repairing documents";

/// The documents of one migration, under one leader.
struct Rows {
    look: Look,
    database: Database,
    leader: Fence,
    declared: bool,
}

/// Lets the leader in, and ends the session of a repair whose worker has died: the server would keep its open transaction, and with
/// it the document and the fence, for a minute.
pub(super) async fn take(connection: &Connection, look: &Look, leader: &Fence) -> EngineResult<()> {
    fence::admit(&look.books, leader).await?;
    let name = doc! { "_id": progress::name(&look.books, &look.migration, TRANSFORM) };
    let mine = doc! { "$set": { "repairing": look.session.id() } };
    let former = look.books.verifying().find_one_and_update(name, mine).max_time(COMMAND_LIMIT).await;
    let former = former.map_err(error::asking(DOING))?;
    let session = former.as_ref().and_then(|former| former.get_document("repairing").ok());
    if let Some(session) = session.filter(|session| *session != look.session.id())
        && let Err(error) = connection.admin(doc! { "killSessions": [session.clone()] }).await
    {
        let code = Cause::from(&error).code;
        tracing::warn!(code, "the session of a former repair could not be ended");
    }
    Ok(())
}

/// Repairs a page of them.
pub(super) async fn page(
    look: Look,
    database: Database,
    leader: &Fence,
    request: &RepairRequest,
    job: &DataJob,
) -> EngineResult<RepairPage> {
    let mut rows = Rows { look, database, leader: leader.clone(), declared: declared(job) };
    repair::page(&mut rows, request).await
}

#[async_trait]
impl Mender for Rows {
    async fn recorded(&mut self, after: Option<LogPlace>, limit: u32) -> EngineResult<Vec<Recorded>> {
        let mut wanted = progress::name(&self.look.books, &self.look.migration, TRANSFORM);
        if let Some(after) = after {
            wanted.insert("$or", behind(after));
        }
        let recorded = self.look.books.difference();
        let recorded = recorded.find(wanted).sort(order()).limit(i64::from(limit)).await;
        let recorded = recorded.map_err(error::asking(DOING))?.try_collect::<Vec<Document>>().await;
        let read = |document: &Document| Recorded {
            place: place_of(document),
            key: document.get_str("key").unwrap_or_default().to_owned(),
            difference: difference(document),
            found: document.get_i64("found").ok(),
        };
        Ok(recorded.map_err(error::asking(DOING))?.iter().map(read).collect())
    }

    async fn mend(&mut self, row: &Recorded, dry_run: bool) -> EngineResult<(Fate, &'static str)> {
        answered(async {
            begin(&mut self.look.session).await?;
            let mended = self.compared(row, dry_run).await;
            if dry_run || !matches!(mended, Ok((Fate::Repaired | Fate::Right, _))) {
                abandon(&mut self.look.session).await;
                return mended;
            }
            fail::fail_point!("mg-repair-before-commit", |_| std::process::abort());
            commit(&mut self.look.session).await?;
            fail::fail_point!("mg-repair-after-commit", |_| std::process::abort());
            mended
        })
        .await
    }
}

/// Places behind this one.
fn behind(after: LogPlace) -> Vec<Document> {
    let at = place(after);
    let mut equal = Document::new();
    let mut conditions = Vec::new();
    for (field, value) in &at {
        let mut condition = equal.clone();
        condition.insert(field, doc! { "$gt": value });
        conditions.push(condition);
        equal.insert(field, value.clone());
    }
    conditions
}

/// An entry of the log, with one row of it.
struct Image {
    id: Bson,
    fields: Fields,
    row: Row,
}

impl Rows {
    /// Inside the transaction: looks, and writes what is to be written.
    async fn compared(&mut self, recorded: &Recorded, dry_run: bool) -> EngineResult<(Fate, &'static str)> {
        if !dry_run {
            fence::hold(&self.look.books, &mut self.look.session, &self.leader).await?;
        }
        let Some(image) = self.image(recorded.place).await? else {
            return Ok(judge(recorded, Present::NoImage, self.declared));
        };
        let Some(now) = self.document(&image.row.key).await? else {
            return Ok(judge(recorded, Present::Gone, self.declared));
        };
        let candidate = Candidate::new(0, &image.fields, &image.row, now)?;
        let given = self.look.how.given(&self.look.documents, &image.fields, &candidate).await?;
        let present = Present::There {
            known: self.known(&image.fields, &candidate).await?,
            now: candidate.digest,
            newest: self.newest(recorded.place, &image.row.key).await?,
            given: given.is_some(),
        };
        let (fate, reason) = judge(recorded, present, self.declared);
        if dry_run || fate == Fate::Left {
            return Ok((fate, reason));
        }
        if let (Fate::Repaired, Some(given)) = (fate, given)
            && !self.written(&image, recorded.place, &candidate, given).await?
        {
            return Ok((Fate::Left, ALTERED));
        }
        let mut name = progress::name(&self.look.books, &self.look.migration, TRANSFORM);
        name.extend(place(recorded.place));
        let forgotten = self.look.books.difference().delete_one(name).session(&mut self.look.session).await;
        forgotten.map_err(error::asking(DOING))?;
        Ok((fate, reason))
    }

    async fn known(&self, fields: &Fields, candidate: &Candidate) -> EngineResult<Known> {
        let one = std::slice::from_ref(candidate);
        let same = self.look.how.same(&self.look.documents, fields, one).await?;
        let same = same.first().copied().unwrap_or_default();
        Ok(Known { same, as_written: candidate.as_written, inputs: candidate.inputs })
    }

    async fn image(&mut self, at: LogPlace) -> EngineResult<Option<Image>> {
        let mut wanted = ledger::name(&self.look.books, &self.look.migration);
        wanted.extend(place(at));
        wanted.remove("row");
        let log = self.look.books.undo();
        let found = log
            .find_one(wanted)
            .projection(doc! { "fields": 1, "rows": { "$slice": [i64::from(at.row), 1] } });
        let found = found.max_time(COMMAND_LIMIT).session(&mut self.look.session).await;
        let Some(entry) = found.map_err(error::asking(DOING))? else { return Ok(None) };
        let Some(row) = entry.get_array("rows").ok().and_then(|rows| rows.first()) else { return Ok(None) };
        let row = Row::read(row).ok_or_else(unreadable)?;
        let id = entry.get("_id").cloned().ok_or_else(unreadable)?;
        Ok(Some(Image { id, fields: Fields::read(&entry), row }))
    }

    async fn document(&mut self, key: &Bson) -> EngineResult<Option<RawDocumentBuf>> {
        let documents = self.look.documents.clone_with_type::<RawDocumentBuf>();
        let found = documents.find_one(doc! { "_id": { "$eq": key } }).max_time(COMMAND_LIMIT);
        found.session(&mut self.look.session).await.map_err(error::asking(DOING))
    }

    /// Whether no later pass has migrated the document once more.
    async fn newest(&self, at: LogPlace, key: &Bson) -> EngineResult<bool> {
        let books = &self.look.books;
        let ranges = later(books, &self.look.migration, at.range).await?;
        if ranges.is_empty() {
            return Ok(true);
        }
        let mut newer = ledger::name(books, &self.look.migration);
        newer.extend(doc! { "range": { "$in": ranges }, "rows.k": { "$eq": key } });
        let newer = books.undo().find_one(newer).projection(doc! { "_id": 1 }).max_time(COMMAND_LIMIT).await;
        Ok(newer.map_err(error::asking(DOING))?.is_none())
    }

    /// Writes what the transform gives, keeps what is replaced, and tells the log what stands there now. `false`: something
    /// else stands there now.
    async fn written(
        &mut self,
        image: &Image,
        at: LogPlace,
        before: &Candidate,
        given: Document,
    ) -> EngineResult<bool> {
        let statement = statement(&image.fields, &image.row.key, given)?;
        let collection = self.look.documents.name().to_owned();
        let session = &mut self.look.session;
        if update(session, &self.database, &collection, std::slice::from_ref(&statement)).await? != 1 {
            return Ok(false);
        }
        let Some(now) = self.document(&image.row.key).await? else { return Ok(false) };
        let after = Candidate::new(0, &image.fields, &image.row, now)?;
        if !self.known(&image.fields, &after).await?.same {
            return Ok(false);
        }
        let set = doc! { "$set": { format!("rows.{}.w", at.row): after.digest } };
        let log = self.look.books.undo();
        let told = log.update_one(doc! { "_id": &image.id }, set).session(&mut self.look.session).await;
        if told.map_err(error::asking(DOING))?.matched_count != 1 {
            return Ok(false);
        }
        let mut kept = ledger::name(&self.look.books, &self.look.migration);
        kept.extend(doc! {
            "key": &image.row.key, "replaced": image.fields.of(&before.now()?), "at": bson::DateTime::now(),
        });
        let kept = self.look.books.repaired().insert_one(kept).session(&mut self.look.session).await;
        kept.map_err(error::asking(DOING))?;
        Ok(true)
    }
}

/// The statement that gives a document what the transform gives.
fn statement(fields: &Fields, key: &Bson, given: Document) -> EngineResult<RawDocumentBuf> {
    let change = match fields {
        Fields::Whole => given,
        Fields::Named(names) => {
            let missing = names.iter().filter(|name| !given.contains_key(name.as_str()));
            let missing: Document = missing.map(|name| (name.clone(), Bson::String(String::new()))).collect();
            let mut change = Document::new();
            for (operator, part) in [("$set", fields.of(&given)), ("$unset", missing)] {
                if !part.is_empty() {
                    change.insert(operator, part);
                }
            }
            change
        }
    };
    let statement = doc! { "q": { "_id": { "$eq": key } }, "u": change };
    RawDocumentBuf::try_from(&statement).map_err(too_large)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_behind_a_place_are_compared_part_by_part() {
        let conditions = behind(LogPlace { range: 1, batch: 2, part: 3, row: 4 });
        assert_eq!(conditions.len(), 4);
        assert_eq!(conditions[0], doc! { "range": { "$gt": 1_i64 } });
        assert_eq!(
            conditions[3],
            doc! { "range": 1_i64, "batch": 2_i64, "part": 3_i64, "row": { "$gt": 4_i64 } }
        );
    }

    #[test]
    fn a_statement_sets_what_is_given_and_takes_away_what_is_not() {
        let fields = Fields::Named(vec!["a".into(), "b".into()]);
        let statement =
            statement(&fields, &Bson::Int32(1), doc! { "_id": 1, "a": 2, "c": 3 }).expect("a statement");
        let change = doc! { "$set": { "a": 2 }, "$unset": { "b": "" } };
        assert_eq!(
            Document::try_from(statement).expect("BSON"),
            doc! { "q": { "_id": { "$eq": 1 } }, "u": change }
        );
    }
}
