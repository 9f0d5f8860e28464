//! Whether a pipeline turns `where` false for every document, whatever was in it.
//!
//! Most specs have a marker: `where: {migrated: {$ne: true}}`, and the pipeline's last word on `migrated` is the constant
//! `true`. Then no changed document can be pending, and the search for such in every batch (an eighth of its time) finds
//! nothing by construction. Two facts make the proof:
//!
//! 1. by the form of the pipeline, every document that it changes has the constant in that field afterwards;
//! 2. by the word of the server, asked once per claim with the collection's own collation, a document with that constant
//!    in that field is not found by the clause of `where` on that field. A conjunction with a false clause is false.
//!
//! Whatever is not plainly so is not proven, and is searched for in each batch.

use bson::{Bson, Document, doc};
use futures::TryStreamExt;
use mongodb::Collection;

/// A field that gets a constant, and a clause of `where` on that field.
#[derive(Debug, Clone, PartialEq)]
struct Claim {
    document: Document,
    clause: Document,
}

/// Whether the pipeline turns `where` false for every document that it changes.
pub(super) async fn holds(
    collection: &Collection<Document>,
    pipeline: &[Document],
    pending: &Document,
) -> bool {
    for claim in claims(pipeline, pending) {
        match never_found(collection, &claim).await {
            Ok(true) => return true,
            Ok(false) => {}
            Err(error) => tracing::debug!(%error, "the server could not judge a clause of `where`"),
        }
    }
    false
}

async fn never_found(collection: &Collection<Document>, claim: &Claim) -> mongodb::error::Result<bool> {
    let pipeline = [
        doc! { "$limit": 1 },
        doc! { "$replaceRoot": { "newRoot": { "$literal": &claim.document } } },
        doc! { "$facet": { "all": [{ "$match": {} }], "found": [{ "$match": &claim.clause }] } },
    ];
    let answers: Vec<Document> = collection.aggregate(pipeline).await?.try_collect().await?;
    let empty = |answer: &Document, field| answer.get_array(field).is_ok_and(Vec::is_empty);
    // An empty collection proves nothing: `all` must hold the made-up document.
    Ok(answers.first().is_some_and(|answer| !empty(answer, "all") && empty(answer, "found")))
}

fn claims(pipeline: &[Document], pending: &Document) -> Vec<Claim> {
    let constants = constants(pipeline);
    let mut found = Vec::new();
    for clause in clauses(pending) {
        let Some((path, _)) = clause.iter().next() else { continue };
        if let Some(value) = constants.get(root(path)) {
            found.push(Claim { document: doc! { root(path): value }, clause: clause.clone() });
        }
    }
    found
}

/// The parts of `where` that must all hold, each about one field.
fn clauses(pending: &Document) -> Vec<Document> {
    let mut found = Vec::new();
    for (name, condition) in pending {
        match (name.as_str(), condition) {
            ("$and", Bson::Array(parts)) => {
                found.extend(parts.iter().filter_map(Bson::as_document).flat_map(clauses));
            }
            (name, _) if name.starts_with('$') => {}
            (name, condition) => found.push(doc! { name: condition }),
        }
    }
    found
}

/// Top-level fields whose value after the pipeline is a constant.
fn constants(pipeline: &[Document]) -> Document {
    let (mut known, mut touched) = (Document::new(), Vec::new());
    for stage in pipeline.iter().rev() {
        let Some((operator, body)) = stage.iter().next() else { break };
        match (operator.as_str(), body) {
            ("$set" | "$addFields", Bson::Document(fields)) => {
                for (path, value) in fields {
                    if let Some(value) =
                        constant(value).filter(|_| root(path) == path && !touched.contains(path))
                    {
                        known.insert(path, value);
                    }
                }
                touched.extend(fields.keys().map(|path| root(path).to_owned()));
            }
            ("$unset", Bson::String(path)) => touched.push(root(path).to_owned()),
            ("$unset", Bson::Array(paths)) => {
                touched.extend(paths.iter().filter_map(Bson::as_str).map(|path| root(path).to_owned()));
            }
            _ => break,
        }
    }
    known
}

fn root(path: &str) -> &str {
    path.split('.').next().unwrap_or(path)
}

/// A value that means itself in an expression, whatever the document holds.
fn constant(value: &Bson) -> Option<Bson> {
    let scalar = |value: &Bson| !matches!(value, Bson::Document(_) | Bson::Array(_));
    match value {
        Bson::String(text) if text.starts_with('$') => None,
        Bson::Document(literal) => {
            let value = literal.get("$literal").filter(|_| literal.len() == 1)?;
            scalar(value).then(|| value.clone())
        }
        value => scalar(value).then(|| value.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(fields: Document) -> Document {
        doc! { "$set": fields }
    }

    #[test]
    fn the_last_word_on_a_field_counts() {
        let pipeline = [set(doc! { "a": 1, "b": 1 }), set(doc! { "b": "$c", "d": { "$literal": "$x" } })];
        assert_eq!(constants(&pipeline), doc! { "d": "$x", "a": 1 });
        let pipeline = [set(doc! { "a": 1, "b": 1 }), doc! { "$unset": ["a.x"] }];
        assert_eq!(constants(&pipeline), doc! { "b": 1 });
        let pipeline = [set(doc! { "a": 1 }), set(doc! { "a.x": "$b" })];
        assert_eq!(constants(&pipeline), doc! {});
    }

    #[test]
    fn stages_that_build_documents_anew_hide_what_was_before() {
        let pipeline = [set(doc! { "a": 1 }), doc! { "$replaceWith": "$b" }, set(doc! { "c": true })];
        assert_eq!(constants(&pipeline), doc! { "c": true });
    }

    #[test]
    fn expressions_and_objects_are_not_constants() {
        for value in [
            Bson::String("$b".into()),
            doc! { "$add": [1, 2] }.into(),
            doc! { "x": 1 }.into(),
            Bson::Array(vec![]),
        ] {
            assert_eq!(constant(&value), None, "{value}");
        }
        assert_eq!(constant(&Bson::Null), Some(Bson::Null));
    }

    #[test]
    fn only_parts_that_must_all_hold_are_clauses() {
        let both = [doc! { "b": 1 }, doc! { "c.d": { "$lt": 2 } }];
        let pending = doc! { "$or": [{ "a": 1 }], "$and": &both[..], "$expr": true, "e": null };
        assert_eq!(clauses(&pending), [doc! { "b": 1 }, doc! { "c.d": { "$lt": 2 } }, doc! { "e": null }]);
        let claims = claims(&[set(doc! { "c": 2 })], &pending);
        assert_eq!(claims, [Claim { document: doc! { "c": 2 }, clause: doc! { "c.d": { "$lt": 2 } } }]);
    }
}
