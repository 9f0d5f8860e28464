//! The fence document: what a take-over moves, and what every commit writes to.

use bson::{Bson, Document, doc};
use mongodb::options::ReturnDocument;
use mongodb::{ClientSession, Collection, Database};
use shardlift_domain::{Epoch, Fence, Nonce};
use shardlift_runtime::clock;

use super::super::error::answered;
use super::super::permit::next_epoch;
use super::super::rows::{counted, stored_number, time_text};
use super::super::{Head, LeaderPermit, StoreError};
use super::client::{COMMAND, code};

/// MaxTimeMSExpired.
const TOOK_TOO_LONG: i32 = 50;
/// How long a take-over, or the next commit of the same leader, waits for a commit before it ends that commit's session.
const COURTESY: std::time::Duration = std::time::Duration::from_secs(1);

/// The document `{_id, epoch, nonce, holder, taken_at, commits, session}`.
pub(super) struct Standing {
    pub(super) fence: Fence,
    /// The session in which the leader commits.
    session: Option<Document>,
}

fn fences(database: &Database) -> Collection<Document> {
    database.collection("fence")
}

fn exactly(fence: &Fence) -> Document {
    doc! { "_id": "fence", "epoch": stored_number(fence.epoch.0), "nonce": &fence.nonce.0 }
}

/// The fence as it stands.
pub(super) async fn read(database: &Database) -> Result<Standing, StoreError> {
    let fences = fences(database);
    let found = answered("read the fence", fences.find_one(doc! { "_id": "fence" }).max_time(COMMAND));
    let found = found.await?.ok_or_else(|| unreadable("the document is gone"))?;
    let epoch = found.get_i64("epoch").map_err(|error| unreadable(&error.to_string()))?;
    let nonce = found.get_str("nonce").map_err(|error| unreadable(&error.to_string()))?;
    let fence = Fence { epoch: Epoch(counted(epoch)), nonce: Nonce(nonce.to_owned()) };
    Ok(Standing { fence, session: found.get_document("session").ok().cloned() })
}

fn unreadable(why: &str) -> StoreError {
    StoreError::Unreadable { what: "fence", why: why.to_owned() }
}

async fn fenced(database: &Database, held: &Fence) -> StoreError {
    match read(database).await {
        Ok(current) => StoreError::Fenced { held: held.epoch, current: current.fence.epoch },
        Err(error) => error,
    }
}

/// How far the chain of the history is.
pub(super) async fn head(database: &Database) -> Result<Head, StoreError> {
    let fences = fences(database);
    let found = fences.find_one(doc! { "_id": "fence" }).max_time(COMMAND);
    let found = answered("read the head of the history", found).await?;
    Ok(head_of(&found.ok_or_else(|| unreadable("the document is gone"))?))
}

/// A fence from before the chain has none.
fn head_of(fence: &Document) -> Head {
    let count = fence.get_i64("history_count").map(counted).unwrap_or_default();
    Head { count, hash: fence.get_str("history_hash").unwrap_or_default().to_owned() }
}

/// Entries were added, in the transaction that holds the document.
pub(super) async fn move_head(
    database: &Database,
    session: &mut ClientSession,
    head: &Head,
) -> Result<(), StoreError> {
    let set = doc! { "$set": { "history_count": stored_number(head.count), "history_hash": &head.hash } };
    let fences = fences(database);
    let moved = fences.update_one(doc! { "_id": "fence" }, set).session(session);
    answered("move the head of the history", moved).await.map(drop)
}

/// Writes to the document inside a transaction, so that it conflicts with every take-over and every other commit.
/// Answers the number of this commit, which grows for ever, and the head of the history.
pub(super) async fn hold(
    database: &Database,
    session: &mut ClientSession,
    held: &Fence,
) -> Result<(i64, Head), StoreError> {
    let fences = fences(database);
    let count = doc! { "$inc": { "commits": 1_i64 } };
    let held_now = fences
        .find_one_and_update(exactly(held), count)
        .return_document(ReturnDocument::After)
        .projection(doc! { "commits": 1, "history_count": 1, "history_hash": 1 })
        .max_time(COMMAND)
        .session(session);
    match answered("hold the fence", held_now).await? {
        Some(document) => {
            let commits = document.get_i64("commits").map_err(|error| unreadable(&error.to_string()))?;
            Ok((commits, head_of(&document)))
        }
        None => Err(fenced(database, held).await),
    }
}

/// Tells the fence document in which session its leader commits.
pub(super) async fn bind(database: &Database, held: &Fence, session: &Document) -> Result<(), StoreError> {
    let told = set(database, held, doc! { "session": session }, "name its session").await?;
    if told { Ok(()) } else { Err(fenced(database, held).await) }
}

/// Changes the document if it is still `expected`, in one write. It waits for a commit that is under way, but not for one that was
/// left in the middle, by a leader that has stopped or by one that has given it up: the server would keep that for a minute.
async fn set(
    database: &Database,
    expected: &Fence,
    fields: Document,
    doing: &'static str,
) -> Result<bool, StoreError> {
    let (fences, fields) = (fences(database), doc! { "$set": fields });
    let write =
        || fences.find_one_and_update(exactly(expected), fields.clone()).projection(doc! { "_id": 1 });
    let written = match answered(doing, write().max_time(COURTESY)).await {
        Err(StoreError::Unavailable { source, .. })
            if source.downcast_ref().and_then(code) == Some(TOOK_TOO_LONG) =>
        {
            end_session(database, expected).await?;
            answered(doing, write().max_time(COMMAND)).await?
        }
        written => written?,
    };
    Ok(written.is_some())
}

/// Raises the fence from `seen`.
pub(super) async fn raise(
    database: &Database,
    seen: &Fence,
    above: Option<Epoch>,
    nonce: Nonce,
    holder: &str,
) -> Result<LeaderPermit, StoreError> {
    let next = Fence { epoch: next_epoch(seen.epoch, above)?, nonce };
    let fields = doc! {
        "epoch": stored_number(next.epoch.0), "nonce": &next.nonce.0, "holder": holder,
        "taken_at": time_text(clock::now()), "session": null,
    };
    let raised = set(database, seen, fields, "raise the fence").await?;
    if raised { Ok(LeaderPermit::new(next)) } else { Err(fenced(database, seen).await) }
}

/// Ends the transaction that was left open under this fence. Every user may end its own sessions.
async fn end_session(database: &Database, seen: &Fence) -> Result<(), StoreError> {
    let standing = read(database).await?;
    let Some(session) = standing.session.filter(|_| standing.fence == *seen) else { return Ok(()) };
    let admin = database.client().database("admin");
    let kill = doc! { "killSessions": [Bson::Document(session)] };
    answered("end a session", admin.run_command(kill)).await.map(drop)
}
