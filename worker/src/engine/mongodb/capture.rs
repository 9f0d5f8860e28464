//! Before-images: what a batch writes beside its changes, in the same transaction, so that they can be undone and verified.
//!
//! ```text
//! _id      {db, migration, version, range, batch, part}; the same again for the index
//! fields   the top-level fields that the batch changed, or null: documents as a whole
//! rows     [{k: _id, o: the old values of those that were there, w: digest of what was written, i: digest of the rest}]
//! ```
//! One document for each batch, or several where it would grow too large. Digests are of BSON: type and bytes count.

use bson::raw::{RawBsonRef, cstr};
use bson::{Bson, Document, RawArrayBuf, RawDocument, RawDocumentBuf, doc};
use mongodb::{ClientSession, Collection};
use shardlift_domain::ids::MigrationKey;
use shardlift_domain::{ErrorCode, Failure};

use super::connection::Books;
use super::portion::{self, Portion, invalid};
use super::transaction::{COMMAND_LIMIT, by_id};
use super::{bracket, defect, error, ledger};
use crate::engine::{EngineError, EngineResult};

/// Most bytes of before-images that one batch keeps; the rest of its window goes into the next one.
const BUDGET: usize = 32 << 20;
/// Most bytes of one document of the log; the server takes 16 MiB.
const PART: usize = 8 << 20;
/// Most rows of one document of the log.
const PART_ROWS: usize = 5000;

/// What of a document is kept.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Fields {
    /// These top-level fields.
    Named(Vec<String>),
    /// All of it.
    Whole,
}

impl Fields {
    /// The top-level fields that a pipeline may change.
    pub(super) fn of(pipeline: &[Document]) -> Self {
        let mut names: Vec<String> = Vec::new();
        for stage in pipeline {
            let Some((operator, body)) = stage.iter().next() else { continue };
            let paths: Vec<&str> = match (operator.as_str(), body) {
                ("$set" | "$addFields", Bson::Document(fields)) => {
                    fields.keys().map(String::as_str).collect()
                }
                ("$unset", Bson::String(path)) => vec![path],
                ("$unset", Bson::Array(paths)) => paths.iter().filter_map(Bson::as_str).collect(),
                _ => return Fields::Whole,
            };
            names.extend(paths.into_iter().map(|path| root(path).to_owned()));
        }
        Fields::Named(Vec::new()).with(Fields::Named(names))
    }

    /// What an update of `$set` and `$unset`, or a whole document, changes.
    pub(super) fn of_update(update: &Document) -> Self {
        let operators = ["$set", "$unset"];
        if update.keys().any(|key| !operators.contains(&key.as_str())) {
            return Fields::Whole;
        }
        let paths = update.values().filter_map(Bson::as_document).flat_map(Document::keys);
        Fields::Named(Vec::new()).with(Fields::Named(paths.map(|path| root(path).to_owned()).collect()))
    }

    /// Both.
    pub(super) fn with(self, more: Self) -> Self {
        match (self, more) {
            (Fields::Named(mut names), Fields::Named(more)) => {
                for name in more {
                    if !names.contains(&name) {
                        names.push(name);
                    }
                }
                Fields::Named(names)
            }
            _ => Fields::Whole,
        }
    }

    fn bson(&self) -> Bson {
        match self {
            Fields::Named(names) => Bson::Array(names.iter().cloned().map(Bson::String).collect()),
            Fields::Whole => Bson::Null,
        }
    }

    /// As a document of the log has it.
    pub(super) fn read(document: &Document) -> Self {
        match document.get_array("fields") {
            Ok(names) => Fields::Named(names.iter().filter_map(Bson::as_str).map(str::to_owned).collect()),
            Err(_) => Fields::Whole,
        }
    }

    /// The kept part of a document, in the order of the fields.
    pub(super) fn kept(&self, document: &Document) -> Document {
        match self {
            Fields::Named(names) => {
                let there = |name: &String| Some((name.clone(), document.get(name)?.clone()));
                names.iter().filter_map(there).collect()
            }
            Fields::Whole => document.clone(),
        }
    }

    /// The same of a document as it came, and the digest of all that is not kept, in the order of the document.
    fn divided(&self, document: &RawDocument) -> EngineResult<(RawDocumentBuf, i64)> {
        match self {
            Fields::Named(names) => {
                let portion = Portion::of(document, names)?;
                Ok((portion.kept()?, portion.digest_of_rest()?))
            }
            Fields::Whole => Ok((document.to_owned(), portion::digest(&RawDocumentBuf::new()))),
        }
    }

    /// The digest of the kept part of a document as it came.
    fn digest(&self, document: &RawDocument) -> EngineResult<i64> {
        match self {
            Fields::Named(names) => Portion::of(document, names)?.digest_of_kept(),
            Fields::Whole => Ok(portion::digest(document)),
        }
    }
}

fn root(path: &str) -> &str {
    path.split('.').next().unwrap_or(path)
}

