//! The writer of one range: batch after batch, each one transaction.
//!
//! ```text
//! outside   where the window ends (looked up while the former batch commits)
//! inside    change the window's pending documents        1 command (worker-side transforms: read, then write)
//!           none of them is still pending                1 command, unless proven once for all (`proof`)
//!           advance the checkpoint, on its condition     1 command
//!           commit, acknowledged by a majority
//! ```

use std::sync::Arc;

use async_trait::async_trait;
use bson::spec::BinarySubtype;
use bson::{Binary, Bson, Document, RawDocumentBuf, doc};
use futures::TryStreamExt;
use mongodb::{ClientSession, Collection, Database};
use shardlift_domain::ids::MigrationKey;
use shardlift_domain::quarantine::Held;
use shardlift_domain::range::{RangeState, Rest};
use shardlift_domain::routing::{Key, KeyKind};
use shardlift_domain::spec::{TenantKey, Transform, Undo, Where};
use shardlift_domain::{ErrorCode, Failure};

use super::bracket::{self, Lower, window};
use super::capture::{Fields, Found, Images, Log};
use super::change::{both, by_pipeline, none_pending};
use super::checkpoint::{self, wrapped};
use super::claim::{Claimed, claim};
use super::connection::{Books, Connection};
use super::fence::number;
use super::lookahead::{Edge, Lookahead, count};
use super::rewrite::rewrite;
use super::transaction::{COMMAND_LIMIT, abandon, answered, begin, by_id, commit, session};
use super::{defect, error, extjson, fence, proof, quarantine, secondaries, share};
use crate::engine::replicas::Track;
use crate::engine::{BatchReport, DataJob, EngineError, EngineResult, Lag, RangeWriter, SetAside};
use crate::lease::TaskLease;
use crate::transformer::Transformer;

/// What becomes of a window's documents.
pub(super) enum Change {
    InShard(Vec<Document>),
    InWorker(Arc<dyn Transformer>),
}

/// The writer of one claimed range.
pub(super) struct Writer {
    database: Database,
    documents: Collection<Document>,
    raw: Collection<RawDocumentBuf>,
    books: Books,
    session: ClientSession,
    track: Arc<Track>,
    token: (i64, i64),
    claimed: Claimed,
    upper: Bson,
    change: Change,
    migration: MigrationKey,
    undo: Undo,
    /// `where`.
    pending: Option<Document>,
    /// Whether changed documents must be searched for such that are still pending.
    search: bool,
    ahead: Option<Lookahead>,
    /// A batch was begun and not ended: its outcome is unknown, or its caller gave it up half-way.
    open: bool,
}

/// What one transaction did.
struct Done {
    edge: Edge,
    keys: u64,
    changed: u64,
}

impl Writer {
    /// Claims the range of the lease's task.
    pub(super) async fn open(
        connection: &Connection,
        lease: &TaskLease,
        job: Arc<DataJob>,
    ) -> EngineResult<Self> {
        lease.check()?;
        let books = connection.books().await?;
        let session = session(connection).await?;
        let claimed = answered(claim(connection, &books, &session, lease, &job)).await?;
        let database = connection.application().await?;
        let name = job.data.source.relation.as_str();
        let alone = quarantine::left_alone(&books, lease, &job).await?;
        let documents = database.collection(name);
        let pending = pending(&job)?;
        let change = change(&job)?;
        let search = match (&pending, &change) {
            (None, _) => false,
            (Some(pending), Change::InShard(pipeline)) => !proof::holds(&documents, pipeline, pending).await,
            (Some(_), Change::InWorker(_)) => true,
        };
        let selection = selection(&job)?.map(|selection| match &alone {
            Some(alone) => both(&selection, Some(alone)),
            None => selection,
        });
        Ok(Self {
            raw: database.collection(name),
            documents,
            database,
            books,
            session,
            track: Arc::clone(&connection.track),
            token: checkpoint::token(lease.token()),
            upper: claimed.checkpoint.upper.clone().unwrap_or(Bson::Null),
            claimed,
            change,
            pending: selection,
            migration: lease.task().migration.clone(),
            undo: job.data.undo,
            search,
            ahead: None,
            open: false,
        })
    }

    fn lower(&self) -> Lower {
        self.claimed.checkpoint.next_lower()
    }

    /// The end of the next window.
    async fn edge(&mut self, rows: u32) -> EngineResult<Edge> {
        if let Some(edge) = self.ahead.as_ref().and_then(|ahead| ahead.edge(rows)) {
            return Ok(edge);
        }
        let ahead = Lookahead::read(&self.raw, &self.lower(), &self.upper, rows, true).await?;
        ahead.edge(rows).ok_or_else(|| defect("the end of a window was not found"))
    }

