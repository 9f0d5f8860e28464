//! The door for people, scripts and the command line: MigrationService.

use std::time::Duration;

use futures::Stream;
use futures::stream::BoxStream;
use shardlift_domain::facts::Conflict;
use shardlift_domain::failure::{ErrorCode, Failure};
use shardlift_domain::ids::{MigrationId, ShardId, Version};
use shardlift_domain::migration::{Status as MigrationStatus, Verb};
use shardlift_domain::spec::SpecFile;
use shardlift_proto::convert::{plan_to_wire, sample_to_wire, throttle_change_from_wire};
use shardlift_proto::status::refuse;
use shardlift_proto::v1::{self, migration_service_server::MigrationService};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};
use tracing::Instrument;

use super::asker::asker;
use super::events;
use super::forward::refusal;
use super::pieces::Pieces;
use super::spans::called;
use super::views::migration_to_wire;
use super::{backup, mismatches, quarantine, repair};
use crate::orchestrator::{MigrationView, Standing};
use crate::service::{Decision, Services, ShownRow, migration_id};

/// How often a watched migration is told at most.
const WATCH_EVERY: Duration = Duration::from_millis(200);

/// Conflicts that are listed unless the request says how many, and at most.
const CONFLICTS: u32 = 1000;
const MOST_CONFLICTS: u32 = 10_000;

/// MigrationService over the services.
pub(super) struct MigrationDoor {
    services: Services,
    shutdown: CancellationToken,
}

impl MigrationDoor {
    pub(super) fn new(services: Services, shutdown: CancellationToken) -> Self {
        Self { services, shutdown }
    }

    async fn verb(
        &self,
        request: Request<v1::VerbRequest>,
        verb: Verb,
    ) -> Result<Response<v1::VerbResponse>, Status> {
        let by = asker(&request)?;
        let (view, changed) = self.services.verb(&request.into_inner().id, verb, by).await.map_err(one)?;
        Ok(Response::new(v1::VerbResponse { migration: Some(migration_to_wire(&view, true)), changed }))
    }
}

fn one(failure: Failure) -> Status {
    refuse(vec![failure])
}

fn files(specs: Vec<v1::SpecFile>) -> Vec<SpecFile> {
    specs.into_iter().map(Into::into).collect()
}

#[tonic::async_trait]
impl MigrationService for MigrationDoor {
    async fn plan(&self, request: Request<v1::PlanRequest>) -> Result<Response<v1::PlanResponse>, Status> {
        let v1::PlanRequest { specs, rehearse } = request.into_inner();
        let files = files(specs);
        let (plan, shown) = match rehearse {
            Some(v1::Rehearse { rows, shown }) => self.services.rehearse(&files, rows, shown).await,
            None => self.services.plan(&files).await.map(|plan| (plan, Vec::new())),
        }
        .map_err(refuse)?;
        let sample = |ShownRow { migration, shard, row }| v1::ShardSample {
            migration: migration.into(),
            shard: shard.into(),
            row: Some(sample_to_wire(row)),
        };
        let samples = shown.into_iter().map(sample).collect();
        Ok(Response::new(v1::PlanResponse { plan: Some(plan_to_wire(plan)), samples }))
    }

    async fn submit(
        &self,
        request: Request<v1::SubmitRequest>,
    ) -> Result<Response<v1::SubmitResponse>, Status> {
        let by = asker(&request)?;
        let span = called(tracing::info_span!("submit", otel.kind = "server"), &request);
        let request = request.into_inner();
        let (specs, revision) = (files(request.specs), request.topology_revision);
        let submit = self.services.submit(specs, request.start, revision, by);
        let plan = submit.instrument(span).await.map_err(refuse)?;
        Ok(Response::new(v1::SubmitResponse { plan: Some(plan_to_wire(plan)) }))
    }

    async fn start(&self, request: Request<v1::VerbRequest>) -> Result<Response<v1::VerbResponse>, Status> {
        self.verb(request, Verb::Start).await
    }

    async fn pause(&self, request: Request<v1::VerbRequest>) -> Result<Response<v1::VerbResponse>, Status> {
        self.verb(request, Verb::Pause).await
    }

    async fn resume(&self, request: Request<v1::VerbRequest>) -> Result<Response<v1::VerbResponse>, Status> {
        self.verb(request, Verb::Resume).await
    }

    async fn cancel(&self, request: Request<v1::VerbRequest>) -> Result<Response<v1::VerbResponse>, Status> {
        self.verb(request, Verb::Cancel).await
    }

    async fn retry(&self, request: Request<v1::VerbRequest>) -> Result<Response<v1::VerbResponse>, Status> {
        self.verb(request, Verb::Retry).await
    }

