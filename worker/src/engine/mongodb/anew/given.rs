//! What the transform gives on documents as they were, and whether it is what is there.

use std::sync::Arc;

use bson::{Bson, Document, RawDocument, RawDocumentBuf, doc};
use futures::TryStreamExt;
use mongodb::Collection;
use mongodb::options::ReadConcern;
use vrl::value::{ObjectMap, Value};

use super::log::{Fields, Row, digest_of};
use super::unreadable;
use crate::engine::mongodb::diff::object;
use crate::engine::mongodb::error::{self, Cause};
use crate::engine::mongodb::image::{image, image_of, is_image, made};
use crate::engine::mongodb::transaction::COMMAND_LIMIT;
use crate::engine::{EngineError, EngineResult};
use crate::transformer::Transformer;

/// Programs are computation: after so many documents other tasks of the worker get their turn.
const TURN: usize = 64;

/// How the transform is evaluated.
pub(super) enum How {
    /// By the shard.
    Pipeline(Vec<Document>),
    /// By the worker.
    Program(Arc<dyn Transformer>),
}

/// A document that is there, and what is known of it.
pub(super) struct Candidate {
    /// Which row of the entry.
    pub(super) n: usize,
    pub(super) as_written: bool,
    pub(super) inputs: bool,
    /// The digest of its changed fields.
    pub(super) digest: i64,
    /// About how much memory it takes.
    pub(super) bytes: usize,
    now: RawDocumentBuf,
    before: Document,
}

impl Candidate {
    pub(super) fn new(n: usize, fields: &Fields, row: &Row, now: RawDocumentBuf) -> EngineResult<Self> {
        let before = fields.before(&row.old, &now)?;
        let bytes = now.as_bytes().len() + raw(&before)?.as_bytes().len();
        let digest = digest_of(&fields.part(&now)?);
        let inputs = digest_of(&fields.others(&now)?) == row.inputs;
        Ok(Self { n, as_written: digest == row.written, digest, inputs, bytes, now, before })
    }

    /// The document as it is.
    pub(super) fn now(&self) -> EngineResult<Document> {
        decoded(&self.now)
    }
}

fn raw(document: &Document) -> EngineResult<RawDocumentBuf> {
    RawDocumentBuf::try_from(document).map_err(|_| unreadable())
}

fn decoded(document: &RawDocument) -> EngineResult<Document> {
    Document::try_from(document).map_err(|_| unreadable())
}

impl How {
    /// The document that the transform gives for one; `None`: nothing, or it changes what it left alone when it was written.
    pub(super) async fn given(
        &self,
        documents: &Collection<Document>,
        fields: &Fields,
        candidate: &Candidate,
    ) -> EngineResult<Option<Document>> {
        match self {
            How::Pipeline(stages) => {
                match run(documents, stages, fields, std::slice::from_ref(candidate)).await {
                    Ok(given) => given.first().map(|given| decoded(given)).transpose(),
                    Err(EngineError::Row(_)) => Ok(None),
                    Err(error) => Err(error),
                }
            }
            How::Program(program) => Ok(made_by(program.as_ref(), fields, candidate)),
        }
    }

    /// Whether each of these is what the transform gives.
    pub(super) async fn same(
        &self,
        documents: &Collection<Document>,
        fields: &Fields,
        candidates: &[Candidate],
    ) -> EngineResult<Vec<bool>> {
        match self {
            How::Pipeline(stages) => in_shard(documents, stages, fields, candidates).await,
            How::Program(program) => {
                let mut same = Vec::with_capacity(candidates.len());
                for candidate in candidates {
                    same.push(in_worker(program.as_ref(), fields, candidate)?);
                    if same.len().is_multiple_of(TURN) {
                        tokio::task::yield_now().await;
                    }
                }
                Ok(same)
            }
        }
    }
}