/// Sixty-four bits over the bytes of a document.
pub(super) fn digest(document: &Document) -> EngineResult<i64> {
    let raw = RawDocumentBuf::try_from(document)
        .map_err(|_| defect("a document of the shard cannot be written as BSON"))?;
    Ok(portion::digest(&raw))
}

/// One document as it was.
#[derive(Debug, Clone)]
struct Image {
    /// `{k: _id}`: how the row of the log begins. The same bytes are the same key, NaN among them.
    key: RawDocumentBuf,
    old: RawDocumentBuf,
    inputs: i64,
}

impl Image {
    fn of(fields: &Fields, document: &RawDocument) -> EngineResult<Self> {
        let (old, inputs) = fields.divided(document)?;
        Ok(Self { key: key(document)?, old, inputs })
    }
}

fn id(document: &RawDocument, name: &str) -> EngineResult<Bson> {
    let id = document.get(name).map_err(invalid)?.unwrap_or(RawBsonRef::Null);
    Bson::try_from(id).map_err(invalid)
}

fn key(document: &RawDocument) -> EngineResult<RawDocumentBuf> {
    let id = document.get("_id").map_err(invalid)?.unwrap_or(RawBsonRef::Null);
    let mut key = RawDocumentBuf::new();
    key.append(cstr!("k"), id);
    Ok(key)
}

/// What a batch keeps.
#[derive(Debug)]
pub(super) struct Images {
    fields: Fields,
    images: Vec<Image>,
}

/// Documents that a change in the shard is about to find, as they are.
pub(super) struct Found {
    fields: Fields,
    documents: Vec<RawDocumentBuf>,
    /// The key at which the batch must end, if its images would be too large.
    pub(super) cut: Option<Bson>,
}

impl Found {
    /// Reads them in the batch's transaction.
    pub(super) async fn read(
        session: &mut ClientSession,
        documents: &Collection<RawDocumentBuf>,
        fields: Fields,
        filter: Document,
    ) -> EngineResult<Self> {
        let doing = "reading documents";
        let find = documents.find(filter).sort(doc! { "_id": 1 }).hint(by_id()).batch_size(10_000);
        let mut cursor =
            find.max_time(COMMAND_LIMIT).session(&mut *session).await.map_err(error::asking(doing))?;
        let (mut bytes, mut documents, mut cut) = (0, Vec::<RawDocumentBuf>::new(), None);
        while cursor.advance(&mut *session).await.map_err(error::asking(doing))? {
            let document = cursor.current();
            bytes += document.as_bytes().len();
            if let Some(last) = documents.last().filter(|_| bytes > BUDGET) {
                cut = Some(id(last, "_id")?);
                break;
            }
            documents.push(document.to_owned());
        }
        Ok(Self { fields, documents, cut })
    }

    /// Makes the images, beside the tasks of the worker: meanwhile the server may change the documents.
    pub(super) async fn images(self) -> EngineResult<Images> {
        let Self { fields, documents, .. } = self;
        let made = tokio::task::spawn_blocking(move || Images::of(fields, &documents)).await;
        made.map_err(|_| defect("before-images could not be made"))?
    }
}

/// Whose log it goes into.
pub(super) struct Log<'a> {
    pub(super) books: &'a Books,
    pub(super) migration: &'a MigrationKey,
    pub(super) range: u32,
    pub(super) batch: u64,
}

impl Images {
    /// From documents that were read in the batch's transaction.
    pub(super) fn of(fields: Fields, documents: &[RawDocumentBuf]) -> EngineResult<Self> {
        let images = documents.iter().map(|document| Image::of(&fields, document));
        Ok(Self { images: images.collect::<EngineResult<_>>()?, fields })
    }

    pub(super) fn len(&self) -> u64 {
        self.images.len() as u64
    }

    /// Reads what was written, and writes the log; all in the batch's transaction. `window` holds the batch's documents.
    pub(super) async fn write(
        self,
        session: &mut ClientSession,
        documents: &Collection<RawDocumentBuf>,
        window: Document,
        log: &Log<'_>,
    ) -> EngineResult<()> {
        if self.images.is_empty() {
            return Ok(());
        }
        let doing = "reading what was written";
        let mut find = documents.find(window).sort(doc! { "_id": 1 }).hint(by_id()).batch_size(10_000);
        if let Fields::Named(names) = &self.fields {
            let names = names.iter().map(|name| (name.clone(), Bson::Int32(1)));
            find = find.projection(
                std::iter::once(("_id".to_owned(), Bson::Int32(1))).chain(names).collect::<Document>(),
            );
        }
        let mut cursor =
            find.max_time(COMMAND_LIMIT).session(&mut *session).await.map_err(error::asking(doing))?;
        let mut images = self.images.into_iter().peekable();
        let mut parts = Parts::default();
        while cursor.advance(&mut *session).await.map_err(error::asking(doing))? {
            let document = cursor.current();
            let key = key(document)?;
            // Others of the window were not pending.
            let Some(image) = images.next_if(|image| image.key.as_bytes() == key.as_bytes()) else {
                continue;
            };
            parts.add(image, self.fields.digest(document)?)?;
        }
        drop(cursor);
        if images.next().is_some() {
            return Err(defect("a document of a batch's snapshot was not found again"));
        }
        let name = {
            let mut name = ledger::name(log.books, log.migration);
            name.insert("range", i64::from(log.range));
            name.insert("batch", super::fence::number(log.batch));
            name
        };
        let entries = (0_i64..).zip(parts.parts).map(|(part, rows)| rows.entry(&name, part, &self.fields));
        let entries = entries.collect::<EngineResult<Vec<_>>>()?;
        let undo = log.books.undo().clone_with_type::<RawDocumentBuf>();
        let inserted = undo.insert_many(entries).session(session).await;
        inserted.map(drop).map_err(error::asking("writing before-images"))
    }
}

