//! What the coordinator asks about shards, and what it is answered.

use shardlift_domain::backup::{BackupAnswer, BackupRequest};
use shardlift_domain::facts::FactsRequest;
use shardlift_domain::failure::{ErrorCode, Failure};
use shardlift_domain::fence::Fence;
use shardlift_domain::ids::ShardId;
use shardlift_domain::quarantine::QuarantineAnswer;
use shardlift_domain::spec::SpecFile;
use shardlift_domain::unique::UniqueAnswer;
use shardlift_proto::convert::{
    WireError, backup_answer_to_wire, backup_query_from_wire, check_request_from_wire, conflicts_from_wire,
    conflicts_page_to_wire, depth_from_wire, facts_to_wire, key_from_wire, mismatches_from_wire,
    mismatches_page_to_wire, page_to_wire, placement_from_wire, prepared_to_wire, purged_to_wire,
    quarantine_from_wire, quarantined_to_wire, rehearsal_query_from_wire, repair_from_wire,
    repair_page_to_wire, shard_rehearsal_to_wire, unique_answer_to_wire, unique_from_wire,
};
use shardlift_proto::v1::{
    self, backup_answer, conflicts_answer, facts_answer, from_worker, mismatches_answer, placement_answer,
    prepared_answer, purge_answer, quarantine_answer, rehearsal_answer, repair_answer, to_worker,
    unique_answer,
};

use super::checks;
use super::shards::Shards;
use crate::backup::answer;
use crate::engine::{DataJob, Job};
use crate::executor;

/// The message with what was found, or with why not. A row: the question, who answers it, and how that is said.
macro_rules! told {
    ($question:ident { $($name:ident($query:ident): $asked:expr => $message:ident, $of:ident, $found:expr;)+ }) => {
        match $question {
            $(to_worker::Message::$name($query) => {
                let number = $query.query;
                let answer = match $asked.await {
                    Ok(found) => $found(found),
                    Err(failure) => $of::Answer::Failure(failure.into()),
                };
                Some(from_worker::Message::$name(v1::$message { query: number, answer: Some(answer) }))
            })+
            to_worker::Message::Welcome(_)
            | to_worker::Message::Heartbeat(_)
            | to_worker::Message::Assign(_)
            | to_worker::Message::Withdraw(_)
            | to_worker::Message::Adjust(_)
            | to_worker::Message::Drain(_) => None,
        }
    };
}

/// The answer to a question about a shard; none to what is no question.
pub(super) async fn answer(
    question: to_worker::Message,
    leader: &Fence,
    shards: &Shards,
) -> Option<from_worker::Message> {
    told! { question {
        Facts(query): inspect(query, shards) => FactsAnswer, facts_answer, facts_answer::Answer::Facts;
        Placement(query): look(query, shards) => PlacementAnswer, placement_answer, placement_answer::Answer::Page;
        Quarantine(query): decide(query, leader, shards) => QuarantineAnswer, quarantine_answer, quarantined_to_wire;
        Conflicts(query): conflicts(query, shards) => ConflictsAnswer, conflicts_answer, conflicts_answer::Answer::Page;
        Prepared(query): in_doubt(query, shards) => PreparedAnswer, prepared_answer, prepared_answer::Answer::Page;
        Mismatches(query): mismatches(query, shards) => MismatchesAnswer, mismatches_answer, mismatches_answer::Answer::Page;
        Backup(query): backup(query, shards) => BackupAnswer, backup_answer, backup_answer_to_wire;
        Purge(query): purge(query, leader, shards) => PurgeAnswer, purge_answer, purge_answer::Answer::Purged;
        Rehearsal(query): rehearse(query, shards) => RehearsalAnswer, rehearsal_answer, rehearsal_answer::Answer::Rehearsal;
        Repair(query): repair(query, leader, shards) => RepairAnswer, repair_answer, repair_answer::Answer::Page;
        Unique(query): unique(query, leader, shards) => UniqueAnswer, unique_answer, unique_answer_to_wire;
    } }
}

/// One page of a look for misplaced rows.
async fn look(query: v1::PlacementQuery, shards: &Shards) -> Result<v1::PlacementPage, Failure> {
    let shard = shard_id(&query.shard)?;
    let request = placement_from_wire(query)?;
    let engine = shards.admitted(&shard).await?;
    let page = engine.placement(&request).await;
    page.map(page_to_wire).map_err(|error| error.into_failure().on_shard(&shard))
}

async fn decide(
    query: v1::QuarantineQuery,
    leader: &Fence,
    shards: &Shards,
) -> Result<QuarantineAnswer, Failure> {
    let shard = shard_id(&query.shard)?;
    let request = quarantine_from_wire(query)?;
    let engine = shards.admitted(&shard).await?;
    let answer = engine.quarantine(leader, &request).await;
    answer.map_err(|error| error.into_failure().on_shard(&shard).in_migration(&request.migration))
}

/// One page of what undoing has left alone.
async fn conflicts(query: v1::ConflictsQuery, shards: &Shards) -> Result<v1::ConflictsPage, Failure> {
    let shard = shard_id(&query.shard)?;
    let request = conflicts_from_wire(query)?;
    let engine = shards.admitted(&shard).await?;
    let page = engine.conflicts(&request).await;
    page.map(conflicts_page_to_wire).map_err(|error| error.into_failure().on_shard(&shard))
}

