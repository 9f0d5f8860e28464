//! The questions. One method per call of the wire; none of them decides or retries.

use std::error::Error;
use std::time::Duration;

use shardlift_domain::failure::Failure;
use shardlift_domain::ids::{MigrationId, Version};
use shardlift_domain::migration::{Status, Verb};
use shardlift_domain::plan::Plan;
use shardlift_domain::spec::SpecFile;
use shardlift_proto::convert::{WireError, plan_from_wire};
use shardlift_proto::v1;
use shardlift_proto::v1::cluster_service_client::ClusterServiceClient;
use shardlift_proto::v1::migration_service_client::MigrationServiceClient;
use shardlift_runtime::telemetry::context;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Response, Streaming};
use tracing::Instrument;

use crate::model::{Leader, MigrationView, ShardPresence, WorkerPresence};
use crate::refusal::{Refusal, unreachable};
use crate::{Address, Watch};

const CONNECT: Duration = Duration::from_secs(5);
/// A peer that is silent for longer than both together is gone, even if no packet says so.
const KEEP_ALIVE: Duration = Duration::from_secs(10);
const KEEP_ALIVE_ANSWER: Duration = Duration::from_secs(5);
/// Verbs and look-ups are answered from memory or one commit.
const QUICK: Duration = Duration::from_secs(30);
/// A plan asks every shard for facts.
const THOROUGH: Duration = Duration::from_secs(120);
/// A view of 10,000 shards is about 3 MB.
const LARGEST_MESSAGE: usize = 64 << 20;

/// What became of a verb.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// The migration after the verb.
    pub migration: MigrationView,
    /// False: it was so already.
    pub changed: bool,
}

/// A connection to one coordinator. Clones share it; a lost connection is opened again by the next call.
#[derive(Debug, Clone)]
pub struct Client {
    migrations: MigrationServiceClient<Channel>,
    cluster: ClusterServiceClient<Channel>,
    address: Address,
}

impl Client {
    /// Connects within 5 seconds, or says why not (`coordinator.unreachable`).
    pub async fn connect(address: &Address) -> Result<Self, Failure> {
        let channel = Endpoint::from(address.uri())
            .connect_timeout(CONNECT)
            .http2_keep_alive_interval(KEEP_ALIVE)
            .keep_alive_timeout(KEEP_ALIVE_ANSWER)
            .keep_alive_while_idle(true)
            .connect()
            .await
            .map_err(|error| unreachable(address, &error.to_string(), error.source()))?;
        Ok(Self {
            migrations: MigrationServiceClient::new(channel.clone())
                .max_decoding_message_size(LARGEST_MESSAGE)
                .max_encoding_message_size(LARGEST_MESSAGE),
            cluster: ClusterServiceClient::new(channel).max_decoding_message_size(LARGEST_MESSAGE),
            address: address.clone(),
        })
    }

    /// What would happen; changes nothing.
    pub async fn plan(&self, specs: Vec<SpecFile>) -> Result<Plan, Vec<Failure>> {
        let specs = specs.into_iter().map(Into::into).collect();
        let call = self.migrations.clone().plan(within(THOROUGH, v1::PlanRequest { specs })).await;
        plan_from_wire(self.answer(call)?.plan).map_err(lacking)
    }

    /// Stores the migrations of the specs, and starts them if told so. Answers after the commit; the same content
    /// again is the same migration.
    pub async fn submit(&self, specs: Vec<SpecFile>, start: bool) -> Result<Plan, Vec<Failure>> {
        let specs = specs.into_iter().map(Into::into).collect();
        let span = tracing::info_span!("submit", otel.kind = "client");
        let asked = async {
            self.migrations.clone().submit(within(THOROUGH, v1::SubmitRequest { specs, start })).await
        };
        let call = asked.instrument(span).await;
        plan_from_wire(self.answer(call)?.plan).map_err(lacking)
    }