    async fn rollback(
        &self,
        request: Request<v1::RollbackRequest>,
    ) -> Result<Response<v1::VerbResponse>, Status> {
        let drop_data = request.get_ref().drop_data;
        let request = request.map(|v1::RollbackRequest { id, .. }| v1::VerbRequest { id });
        self.verb(request, Verb::Rollback { drop_data }).await
    }

    async fn purge(&self, request: Request<v1::VerbRequest>) -> Result<Response<v1::VerbResponse>, Status> {
        self.verb(request, Verb::Purge).await
    }

    async fn throttle(
        &self,
        request: Request<v1::ThrottleRequest>,
    ) -> Result<Response<v1::VerbResponse>, Status> {
        let (metadata, extensions, v1::ThrottleRequest { id, rate, time }) = request.into_parts();
        let change = throttle_change_from_wire(rate, time).map_err(one)?;
        let request = Request::from_parts(metadata, extensions, v1::VerbRequest { id });
        self.verb(request, Verb::Throttle(change)).await
    }

    async fn approve(
        &self,
        request: Request<v1::ApproveRequest>,
    ) -> Result<Response<v1::VerbResponse>, Status> {
        let by = asker(&request)?;
        let v1::ApproveRequest { id, checksum } = request.into_inner();
        let (view, changed) = self.services.approve(&id, checksum, by).await.map_err(one)?;
        Ok(Response::new(v1::VerbResponse { migration: Some(migration_to_wire(&view, true)), changed }))
    }

    async fn conflicts(
        &self,
        request: Request<v1::ConflictsRequest>,
    ) -> Result<Response<v1::ConflictsResponse>, Status> {
        let v1::ConflictsRequest { id, version, limit } = request.into_inner();
        let version = (version > 0).then_some(Version(version));
        let limit = if limit == 0 { CONFLICTS } else { limit.min(MOST_CONFLICTS) };
        let (found, more) = self.services.conflicts(&id, version, limit).await.map_err(one)?;
        let told = |(shard, conflict): (ShardId, Conflict)| v1::ShardConflict {
            shard: shard.into(),
            conflict: Some(conflict.into()),
        };
        Ok(Response::new(v1::ConflictsResponse { conflicts: found.into_iter().map(told).collect(), more }))
    }

    type MismatchesStream = Pieces<v1::MismatchesResponse>;

    async fn mismatches(
        &self,
        request: Request<v1::MismatchesRequest>,
    ) -> Result<Response<Self::MismatchesStream>, Status> {
        mismatches::comparing(self.services.clone(), request.into_inner()).map(Response::new).map_err(one)
    }

    type ListBackupsStream = Pieces<v1::ListBackupsResponse>;

    async fn list_backups(
        &self,
        request: Request<v1::ListBackupsRequest>,
    ) -> Result<Response<Self::ListBackupsStream>, Status> {
        backup::listing(self.services.clone(), request.into_inner()).map(Response::new).map_err(one)
    }

    type RestoreBackupStream = Pieces<v1::RestoreBackupResponse>;

    async fn restore_backup(
        &self,
        request: Request<v1::RestoreBackupRequest>,
    ) -> Result<Response<Self::RestoreBackupStream>, Status> {
        backup::restoring(self.services.clone(), request.into_inner()).map(Response::new).map_err(one)
    }

    type PurgeBackupsStream = Pieces<v1::PurgeBackupsResponse>;

    async fn purge_backups(
        &self,
        request: Request<v1::PurgeBackupsRequest>,
    ) -> Result<Response<Self::PurgeBackupsStream>, Status> {
        backup::purging(self.services.clone(), request.into_inner()).map(Response::new).map_err(one)
    }

    type RepairStream = Pieces<v1::RepairResponse>;

    async fn repair(
        &self,
        request: Request<v1::RepairRequest>,
    ) -> Result<Response<Self::RepairStream>, Status> {
        repair::repairing(self.services.clone(), request.into_inner()).map(Response::new).map_err(one)
    }

    async fn get(&self, request: Request<v1::GetRequest>) -> Result<Response<v1::GetResponse>, Status> {
        let request = request.into_inner();
        let id = migration_id(&request.id).map_err(one)?;
        let version = (request.version > 0).then_some(Version(request.version));
        let view = self.services.orchestrator().get(id, version).await.map_err(one)?;
        Ok(Response::new(v1::GetResponse { migration: Some(migration_to_wire(&view, true)) }))
    }

