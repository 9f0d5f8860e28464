//! The walk: each window of documents leaves its digests in one transaction, with how far it is, on the condition of the token.

use async_trait::async_trait;
use bson::{Bson, Document, doc};
use futures::TryStreamExt;
use mongodb::ClientSession;
use shardlift_domain::ids::MigrationKey;
use shardlift_domain::unique::Digest;
use shardlift_domain::{ErrorCode, Failure};

use super::collection::{self, clear_some};
use super::fields::{Fields, Listed};
use crate::engine::mongodb::connection::{Books, Connection, not_identified};
use crate::engine::mongodb::transaction::{COMMAND_LIMIT, abandon, answered, begin, by_id, commit, session};
use crate::engine::mongodb::{bracket, error};
use crate::engine::{CollectReport, Collector, DataJob, EngineError, EngineResult};
use crate::lease::TaskLease;

/// A migration's checks, and the documents that they are about.
pub(super) struct Subject {
    pub(super) fields: Fields,
    pub(super) documents: mongodb::Collection<Document>,
}

impl Subject {
    pub(super) async fn new(
        connection: &Connection,
        books: &Books,
        migration: &MigrationKey,
        job: &DataJob,
    ) -> EngineResult<Self> {
        let identity = books.identity().find_one(doc! { "_id": &connection.database }).await;
        let identity =
            identity.map_err(error::asking("reading the shard's identity"))?.ok_or_else(not_identified)?;
        let uuid = identity.get_str("cluster_uuid").unwrap_or_default();
        let fields = Fields::new(job.data.unique().cloned().collect(), format!("{uuid} {migration}"));
        Ok(Self { fields, documents: connection.collection(&job.data.source.relation).await? })
    }
}

/// The walk of one hand-out.
struct Walking {
    books: Books,
    session: ClientSession,
    migration: MigrationKey,
    subject: Subject,
    collection: collection::Collection,
    /// Digests of an earlier collection go first, so that no more are kept than one for each document.
    clears: bool,
}

/// Claims the digests of a migration.
pub(in crate::engine::mongodb) async fn open(
    connection: &Connection,
    lease: &TaskLease,
    job: &DataJob,
) -> EngineResult<Box<dyn Collector>> {
    lease.check()?;
    let (books, migration) = (connection.books().await?, lease.task().migration.clone());
    let session = session(connection).await?;
    let subject = answered(Subject::new(connection, &books, &migration, job)).await?;
    let collection =
        answered(collection::claim(connection, &books, &session, lease, &subject.fields.form())).await?;
    Ok(Box::new(Walking { books, session, migration, subject, collection, clears: true }))
}

#[async_trait]
impl Collector for Walking {
    async fn run_batch(&mut self, lease: &TaskLease, rows: u32) -> EngineResult<CollectReport> {
        lease.check()?;
        if self.clears {
            self.clears = answered(clear_some(&self.books, &self.migration)).await?;
            return Ok(CollectReport { digests: self.collection.held.digests, rows: 0, last: false });
        }
        let window = answered(window(&self.subject, self.collection.held.last.as_ref(), rows)).await?;
        begin(&mut self.session).await?;
        match answered(self.keep(&window)).await {
            Ok(()) => {}
            Err(error) => {
                abandon(&mut self.session).await;
                return Err(error);
            }
        }
        fail::fail_point!("mg-collect-before-commit", |_| std::process::abort());
        answered(commit(&mut self.session)).await?;
        self.collection.held.last = window.last;
        self.collection.held.digests += window.found.len() as u64;
        Ok(CollectReport { digests: self.collection.held.digests, rows: window.rows, last: window.is_last })
    }
}

impl Walking {
    async fn keep(&mut self, window: &Window) -> EngineResult<()> {
        let (found, last) = (&window.found, window.last.as_ref());
        self.collection.keep(&self.books, &mut self.session, found, last, window.is_last).await
    }
}

/// The documents of a window.
struct Window {
    found: Vec<(Digest, i32, Bson)>,
    rows: u32,
    /// The last key; that of the window before if there is none.
    last: Option<Bson>,
    is_last: bool,
}

/// Reads the next documents, as a majority of the replica set holds them.
async fn window(subject: &Subject, after: Option<&Bson>, rows: u32) -> EngineResult<Window> {
    let doing = "collecting digests";
    let mut find = subject
        .documents
        .find(doc! {})
        .projection(subject.fields.projection())
        .sort(doc! { "_id": 1 })
        .hint(by_id())
        .max_time(COMMAND_LIMIT)
        .limit(i64::from(rows) + 1 + i64::from(after.is_some()));
    if let Some(after) = after {
        // Unlike a comparison, a bound of the index goes on over the borders of types; the key itself is among what is found.
        find = find.min(doc! { "_id": after });
    }
    let mut documents = find.await.map_err(error::asking(doing))?;
    let mut window = Window { found: Vec::new(), rows: 0, last: after.cloned(), is_last: true };
    while let Some(document) = documents.try_next().await.map_err(error::asking(doing))? {
        let Some(key) = document.get("_id").filter(|key| Some(*key) != after) else { continue };
        if window.rows == rows {
            window.is_last = false;
            break;
        }
        let digests = subject.fields.digests(&document).map_err(|listed| refused(listed, key))?;
        window.found.extend(digests.into_iter().map(|(check, digest)| (digest, check, key.clone())));
        window.rows += 1;
        window.last = Some(key.clone());
    }
    Ok(window)
}

fn refused(Listed(path): Listed, key: &Bson) -> EngineError {
    let key = bracket::text(key);
    EngineError::Failed(
        Failure::new(
            ErrorCode::VerifyIncomparable,
            format!("verify: unique cannot compare by {path}: document {key} has a list on the way to it"),
            "mend the document, then resume; or cancel",
        )
        .at_key(key),
    )
}
