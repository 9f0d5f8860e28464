//! Whether the shard can take a change: everything that is wrong at once, before anything is changed.

use std::time::Duration;

use bson::{Bson, Document, doc};
use mongodb::Database;
use shardlift_domain::spec::{Question, Transform};
use shardlift_domain::verdict::{Finding, Severity};
use shardlift_domain::{ErrorCode, Failure, MigrationKey};

use super::commands::{self, Command, Known};
use super::connection::{Books, Connection};
use super::error::{self, Cause};
use super::writer::selection;
use super::{
    bracket, busy, checkpoint, extjson, facts, fence, inspect, ledger, privileges, references, secondaries,
    unique,
};
use crate::engine::findings::Findings;
use crate::engine::{DataJob, Direction, EngineError, EngineResult, Job, SchemaJob};
use crate::lease::TaskLease;

/// How long one document that does not fit a validator is looked for.
const VALIDATOR_WITHIN: Duration = Duration::from_secs(3);

pub(super) async fn precheck(connection: &Connection, lease: &TaskLease, job: &Job) -> EngineResult<()> {
    lease.check()?;
    if let Some(problem) = inspect::server_problem(connection).await.map_err(unreachable)? {
        return Err(EngineError::Failed(problem));
    }
    fence::check(&connection.books().await?, lease.leader()).await?;
    look(connection, &lease.task().migration, job).await?.verdict()
}

/// Tells all findings.
pub(super) async fn check(
    connection: &Connection,
    migration: &MigrationKey,
    job: &Job,
) -> EngineResult<Vec<Finding>> {
    if let Some(problem) = inspect::server_problem(connection).await.map_err(unreachable)? {
        let mut findings = Findings::new(&connection.shard, migration);
        findings.of_shard(Severity::Error, problem.code, problem.message, problem.next);
        return Ok(findings.into_all());
    }
    Ok(look(connection, migration, job).await?.into_all())
}

async fn look(connection: &Connection, migration: &MigrationKey, job: &Job) -> EngineResult<Findings> {
    let books = connection.books().await?;
    let mut findings = Findings::new(&connection.shard, migration);
    let version =
        inspect::server_version(connection).await.map_err(error::asking("asking for the version"))?;
    if let Some(old) = inspect::version_problem(&version) {
        findings.of_shard(Severity::Error, old.code, old.message, old.next);
    }
    match ledger::holds(&books, migration, Direction::Up, &job.spec().checksum).await {
        Err(EngineError::Failed(conflict)) if conflict.code == ErrorCode::LedgerConflict => {
            findings.error(conflict);
        }
        other => drop(other?),
    }
    privileges::look(connection, job, &mut findings).await?;
    busy::look(connection, job, &mut findings).await?;
    questions(connection, job, &mut findings).await?;
    match job {
        Job::Schema(job) => schema(connection, &books, migration, job, &mut findings).await?,
        Job::Data(job) => data(connection, &books, migration, job, &mut findings).await?,
    }
    Ok(findings)
}

fn unreachable(failure: Failure) -> EngineError {
    if failure.code == ErrorCode::ShardUnreachable {
        EngineError::Connection(failure)
    } else {
        EngineError::Failed(failure)
    }
}

fn finding(code: ErrorCode, message: String, next: &str) -> Failure {
    Failure::new(code, message, next)
}

async fn data(
    connection: &Connection,
    books: &Books,
    migration: &MigrationKey,
    job: &DataJob,
    findings: &mut Findings,
) -> EngineResult<()> {
    let name = job.data.source.relation.as_str();
    let there = inspect::collection(connection, name).await?;
    if let Some(problem) = collection_problem(name, there.as_ref()) {
        findings.error(problem);
        return Ok(());
    }
    let ranges = checkpoint::all(books, migration, None).await?;
    if ranges.iter().any(|range| range.checksum != job.spec.checksum.as_str()) {
        findings.error(ledger::conflict(migration));
    }
    let database = connection.application().await?;
    room(&database, name, findings).await?;
    if job.data.max_replica_lag.is_some() {
        secondaries::look(connection, findings).await?;
    }
    for wanted in job.data.references() {
        references::look(connection, wanted, findings).await?;
    }
    for wanted in job.data.unique() {
        unique::look(connection, name, wanted, findings).await?;
    }
    if let Some(query) = selection(job)? {
        let filter = doc! { "$and": [{ "_id": { "$lte": Bson::MinKey } }, query] };
        let find = doc! { "find": name, "filter": filter, "hint": { "_id": 1 } };
        let problem = refused(&database, find, "`where`", ErrorCode::SpecInvalid).await?;
        problem.into_iter().for_each(|problem| findings.error(problem));
    }
    match &job.data.transform {
        Transform::Pipeline(stages) => {
            let pipeline = extjson::documents(stages, "pipeline")?;
            key_problem(&pipeline).into_iter().for_each(|problem| findings.error(problem));
            let statement = doc! { "q": { "_id": { "$lte": Bson::MinKey } }, "u": pipeline, "multi": true };
            let update = doc! { "update": name, "updates": [statement] };
            let problem = refused(&database, update, "the pipeline", ErrorCode::TransformInvalid).await?;
            problem.into_iter().for_each(|problem| findings.error(problem));
        }
        Transform::Sql(_) => findings.error(finding(
            ErrorCode::SpecUnsupported,
            "an SQL transform cannot run on MongoDB".to_owned(),
            "use a pipeline, vrl or a transformer",
        )),
        Transform::Vrl(_) | Transform::Named { .. } => {}
    }
    Ok(())
}