/// What is prepared.
async fn in_doubt(query: v1::PreparedQuery, shards: &Shards) -> Result<v1::PreparedPage, Failure> {
    let shard = shard_id(&query.shard)?;
    let engine = shards.admitted(&shard).await?;
    let found = engine.prepared(query.all).await.map_err(|error| error.into_failure().on_shard(&shard))?;
    Ok(v1::PreparedPage { transactions: found.into_iter().map(prepared_to_wire).collect() })
}

/// One page of rows that are not what their transform gives.
async fn mismatches(query: v1::MismatchesQuery, shards: &Shards) -> Result<v1::MismatchesPage, Failure> {
    let shard = shard_id(&query.shard)?;
    let request = mismatches_from_wire(query)?;
    let job = data_job(&request.file, "changes no rows that could be compared")?;
    let engine = shards.admitted(&shard).await?;
    let page = engine.mismatches(&request, &job).await;
    page.map(mismatches_page_to_wire)
        .map_err(|error| error.into_failure().on_shard(&shard).in_migration(&request.migration))
}

/// About a backup.
async fn backup(query: v1::BackupQuery, shards: &Shards) -> Result<BackupAnswer, Failure> {
    let shard = shard_id(&query.shard)?;
    let BackupRequest { migration, ask } = backup_query_from_wire(query)?;
    let engine = shards.admitted(&shard).await?;
    let answer = match shards.shelf(&shard, &migration).await {
        Ok(shelf) => answer::answer(engine.as_ref(), &shelf, ask).await,
        Err(error) => Err(error),
    };
    answer.map_err(|error| error.into_failure().on_shard(&shard).in_migration(&migration))
}

/// One page of rows that are repaired.
async fn repair(query: v1::RepairQuery, leader: &Fence, shards: &Shards) -> Result<v1::RepairPage, Failure> {
    let shard = shard_id(&query.shard)?;
    let request = repair_from_wire(query)?;
    let job = data_job(&request.file, "changes no rows that could be repaired")?;
    let engine = shards.admitted(&shard).await?;
    let page = engine.repair(leader, &request, &job).await;
    page.map(repair_page_to_wire)
        .map_err(|error| error.into_failure().on_shard(&shard).in_migration(&request.migration))
}

/// About digests of rows.
async fn unique(query: v1::UniqueQuery, leader: &Fence, shards: &Shards) -> Result<UniqueAnswer, Failure> {
    let shard = shard_id(&query.shard)?;
    let request = unique_from_wire(query)?;
    let job = data_job(&request.file, "has no rows that could be compared")?;
    let engine = shards.admitted(&shard).await?;
    let answer = engine.unique(leader, &request, &job).await;
    answer.map_err(|error| error.into_failure().on_shard(&shard).in_migration(&request.migration))
}

/// Some before-images less.
async fn purge(query: v1::PurgeQuery, leader: &Fence, shards: &Shards) -> Result<v1::Purged, Failure> {
    let shard = shard_id(&query.shard)?;
    let migration = key_from_wire(query.migration.ok_or(WireError::Missing("migration"))?)?;
    let engine = shards.admitted(&shard).await?;
    let purged = engine.purge(leader, &migration).await;
    purged.map(purged_to_wire).map_err(|error| error.into_failure().on_shard(&shard).in_migration(&migration))
}

/// The transform on a sample.
async fn rehearse(query: v1::RehearsalQuery, shards: &Shards) -> Result<v1::ShardRehearsal, Failure> {
    let shard = shard_id(&query.shard)?;
    let request = rehearsal_query_from_wire(query)?;
    let job = data_job(&request.file, "changes no rows that could be rehearsed")?;
    let engine = shards.admitted(&shard).await?;
    let found = engine.rehearse(&request, &job).await;
    found
        .map(shard_rehearsal_to_wire)
        .map_err(|error| error.into_failure().on_shard(&shard).in_migration(&request.migration))
}

fn shard_id(text: &str) -> Result<ShardId, Failure> {
    ShardId::new(text).map_err(|error| {
        Failure::new(ErrorCode::RequestInvalid, error.to_string(), "use an id as `shardlift shards` shows it")
    })
}

async fn inspect(query: v1::FactsQuery, shards: &Shards) -> Result<v1::ShardFacts, Failure> {
    let shard = shard_id(&query.shard)?;
    let engine = shards.admitted(&shard).await?;
    let schema = depth_from_wire(query.schema());
    let checks = query.checks.into_iter().map(check_request_from_wire).collect::<Result<Vec<_>, _>>()?;
    let request = FactsRequest { relations: query.relations, schema, checks };
    fail::fail_point!("worker-before-facts", |_| std::process::abort());
    let facts = engine.inspect(&request).await;
    let mut facts = facts.map_err(|error| error.into_failure().on_shard(&shard))?;
    facts.findings = checks::look(engine.as_ref(), &shard, request.checks).await;
    Ok(facts_to_wire(facts))
}

/// The job of a data migration; `lacks`: what a schema migration lacks for the question.
fn data_job(file: &SpecFile, lacks: &str) -> Result<DataJob, Failure> {
    match executor::job(file)? {
        Job::Data(job) => Ok(job),
        Job::Schema(_) => {
            let message = format!("a schema migration {lacks}");
            Err(Failure::new(ErrorCode::RequestInvalid, message, "name a data migration"))
        }
    }
}
