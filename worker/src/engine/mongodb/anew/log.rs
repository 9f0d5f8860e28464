//! The undo log as it is read for a comparison: entry by entry in the order in which ranges and batches wrote it, some rows
//! at a time.

use bson::raw::{CStr, RawBsonRef, cstr};
use bson::{Bson, Document, RawDocument, RawDocumentBuf, doc};
use futures::TryStreamExt;
use mongodb::options::ReadConcern;
use sha2::{Digest, Sha256};
use shardlift_domain::Checksum;
use shardlift_domain::ids::MigrationKey;
use shardlift_domain::mismatch::LogPlace;
use shardlift_domain::spec::Sample;

use super::unreadable;
use crate::engine::EngineResult;
use crate::engine::mongodb::connection::Books;
use crate::engine::mongodb::fence::number;
use crate::engine::mongodb::{bracket, error, ledger};

/// What of its documents an entry has kept.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Fields {
    /// These top-level fields.
    Named(Vec<String>),
    /// All of it.
    Whole,
}

impl Fields {
    /// Those of an entry of the log.
    pub(super) fn read(entry: &Document) -> Self {
        match entry.get("fields") {
            Some(Bson::Array(names)) => {
                Fields::Named(names.iter().filter_map(Bson::as_str).map(str::to_owned).collect())
            }
            _ => Fields::Whole,
        }
    }

    /// The part of a document that the digest of what was written is made of.
    pub(super) fn of(&self, document: &Document) -> Document {
        match self {
            Fields::Named(names) => names
                .iter()
                .filter_map(|name| document.get(name).map(|value| (name.clone(), value.clone())))
                .collect(),
            Fields::Whole => document.clone(),
        }
    }

    /// The same part of a document as it came; of a name that stands there twice, the last.
    pub(super) fn part(&self, document: &RawDocument) -> EngineResult<RawDocumentBuf> {
        let Fields::Named(names) = self else { return Ok(document.to_owned()) };
        let mut found: Vec<Option<(&CStr, RawBsonRef<'_>)>> = vec![None; names.len()];
        for element in document {
            let (name, value) = element.map_err(|_| unreadable())?;
            let place = names.iter().position(|wanted| wanted == name.as_str());
            if let Some(found) = place.and_then(|place| found.get_mut(place)) {
                *found = Some((name, value));
            }
        }
        let mut part = RawDocumentBuf::new();
        for (name, value) in found.into_iter().flatten() {
            part.append(name, value);
        }
        Ok(part)
    }

    /// The part that the digest of the other inputs is made of.
    pub(super) fn others(&self, document: &RawDocument) -> EngineResult<RawDocumentBuf> {
        let mut others = RawDocumentBuf::new();
        let Fields::Named(names) = self else { return Ok(others) };
        for element in document {
            let (name, value) = element.map_err(|_| unreadable())?;
            if !names.iter().any(|field| field == name.as_str()) {
                others.append(name, value);
            }
        }
        Ok(others)
    }

    /// The document as it was: the kept values, and the present ones of the other fields.
    pub(super) fn before(&self, old: &Document, now: &RawDocument) -> EngineResult<Document> {
        let Fields::Named(names) = self else { return Ok(old.clone()) };
        let mut before = Document::new();
        for element in now {
            let (name, value) = element.map_err(|_| unreadable())?;
            let name = name.as_str();
            if !names.iter().any(|field| field == name) {
                before.insert(name, Bson::try_from(value).map_err(|_| unreadable())?);
            } else if let Some(old) = old.get(name) {
                before.insert(name, old.clone());
            }
        }
        for (name, value) in old {
            if !before.contains_key(name) {
                before.insert(name, value.clone());
            }
        }
        Ok(before)
    }
}

/// Sixty-four bits over the bytes of a document, as the log has them: the first eight of a SHA-256, the first one highest.
pub(super) fn digest_of(document: &RawDocument) -> i64 {
    let hash = Sha256::digest(document.as_bytes());
    hash.iter().take(8).fold(0_u64, |digest, byte| digest << 8 | u64::from(*byte)).cast_signed()
}

/// The key of a row of the log as bytes, to find it again: the same bytes are the same key, NaN among them.
pub(super) fn key_bytes(key: &Bson) -> EngineResult<Vec<u8>> {
    let key = RawDocumentBuf::try_from(&doc! { "k": key }).map_err(|_| unreadable())?;
    Ok(key.into_bytes())
}

/// The same of a document as it came.
pub(super) fn key_bytes_of(document: &RawDocument) -> EngineResult<Vec<u8>> {
    let mut key = RawDocumentBuf::new();
    key.append(cstr!("k"), document.get("_id").ok().flatten().ok_or_else(unreadable)?);
    Ok(key.into_bytes())
}

/// What is read of each row of an entry.
pub(super) trait Logged: Sized {
    /// What the server is to send of some rows.
    fn sent(rows: Document) -> Document;