    async fn list(&self, request: Request<v1::ListRequest>) -> Result<Response<v1::ListResponse>, Status> {
        let wanted: Vec<v1::Status> = request.into_inner().statuses().collect();
        let views = self.services.orchestrator().list().await.map_err(one)?;
        let shown =
            |view: &&MigrationView| wanted.is_empty() || wanted.contains(&view.migration.status.into());
        let migrations = views.iter().filter(shown).map(|view| migration_to_wire(view, false)).collect();
        Ok(Response::new(v1::ListResponse { migrations }))
    }

    async fn events(
        &self,
        request: Request<v1::EventsRequest>,
    ) -> Result<Response<v1::EventsResponse>, Status> {
        Ok(Response::new(events::page(&self.services, request.into_inner()).await.map_err(one)?))
    }

    type WatchStream = BoxStream<'static, Result<v1::WatchResponse, Status>>;

    async fn watch(&self, request: Request<v1::WatchRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let id = migration_id(&request.into_inner().id).map_err(one)?;
        let first = self.services.orchestrator().get(id.clone(), None).await.map_err(one)?;
        let stream = watching(self.services.clone(), self.shutdown.clone(), first);
        Ok(Response::new(Box::pin(stream)))
    }

    type ListQuarantineStream = Pieces<v1::ListQuarantineResponse>;

    async fn list_quarantine(
        &self,
        request: Request<v1::ListQuarantineRequest>,
    ) -> Result<Response<Self::ListQuarantineStream>, Status> {
        quarantine::listing(self.services.clone(), request.into_inner()).map(Response::new).map_err(one)
    }

    type ShowQuarantineStream = Pieces<v1::ShowQuarantineResponse>;

    async fn show_quarantine(
        &self,
        request: Request<v1::ShowQuarantineRequest>,
    ) -> Result<Response<Self::ShowQuarantineStream>, Status> {
        quarantine::showing(self.services.clone(), request.into_inner()).map(Response::new).map_err(one)
    }

    async fn retry_quarantine(
        &self,
        request: Request<v1::DecideQuarantineRequest>,
    ) -> Result<Response<v1::DecideQuarantineResponse>, Status> {
        quarantine::decide(&self.services, request, Decision::Retry).await
    }

    async fn discard_quarantine(
        &self,
        request: Request<v1::DecideQuarantineRequest>,
    ) -> Result<Response<v1::DecideQuarantineResponse>, Status> {
        quarantine::decide(&self.services, request, Decision::Discard).await
    }
}

struct Watching {
    services: Services,
    shutdown: CancellationToken,
    next: Option<MigrationView>,
    id: MigrationId,
    resting: bool,
}

/// The last word of a watch when the lead passes on: who leads now, so that the watcher goes on there.
fn gone(standing: &Standing, mut state: Watching) -> (Result<v1::WatchResponse, Status>, Watching) {
    state.resting = true;
    (Err(refusal(standing)), state)
}

/// The migration now and whenever it changed, until it rests. Ends when the coordinator does, or leads no more.
fn watching(
    services: Services,
    shutdown: CancellationToken,
    first: MigrationView,
) -> impl Stream<Item = Result<v1::WatchResponse, Status>> {
    let id = first.migration.key.id.clone();
    let state = Watching { services, shutdown, next: Some(first), id, resting: false };
    futures::stream::unfold(state, async |mut state| {
        if state.resting {
            return None;
        }
        let view = match state.next.take() {
            Some(view) => view,
            None => {
                let mut changes = state.services.orchestrator().changes();
                changes.mark_unchanged();
                let standing = state.services.orchestrator().standing().clone();
                let news = async {
                    tokio::time::sleep(WATCH_EVERY).await;
                    // A beat without change too: the speed of an idle shard falls to nothing.
                    let _ = tokio::time::timeout(Duration::from_secs(1), changes.changed()).await;
                };
                tokio::select! {
                    () = news => {}
                    () = state.shutdown.cancelled() => return Some(gone(&standing, state)),
                    () = standing.let_go() => return Some(gone(&standing, state)),
                }
                match state.services.orchestrator().get(state.id.clone(), None).await {
                    Ok(view) => view,
                    Err(failure) if failure.code == ErrorCode::CoordinatorNotLeader => {
                        return Some(gone(&standing, state));
                    }
                    Err(failure) => {
                        state.resting = true;
                        return Some((Err(one(failure)), state));
                    }
                }
            }
        };
        let status = view.migration.status;
        state.resting =
            status.is_final() || matches!(status, MigrationStatus::Paused | MigrationStatus::Failed);
        Some((Ok(v1::WatchResponse { migration: Some(migration_to_wire(&view, true)) }), state))
    })
}