/// Whether the disk has the room that rewriting a collection may take. A server that does not say is not asked twice.
async fn room(database: &Database, name: &str, findings: &mut Findings) -> EngineResult<()> {
    let asking = || error::asking("asking for the room on the disk");
    let stats = database.run_command(doc! { "dbStats": 1 }).await.map_err(asking())?;
    let (total, used) = (facts::number(&stats, "fsTotalSize"), facts::number(&stats, "fsUsedSize"));
    if total == 0 {
        return Ok(());
    }
    let size = database.run_command(doc! { "collStats": name }).await.map_err(asking())?;
    let needed = facts::number(&size, "storageSize");
    let free = total.saturating_sub(used);
    if free < needed.max(total / 20) {
        let mib = |bytes: u64| bytes / (1024 * 1024);
        let what = format!(
            "the disk has {} MiB left of {}, and rewriting {name} may take up to {} MiB and as much oplog again",
            mib(free),
            mib(total),
            mib(needed)
        );
        let next = "make room, or set throttle.rows_per_second";
        findings.of_shard(Severity::Warning, ErrorCode::ShardOutOfResources, what, next);
    }
    Ok(())
}

fn collection_problem(name: &str, there: Option<&Document>) -> Option<Failure> {
    let Some(there) = there else {
        return Some(finding(
            ErrorCode::PrecheckRefused,
            format!("there is no collection {name}"),
            "mend source.collection, or let the spec depend on the one that creates it",
        ));
    };
    let kind = there.get_str("type").unwrap_or("collection");
    let capped =
        there.get_document("options").is_ok_and(|options| options.get_bool("capped").unwrap_or(false));
    if kind == "collection" && !capped {
        return None;
    }
    let kind = if capped { "capped collection" } else { kind };
    Some(finding(
        ErrorCode::PrecheckRefused,
        format!("{name} is a {kind}: its documents cannot be rewritten in transactions"),
        "copy it into an ordinary collection first",
    ))
}

/// Lets the server parse a command without running it.
async fn refused(
    database: &Database,
    command: Document,
    what: &str,
    code: ErrorCode,
) -> EngineResult<Option<Failure>> {
    let explained = database.run_command(doc! { "explain": command, "verbosity": "queryPlanner" }).await;
    let Err(error) = explained else { return Ok(None) };
    match error::refusal(&format!("{what} is refused by the server"), &Cause::from(&error)) {
        EngineError::Failed(refused) if refused.code == ErrorCode::ShardRefused => {
            Ok(Some(finding(code, refused.message, "mend the spec and submit it again")))
        }
        other => Err(other),
    }
}

/// The questions of `verify`, tried: whether the server understands them.
async fn questions(connection: &Connection, job: &Job, findings: &mut Findings) -> EngineResult<()> {
    let database = connection.application().await?;
    for assertion in job.spec().assertions() {
        let Question::Documents { collection, query } = &assertion.question else { continue };
        let find = doc! { "find": collection, "filter": extjson::document(query, "verify.where")? };
        let problem = refused(&database, find, "a question of `verify`", ErrorCode::PrecheckRefused).await?;
        problem.into_iter().for_each(|problem| findings.error(problem));
    }
    Ok(())
}

/// Documents that a new validator would not let in: they stay, but the application could not change them any more.
async fn validator(connection: &Connection, command: &Command, findings: &mut Findings) -> EngineResult<()> {
    let Ok(rule) = command.document.get_document("validator") else { return Ok(()) };
    if command.known != Known::CollMod || rule.is_empty() || spares_old(&command.document) {
        return Ok(());
    }
    let documents = connection.collection(&command.target).await?;
    let misfit = documents.find_one(doc! { "$nor": [rule] }).projection(doc! { "_id": 1 });
    // One that is not found in time is not told; a rule that the server refuses is refused by the command.
    let Ok(Some(found)) = misfit.max_time(VALIDATOR_WITHIN).await else { return Ok(()) };
    let key = found.get("_id").map(bracket::text).unwrap_or_default();
    let what = format!(
        "documents of {} do not fit the new validator, such as {key}: the application cannot change them any more",
        command.target
    );
    let next = "change them first, or set validationLevel to moderate";
    // It is the data that does not fit: the server only obeys the rule.
    findings.of_spec(Severity::Warning, ErrorCode::RowRejected, what, next);
    Ok(())
}

