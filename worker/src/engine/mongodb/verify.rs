//! Checks the result by reads of its own: nothing here is used by what wrote it.

use bson::{Bson, Document, doc};
use futures::TryStreamExt;
use mongodb::Collection;
use mongodb::options::ReadConcern;
use shardlift_domain::quarantine::Held;
use shardlift_domain::spec::{SchemaChange, TenantKey, VerifyCheck, Where};
use shardlift_domain::verdict::{CheckResult, VerifyReport};

use super::connection::{Books, Connection};
use super::error::Cause;
use super::{anew, assertion, codes, references};
use super::{error, extjson, fence, ledger};
use crate::engine::{DataJob, EngineResult, Job, SchemaJob};
use crate::lease::TaskLease;

pub(super) async fn verify(
    connection: &Connection,
    lease: &TaskLease,
    job: &Job,
) -> EngineResult<VerifyReport> {
    lease.check()?;
    fence::admit(&connection.books().await?, lease.leader()).await?;
    let (checks, held) = match job {
        Job::Data(job) => data(connection, lease, job).await?,
        Job::Schema(job) => (schema(connection, lease, job).await?, None),
    };
    Ok(VerifyReport { checks, held })
}

fn result(check: &str, passed: bool, detail: String) -> CheckResult {
    CheckResult { check: check.to_owned(), passed, detail }
}

async fn data(
    connection: &Connection,
    lease: &TaskLease,
    job: &DataJob,
) -> EngineResult<(Vec<CheckResult>, Option<Held>)> {
    let documents = connection.collection(&job.data.source.relation).await?;
    let aside = match job.data.on_error.budget() {
        Some(_) => Some(aside(&connection.books().await?, lease).await?),
        None => None,
    };
    let mut results = Vec::with_capacity(job.data.verify.len());
    for check in &job.data.verify {
        results.push(match check {
            // Shards are compared once all of them are verified.
            VerifyCheck::Unique(_) => continue,
            VerifyCheck::Assert(assertion) => assertion::ask(connection, assertion).await?,
            VerifyCheck::Remaining => {
                remaining(&documents, job, aside.as_ref().map_or(&[], |aside| &aside.keys)).await?
            }
            VerifyCheck::References(wanted) => references::check(&documents, wanted).await?,
            VerifyCheck::Transform(how) => anew::verify(connection, lease, job, *how).await?,
            VerifyCheck::Digest(allowed) => anew::digest(connection, lease, job, *allowed).await?,
            VerifyCheck::Count { tolerance } => count(connection, lease, &documents, *tolerance).await?,
        });
    }
    Ok((results, aside.map(|aside| aside.held)))
}

/// What is in quarantine, read by itself.
struct Aside {
    keys: Vec<Bson>,
    held: Held,
}

async fn aside(books: &Books, lease: &TaskLease) -> EngineResult<Aside> {
    let doing = "reading the quarantine";
    let kept = doc! { "$match": ledger::name(books, &lease.task().migration) };
    let found = books.quarantine().aggregate([kept]).read_concern(ReadConcern::majority()).await;
    let mut found = found.map_err(error::asking(doing))?;
    let mut aside = Aside { keys: Vec::new(), held: Held::default() };
    while let Some(entry) = found.try_next().await.map_err(error::asking(doing))? {
        match entry.get_str("state") {
            Ok("held") => aside.held.rows += 1,
            Ok("discarded") => aside.held.discarded += 1,
            _ => continue,
        }
        aside.keys.extend(entry.get_document("_id").ok().and_then(|id| id.get("key")).cloned());
    }
    Ok(aside)
}