    /// Changes the documents up to the edge and advances the checkpoint; the transaction stays open.
    async fn write(&mut self, edge: Edge) -> EngineResult<Done> {
        begin(&mut self.session).await?;
        let lower = self.lower();
        let (mut edge, mut keys) = (edge, None);
        let mut filter = both(&window(&lower, &edge.key), self.pending.as_ref());
        let (changed, images) = match &self.change {
            Change::InShard(pipeline) => {
                let mut found = None;
                if self.undo == Undo::Capture {
                    let fields = Fields::of(pipeline);
                    let mut read = Found::read(&mut self.session, &self.raw, fields, filter.clone()).await?;
                    if let Some(key) = read.cut.take() {
                        keys = Some(u64::from(count(&self.raw, window(&lower, &key)).await?));
                        edge = Edge { last: key == self.upper, key, keys: None };
                        filter = both(&window(&lower, &edge.key), self.pending.as_ref());
                    }
                    found = Some(read);
                }
                by_pipeline(&mut self.session, &self.raw, &self.database, (filter, pipeline), found).await?
            }
            Change::InWorker(transformer) => {
                let transformer = Arc::clone(transformer);
                let rewritten = rewrite(
                    &mut self.session,
                    &self.database,
                    &self.raw,
                    transformer.as_ref(),
                    filter,
                    self.undo,
                )
                .await?;
                if let Some(key) = rewritten.cut {
                    keys = Some(u64::from(count(&self.raw, window(&lower, &key)).await?));
                    edge = Edge { last: key == self.upper, key, keys: None };
                }
                (rewritten.changed, rewritten.images)
            }
        };
        if let Some(images) = images {
            self.log(images, changed, window(&lower, &edge.key)).await?;
        }
        let keys = match (keys.or(edge.keys.map(u64::from)), self.pending.is_some()) {
            (Some(keys), true) => keys.max(changed),
            (None, true) => u64::from(count(&self.raw, window(&lower, &edge.key)).await?).max(changed),
            // Without `where` every document of the window was changed.
            (_, false) => changed,
        };
        if self.search {
            let filter = both(&window(&lower, &edge.key), self.pending.as_ref());
            none_pending(&mut self.session, &self.documents, filter).await?;
        }
        let done = Done { edge, keys, changed };
        self.advance(&done).await?;
        Ok(done)
    }

    /// Writes the before-images of the batch.
    async fn log(&mut self, images: Images, changed: u64, window: Document) -> EngineResult<()> {
        if matches!(self.change, Change::InShard(_)) && images.len() != changed {
            return Err(defect("a batch changed other documents than its snapshot holds"));
        }
        let state = &self.claimed.checkpoint.state;
        let log = Log {
            books: &self.books,
            migration: &self.migration,
            range: state.index,
            batch: state.batches + 1,
        };
        images.write(&mut self.session, &self.raw, window, &log).await
    }

    /// Moves the checkpoint, if it still is where this claim left it.
    async fn advance(&mut self, done: &Done) -> EngineResult<()> {
        let mut mine = self.claimed.condition.clone();
        mine.insert("last", doc! { "$eq": wrapped(self.claimed.checkpoint.last.as_ref()) });
        let advance = doc! {
            "$set": { "last": wrapped(Some(&done.edge.key)), "done": done.edge.last },
            "$inc": { "rows": number(done.changed), "seen": number(done.keys), "batches": 1_i64 },
        };
        let moved = self.books.checkpoint().update_one(mine, advance).session(&mut self.session).await;
        match moved.map_err(error::asking("advancing the checkpoint"))?.matched_count {
            1 => Ok(()),
            _ => Err(EngineError::LeaseLost),
        }
    }

    /// Commits, and meanwhile looks where the window after this one may end.
    async fn finish(&mut self, done: &Done, rows: u32) -> EngineResult<()> {
        fail::fail_point!("mg-before-commit", |_| std::process::abort());
        if done.edge.last {
            self.ahead = None;
            commit(&mut self.session).await?;
        } else {
            let lower = Lower::After(done.edge.key.clone());
            let ahead = Lookahead::read(&self.raw, &lower, &self.upper, rows, false);
            let (committed, ahead) = tokio::join!(commit(&mut self.session), ahead);
            self.ahead = ahead.ok();
            committed?;
        }
        fail::fail_point!("mg-after-commit", |_| std::process::abort());
        Ok(())
    }

