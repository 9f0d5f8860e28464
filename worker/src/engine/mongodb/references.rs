//! Documents that refer to documents which are not there. Each value of a list refers by itself.

use bson::{Document, doc};
use futures::TryStreamExt;
use mongodb::Collection;
use mongodb::options::ReadConcern;
use shardlift_domain::ErrorCode;
use shardlift_domain::spec::References;
use shardlift_domain::verdict::{CheckResult, Severity};

use super::connection::Connection;
use super::{bracket, error, inspect};
use crate::engine::EngineResult;
use crate::engine::findings::Findings;
use crate::engine::references::{MOST, NAMED, judged};

/// Looks for them, as a majority of the replica set holds them.
pub(super) async fn check(
    documents: &Collection<Document>,
    references: &References,
) -> EngineResult<CheckResult> {
    let doing = "looking for references";
    let found = documents.aggregate(stages(references)).read_concern(ReadConcern::majority()).await;
    let mut found = found.map_err(error::asking(doing))?;
    let (mut orphans, mut keys) = (0, Vec::new());
    while let Some(orphan) = found.try_next().await.map_err(error::asking(doing))? {
        orphans += 1;
        if keys.len() < NAMED {
            keys.push(orphan.get("_id").map(bracket::text).unwrap_or_default());
        }
    }
    Ok(judged(references, orphans, &keys))
}

/// Adds what keeps the shard from looking for them, or makes it a scan for each document.
pub(super) async fn look(
    connection: &Connection,
    references: &References,
    findings: &mut Findings,
) -> EngineResult<()> {
    let to = references.to.as_str();
    if inspect::collection(connection, to).await?.is_none() {
        let what = format!("verify: references cannot look for {references}: there is no collection {to}");
        let next = "correct `to` in the spec, or leave the check out";
        findings.of_spec(Severity::Error, ErrorCode::PrecheckRefused, what, next);
        return Ok(());
    }
    let indexes = inspect::indexes(connection, to).await?;
    if !indexes.iter().any(|index| helps(index, references)) {
        let what = format!(
            "no index of {to} begins with {}: verify: references reads all of {to} for each document of the source",
            references.key.join(" or ")
        );
        let next = "create one, or leave the check out where the collections are large";
        findings.of_spec(Severity::Warning, ErrorCode::PrecheckRefused, what, next);
    }
    Ok(())
}

/// Whether the server may look documents up by this index.
fn helps(index: &Document, references: &References) -> bool {
    let partial = index.contains_key("partialFilterExpression") || index.contains_key("sparse");
    let first = index.get_document("key").ok().and_then(|key| key.iter().next());
    let by = first.filter(|(_, order)| order.as_str().is_none()).map(|(field, _)| field);
    !partial && by.is_some_and(|field| references.key.contains(field))
}

fn stages(references: &References) -> Vec<Document> {
    let there = references.fields.iter().map(|field| doc! { field: { "$ne": null } });
    let mut stages = vec![doc! { "$match": { "$and": there.collect::<Vec<_>>() } }];
    let mut refers: Vec<String> = references.fields.iter().map(|field| format!("${field}")).collect();
    if let [field] = refers.as_mut_slice() {
        stages.push(doc! { "$project": { "shardlift_refers": std::mem::take(field) } });
        stages.push(doc! { "$unwind": "$shardlift_refers" });
        stages.push(doc! { "$match": { "shardlift_refers": { "$ne": null } } });
        "$shardlift_refers".clone_into(field);
    }
    let names = (0..refers.len()).map(|n| format!("shardlift_{n}"));
    let same = names.clone().zip(&references.key);
    let same = same.map(|(name, key)| doc! { "$eq": [format!("${key}"), format!("$${name}")] });
    let there = doc! { "$expr": { "$and": same.collect::<Vec<_>>() } };
    let given: Document = names.zip(refers).map(|(name, field)| (name, field.into())).collect();
    stages.extend([
        doc! { "$lookup": {
            "from": &references.to, "let": given, "as": "shardlift_target",
            "pipeline": [{ "$match": there }, { "$limit": 1 }, { "$project": { "_id": 1 } }],
        } },
        doc! { "$match": { "shardlift_target": { "$size": 0 } } },
        doc! { "$group": { "_id": "$_id" } },
        doc! { "$limit": MOST + 1 },
    ]);
    stages
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_helps_that_begins_with_a_field_of_the_key_and_holds_every_document() {
        let by = References {
            fields: vec!["a".into()],
            to: "people".into(),
            key: vec!["tenant".into(), "id".into()],
        };
        assert!(
            helps(&doc! { "key": { "id": 1 } }, &by) && helps(&doc! { "key": { "tenant": -1, "x": 1 } }, &by)
        );
        assert!(
            !helps(&doc! { "key": { "x": 1, "id": 1 } }, &by)
                && !helps(&doc! { "key": { "id": "hashed" } }, &by)
        );
        assert!(!helps(&doc! { "key": { "id": 1 }, "sparse": true }, &by));
    }

    #[test]
    fn one_field_is_unwound_and_several_are_taken_as_they_are() {
        let of = |fields: &[&str], key: &[&str]| {
            let list = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
            stages(&References { fields: list(fields), to: "people".into(), key: list(key) })
        };
        let one = of(&["author.id"], &["_id"]);
        assert_eq!(one[2], doc! { "$unwind": "$shardlift_refers" });
        assert_eq!(
            one[4].get_document("$lookup").expect("a lookup").get_document("let").expect("names"),
            &doc! { "shardlift_0": "$shardlift_refers" }
        );
        let two = of(&["a", "b"], &["x", "y"]);
        let lookup = two[1].get_document("$lookup").expect("a lookup");
        assert_eq!(
            lookup.get_document("let").expect("names"),
            &doc! { "shardlift_0": "$a", "shardlift_1": "$b" }
        );
    }
}