async fn remaining(
    documents: &Collection<Document>,
    job: &DataJob,
    aside: &[Bson],
) -> EngineResult<CheckResult> {
    let Some(Where::Query(query)) = &job.data.source.pending else {
        return Ok(result(
            "remaining",
            false,
            "the spec has no `where`: nothing says what is pending".to_owned(),
        ));
    };
    let query = extjson::document(query, "where")?;
    let mut stages = vec![doc! { "$match": query }];
    stages.extend(of_tenants(job).map(|either| doc! { "$match": { "$or": either } }));
    let mut alone = stages.clone();
    alone.insert(0, doc! { "$match": { "_id": { "$in": aside } } });
    let all = total(documents, stages, Bson::Int64(1)).await?;
    let alone = if aside.is_empty() { 0 } else { total(documents, alone, Bson::Int64(1)).await? };
    let left = all.saturating_sub(alone);
    let beside = if alone == 0 { String::new() } else { format!(" beside {alone} in quarantine") };
    Ok(result("remaining", left == 0, format!("expected 0 pending documents, found {left}{beside}")))
}

/// The document is one of the tenants, one equality for each form of each: unlike the writer.
fn of_tenants(job: &DataJob) -> Option<Vec<Document>> {
    let tenants = job.data.source.tenants.as_ref()?;
    let is = |value: Bson| doc! { &tenants.field: { "$eq": value } };
    let mut either = Vec::new();
    for key in &tenants.keys {
        match key {
            TenantKey::Integer(number) => either.push(is(Bson::Int64(*number))),
            TenantKey::Text(text) => {
                either.push(is(Bson::String(text.clone())));
                if let Ok(uuid) = bson::Uuid::parse_str(text) {
                    either.extend([is(Bson::from(uuid)), is(Bson::String(uuid.to_string()))]);
                }
            }
        }
    }
    Some(either)
}

async fn count(
    connection: &Connection,
    lease: &TaskLease,
    documents: &Collection<Document>,
    tolerance: f64,
) -> EngineResult<CheckResult> {
    let books = connection.books().await?;
    let mut first_pass = ledger::name(&books, &lease.task().migration);
    first_pass.insert("pass", 1_i64);
    let seen =
        total(&books.checkpoint(), vec![doc! { "$match": first_pass }], Bson::String("$seen".into())).await?;
    let there = total(documents, Vec::new(), Bson::Int64(1)).await?;
    let allowed = there as f64 * tolerance;
    let passed = seen.abs_diff(there) as f64 <= allowed;
    let detail =
        format!("the first pass saw {seen} documents, {there} are there now; {allowed:.0} may differ");
    Ok(result("count", passed, detail))
}

/// Sums a value over the documents that a pipeline leaves, as a majority of the replica set holds them.
async fn total(
    collection: &Collection<Document>,
    mut pipeline: Vec<Document>,
    value: Bson,
) -> EngineResult<u64> {
    let doing = "counting documents";
    pipeline.push(doc! { "$group": { "_id": null, "total": { "$sum": value } } });
    let sums = collection.aggregate(pipeline).read_concern(ReadConcern::majority()).await;
    let sum = sums.map_err(error::asking(doing))?.try_next().await.map_err(error::asking(doing))?;
    let sum = sum.and_then(|sum| sum.get_i64("total").ok()).unwrap_or_default();
    Ok(u64::try_from(sum).unwrap_or_default())
}

async fn schema(
    connection: &Connection,
    lease: &TaskLease,
    job: &SchemaJob,
) -> EngineResult<Vec<CheckResult>> {
    let books = connection.books().await?;
    let entry = books.applied().find_one(doc! { "_id": ledger::name(&books, &lease.task().migration) }).await;
    let entry = entry.map_err(error::asking("reading the ledger"))?;
    let noted = entry.is_some_and(|entry| entry.get_str("checksum").ok() == Some(job.spec.checksum.as_str()));
    let detail =
        if noted { "the ledger has the migration" } else { "the ledger does not have the migration" };
    let mut results = vec![result("ledger", noted, detail.to_owned())];
    for assertion in &job.schema.verify {
        results.push(assertion::ask(connection, assertion).await?);
    }
    let SchemaChange::Commands(commands) = &job.schema.up else { return Ok(results) };
    for (at, json) in commands.iter().enumerate() {
        let command = extjson::document(json, "a command")?;
        let later = commands.iter().skip(at + 1).filter_map(|json| extjson::document(json, "a command").ok());
        if later.into_iter().any(|later| undoes(&later, target(&command))) {
            continue;
        }
        results.extend(effect(connection, &command).await?);
    }
    Ok(results)
}

