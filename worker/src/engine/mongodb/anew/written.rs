//! Whether documents still are what was written, by the digests that the log holds alone: the transform is not evaluated, so it
//! need not give the same again. The server has no such digest, so the changed fields travel, and nothing else of a document.

use std::collections::{HashMap, HashSet};

use async_trait::async_trait;
use bson::{Bson, Document, RawDocumentBuf, doc};
use futures::TryStreamExt;
use mongodb::options::ReadConcern;
use mongodb::{ClientSession, Collection};
use shardlift_domain::ids::MigrationKey;
use shardlift_domain::mismatch::{Difference, LogPlace};
use shardlift_domain::spec::Sample;

use super::log::{Entry, Fields, Mark, digest_of, key_bytes, key_bytes_of};
use super::{SENT, progress};
use crate::engine::anew::{self, CHANGED, DIGEST, Differing, GONE, Seen, Walked};
use crate::engine::mongodb::connection::{Books, Connection};
use crate::engine::mongodb::transaction::{COMMAND_LIMIT, answered, session};
use crate::engine::mongodb::{bracket, error, ledger};
use crate::engine::{DataJob, EngineResult};
use crate::lease::TaskLease;

/// The walk over one migration's log.
pub(super) struct Written {
    pub(super) books: Books,
    pub(super) migration: MigrationKey,
    documents: Collection<RawDocumentBuf>,
    /// For what is kept.
    session: ClientSession,
}

impl Written {
    pub(super) async fn open(
        connection: &Connection,
        migration: &MigrationKey,
        job: &DataJob,
    ) -> EngineResult<Self> {
        let documents = connection.collection(&job.data.source.relation).await?.clone_with_type();
        let (books, session) = (connection.books().await?, session(connection).await?);
        Ok(Self { books, migration: migration.clone(), documents, session })
    }

    /// The digest of what each of these is, in their order; `None`: it is not there.
    async fn present(&self, fields: &Fields, rows: &[Mark]) -> EngineResult<Vec<Option<i64>>> {
        let doing = "reading documents";
        let keys: Vec<Bson> = rows.iter().map(|row| row.key.clone()).collect();
        let mut find = self.documents.find(doc! { "_id": { "$in": keys } });
        if let Fields::Named(names) = fields {
            let wanted = names.iter().map(|name| (name.clone(), Bson::Int32(1)));
            let key = std::iter::once(("_id".to_owned(), Bson::Int32(1)));
            find = find.projection(key.chain(wanted).collect::<Document>());
        }
        let found = find.max_time(COMMAND_LIMIT).batch_size(SENT).await;
        let mut found = found.map_err(error::asking(doing))?;
        let mut places: HashMap<Vec<u8>, usize> = HashMap::with_capacity(rows.len());
        for (n, row) in rows.iter().enumerate() {
            places.insert(key_bytes(&row.key)?, n);
        }
        let mut present = vec![None; rows.len()];
        while found.advance().await.map_err(error::asking(doing))? {
            let document = found.current();
            if let Some(place) = places.get(&key_bytes_of(document)?).and_then(|n| present.get_mut(*n)) {
                *place = Some(digest_of(&fields.part(document)?));
            }
        }
        Ok(present)
    }

    /// Which of these documents passes after that of a range have migrated once more.
    async fn again(&self, range: u32, keys: Vec<Bson>) -> EngineResult<HashSet<String>> {
        let doing = "looking for newer before-images";
        let mut again = HashSet::new();
        let later = later(&self.books, &self.migration, range).await?;
        if keys.is_empty() || later.is_empty() {
            return Ok(again);
        }
        let mut entries = ledger::name(&self.books, &self.migration);
        entries.insert("range", doc! { "$in": later });
        let stages = [
            doc! { "$match": entries },
            doc! { "$unwind": "$rows" },
            doc! { "$match": { "rows.k": { "$in": keys } } },
            doc! { "$project": { "_id": 0, "k": "$rows.k" } },
        ];
        let log = self.books.undo();
        let found = log.aggregate(stages).read_concern(ReadConcern::majority()).max_time(COMMAND_LIMIT).await;
        let mut found = found.map_err(error::asking(doing))?;
        while let Some(row) = found.try_next().await.map_err(error::asking(doing))? {
            again.extend(row.get("k").map(bracket::text));
        }
        Ok(again)
    }
}

/// The ranges of passes after the one that this range belongs to.
pub(super) async fn later(books: &Books, migration: &MigrationKey, range: u32) -> EngineResult<Vec<Bson>> {
    let doing = "looking for later passes";
    let mut mine = ledger::name(books, migration);
    let mut later = mine.clone();
    mine.insert("range", i64::from(range));
    let mine = books.checkpoint().find_one(mine).await.map_err(error::asking(doing))?;
    let pass = mine.and_then(|range| range.get_i64("pass").ok()).unwrap_or_default();
    later.insert("pass", doc! { "$gt": pass });
    books.checkpoint().distinct("range", later).await.map_err(error::asking(doing))
}

#[async_trait]
impl anew::Look for Written {
    async fn next(&mut self, after: LogPlace, rows: u32, _: Sample) -> EngineResult<Seen> {
        answered(async {
            let entry = Entry::<Mark>::after(&self.books, &self.migration, after, rows).await?;
            let Some(entry) = entry else { return Ok(Seen::default()) };
            let mut page = Seen { next: Some(entry.next()), ..Seen::default() };
            let present = self.present(&entry.fields, &entry.rows).await?;
            let all = (entry.place.row..).zip(&entry.rows).zip(present);
            let other: Vec<_> = all.filter(|((_, row), now)| *now != Some(row.written)).collect();
            page.compared.verified = (entry.rows.len() - other.len()) as u64;
            let keys = other.iter().map(|((_, row), _)| row.key.clone()).collect();
            let again = self.again(entry.place.range, keys).await?;
            for ((number, row), now) in other {
                let key = bracket::text(&row.key);
                // What a later pass has written, whose image comes later, is what counts.
                if again.contains(&key) {
                    page.compared.left_out += 1;
                    continue;
                }
                let place = LogPlace { row: number, ..entry.place };
                let changed = (Difference::Changed, CHANGED);
                let verdict = if now.is_some() { changed } else { (Difference::Gone, GONE) };
                anew::add(&mut page, Some(verdict), (place, now), || key);
            }
            Ok(page)
        })
        .await
    }

    async fn begin(&mut self, lease: &TaskLease, changed: u64) -> EngineResult<Walked> {
        answered(progress::begin(&self.books, lease, DIGEST, changed)).await
    }

    async fn keep(&mut self, lease: &TaskLease, walked: &Walked, found: &[Differing]) -> EngineResult<()> {
        answered(progress::keep(&self.books, &mut self.session, lease, DIGEST, walked, found)).await
    }
}