    /// Asks for a move of the newest version of a migration.
    pub async fn ask(&self, verb: Verb, id: &MigrationId) -> Result<Answer, Vec<Failure>> {
        let request = within(QUICK, v1::VerbRequest { id: id.to_string() });
        let mut service = self.migrations.clone();
        let call = match verb {
            Verb::Start => service.start(request).await,
            Verb::Pause => service.pause(request).await,
            Verb::Resume => service.resume(request).await,
            Verb::Cancel => service.cancel(request).await,
            Verb::Retry => service.retry(request).await,
        };
        let answer = self.answer(call)?;
        let migration = MigrationView::from_wire(answer.migration).map_err(lacking)?;
        Ok(Answer { migration, changed: answer.changed })
    }

    /// One migration with its shards; `None`: its newest version.
    pub async fn get(
        &self,
        id: &MigrationId,
        version: Option<Version>,
    ) -> Result<MigrationView, Vec<Failure>> {
        let request = v1::GetRequest { id: id.to_string(), version: version.map_or(0, |version| version.0) };
        let call = self.migrations.clone().get(within(QUICK, request)).await;
        MigrationView::from_wire(self.answer(call)?.migration).map_err(lacking)
    }

    /// The newest versions in the order of submission, without their shards. No status: all of them.
    pub async fn list(&self, statuses: &[Status]) -> Result<Vec<MigrationView>, Vec<Failure>> {
        let statuses = statuses.iter().map(|status| v1::Status::from(*status).into()).collect();
        let call = self.migrations.clone().list(within(QUICK, v1::ListRequest { statuses })).await;
        let migrations = self.answer(call)?.migrations;
        let views = migrations.into_iter().map(|migration| MigrationView::from_wire(Some(migration)));
        views.collect::<Result<_, _>>().map_err(lacking)
    }

    /// Follows the newest version of a migration until it rests, through restarts of the coordinator.
    pub fn watch(&self, id: &MigrationId) -> Watch {
        Watch::new(self.clone(), id.clone())
    }

    /// All declared shards, and who serves them.
    pub async fn shards(&self) -> Result<Vec<ShardPresence>, Vec<Failure>> {
        let call = self.cluster.clone().shards(within(QUICK, v1::ShardsRequest {})).await;
        let shards = self.answer(call)?.shards;
        shards.into_iter().map(ShardPresence::from_wire).collect::<Result<_, _>>().map_err(lacking)
    }

    /// All connected workers.
    pub async fn workers(&self) -> Result<Vec<WorkerPresence>, Vec<Failure>> {
        let call = self.cluster.clone().workers(within(QUICK, v1::WorkersRequest {})).await;
        let workers = self.answer(call)?.workers;
        workers.into_iter().map(WorkerPresence::from_wire).collect::<Result<_, _>>().map_err(lacking)
    }

    /// Who leads.
    pub async fn leader(&self) -> Result<Leader, Vec<Failure>> {
        let call = self.cluster.clone().leader(within(QUICK, v1::LeaderRequest {})).await;
        Ok(Leader::from_wire(self.answer(call)?))
    }

    pub(crate) async fn open_watch(&self, id: &MigrationId) -> Result<Streaming<v1::WatchResponse>, Refusal> {
        // No deadline: it would end the stream too. Keep-alive notices a peer that is gone.
        let call = self.migrations.clone().watch(v1::WatchRequest { id: id.to_string() }).await;
        call.map(Response::into_inner).map_err(|status| self.refusal(&status))
    }

    pub(crate) fn refusal(&self, status: &tonic::Status) -> Refusal {
        Refusal::of(status, &self.address)
    }

    fn answer<T>(&self, call: Result<Response<T>, tonic::Status>) -> Result<T, Vec<Failure>> {
        call.map(Response::into_inner).map_err(|status| self.refusal(&status).into_failures())
    }
}

fn within<T>(limit: Duration, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(limit);
    // The coordinator's spans are below the caller's.
    if let Some(text) = context::current().and_then(|text| text.parse().ok()) {
        request.metadata_mut().insert(context::HEADER, text);
    }
    request
}

fn lacking(error: WireError) -> Vec<Failure> {
    vec![error.into()]
}
