//! The questions. One method per call of the wire; none of them decides anything.

use std::time::Duration;

use shardlift_domain::facts::Conflict;
use shardlift_domain::failure::Failure;
use shardlift_domain::ids::{Checksum, MigrationId, ShardId, Version, WorkerId};
use shardlift_domain::migration::{Status, Verb};
use shardlift_domain::plan::Plan;
use shardlift_domain::rehearsal::SampleRow;
use shardlift_domain::spec::SpecFile;
use shardlift_proto::bearer::Bearer;
use shardlift_proto::convert::{WireError, plan_from_wire, sample_from_wire, throttle_change_to_wire};
use shardlift_proto::v1;
use shardlift_runtime::random;
use shardlift_runtime::telemetry::context;
use shardlift_runtime::tls::Dial;
use tonic::Request;
use tracing::Instrument;

use crate::connection::{Connection, Services};
use crate::model::{Drained, Leader, MigrationView, ShardPresence, WorkerPresence};
use crate::{Coordinators, Watch};

/// Verbs and look-ups are answered from memory or one commit.
pub(crate) const QUICK: Duration = Duration::from_secs(30);
/// A plan asks every shard for facts.
pub(crate) const THOROUGH: Duration = Duration::from_secs(120);
/// A row that a rehearsal shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sample {
    /// Of which migration.
    pub migration: MigrationId,
    /// Where it is.
    pub shard: ShardId,
    /// Before and after.
    pub row: SampleRow,
}

impl Sample {
    fn from_wire(sample: v1::ShardSample) -> Result<Self, WireError> {
        Ok(Self {
            migration: MigrationId::new(sample.migration)?,
            shard: ShardId::new(sample.shard)?,
            row: sample_from_wire(sample.row.ok_or(WireError::Missing("row"))?),
        })
    }
}

/// What became of a verb.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// The migration after the verb.
    pub migration: MigrationView,
    /// False: it was so already.
    pub changed: bool,
}

/// Asks coordinators, whichever answers. Clones share the connection.
///
/// Every question may be repeated, so a coordinator that is gone, or does not lead, only means another try: at the
/// leader that it names, else at the next one of the list, with growing pauses, until the patience is over.
#[derive(Debug, Clone)]
pub struct Client {
    pub(crate) connection: Connection,
}

impl Client {
    /// A client of these coordinators, which tries for so long to be answered. It connects with its first question.
    /// No patience: each coordinator is tried once.
    pub fn new(coordinators: impl Into<Coordinators>, patience: Duration) -> Self {
        Self { connection: Connection::new(coordinators.into(), patience) }
    }

    /// Dials coordinators over TLS in this way, where their addresses begin with `https`. The provider of TLS must be installed:
    /// `shardlift_runtime::tls::install_provider`.
    pub fn over(mut self, tls: Dial) -> Self {
        self.connection.over(tls);
        self
    }

    /// Told once for each question that has waited for two seconds because nobody answers or nobody leads.
    pub fn on_wait(mut self, told: impl Fn(&Failure) + Send + Sync + 'static) -> Self {
        self.connection.on_wait(told);
        self
    }

    /// Each call carries this token.
    pub fn with_token(mut self, bearer: Bearer) -> Self {
        self.connection.with_token(bearer);
        self
    }

    /// What would happen; changes nothing.
    pub async fn plan(&self, specs: Vec<SpecFile>) -> Result<Plan, Vec<Failure>> {
        Ok(self.planned(specs, None).await?.0)
    }

    /// What would happen, with a rehearsal: each shard tries the transforms on about so many rows (0: a number that is
    /// good for most), and rolls back. The rows are shown to whoever asks, and kept nowhere.
    pub async fn rehearse(
        &self,
        specs: Vec<SpecFile>,
        rows: u32,
    ) -> Result<(Plan, Vec<Sample>), Vec<Failure>> {
        self.planned(specs, Some(v1::Rehearse { rows, shown: true })).await
    }

