//! What must hold on a MongoDB shard after the whole library ran. The expected values are computed by other
//! means than the transforms use: in the worker's place, or by comparing with the generated original.

use anyhow::Context;
use bson::{Bson, Document, RawDocumentBuf, doc};
use futures::TryStreamExt;
use mongodb::Database;

use super::super::NAMED_KEYS;
use super::imports;

/// Every violation in the database that `dsn` names after the whole library ran; empty when every document
/// was changed exactly once. Each is one line: what, how many documents, the `_id` of the first few.
///
/// # Errors
/// When the shard cannot be read.
pub async fn check_mongodb(dsn: &str) -> anyhow::Result<Vec<String>> {
    let database = super::database(dsn).await?;
    let mut violations = Vec::new();
    for (collection, what, broken) in conversations().into_iter().chain(directory()) {
        violations.extend(matching(&database, collection, what, broken).await?);
    }
    violations.extend(each(&database, "messages", "body_text is not the body's text", message_text).await?);
    violations.extend(each(&database, "drafts", "body_text is not the body's text", draft_text).await?);
    violations.extend(imports_changed(&database).await?);
    violations.extend(structure(&database).await?);
    Ok(violations)
}

/// Collection, what is wrong, and the query that finds such documents.
type Rule = (&'static str, &'static str, Document);

fn once() -> Document {
    doc! { "applied": { "$ne": 1 } }
}

fn migrated() -> Document {
    doc! { "migrated": { "$ne": true } }
}

fn version_2() -> Document {
    doc! { "schema_version": { "$ne": 2 } }
}

fn conversations() -> Vec<Rule> {
    vec![
        ("messages", "not migrated", migrated()),
        ("messages", "not changed exactly once", once()),
        ("drafts", "not migrated", version_2()),
        ("drafts", "not changed exactly once", once()),
        (
            "drafts",
            "an untouched field changed",
            doc! { "body.kept": { "$exists": true, "$ne": { "as": ["it", "is"] } } },
        ),
        ("deliveries", "not migrated", migrated()),
        ("deliveries", "not changed exactly once", once()),
        (
            "deliveries",
            "delivered_ts is not the delivered_at",
            doc! {
                "delivered_at": { "$type": "long" },
                "$expr": { "$ne": ["$delivered_ts", { "$add": [{ "$toDate": 0_i64 }, "$delivered_at"] }] },
            },
        ),
        (
            "deliveries",
            "a delivered_ts out of nothing",
            doc! {
                "delivered_at": { "$in": ["never", null] }, "delivered_ts": { "$ne": null },
            },
        ),
        (
            "deliveries",
            "state is not in lower case",
            doc! { "state": { "$nin": ["sent", "delivered", "read", "unknown"] } },
        ),
    ]
}

fn directory() -> Vec<Rule> {
    vec![
        ("channels", "not migrated", version_2()),
        ("channels", "not changed exactly once", once()),
        (
            "channels",
            "a member is left in the old form",
            doc! { "members": { "$elemMatch": { "$or": [
                { "u": { "$exists": true } }, { "user": { "$not": { "$type": "string" } } },
                { "role": { "$nin": ["owner", "admin", "member"] } },
                { "notify.push": { "$not": { "$type": "bool" } } },
            ] } } },
        ),
        ("channels", "members are no list", doc! { "members": { "$not": { "$type": "array" } } }),
        ("channels", "meta.contact is left", doc! { "meta.contact": { "$exists": true } }),
        ("channels", "the city was lost", doc! { "meta.kept": { "$exists": true }, "city": null }),
        (
            "tenants",
            "present throughout, not changed exactly once",
            doc! { "live": false, "applied": { "$ne": 1 } },
        ),
        ("tenants", "changed twice", doc! { "applied": { "$nin": [null, 0, 1] } }),
        ("tenants", "old version", doc! { "applied": 1, "settings_version": { "$ne": 2 } }),
        (
            "tenants",
            "settings lack a default",
            doc! { "applied": 1, "settings.retention_days": { "$exists": false } },
        ),
        (
            "tenants",
            "plan is not in lower case",
            doc! {
                "applied": 1, "settings.plan": { "$nin": ["free", "pro", "enterprise", null] },
            },
        ),
        (
            "tenants",
            "seats are not the tenant's own",
            doc! {
                "settings.theme": { "$exists": true },
                "$expr": { "$ne": ["$settings.limits.seats", { "$arrayElemAt": ["$settings.theme", 1] }] },
            },
        ),
    ]
}

async fn matching(
    database: &Database,
    collection: &str,
    what: &str,
    broken: Document,
) -> anyhow::Result<Option<String>> {
    let target = database.collection::<Document>(collection);
    let context = || format!("checking \"{collection}: {what}\"");
    let count = target.count_documents(broken.clone()).await.with_context(context)?;
    if count == 0 {
        return Ok(None);
    }
    let found = target.find(broken).limit(NAMED_KEYS as i64).projection(doc! { "_id": 1 });
    let found: Vec<Document> =
        found.await.with_context(context)?.try_collect().await.with_context(context)?;
    Ok(Some(line(collection, what, count, &found)))
}

