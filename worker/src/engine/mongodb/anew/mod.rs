//! The transform evaluated anew on what the undo log keeps, and compared with what is there; or only the digests of what was written.
//!
//! [`log`] reads the log, entry by entry; [`given`] has the shard run a pipeline, or the worker a program, on documents that
//! are made of the kept values and the present ones of the other fields; [`written`] compares without either; [`progress`] keeps how far a verification is and what
//! it has found, which [`mend`] repairs. Nothing here is used by what wrote the documents: of
//! that only the digest's formula is shared, which the log was written with.

mod given;
mod log;
mod mend;
mod progress;
mod written;

use std::collections::HashMap;

use async_trait::async_trait;
use bson::{Bson, Document, RawDocumentBuf, doc};
use futures::TryStreamExt;
use mongodb::options::ReadConcern;
use mongodb::{ClientSession, Collection};
use shardlift_domain::fence::Fence;
use shardlift_domain::ids::MigrationKey;
use shardlift_domain::mismatch::{Difference, LogPlace, MismatchesPage, MismatchesRequest};
use shardlift_domain::repair::{RepairPage, RepairRequest};
use shardlift_domain::spec::{Anew, Leeway, Sample, Transform};
use shardlift_domain::verdict::CheckResult;
use shardlift_domain::{ErrorCode, Failure};

use self::given::{Candidate, How};
use self::log::{Entry, Fields, Row, key_bytes, key_bytes_of};
use self::written::Written;
use super::connection::{Books, Connection};
use super::transaction::{COMMAND_LIMIT, answered, session};
use super::{bracket, defect, error, extjson, ledger};
use crate::engine::anew::{self, Asked, Differing, GONE, Known, Seen, TRANSFORM, Walked};
use crate::engine::{DataJob, EngineError, EngineResult};
use crate::lease::TaskLease;

/// Documents that the server sends at once.
const SENT: u32 = 5000;
/// Bytes of documents that are evaluated at once.
const BUDGET: usize = 8 << 20;

/// The walk over one migration's log.
struct Look {
    books: Books,
    documents: Collection<Document>,
    migration: MigrationKey,
    how: How,
    /// For what is written.
    session: ClientSession,
}

/// The check `transform`.
pub(super) async fn verify(
    connection: &Connection,
    lease: &TaskLease,
    job: &DataJob,
    anew: Anew,
) -> EngineResult<CheckResult> {
    let mut look = Look::open(connection, &lease.task().migration, job).await?;
    let changed = changed(&look.books, &look.migration, job).await?;
    anew::verify(&mut look, lease, Asked::Transform(anew), changed).await
}

/// The check `digest`.
pub(super) async fn digest(
    connection: &Connection,
    lease: &TaskLease,
    job: &DataJob,
    allowed: Leeway,
) -> EngineResult<CheckResult> {
    let mut written = Written::open(connection, &lease.task().migration, job).await?;
    let changed = changed(&written.books, &written.migration, job).await?;
    anew::verify(&mut written, lease, Asked::Digest(allowed), changed).await
}

/// One page of a listing.
pub(super) async fn mismatches(
    connection: &Connection,
    request: &MismatchesRequest,
    job: &DataJob,
) -> EngineResult<MismatchesPage> {
    if job.data.known_by_digest() {
        let mut written = Written::open(connection, &request.migration, job).await?;
        return anew::page(&mut written, request.after, request.limit).await;
    }
    let mut look = Look::open(connection, &request.migration, job).await?;
    anew::page(&mut look, request.after, request.limit).await
}

impl Look {
    async fn open(connection: &Connection, migration: &MigrationKey, job: &DataJob) -> EngineResult<Self> {
        let how = match (&job.data.transform, &job.transformer) {
            (Transform::Pipeline(stages), _) => How::Pipeline(extjson::documents(stages, "pipeline")?),
            (_, Some(transformer)) => How::Program(transformer.clone()),
            (_, None) => {
                return Err(EngineError::Failed(Failure::new(
                    ErrorCode::TransformInvalid,
                    "the transform cannot be evaluated anew: this worker has no such program",
                    "give the shard a worker that has it",
                )));
            }
        };
        let books = connection.books().await?;
        let documents = connection.collection(&job.data.source.relation).await?;
        let session = session(connection).await?;
        Ok(Self { books, documents, migration: migration.clone(), how, session })
    }