    async fn planned(
        &self,
        specs: Vec<SpecFile>,
        rehearse: Option<v1::Rehearse>,
    ) -> Result<(Plan, Vec<Sample>), Vec<Failure>> {
        let asked = v1::PlanRequest { specs: specs.into_iter().map(Into::into).collect(), rehearse };
        let ask = |mut to: Services| {
            let asked = within(THOROUGH, asked.clone());
            async move { to.migrations.plan(asked).await }
        };
        let v1::PlanResponse { plan, samples } = self.connection.answered(ask).await?;
        let samples: Result<_, WireError> = samples.into_iter().map(Sample::from_wire).collect();
        Ok((plan_from_wire(plan).map_err(lacking)?, samples.map_err(lacking)?))
    }

    /// Stores the migrations of the specs, and starts them if told so. Answers after the commit; the same content
    /// again is the same migration.
    ///
    /// `revision`: of the topology, as the plan that was read names it; refused with `plan.stale` when it has moved since.
    pub async fn submit(
        &self,
        specs: Vec<SpecFile>,
        start: bool,
        revision: Option<u64>,
    ) -> Result<Plan, Vec<Failure>> {
        let specs = specs.into_iter().map(Into::into).collect();
        let asked = v1::SubmitRequest { specs, start, topology_revision: revision };
        let ask = |mut to: Services| {
            let asked = within(THOROUGH, asked.clone());
            async move { to.migrations.submit(asked).await }
        };
        let span = tracing::info_span!("submit", otel.kind = "client");
        let answer = self.connection.answered(ask).instrument(span).await?;
        plan_from_wire(answer.plan).map_err(lacking)
    }

    /// Asks for a move of the newest version of a migration.
    pub async fn ask(&self, verb: Verb, id: &MigrationId) -> Result<Answer, Vec<Failure>> {
        let ask = |mut to: Services| {
            let request = within(QUICK, v1::VerbRequest { id: id.to_string() });
            async move {
                match verb {
                    Verb::Start => to.migrations.start(request).await,
                    Verb::Pause => to.migrations.pause(request).await,
                    Verb::Resume => to.migrations.resume(request).await,
                    Verb::Cancel => to.migrations.cancel(request).await,
                    Verb::Retry => to.migrations.retry(request).await,
                    Verb::Purge => to.migrations.purge(request).await,
                    Verb::Rollback { drop_data } => {
                        let request = v1::RollbackRequest { id: id.to_string(), drop_data };
                        to.migrations.rollback(within(QUICK, request)).await
                    }
                    Verb::Throttle(change) => {
                        let request = throttle_change_to_wire(id, change);
                        to.migrations.throttle(within(QUICK, request)).await
                    }
                }
            }
        };
        let answer = self.connection.answered(ask).await?;
        let migration = MigrationView::from_wire(answer.migration).map_err(lacking)?;
        Ok(Answer { migration, changed: answer.changed })
    }

    /// Approves the newest version of a migration, if it still has the content that was read.
    pub async fn approve(&self, id: &MigrationId, checksum: &Checksum) -> Result<Answer, Vec<Failure>> {
        let asked = v1::ApproveRequest { id: id.to_string(), checksum: Some(checksum.to_string()) };
        let ask = |mut to: Services| {
            let asked = within(QUICK, asked.clone());
            async move { to.migrations.approve(asked).await }
        };
        let answer = self.connection.answered(ask).await?;
        let migration = MigrationView::from_wire(answer.migration).map_err(lacking)?;
        Ok(Answer { migration, changed: answer.changed })
    }

    /// What a rollback of the newest version has left alone, and whether there is more than was asked for.
    pub async fn conflicts(
        &self,
        id: &MigrationId,
        limit: u32,
    ) -> Result<(Vec<(ShardId, Conflict)>, bool), Vec<Failure>> {
        let asked = v1::ConflictsRequest { id: id.to_string(), version: 0, limit };
        let ask = |mut to: Services| {
            let asked = within(THOROUGH, asked.clone());
            async move { to.migrations.conflicts(asked).await }
        };
        let answer = self.connection.answered(ask).await?;
        let one = |found: v1::ShardConflict| {
            let conflict = found.conflict.ok_or(WireError::Missing("conflict"))?;
            Ok((ShardId::new(found.shard)?, Conflict::from(conflict)))
        };
        let found = answer.conflicts.into_iter().map(one).collect::<Result<_, WireError>>();
        Ok((found.map_err(lacking)?, answer.more))
    }