/// The collection that a command names first.
fn target(command: &Document) -> &str {
    command.values().next().and_then(Bson::as_str).unwrap_or_default()
}

/// Whether a later command may take back what an earlier one did to the collection.
fn undoes(later: &Document, collection: &str) -> bool {
    let mut keys = later.keys();
    let undoing = keys.next().is_some_and(|name| !["create", "createIndexes"].contains(&name.as_str()));
    undoing && target(later) == collection
}

/// Checks that what a command asked for is there.
async fn effect(connection: &Connection, command: &Document) -> EngineResult<Option<CheckResult>> {
    let database = connection.application().await?;
    let name = target(command);
    let listed = doc! { "listCollections": 1, "filter": { "name": name } };
    let answer = database.run_command(listed).await.map_err(error::asking("listing collections"))?;
    let found = answer.get_document("cursor").and_then(|cursor| cursor.get_array("firstBatch"));
    let found = found.ok().and_then(|batch| batch.first()).and_then(Bson::as_document);
    Ok(match command.keys().next().map(String::as_str) {
        Some("createIndexes") => Some(indexes(connection, name, command).await?),
        Some("drop") => Some(result("collections", found.is_none(), presence(name, found))),
        Some("create" | "collMod") => {
            let wanted = command.get_document("validator").cloned().unwrap_or_default();
            let options = found.and_then(|found| found.get_document("options").ok());
            let have = options.and_then(|options| options.get_document("validator").ok()).cloned();
            let says = !command.contains_key("validator") || have.unwrap_or_default() == wanted;
            let detail = match says {
                true => presence(name, found),
                false => format!("the validator of {name} is not the one of the spec"),
            };
            Some(result("collections", found.is_some() && says, detail))
        }
        _ => None,
    })
}

fn presence(name: &str, found: Option<&Document>) -> String {
    format!("{name} is {}", if found.is_some() { "there" } else { "not there" })
}

/// Each index with its name, key and uniqueness.
async fn indexes(connection: &Connection, name: &str, command: &Document) -> EngineResult<CheckResult> {
    let documents = connection.collection(name).await?;
    let doing = "listing indexes";
    let there: Vec<_> = match documents.list_indexes().await {
        Ok(cursor) => cursor.try_collect().await.map_err(error::asking(doing))?,
        Err(error) if Cause::from(&error).code == codes::NO_NAMESPACE => Vec::new(),
        Err(error) => return Err(error::asking(doing)(error)),
    };
    let wanted = command.get_array("indexes").map(Vec::as_slice).unwrap_or_default();
    let missing: Vec<&str> = wanted
        .iter()
        .filter_map(Bson::as_document)
        .filter(|wanted| {
            let unique = wanted.get_bool("unique").unwrap_or(false);
            !there.iter().any(|have| {
                let options = have.options.clone().unwrap_or_default();
                options.name.as_deref() == wanted.get_str("name").ok()
                    && wanted.get_document("key").is_ok_and(|key| same_key(key, &have.keys))
                    && options.unique.unwrap_or(false) == unique
            })
        })
        .map(|wanted| wanted.get_str("name").unwrap_or("without a name"))
        .collect();
    let detail = match missing.is_empty() {
        true => format!("{name} has the {} indexes of the command", wanted.len()),
        false => format!("{name} lacks or has otherwise: {}", missing.join(", ")),
    };
    Ok(result("indexes", missing.is_empty(), detail))
}

/// The same fields in the same order and direction, whatever number type says so. Text indexes are stored in another
/// form than they are asked for: their name must do.
fn same_key(wanted: &Document, have: &Document) -> bool {
    let number = |value: &Bson| match value {
        Bson::Int32(number) => Some(f64::from(*number)),
        Bson::Int64(number) => Some(*number as f64),
        Bson::Double(number) => Some(*number),
        _ => None,
    };
    let same = |(one, other): (&Bson, &Bson)| {
        one == other || (number(one).is_some() && number(one) == number(other))
    };
    have.contains_key("_fts")
        || (wanted.keys().eq(have.keys()) && wanted.values().zip(have.values()).all(same))
}