/// Reads the bodies of a whole collection, since no query can collapse whitespace. They are read raw: the
/// decoder of typed documents needs more than a thread's usual stack for the deepest ones.
async fn each(
    database: &Database,
    collection: &str,
    what: &str,
    broken: fn(&Document) -> bool,
) -> anyhow::Result<Option<String>> {
    let mut documents = database
        .collection::<RawDocumentBuf>(collection)
        .find(doc! {})
        .projection(doc! { "body": 1, "body_text": 1 })
        .batch_size(5_000)
        .await
        .with_context(|| format!("reading {collection}"))?;
    let (mut count, mut named) = (0, Vec::new());
    while let Some(document) = documents.try_next().await.with_context(|| format!("reading {collection}"))? {
        let document = Document::try_from(document).with_context(|| format!("decoding {collection}"))?;
        if broken(&document) {
            count += 1;
            if named.len() < NAMED_KEYS {
                named.push(document);
            }
        }
    }
    Ok((count > 0).then(|| line(collection, what, count, &named)))
}

/// The texts of a body, in order: its own, or those of its blocks. `None` when it has neither.
fn texts(document: &Document) -> Option<Vec<&str>> {
    let Some(Bson::Document(body)) = document.get("body") else { return None };
    if let Some(Bson::String(text)) = body.get("text") {
        return Some(vec![text]);
    }
    let Some(Bson::Array(blocks)) = body.get("blocks") else { return None };
    let texts: Vec<&str> =
        blocks.iter().filter_map(|block| block.as_document()?.get_str("text").ok()).collect();
    (!texts.is_empty()).then_some(texts)
}

/// A message's text is trimmed.
fn message_text(document: &Document) -> bool {
    let expected =
        texts(document).map(|texts| texts.iter().map(|text| text.trim()).collect::<Vec<_>>().join("\n"));
    document.get_str("body_text").ok() != expected.as_deref()
}

/// A draft's text has its whitespace collapsed. What the text of no text is (null or empty) is left open.
fn draft_text(document: &Document) -> bool {
    let plain = |text: &&str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let expected = texts(document).map(|texts| texts.iter().map(plain).collect::<Vec<_>>().join("\n"));
    document.get_str("body_text").unwrap_or_default() != expected.unwrap_or_default()
}

/// Compares each import with its original, byte by byte in every field that the library does not touch.
async fn imports_changed(database: &Database) -> anyhow::Result<Vec<String>> {
    let target = database.collection::<Document>("imports");
    let found: Vec<Document> = target
        .find(doc! {})
        .await
        .context("reading imports")?
        .try_collect()
        .await
        .context("reading imports")?;
    let shard = (0..64).find(|shard| {
        let originals = imports::documents(*shard);
        found
            .iter()
            .all(|document| originals.iter().any(|original| original.get("_id") == document.get("_id")))
    });
    let Some(shard) = shard else { return Ok(vec!["imports: unknown documents".into()]) };
    let mut violations = Vec::new();
    for original in imports::documents(shard) {
        let id = original.get("_id").cloned().unwrap_or(Bson::Null);
        match found.iter().find(|document| document.get("_id") == Some(&id)) {
            None => violations.push(format!("imports: {id} is missing")),
            Some(document) => violations.extend(import_changed(&id, &original, document)?),
        }
    }
    Ok(violations)
}

fn import_changed(id: &Bson, original: &Document, found: &Document) -> anyhow::Result<Option<String>> {
    let untouched = |document: &Document| {
        let mut kept = document.clone();
        for touched in ["legacy_name", "title", "migrated", "applied"] {
            kept.remove(touched);
        }
        kept.to_vec().context("encoding an import")
    };
    let title = original.get_str("legacy_name").map(str::trim).ok().filter(|name| !name.is_empty());
    let wrong = if untouched(original)? != untouched(found)? {
        "an untouched field changed"
    } else if found.get_str("title").ok() != Some(title.unwrap_or("untitled")) {
        "title is not the legacy_name"
    } else if found.contains_key("legacy_name") {
        "legacy_name is left"
    } else if found.get_bool("migrated").ok() != Some(true) || number(found, "applied") != Some(1) {
        "not changed exactly once"
    } else {
        return Ok(None);
    };
    Ok(Some(format!("imports: {wrong}: {id}")))
}

/// The indexes, collections and rules that the library makes.
async fn structure(database: &Database) -> anyhow::Result<Vec<String>> {
    let mut violations = Vec::new();
    let names =
        database.collection::<Document>("messages").list_index_names().await.context("reading indexes")?;
    if !names.iter().any(|name| name == "tenant_timeline") {
        violations.push("messages: the index tenant_timeline is missing".to_owned());
    }
    let filter = doc! { "name": { "$in": ["messages", "delivery_audit"] } };
    let collections: Vec<_> = database
        .list_collections()
        .filter(filter)
        .await
        .context("reading collections")?
        .try_collect()
        .await
        .context("reading collections")?;
    let strict = collections.iter().any(|collection| {
        collection.name == "messages"
            && matches!(collection.options.validation_level, Some(mongodb::options::ValidationLevel::Strict))
            && collection.options.validator.is_some()
    });
    if !strict {
        violations.push("messages: the strict validator is missing".to_owned());
    }
    if !collections.iter().any(|collection| collection.name == "delivery_audit") {
        violations.push("the collection delivery_audit is missing".to_owned());
    }
    Ok(violations)
}

fn number(document: &Document, field: &str) -> Option<i64> {
    match document.get(field)? {
        Bson::Int32(number) => Some(i64::from(*number)),
        Bson::Int64(number) => Some(*number),
        Bson::Double(number) => Some(*number as i64),
        _ => None,
    }
}

fn line(collection: &str, what: &str, count: u64, named: &[Document]) -> String {
    let keys: Vec<String> =
        named.iter().filter_map(|document| document.get("_id")).map(Bson::to_string).collect();
    format!("{collection}: {what}: {count} document(s), such as {}", keys.join(", "))
}