    /// Compares these rows of an entry: the verdict of each, in their order.
    async fn compare(&self, fields: &Fields, rows: &[Row]) -> EngineResult<Vec<Verdict>> {
        let doing = "reading documents";
        let mut wanted: HashMap<Vec<u8>, usize> = HashMap::with_capacity(rows.len());
        for (n, row) in rows.iter().enumerate() {
            wanted.insert(key_bytes(&row.key)?, n);
        }
        let keys: Vec<Bson> = rows.iter().map(|row| row.key.clone()).collect();
        let documents = self.documents.clone_with_type::<RawDocumentBuf>();
        let found = documents.find(doc! { "_id": { "$in": keys } }).max_time(COMMAND_LIMIT).batch_size(SENT);
        let mut found = found.await.map_err(error::asking(doing))?;
        let mut verdicts: Vec<Verdict> = vec![(Some((Difference::Gone, GONE)), None); rows.len()];
        let (mut candidates, mut bytes) = (Vec::new(), 0);
        while let Some(now) = found.try_next().await.map_err(error::asking(doing))? {
            let Some(n) = wanted.remove(&key_bytes_of(&now)?) else { continue };
            let candidate = Candidate::new(n, fields, &rows[n], now)?;
            bytes += candidate.bytes;
            candidates.push(candidate);
            if bytes > BUDGET {
                self.judge(fields, std::mem::take(&mut candidates), &mut verdicts).await?;
                bytes = 0;
            }
        }
        self.judge(fields, candidates, &mut verdicts).await?;
        Ok(verdicts)
    }

    async fn judge(
        &self,
        fields: &Fields,
        candidates: Vec<Candidate>,
        verdicts: &mut [Verdict],
    ) -> EngineResult<()> {
        let same = self.how.same(&self.documents, fields, &candidates).await?;
        for (candidate, same) in candidates.iter().zip(same) {
            let known = Known { same, as_written: candidate.as_written, inputs: candidate.inputs };
            verdicts[candidate.n] = (known.verdict(), Some(candidate.digest));
        }
        Ok(())
    }
}

/// How many documents the ranges say were changed, each of which has left its before-image. A program that is run over all
/// documents may leave some of them as they are, and those leave none.
async fn changed(books: &Books, migration: &MigrationKey, job: &DataJob) -> EngineResult<u64> {
    if job.data.source.pending.is_none() && job.data.transform.runs_in_worker() {
        return Ok(0);
    }
    let doing = "counting what was changed";
    let stages = [
        doc! { "$match": ledger::name(books, migration) },
        doc! { "$group": { "_id": null, "rows": { "$sum": "$rows" } } },
    ];
    let sums = books.checkpoint().aggregate(stages).read_concern(ReadConcern::majority()).await;
    let sum = sums.map_err(error::asking(doing))?.try_next().await.map_err(error::asking(doing))?;
    let sum = sum.and_then(|sum| sum.get_i64("rows").ok()).unwrap_or_default();
    Ok(u64::try_from(sum).unwrap_or_default())
}

/// How a row differs, and in words; and the digest of its changed fields, if it is there.
type Verdict = (Option<(Difference, &'static str)>, Option<i64>);

#[async_trait]
impl anew::Look for Look {
    async fn next(&mut self, after: LogPlace, rows: u32, sample: Sample) -> EngineResult<Seen> {
        answered(async {
            let entry = Entry::<Row>::after(&self.books, &self.migration, after, rows).await?;
            let Some(entry) = entry else { return Ok(Seen::default()) };
            let mut page = Seen { next: Some(entry.next()), ..Seen::default() };
            let all = entry.rows.len();
            let (places, rows): (Vec<LogPlace>, Vec<Row>) = (0..)
                .zip(entry.rows)
                .filter(|(_, row)| row.in_sample(sample))
                .map(|(n, row)| (LogPlace { row: entry.place.row.saturating_add(n), ..entry.place }, row))
                .unzip();
            page.compared.left_out = (all - rows.len()) as u64;
            let verdicts = self.compare(&entry.fields, &rows).await?;
            for ((place, row), (verdict, now)) in places.into_iter().zip(&rows).zip(verdicts) {
                anew::add(&mut page, verdict, (place, now), || bracket::text(&row.key));
            }
            Ok(page)
        })
        .await
    }

    async fn begin(&mut self, lease: &TaskLease, changed: u64) -> EngineResult<Walked> {
        answered(progress::begin(&self.books, lease, TRANSFORM, changed)).await
    }

    async fn keep(&mut self, lease: &TaskLease, walked: &Walked, found: &[Differing]) -> EngineResult<()> {
        answered(progress::keep(&self.books, &mut self.session, lease, TRANSFORM, walked, found)).await
    }
}

/// Repairs some of the documents that verification has recorded.
pub(super) async fn repair(
    connection: &Connection,
    leader: &Fence,
    request: &RepairRequest,
    job: &DataJob,
) -> EngineResult<RepairPage> {
    let look = Look::open(connection, &request.migration, job).await?;
    if !request.dry_run {
        answered(mend::take(connection, &look, leader)).await?;
    }
    let database = connection.application().await?;
    mend::page(look, database, leader, request, job).await
}

/// A document of the log that cannot be read.
fn unreadable() -> EngineError {
    defect("a document of the undo log cannot be read")
}