    /// Sets the next document aside, in one transaction.
    async fn next_aside(
        &mut self,
        lease: &TaskLease,
        why: &Failure,
        budget: u32,
    ) -> EngineResult<Option<SetAside>> {
        let edge = self.edge(1).await?;
        begin(&mut self.session).await?;
        let written = self.write_aside(lease, edge, why, budget).await;
        let Ok(Some((done, held))) = written else {
            abandon(&mut self.session).await;
            return written.map(|_| None);
        };
        fail::fail_point!("mg-set-aside-before-commit", |_| std::process::abort());
        commit(&mut self.session).await?;
        fail::fail_point!("mg-set-aside-after-commit", |_| std::process::abort());
        self.ahead = None;
        Ok(Some(SetAside { report: self.passed(done), held }))
    }

    async fn write_aside(
        &mut self,
        lease: &TaskLease,
        edge: Edge,
        why: &Failure,
        budget: u32,
    ) -> EngineResult<Option<(Done, Held)>> {
        fence::hold(&self.books, &mut self.session, lease.leader()).await?;
        let filter = both(&window(&self.lower(), &edge.key), self.pending.as_ref());
        let doing = "reading the document that cannot be changed";
        let find = self.raw.find(filter).hint(by_id()).limit(2).max_time(COMMAND_LIMIT);
        let mut found = find.session(&mut self.session).await.map_err(error::asking(doing))?;
        let found: Vec<RawDocumentBuf> =
            found.stream(&mut self.session).try_collect().await.map_err(error::asking(doing))?;
        // The document that was refused, and not the one behind it, if that one has gone meanwhile.
        let refused = |image: &&RawDocumentBuf| key_of(image).as_ref() == why.place.key.as_ref();
        let [image] = found.as_slice() else { return Ok(None) };
        let Some(image) = Some(image).filter(refused) else { return Ok(None) };
        let migration = &lease.task().migration;
        let held = quarantine::write(&self.books, &mut self.session, migration, image, why, budget).await?;
        let done = Done { edge, keys: 1, changed: 0 };
        self.advance(&done).await?;
        Ok(Some((done, held)))
    }

    /// A batch was committed.
    fn passed(&mut self, done: Done) -> BatchReport {
        let checkpoint = &mut self.claimed.checkpoint;
        checkpoint.last = Some(done.edge.key);
        checkpoint.state.rows += done.changed;
        checkpoint.state.seen += done.keys;
        checkpoint.state.batches += 1;
        checkpoint.state.done = done.edge.last;
        BatchReport {
            range: checkpoint.state.clone(),
            window: u32::try_from(done.keys).unwrap_or(u32::MAX),
            changed: u32::try_from(done.changed).unwrap_or(u32::MAX),
        }
    }

    async fn batch(&mut self, rows: u32) -> EngineResult<BatchReport> {
        let edge = self.edge(rows).await?;
        let written = self.write(edge).await;
        let done = match written {
            Ok(done) => done,
            Err(error) => {
                abandon(&mut self.session).await;
                return Err(error);
            }
        };
        if let Err(error) = self.finish(&done, rows).await {
            // The window after one that was not committed is not known.
            self.ahead = None;
            return Err(error);
        }
        Ok(self.passed(done))
    }

    /// Splits off the later part of what is left, if that is worth it.
    async fn divide(&mut self, lease: &TaskLease, least: u32) -> EngineResult<Option<Rest>> {
        let cut = share::cut(&self.documents, &self.lower(), &self.upper, least).await?;
        let Some(cut) = cut else { return Ok(None) };
        let Claimed { checkpoint, condition } = &self.claimed;
        let held = share::Held { books: &self.books, condition, checkpoint };
        let rest = share::divide(&mut self.session, lease, &held, &cut).await?;
        // What was looked up ahead may lie beyond the cut.
        self.ahead = None;
        self.claimed.checkpoint.upper = Some(cut.clone());
        self.upper = cut;
        Ok(Some(rest))
    }

    /// Names the only document of a window in the error that it caused.
    async fn with_key(&self, error: EngineError, rows: u32) -> EngineError {
        let EngineError::Row(failure) = error else { return error };
        if rows > 1 || failure.place.key.is_some() {
            return EngineError::Row(failure);
        }
        match Lookahead::read(&self.raw, &self.lower(), &self.upper, 1, true).await {
            Ok(ahead) => match ahead.edge(1) {
                Some(edge) => EngineError::Row(failure.at_key(bracket::text(&edge.key))),
                None => EngineError::Row(failure),
            },
            Err(error) => error,
        }
    }
}

#[async_trait]
impl RangeWriter for Writer {
    fn state(&self) -> &RangeState {
        &self.claimed.checkpoint.state
    }

