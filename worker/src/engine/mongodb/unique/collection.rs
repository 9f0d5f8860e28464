//! Whose the digests of a migration are, and how far they are: one collection at a time, claimed by the larger token. Those of a
//! collection that was dropped go some at a time, and nobody can add to them any more.

use bson::oid::ObjectId;
use bson::spec::BinarySubtype;
use bson::{Binary, Bson, Document, doc};
use futures::TryStreamExt;
use mongodb::ClientSession;
use mongodb::options::ReturnDocument;
use shardlift_domain::ids::MigrationKey;
use shardlift_domain::unique::Digest;

use crate::engine::mongodb::connection::{Books, Connection};
use crate::engine::mongodb::error::{self, Cause};
use crate::engine::mongodb::fence::number;
use crate::engine::mongodb::transaction::{COMMAND_LIMIT, by_id};
use crate::engine::mongodb::{checkpoint, codes, fence, ledger};
use crate::engine::{EngineError, EngineResult};
use crate::lease::TaskLease;

const DOING: &str = "keeping digests";
/// Digests that are removed at a time.
const SOME: i64 = 10_000;

/// Digests as they stand in the shard.
#[derive(Debug, Clone)]
pub(super) struct Held {
    pub(super) id: ObjectId,
    pub(super) form: String,
    pub(super) last: Option<Bson>,
    pub(super) digests: u64,
    pub(super) done: bool,
}

impl Held {
    /// Those of a migration, if there are any.
    pub(super) async fn of(books: &Books, migration: &MigrationKey) -> EngineResult<Option<Self>> {
        let found = books.collecting().find_one(doc! { "_id": ledger::name(books, migration) }).await;
        Ok(found.map_err(error::asking(DOING))?.as_ref().and_then(Self::read))
    }

    fn read(document: &Document) -> Option<Self> {
        let digests = document.get_i64("digests").ok().and_then(|count| u64::try_from(count).ok());
        Some(Self {
            id: document.get_object_id("collection").ok()?,
            form: document.get_str("form").unwrap_or_default().to_owned(),
            last: document.get_document("last").ok().and_then(|last| last.get("v").cloned()),
            digests: digests.unwrap_or_default(),
            done: document.get_bool("done").unwrap_or_default(),
        })
    }
}

/// What one hand-out collects.
pub(super) struct Collection {
    pub(super) held: Held,
    /// What a window is conditioned on, with how far the walk is.
    mine: Document,
}

/// Takes over what an earlier hand-out has begun, or begins anew.
pub(super) async fn claim(
    connection: &Connection,
    books: &Books,
    session: &ClientSession,
    lease: &TaskLease,
    form: &str,
) -> EngineResult<Collection> {
    fence::admit(books, lease.leader()).await?;
    let name = ledger::name(books, &lease.task().migration);
    let fresh = doc! { "_id": &name, "epoch": 0_i64, "attempt": 0_i64, "dropped": [] };
    match books.collecting().insert_one(fresh).await {
        Ok(_) => {}
        Err(error) if Cause::from(&error).code == codes::DUPLICATE_KEY => {}
        Err(error) => return Err(error::asking(DOING)(error)),
    }
    let (epoch, attempt) = checkpoint::token(lease.token());
    end_former(connection, books, &name, (epoch, attempt), Some(session.id())).await?;
    let free = doc! { "_id": &name, "$or": [
        { "epoch": { "$lt": epoch } }, { "epoch": epoch, "attempt": { "$lte": attempt } },
    ] };
    let take = doc! { "$set": { "epoch": epoch, "attempt": attempt, "session": session.id() } };
    let taken = after(books, free, take).await?.ok_or(EngineError::LeaseLost)?;
    let mut mine = doc! { "_id": &name, "epoch": epoch, "attempt": attempt };
    let held = Held::read(&taken).filter(|held| !held.done && held.form == form);
    let held = match held {
        Some(held) => held,
        None => begin(books, &mine, taken.get_object_id("collection").ok(), form).await?,
    };
    mine.insert("collection", held.id);
    Ok(Collection { held, mine })
}

/// Ends the session of a former owner that may still hold the document in an open transaction, as far as the privileges go.
async fn end_former(
    connection: &Connection,
    books: &Books,
    name: &Document,
    token: (i64, i64),
    mine: Option<&Document>,
) -> EngineResult<()> {
    let held = books.collecting().find_one(doc! { "_id": name }).await.map_err(error::asking(DOING))?;
    let Some(held) = held else { return Ok(()) };
    let number = |field: &str| held.get_i64(field).unwrap_or_default();
    if (number("epoch"), number("attempt")) > token {
        return Err(EngineError::LeaseLost);
    }
    let owner = held.get_document("session").ok().filter(|owner| Some(*owner) != mine);
    if let Some(owner) = owner
        && let Err(error) = connection.admin(doc! { "killSessions": [owner.clone()] }).await
    {
        let cause = Cause::from(&error);
        tracing::warn!(code = cause.code, "the session of a former owner could not be ended");
    }
    Ok(())
}