    /// One migration with its shards; `None`: its newest version.
    pub async fn get(
        &self,
        id: &MigrationId,
        version: Option<Version>,
    ) -> Result<MigrationView, Vec<Failure>> {
        let asked = v1::GetRequest { id: id.to_string(), version: version.map_or(0, |version| version.0) };
        let ask = |mut to: Services| {
            let asked = within(QUICK, asked.clone());
            async move { to.migrations.get(asked).await }
        };
        MigrationView::from_wire(self.connection.answered(ask).await?.migration).map_err(lacking)
    }

    /// The newest versions in the order of submission, without their shards. No status: all of them.
    pub async fn list(&self, statuses: &[Status]) -> Result<Vec<MigrationView>, Vec<Failure>> {
        let statuses = statuses.iter().map(|status| v1::Status::from(*status).into()).collect();
        let asked = v1::ListRequest { statuses };
        let ask = |mut to: Services| {
            let asked = within(QUICK, asked.clone());
            async move { to.migrations.list(asked).await }
        };
        let migrations = self.connection.answered(ask).await?.migrations;
        let views = migrations.into_iter().map(|migration| MigrationView::from_wire(Some(migration)));
        views.collect::<Result<_, _>>().map_err(lacking)
    }

    /// Follows the newest version of a migration until it rests, through restarts of coordinators and changes of the
    /// leader.
    pub fn watch(&self, id: &MigrationId) -> Watch {
        Watch::new(self.connection.clone(), id.clone())
    }

    /// All declared shards, and who serves them.
    pub async fn shards(&self) -> Result<Vec<ShardPresence>, Vec<Failure>> {
        let ask =
            |mut to: Services| async move { to.cluster.shards(within(QUICK, v1::ShardsRequest {})).await };
        let shards = self.connection.answered(ask).await?.shards;
        shards.into_iter().map(ShardPresence::from_wire).collect::<Result<_, _>>().map_err(lacking)
    }

    /// All connected workers.
    pub async fn workers(&self) -> Result<Vec<WorkerPresence>, Vec<Failure>> {
        let ask =
            |mut to: Services| async move { to.cluster.workers(within(QUICK, v1::WorkersRequest {})).await };
        let workers = self.connection.answered(ask).await?.workers;
        workers.into_iter().map(WorkerPresence::from_wire).collect::<Result<_, _>>().map_err(lacking)
    }

    /// Gives a worker nothing new, or lets it take work again.
    pub async fn drain(&self, worker: &WorkerId, draining: bool) -> Result<Drained, Vec<Failure>> {
        let request = v1::DrainRequest { worker: worker.to_string(), draining };
        let ask = |mut to: Services| {
            let request = request.clone();
            async move { to.cluster.drain(within(QUICK, request)).await }
        };
        Drained::from_wire(self.connection.answered(ask).await?).map_err(lacking)
    }

    /// Who leads.
    pub async fn leader(&self) -> Result<Leader, Vec<Failure>> {
        let ask =
            |mut to: Services| async move { to.cluster.leader(within(QUICK, v1::LeaderRequest {})).await };
        Ok(Leader::from_wire(self.connection.answered(ask).await?))
    }
}

pub(crate) fn within<T>(limit: Duration, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(limit);
    // The history names the request that asked for a change.
    if let Ok(id) = random::uuid().parse() {
        request.metadata_mut().insert("x-request-id", id);
    }
    // The coordinator's spans are below the caller's.
    if let Some(text) = context::current().and_then(|text| text.parse().ok()) {
        request.metadata_mut().insert(context::HEADER, text);
    }
    request
}

pub(crate) fn lacking(error: WireError) -> Vec<Failure> {
    vec![error.into()]
}
