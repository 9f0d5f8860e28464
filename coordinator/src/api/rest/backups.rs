//! Backups over HTTP: what there is, of one migration or of all. Restoring takes long and is the command line's and gRPC's.

use axum::Json;
use serde::{Deserialize, Serialize};
use shardlift_proto::v1;
use utoipa::{IntoParams, ToSchema};

use super::Rest;
use super::answers::FailureBody;
use super::asked::{Path, Query, limit};
use super::problem::Problem;
use super::words::Engine;

/// Backups, shard by shard.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Backups)]
pub(super) struct BackupsBody {
    backups: Vec<BackupBody>,
    /// There are more than were asked for.
    more: bool,
}

/// What one shard has saved. No rows.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Backup)]
struct BackupBody {
    migration: String,
    version: u32,
    shard: String,
    /// Null: there is no complete backup, or the shard could not be asked.
    backup: Option<SavedBody>,
    /// Why the shard could not be asked.
    error: Option<FailureBody>,
}

/// One complete backup.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = SavedTable)]
struct SavedBody {
    engine: Option<Engine>,
    /// The table or collection.
    relation: String,
    began: String,
    ended: String,
    rows: u64,
    /// Before compression.
    bytes: u64,
    /// As they lie in the object store.
    stored: u64,
    parts: u32,
    /// `snapshot`: all rows as they were at one moment; `majority`: each document as a majority held it when it was read.
    consistency: String,
    /// A directory of the worker's machine, or a bucket and a prefix.
    place: String,
}

impl From<v1::ListBackupsResponse> for BackupBody {
    fn from(found: v1::ListBackupsResponse) -> Self {
        let migration = found.migration.unwrap_or_default();
        Self {
            migration: migration.id,
            version: migration.version,
            shard: found.shard,
            backup: found.backup.map(Into::into),
            error: found.failure.map(Into::into),
        }
    }
}

impl From<v1::Backup> for SavedBody {
    fn from(backup: v1::Backup) -> Self {
        Self {
            engine: Engine::of(backup.engine()),
            relation: backup.relation,
            began: backup.began,
            ended: backup.ended,
            rows: backup.rows,
            bytes: backup.bytes,
            stored: backup.stored,
            parts: backup.parts,
            consistency: backup.consistency,
            place: backup.place,
        }
    }
}

/// How many backups.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct BackupsQuery {
    /// How many at most, up to 10,000; 1000 unless told.
    #[param(minimum = 1, maximum = 10_000)]
    limit: Option<u32>,
}

/// What all migrations with `backup: table` have saved, asked of the shards.
#[utoipa::path(get, path = "/api/v1/backups", tag = "migrations", params(BackupsQuery),
    responses((status = 200, description = "Shard by shard.", body = BackupsBody)))]
pub(super) async fn all(rest: Rest, Query(query): Query<BackupsQuery>) -> Result<Json<BackupsBody>, Problem> {
    listed(&rest, None, &query).await
}

/// What one migration has saved, asked of its shards.
#[utoipa::path(get, path = "/api/v1/migrations/{id}/backups", tag = "migrations",
    params(("id" = String, Path, description = "The migration's id."), BackupsQuery),
    responses((status = 200, description = "Shard by shard, all versions.", body = BackupsBody)))]
pub(super) async fn of_one(
    rest: Rest,
    Path(id): Path,
    Query(query): Query<BackupsQuery>,
) -> Result<Json<BackupsBody>, Problem> {
    listed(&rest, Some(id), &query).await
}

async fn listed(rest: &Rest, id: Option<String>, query: &BackupsQuery) -> Result<Json<BackupsBody>, Problem> {
    let limit = limit(query.limit, 1000, 10_000)?;
    let mut found = rest.migrations().list_backups(v1::ListBackupsRequest { id }).await?.into_inner();
    let mut told = BackupsBody { backups: Vec::new(), more: false };
    while let Some(backup) = found.message().await? {
        if told.backups.len() == limit {
            told.more = true;
            break;
        }
        told.backups.push(backup.into());
    }
    Ok(Json(told))
}