/// Runs the pipeline on all of them at once; where it fails on one of them, on halves, so that the others are judged.
async fn in_shard(
    documents: &Collection<Document>,
    stages: &[Document],
    fields: &Fields,
    candidates: &[Candidate],
) -> EngineResult<Vec<bool>> {
    let mut same = vec![false; candidates.len()];
    let mut open = vec![(0, candidates.len())];
    while let Some((from, to)) = open.pop() {
        if from == to {
            continue;
        }
        match run(documents, stages, fields, &candidates[from..to]).await {
            Ok(given) => {
                for (n, given) in (from..to).zip(given) {
                    same[n] = equal(fields, &candidates[n].now, &given)?;
                }
            }
            Err(EngineError::Row(_)) if to - from > 1 => {
                let middle = from + (to - from) / 2;
                open.extend([(from, middle), (middle, to)]);
            }
            // It gives nothing.
            Err(EngineError::Row(_)) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(same)
}

/// What the pipeline makes of each document, of the changed fields alone. It runs on the collection, since its collation decides what is equal, but sees
/// none of its documents; empty if the collection is.
async fn run(
    documents: &Collection<Document>,
    stages: &[Document],
    fields: &Fields,
    candidates: &[Candidate],
) -> EngineResult<Vec<RawDocumentBuf>> {
    let before: Vec<Bson> = candidates.iter().map(|candidate| candidate.before.clone().into()).collect();
    let mut all = vec![
        doc! { "$limit": 1 },
        doc! { "$replaceWith": { "shardlift": { "$literal": before } } },
        doc! { "$unwind": "$shardlift" },
        doc! { "$replaceWith": "$shardlift" },
    ];
    all.extend_from_slice(stages);
    if let Fields::Named(names) = fields
        && !names.is_empty()
    {
        let names = names.iter().map(|name| (name.clone(), Bson::Int32(1)));
        let wanted = std::iter::once(("_id".to_owned(), Bson::Int32(0))).chain(names);
        all.push(doc! { "$project": wanted.collect::<Document>() });
    }
    let given = async {
        let given = documents.aggregate(all).read_concern(ReadConcern::majority()).max_time(COMMAND_LIMIT);
        given.with_type::<RawDocumentBuf>().await?.try_collect::<Vec<_>>().await
    };
    given.await.map_err(|error| error::rejection(&Cause::from(&error)))
}

/// The same bytes; of whole documents, wherever `_id` stands, which an update puts back by itself.
fn equal(fields: &Fields, now: &RawDocument, given: &RawDocument) -> EngineResult<bool> {
    let part = |document: &RawDocument| match fields {
        Fields::Named(_) => fields.part(document),
        Fields::Whole => Fields::Named(vec!["_id".to_owned()]).others(document),
    };
    Ok(part(now)?.as_bytes() == part(given)?.as_bytes())
}

/// Runs the program on the document as it was.
fn in_worker(program: &dyn Transformer, fields: &Fields, candidate: &Candidate) -> EngineResult<bool> {
    let (now, before) = (&candidate.now()?, &candidate.before);
    let mut given: ObjectMap = image_of(before);
    if program.transform(&mut given).is_err() {
        return Ok(false);
    }
    let written = |name: &str| match fields {
        Fields::Named(names) => names.iter().any(|field| field == name),
        Fields::Whole => name != "_id",
    };
    let mut names: Vec<&str> = now.keys().chain(before.keys()).map(String::as_str).collect();
    names.extend(given.keys().map(|name| name.as_str()));
    Ok(names.into_iter().all(|name| match (now.get(name), given.get(name)) {
        (Some(now), Some(given)) if written(name) => same(now, given),
        // What it leaves alone must be as it was.
        (Some(now), Some(given)) => is_image(now, given),
        (None, None) => true,
        _ => false,
    }))
}

/// What the program makes of the document as it was; `None`: nothing, or it changes what it left alone when it was written.
fn made_by(program: &dyn Transformer, fields: &Fields, candidate: &Candidate) -> Option<Document> {
    let before = &candidate.before;
    let mut given: ObjectMap = image_of(before);
    program.transform(&mut given).ok()?;
    let alone = |name: &str| match fields {
        Fields::Named(names) => !names.iter().any(|field| field == name),
        Fields::Whole => name == "_id",
    };
    let kept = before.iter().filter(|(name, _)| alone(name));
    let kept = kept.filter(|(name, old)| given.get(name.as_str()).is_some_and(|new| is_image(old, new)));
    let others = before.keys().filter(|name| alone(name)).count();
    let added = given.keys().any(|name| alone(name.as_str()) && !before.contains_key(name.as_str()));
    if added || kept.count() != others {
        return None;
    }
    // In the form in which it is written, types of numbers and names included. Whether it is right is said by `in_worker`.
    Some(object(before, &given))
}

/// Whether a value in the shard is the one that the program gives: as it was seen, or in the form in which it is written.
fn same(now: &Bson, given: &Value) -> bool {
    match (now, given) {
        (Bson::Document(now), Value::Object(given)) => {
            now.len() == given.len()
                && now
                    .iter()
                    .all(|(name, now)| given.get(name.as_str()).is_some_and(|given| same(now, given)))
        }
        (Bson::Array(now), Value::Array(given)) => {
            now.len() == given.len() && now.iter().zip(given).all(|(now, given)| same(now, given))
        }
        (Bson::Document(_) | Bson::Array(_), _) => false,
        (now, given) => is_image(now, given) || image(now) == image(&made(given)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transformer::{Document as Seen, TransformError};

    struct Upper;

    impl Transformer for Upper {
        fn name(&self) -> &str {
            "upper"
        }

        fn transform(&self, document: &mut Seen) -> Result<(), TransformError> {
            let text = document.get("text").and_then(|text| text.to_str()).map(str::to_uppercase);
            document.insert("body".into(), Value::from(text.ok_or_else(|| TransformError::new("no text"))?));
            document.remove("text");
            Ok(())
        }
    }

    fn judged(old: Document, now: Document) -> bool {
        let fields = Fields::Named(vec!["body".into(), "text".into()]);
        let row = Row { key: 1.into(), old, written: 0, inputs: 0 };
        let candidate = Candidate::new(0, &fields, &row, raw(&now).expect("BSON")).expect("a candidate");
        in_worker(&Upper, &fields, &candidate).expect("compares")
    }

    #[test]
    fn a_program_is_compared_field_by_field() {
        let old = doc! { "text": "a" };
        assert!(judged(old.clone(), doc! { "_id": 1, "n": 5_i64, "body": "A" }));
        assert!(!judged(old.clone(), doc! { "_id": 1, "n": 5_i64, "body": "B" }), "another value");
        assert!(!judged(old.clone(), doc! { "_id": 1, "body": "A", "text": "a" }), "a field too many");
        assert!(!judged(old, doc! { "_id": 1 }), "a field too few");
        assert!(!judged(doc! {}, doc! { "_id": 1, "body": "A" }), "the program refuses it");
    }

    #[test]
    fn values_are_compared_in_the_form_in_which_they_are_stored() {
        let precise = chrono::DateTime::from_timestamp(1, 123_456_789).expect("a time");
        let stored = Bson::DateTime(bson::DateTime::from_millis(1123));
        assert!(same(&stored, &Value::Timestamp(precise)));
        let list = Bson::Array(vec![stored.clone(), doc! { "a": stored }.into()]);
        let object = Value::Object([("a".into(), Value::Timestamp(precise))].into_iter().collect());
        assert!(same(&list, &Value::Array(vec![Value::Timestamp(precise), object])));
        assert!(!same(&Bson::Int32(1), &Value::Integer(2)));
    }

    #[test]
    fn whole_documents_are_compared_wherever_their_key_stands() {
        let whole = |given: Document| {
            let (now, given) = (raw(&doc! { "_id": 1, "a": 2 }), raw(&given));
            equal(&Fields::Whole, &now.expect("BSON"), &given.expect("BSON")).expect("compares")
        };
        assert!(whole(doc! { "a": 2 }) && whole(doc! { "a": 2, "_id": 1 }));
        assert!(!whole(doc! { "a": 2_i64 }), "types count");
    }
}