/// Whether a command with a validator lets the application go on changing documents that do not fit it.
fn spares_old(command: &Document) -> bool {
    let says = |key: &str, words: &[&str]| command.get_str(key).is_ok_and(|word| words.contains(&word));
    says("validationLevel", &["moderate", "off"]) || says("validationAction", &["warn"])
}

/// A pipeline that plainly writes `_id`; what only documents show is refused by the server document by document.
fn key_problem(pipeline: &[Document]) -> Option<Failure> {
    let is_key = |path: &str| path == "_id" || path.starts_with("_id.");
    let touches = |stage: &Document| {
        stage.iter().any(|(operator, body)| match (operator.as_str(), body) {
            ("$set" | "$addFields", Bson::Document(fields)) => fields.keys().any(|path| is_key(path)),
            ("$unset", Bson::String(path)) => is_key(path),
            ("$unset", Bson::Array(paths)) => paths.iter().filter_map(Bson::as_str).any(is_key),
            _ => false,
        })
    };
    pipeline.iter().any(touches).then(|| {
        finding(
            ErrorCode::TransformInvalid,
            "the pipeline changes _id".to_owned(),
            "leave _id as it is: MongoDB never changes the key of a document",
        )
    })
}

async fn schema(
    connection: &Connection,
    books: &Books,
    migration: &MigrationKey,
    job: &SchemaJob,
    findings: &mut Findings,
) -> EngineResult<()> {
    let commands = match commands::parse(&job.schema.up, &connection.database) {
        Ok(commands) => commands,
        Err(problem) => {
            findings.error(problem);
            return Ok(());
        }
    };
    if let Err(problem) = commands::parse(&job.schema.down, &connection.database) {
        findings.error(problem);
    }
    let begun = books.intent().find_one(doc! { "_id": ledger::name(books, migration) }).await;
    if begun.map_err(error::asking("reading the intent of a schema change"))?.is_some() {
        // Some commands may have run: what they need may be gone by their own effect.
        return Ok(());
    }
    let mut names = Vec::new();
    for command in &commands {
        validator(connection, command, findings).await?;
        let problem = needs(connection, command, &mut names).await?;
        problem.into_iter().for_each(|problem| findings.error(problem));
    }
    Ok(())
}

/// Whether the collection that a command needs is there, or made by a command before it. `names`: what those left,
/// by name: there or gone.
async fn needs(
    connection: &Connection,
    command: &Command,
    names: &mut Vec<(String, bool)>,
) -> EngineResult<Option<Failure>> {
    let target = &command.target;
    let there = match names.iter().rev().find(|(name, _)| name == target) {
        Some((_, there)) => *there,
        None => inspect::collection(connection, target).await?.is_some(),
    };
    names.push((target.clone(), !matches!(command.known, Known::Drop | Known::RenameCollection)));
    names.extend(command.to.clone().map(|to| (to, true)));
    let problem = match (command.known, there) {
        (Known::Create, true) => format!("the collection {target} is there already"),
        (Known::CollMod | Known::DropIndexes | Known::Drop | Known::RenameCollection, false) => {
            format!("there is no collection {target}")
        }
        _ => return Ok(None),
    };
    Ok(Some(finding(ErrorCode::PrecheckRefused, problem, "mend the spec or the shard")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pipeline_that_writes_the_key_is_found() {
        assert!(key_problem(&[doc! { "$set": { "_id.x": 1 } }]).is_some());
        assert!(key_problem(&[doc! { "$unset": ["a", "_id"] }]).is_some());
        assert!(key_problem(&[doc! { "$set": { "_idea": 1 } }]).is_none());
    }

    #[test]
    fn a_validator_that_refuses_nothing_to_old_documents_is_told_apart() {
        assert!(!spares_old(&doc! { "validator": { "a": 1 } }));
        assert!(!spares_old(&doc! { "validationLevel": "strict", "validationAction": "error" }));
        for (key, word) in
            [("validationLevel", "moderate"), ("validationLevel", "off"), ("validationAction", "warn")]
        {
            assert!(spares_old(&doc! { key: word }), "{key}: {word}");
        }
    }
}