    async fn run_batch(&mut self, lease: &TaskLease, rows: u32) -> EngineResult<BatchReport> {
        lease.check()?;
        if checkpoint::token(lease.token()) != self.token {
            return Err(EngineError::LeaseLost);
        }
        if self.open {
            return Err(unknown());
        }
        if self.state().done {
            return Ok(BatchReport { range: self.state().clone(), window: 0, changed: 0 });
        }
        let rows = rows.max(1);
        self.open = true;
        let result = answered(self.batch(rows)).await;
        self.open = matches!(result, Err(EngineError::Connection(_)));
        match result {
            Ok(report) => Ok(report),
            Err(error) => Err(self.with_key(error, rows).await),
        }
    }

    async fn set_aside(
        &mut self,
        lease: &TaskLease,
        why: &Failure,
        budget: u32,
    ) -> EngineResult<Option<SetAside>> {
        lease.check()?;
        if self.open {
            return Err(unknown());
        }
        self.open = true;
        let result = answered(self.next_aside(lease, why, budget)).await;
        self.open = matches!(result, Err(EngineError::Connection(_)));
        result
    }

    async fn share(&mut self, lease: &TaskLease, least: u32) -> EngineResult<Option<Rest>> {
        lease.check()?;
        if checkpoint::token(lease.token()) != self.token {
            return Err(EngineError::LeaseLost);
        }
        if self.open {
            return Err(unknown());
        }
        if self.state().done {
            return Ok(None);
        }
        self.open = true;
        let result = answered(self.divide(lease, least)).await;
        self.open = matches!(result, Err(EngineError::Connection(_)));
        match result {
            Err(error) if error.gave_way() => Ok(None),
            result => result,
        }
    }

    async fn replica_lag(&mut self) -> EngineResult<Option<Lag>> {
        answered(secondaries::lag(self.database.client(), &self.track)).await
    }
}

/// The key as errors tell it.
fn key_of(image: &RawDocumentBuf) -> Option<String> {
    let id = image.get("_id").ok().flatten().and_then(|id| Bson::try_from(id).ok());
    id.as_ref().map(bracket::text)
}

pub(super) fn unknown() -> EngineError {
    EngineError::Connection(Failure::new(
        ErrorCode::ShardUnreachable,
        "the outcome of an earlier batch is not known",
        "nothing to do: the range is claimed again, which finds out",
    ))
}

/// The spec's `where` as a query, within its tenants.
pub(super) fn pending(job: &DataJob) -> EngineResult<Option<Document>> {
    match &job.data.source.pending {
        None => Ok(None),
        Some(Where::Query(query)) => {
            let query = extjson::document(query, "where")?;
            Ok(Some(both(&query, scope(job).as_ref())))
        }
        Some(Where::Sql(_)) => Err(defect("a MongoDB spec has an SQL predicate")),
    }
}

/// The documents that are changed: those that are pending, or without `where` all of the tenants.
pub(super) fn selection(job: &DataJob) -> EngineResult<Option<Document>> {
    Ok(pending(job)?.or_else(|| scope(job)))
}

/// The documents of the spec's tenants. A UUID is found as binary and as text; a number whatever its type is.
fn scope(job: &DataJob) -> Option<Document> {
    let tenants = job.data.source.tenants.as_ref()?;
    let mut forms: Vec<Bson> = Vec::new();
    for key in &tenants.keys {
        match key {
            TenantKey::Integer(number) => forms.push(Bson::Int64(*number)),
            TenantKey::Text(text) => {
                forms.push(Bson::String(text.clone()));
                if let Ok(Key::Uuid(bytes)) = KeyKind::Uuid.parse(text) {
                    forms.push(Bson::String(Key::Uuid(bytes).canonical()));
                    let binary = Binary { subtype: BinarySubtype::Uuid, bytes: bytes.to_vec() };
                    forms.push(Bson::Binary(binary));
                }
            }
        }
    }
    Some(doc! { &tenants.field: { "$in": forms } })
}

/// How they are changed.
pub(super) fn change(job: &DataJob) -> EngineResult<Change> {
    match (&job.data.transform, &job.transformer) {
        (Transform::Pipeline(stages), _) => Ok(Change::InShard(extjson::documents(stages, "pipeline")?)),
        (Transform::Sql(_), _) => Err(defect("a MongoDB spec has an SQL transform")),
        (Transform::Vrl(_) | Transform::Named { .. }, Some(transformer)) => {
            Ok(Change::InWorker(Arc::clone(transformer)))
        }
        (Transform::Vrl(_) | Transform::Named { .. }, None) => Err(defect("the job lacks its transformer")),
    }
}