    fn read(row: &Bson) -> Option<Self>;
}

/// One row of the log.
#[derive(Debug, Clone)]
pub(super) struct Row {
    pub(super) key: Bson,
    pub(super) old: Document,
    pub(super) written: i64,
    pub(super) inputs: i64,
}

impl Logged for Row {
    fn sent(rows: Document) -> Document {
        rows
    }

    fn read(row: &Bson) -> Option<Self> {
        let row = row.as_document()?;
        Some(Self {
            key: row.get("k")?.clone(),
            old: row.get_document("o").ok()?.clone(),
            written: row.get_i64("w").ok()?,
            inputs: row.get_i64("i").ok()?,
        })
    }
}

/// A key, and the digest of what was written under it.
#[derive(Debug, Clone)]
pub(super) struct Mark {
    pub(super) key: Bson,
    pub(super) written: i64,
}

impl Logged for Mark {
    fn sent(rows: Document) -> Document {
        doc! { "$map": { "input": rows, "in": { "k": "$$this.k", "w": "$$this.w" } } }
    }

    fn read(row: &Bson) -> Option<Self> {
        let row = row.as_document()?;
        Some(Self { key: row.get("k")?.clone(), written: row.get_i64("w").ok()? })
    }
}

impl Row {
    /// By the key: the same rows every time.
    pub(super) fn in_sample(&self, sample: Sample) -> bool {
        if sample == Sample::All {
            return true;
        }
        let sum = Checksum::of(bracket::text(&self.key).as_bytes());
        let number = sum.as_str().get(..8).and_then(|digits| u64::from_str_radix(digits, 16).ok());
        sample.holds(number.unwrap_or_default())
    }
}

/// Some rows of one entry.
pub(super) struct Entry<R> {
    pub(super) place: LogPlace,
    total: u32,
    pub(super) fields: Fields,
    pub(super) rows: Vec<R>,
}

impl<R: Logged> Entry<R> {
    /// The rows behind a place, at most so many, of the entry that it is in or of the one that follows.
    pub(super) async fn after(
        books: &Books,
        migration: &MigrationKey,
        place: LogPlace,
        rows: u32,
    ) -> EngineResult<Option<Self>> {
        let doing = "reading before-images";
        let (range, batch, part) = (i64::from(place.range), number(place.batch), i64::from(place.part));
        let mut wanted = ledger::name(books, migration);
        let at_or_behind = [
            doc! { "range": { "$gt": range } },
            doc! { "range": range, "batch": { "$gt": batch } },
            doc! { "range": range, "batch": batch, "part": { "$gte": part } },
        ];
        wanted.insert("$or", at_or_behind.as_slice());
        let here = doc! { "$and": [
            { "$eq": ["$range", range] }, { "$eq": ["$batch", batch] }, { "$eq": ["$part", part] },
        ] };
        let from = doc! { "$cond": [here, i64::from(place.row), 0_i64] };
        let some = R::sent(doc! { "$slice": ["$rows", from.clone(), i64::from(rows.max(1))] });
        let stages = [
            doc! { "$match": wanted },
            doc! { "$sort": { "range": 1, "batch": 1, "part": 1 } },
            doc! { "$limit": 1 },
            doc! { "$project": {
                "_id": 0, "range": 1, "batch": 1, "part": 1, "fields": 1, "from": from,
                "total": { "$size": "$rows" }, "rows": some,
            } },
        ];
        let found = books.undo().aggregate(stages).read_concern(ReadConcern::majority()).await;
        let found = found.map_err(error::asking(doing))?.try_next().await.map_err(error::asking(doing))?;
        found.map(|entry| Self::read(&entry).ok_or_else(unreadable)).transpose()
    }