/// Begins anew; the digests that were there are to be removed.
async fn begin(books: &Books, mine: &Document, former: Option<ObjectId>, form: &str) -> EngineResult<Held> {
    let id = ObjectId::new();
    let set = doc! { "collection": id, "form": form, "last": null, "digests": 0_i64, "done": false };
    let mut change = doc! { "$set": set };
    if let Some(former) = former {
        change.insert("$addToSet", doc! { "dropped": former });
    }
    let begun = after(books, mine.clone(), change).await?.ok_or(EngineError::LeaseLost)?;
    Held::read(&begun).ok_or(EngineError::LeaseLost)
}

async fn after(books: &Books, wanted: Document, change: Document) -> EngineResult<Option<Document>> {
    let collecting = books.collecting();
    let changed = collecting.find_one_and_update(wanted, change).return_document(ReturnDocument::After);
    changed.max_time(COMMAND_LIMIT).await.map_err(error::asking(DOING))
}

impl Collection {
    /// Keeps digests, and how far the walk is, in an open transaction.
    pub(super) async fn keep(
        &self,
        books: &Books,
        session: &mut ClientSession,
        found: &[(Digest, i32, Bson)],
        last: Option<&Bson>,
        done: bool,
    ) -> EngineResult<()> {
        let mut here = self.mine.clone();
        here.insert("last", checkpoint::wrapped(self.held.last.as_ref()));
        here.insert("done", false);
        let change = doc! {
            "$set": { "last": checkpoint::wrapped(last), "done": done },
            "$inc": { "digests": number(found.len() as u64) },
        };
        let kept = books.collecting().update_one(here, change).session(&mut *session).await;
        if kept.map_err(error::asking(DOING))?.matched_count != 1 {
            return Err(EngineError::LeaseLost);
        }
        if found.is_empty() {
            return Ok(());
        }
        let documents = found.iter().map(|(digest, check, key)| {
            doc! { "_id": { "c": self.held.id, "d": bytes(*digest), "n": *check, "k": key } }
        });
        let kept = books.collected().insert_many(documents).session(session).await;
        kept.map(drop).map_err(error::asking(DOING))
    }
}

/// A digest as it is stored: it sorts like the number.
pub(super) fn bytes(digest: Digest) -> Bson {
    Bson::Binary(Binary { subtype: BinarySubtype::Generic, bytes: digest.to_be_bytes().to_vec() })
}

/// Nobody needs the digests of a migration any more.
pub(super) async fn give_up(
    connection: &Connection,
    books: &Books,
    migration: &MigrationKey,
) -> EngineResult<()> {
    let name = ledger::name(books, migration);
    let Some(held) = Held::of(books, migration).await? else { return Ok(()) };
    end_former(connection, books, &name, (i64::MAX, i64::MAX), None).await?;
    let mine = doc! { "_id": name, "collection": held.id };
    let drop = doc! { "$unset": { "collection": "" }, "$addToSet": { "dropped": held.id } };
    after(books, mine, drop).await.map(std::mem::drop)
}

/// Removes some of the digests that a migration does not need any more; answers whether there are more.
pub(super) async fn clear_some(books: &Books, migration: &MigrationKey) -> EngineResult<bool> {
    let name = ledger::name(books, migration);
    let found = books.collecting().find_one(doc! { "_id": &name }).await.map_err(error::asking(DOING))?;
    let Some(found) = found else { return Ok(false) };
    let dropped = found.get_array("dropped").ok().and_then(|dropped| dropped.first()).cloned();
    let Some(dropped) = dropped else {
        // Only a document that names no digests at all goes.
        let empty = doc! { "_id": name, "collection": { "$exists": false }, "dropped": { "$size": 0 } };
        return books.collecting().delete_one(empty).await.map(|_| false).map_err(error::asking(DOING));
    };
    let mine = doc! { "_id": { "$gte": { "c": &dropped }, "$lt": { "c": &dropped, "d": Bson::MaxKey } } };
    let some = books.collected();
    let some = some.find(mine).hint(by_id()).limit(SOME).max_time(COMMAND_LIMIT).await;
    let some: Vec<Document> =
        some.map_err(error::asking(DOING))?.try_collect().await.map_err(error::asking(DOING))?;
    if some.is_empty() {
        let forget = doc! { "$pull": { "dropped": &dropped } };
        after(books, doc! { "_id": name }, forget).await?;
        return Ok(true);
    }
    let names: Vec<Bson> = some.into_iter().filter_map(|mut one| one.remove("_id")).collect();
    let gone = books.collected().delete_many(doc! { "_id": { "$in": names } }).await;
    gone.map(|_| true).map_err(error::asking(DOING))
}