/// A document of the log.
pub(super) fn entry(name: &Document, part: i64, fields: &Fields, rows: Vec<Bson>) -> Document {
    let mut document = heading(name, part, fields);
    document.insert("rows", rows);
    document
}

fn heading(name: &Document, part: i64, fields: &Fields) -> Document {
    let mut id = name.clone();
    id.insert("part", part);
    let mut document = doc! { "_id": id.clone() };
    document.extend(id);
    document.insert("fields", fields.bson());
    document
}

#[derive(Default)]
struct Parts {
    parts: Vec<Part>,
}

#[derive(Default)]
struct Part {
    rows: RawArrayBuf,
    count: usize,
    bytes: usize,
}

impl Part {
    fn entry(&self, name: &Document, part: i64, fields: &Fields) -> EngineResult<RawDocumentBuf> {
        let heading = heading(name, part, fields);
        let mut entry = RawDocumentBuf::try_from(&heading)
            .map_err(|_| defect("the name of a document of the log cannot be written as BSON"))?;
        entry.append(cstr!("rows"), &self.rows);
        Ok(entry)
    }
}

impl Parts {
    fn add(&mut self, image: Image, written: i64) -> EngineResult<()> {
        let key = id(&image.key, "k")?;
        let mut row = image.key;
        row.append(cstr!("o"), &image.old);
        row.append(cstr!("w"), written);
        row.append(cstr!("i"), image.inputs);
        let bytes = row.as_bytes().len();
        if bytes > 2 * PART - (64 << 10) {
            return Err(EngineError::Row(
                Failure::new(
                    ErrorCode::RowRejected,
                    "the document is too large for its before-image to be kept",
                    "make the document smaller, or leave it out by `where`; then retry",
                )
                .at_key(bracket::text(&key)),
            ));
        }
        let room = |part: &Part| part.bytes + bytes <= PART && part.count < PART_ROWS;
        if !self.parts.last().is_some_and(room) {
            self.parts.push(Part::default());
        }
        if let Some(part) = self.parts.last_mut() {
            part.bytes += bytes;
            part.count += 1;
            part.rows.push(&row);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pipeline_names_the_fields_that_it_may_change() {
        let pipeline = [doc! { "$set": { "a.b": 1, "c": "$d" } }, doc! { "$unset": ["a", "e.f"] }];
        let named = ["a", "c", "e"].map(str::to_owned).to_vec();
        assert_eq!(Fields::of(&pipeline), Fields::Named(named));
        assert_eq!(Fields::of(&[doc! { "$replaceWith": "$a" }]), Fields::Whole);
    }

    #[test]
    fn digests_know_types_and_missing_fields() {
        let of = |document: Document| digest(&document).expect("a digest");
        assert_ne!(of(doc! { "a": 1_i32 }), of(doc! { "a": 1_i64 }));
        assert_ne!(of(doc! { "a": null }), of(doc! {}));
        let fields = Fields::Named(vec!["b".into(), "a".into()]);
        assert_eq!(fields.kept(&doc! { "a": 1, "x": 2, "b": 3 }), doc! { "b": 3, "a": 1 });
    }

    #[test]
    fn a_document_as_it_came_is_divided_like_a_decoded_one() {
        let document = doc! { "_id": f64::NAN, "a": { "b": [1, null] }, "x": "y", "b": 3_i64, "z": 1.5 };
        let raw = RawDocumentBuf::try_from(&document).expect("BSON");
        for fields in [Fields::Named(vec!["b".into(), "none".into(), "a".into()]), Fields::Whole] {
            let kept = fields.kept(&document);
            assert_eq!(fields.digest(&raw).expect("kept"), digest(&kept).expect("a digest"));
            let others = |name: &String| matches!(&fields, Fields::Named(names) if !names.contains(name));
            let rest: Document = document.clone().into_iter().filter(|(name, _)| others(name)).collect();
            let image = Image::of(&fields, &raw).expect("an image");
            assert_eq!(image.inputs, digest(&rest).expect("a digest"));
        }
    }
}