    fn read(entry: &Document) -> Option<Self> {
        let whole = |field: &str| match entry.get(field)? {
            Bson::Int32(number) => u64::try_from(*number).ok(),
            Bson::Int64(number) => u64::try_from(*number).ok(),
            _ => None,
        };
        let small = |field: &str| u32::try_from(whole(field)?).ok();
        let fields = Fields::read(entry);
        let place = LogPlace {
            range: small("range")?,
            batch: whole("batch")?,
            part: small("part")?,
            row: small("from")?,
        };
        let rows: Option<Vec<R>> = entry.get_array("rows").ok()?.iter().map(R::read).collect();
        Some(Self { place, total: small("total")?, fields, rows: rows? })
    }

    /// Where its rows end.
    pub(super) fn next(&self) -> LogPlace {
        let row = self.place.row.saturating_add(u32::try_from(self.rows.len()).unwrap_or(u32::MAX));
        if row >= self.total { self.place.next_entry() } else { LogPlace { row, ..self.place } }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(names: &[&str]) -> Fields {
        Fields::Named(names.iter().map(|name| (*name).to_owned()).collect())
    }

    #[test]
    fn a_document_is_put_together_as_it_was() {
        let now = doc! { "_id": 1, "a": "new", "rest": 5, "added": true };
        let raw = RawDocumentBuf::try_from(&now).expect("BSON");
        let old = doc! { "a": "old", "gone": 7 };
        let fields = named(&["a", "gone", "added"]);
        let before = fields.before(&old, &raw).expect("a document");
        assert_eq!(before, doc! { "_id": 1, "a": "old", "rest": 5, "gone": 7 });
        assert_eq!(fields.of(&now), doc! { "a": "new", "added": true });
        let others = fields.others(&raw).expect("a document");
        assert_eq!(Document::try_from(others).expect("BSON"), doc! { "_id": 1, "rest": 5 });
        assert_eq!(Fields::Whole.before(&old, &raw).expect("a document"), old);
    }

    #[test]
    fn a_document_as_it_came_has_the_digest_of_a_decoded_one() {
        let document = doc! { "_id": f64::NAN, "a": { "b": [1, null] }, "x": "y", "b": 3_i64 };
        let raw = RawDocumentBuf::try_from(&document).expect("BSON");
        let key = document.get("_id").expect("a key");
        assert_eq!(key_bytes(key).expect("bytes"), key_bytes_of(&raw).expect("bytes"));
        for fields in [named(&["b", "none", "a"]), named(&[]), Fields::Whole] {
            let part = RawDocumentBuf::try_from(&fields.of(&document)).expect("BSON");
            let expected = digest_of(&part);
            assert_eq!(digest_of(&fields.part(&raw).expect("a part")), expected, "{fields:?}");
        }
    }

    #[test]
    fn a_sample_holds_the_same_rows_every_time() {
        let row = |key: i32| Row { key: key.into(), old: Document::new(), written: 0, inputs: 0 };
        let chosen = |share| (0..2000).filter(|key| row(*key).in_sample(Sample::Percent(share))).count();
        assert_eq!(chosen(10), chosen(10));
        assert!((100..300).contains(&chosen(10)), "{}", chosen(10));
        assert!(row(1).in_sample(Sample::All));
    }
}
