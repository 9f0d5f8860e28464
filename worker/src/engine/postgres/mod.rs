//! PostgreSQL: everything Shardlift does to a shard of this engine.
//!
//! Reading order: [`session`] opens guarded connections; [`bookkeeping`] and [`fence`] are the shard's own memory;
//! [`table`], [`key`] and [`walk`] turn a spec into SQL; [`split`] lays out ranges in [`checkpoint`]; [`claim`] takes
//! one and gives it to a [`writer`], which finds a [`window`] and changes it by [`batch_sql`] or [`batch_rows`];
//! [`share`] splits a running range; [`set_aside`] puts a row into [`quarantine`]; [`sweep`] searches what is left, [`verify`] proves the result, with [`anew`] row by row, [`unique`] so that shards can be compared; [`apply`] changes the shape,
//! [`atomic`] on every shard or none; [`backup`] saves and restores.
//!
//! It decides nothing about pace, retries of batches or what comes next: that is the executor's.

mod anew;
mod apply;
mod assertion;
mod atomic;
mod backup;
mod batch_rows;
mod batch_sql;
mod blockers;
mod bookkeeping;
mod capture;
mod changes;
mod checkpoint;
mod claim;
mod document;
mod error;
mod fence;
mod inspect;
mod key;
mod ledger;
mod placement;
mod precheck;
mod purge;
mod quarantine;
mod references;
mod rehearse;
mod schema;
mod session;
mod set_aside;
mod share;
mod split;
mod standbys;
mod sweep;
mod table;
mod undo;
mod unique;
mod verify;
mod walk;
mod watch;
mod window;
mod writer;

use std::sync::Arc;

use async_trait::async_trait;
use shardlift_domain::Failure;
use shardlift_domain::backup::Restored;
use shardlift_domain::facts::{
    ConflictsPage, ConflictsRequest, FactsRequest, PlacementPage, PlacementRequest, Purged, ShardFacts,
    ShardHello,
};
use shardlift_domain::fence::Fence;
use shardlift_domain::ids::{ClusterName, MigrationKey, ShardId};
use shardlift_domain::mismatch::{MismatchesPage, MismatchesRequest};
use shardlift_domain::prepared::PreparedTransaction;
use shardlift_domain::quarantine::{QuarantineAnswer, QuarantineRequest};
use shardlift_domain::range::Pass;
use shardlift_domain::rehearsal::{RehearsalRequest, ShardRehearsal};
use shardlift_domain::repair::{RepairPage, RepairRequest};
use shardlift_domain::unique::{UniqueAnswer, UniqueRequest};
use shardlift_domain::verdict::{Finding, Sweep, VerifyReport};
use shardlift_runtime::config::Secret;

use self::session::Access;
use super::{Collector, DataJob, EngineResult, Health, Job, RangeWriter, SchemaJob, ShardEngine, UndoWriter};
use crate::backup::format::RowsDigest;
use crate::backup::{Saving, Subject, Target};
use crate::lease::TaskLease;

/// One PostgreSQL database as a shard.
pub struct PostgresEngine {
    access: Access,
    cluster: ClusterName,
}

impl PostgresEngine {
    /// Reads the connection string (`postgres://user:password@host:port/database`); opens no connection yet.
    pub fn new(shard: ShardId, cluster: ClusterName, dsn: &Secret) -> Result<Self, Failure> {
        Ok(Self { access: Access::new(shard, dsn.expose())?, cluster })
    }
}

#[async_trait]
impl ShardEngine for PostgresEngine {
    async fn hello(&self) -> ShardHello {
        inspect::hello(&self.access, &self.cluster).await
    }

    async fn health(&self) -> EngineResult<Health> {
        let mut session = self.access.control("control").await?;
        let lag = standbys::seen(&mut session, &self.access.track).await?.lag;
        session.close().await;
        // How much of the disk is free SQL cannot tell.
        Ok(Health { lag, disk: None })
    }

    async fn identify(&self, cluster_uuid: &str) -> EngineResult<()> {
        let mut session = self.access.control("control").await?;
        bookkeeping::identify(&mut session, cluster_uuid).await?;
        session.close().await;
        Ok(())
    }

    async fn inspect(&self, request: &FactsRequest) -> EngineResult<ShardFacts> {
        inspect::inspect(&self.access, request).await
    }

    async fn placement(&self, request: &PlacementRequest) -> EngineResult<PlacementPage> {
        placement::look(&self.access, request).await
    }

    async fn check(&self, migration: &MigrationKey, job: &Job) -> EngineResult<Vec<Finding>> {
        precheck::check(&self.access, migration, job).await
    }

    async fn precheck(&self, lease: &TaskLease, job: &Job) -> EngineResult<()> {
        precheck::precheck(&self.access, lease, job).await
    }

    async fn apply(&self, lease: &TaskLease, job: &SchemaJob) -> EngineResult<bool> {
        apply::apply(&self.access, lease, job).await
    }

    async fn prepare(&self, lease: &TaskLease, job: &SchemaJob) -> EngineResult<()> {
        atomic::prepare(&self.access, lease, job).await
    }

    async fn commit(&self, lease: &TaskLease, job: &SchemaJob) -> EngineResult<()> {
        atomic::commit(&self.access, lease, job).await
    }

    async fn abort(&self, lease: &TaskLease, job: &SchemaJob) -> EngineResult<()> {
        atomic::abort(&self.access, lease, job).await
    }

    async fn prepared(&self, all: bool) -> EngineResult<Vec<PreparedTransaction>> {
        atomic::told(&self.access, all).await
    }

    async fn split(&self, lease: &TaskLease, job: &DataJob, ranges: u32) -> EngineResult<Pass> {
        split::split(&self.access, lease, job, ranges).await
    }

    async fn open_range(&self, lease: &TaskLease, job: Arc<DataJob>) -> EngineResult<Box<dyn RangeWriter>> {
        claim::open_range(&self.access, lease, &job).await
    }

    async fn sweep(&self, lease: &TaskLease, job: &DataJob) -> EngineResult<Sweep> {
        sweep::sweep(&self.access, lease, job).await
    }

    async fn save(&self, lease: &TaskLease, job: &DataJob, into: &mut dyn Saving) -> EngineResult<()> {
        backup::save(&self.access, lease, job, into).await
    }

    async fn try_out(&self, subject: &Subject, rows: &[u8]) -> EngineResult<RowsDigest> {
        backup::try_out(&self.access, subject, rows).await
    }

    async fn restore(&self, subject: &Subject, target: &Target, rows: &[u8]) -> EngineResult<Restored> {
        backup::restore(&self.access, subject, target, rows).await
    }

    async fn verify(&self, lease: &TaskLease, job: &Job) -> EngineResult<VerifyReport> {
        verify::verify(&self.access, lease, job).await
    }

    async fn quarantine(
        &self,
        leader: &Fence,
        request: &QuarantineRequest,
    ) -> EngineResult<QuarantineAnswer> {
        quarantine::answer(&self.access, leader, request).await
    }

    async fn open_undo(&self, lease: &TaskLease, job: Arc<DataJob>) -> EngineResult<Box<dyn UndoWriter>> {
        undo::open(&self.access, lease, &job).await
    }

    async fn undo_schema(&self, lease: &TaskLease, job: &SchemaJob, drop_data: bool) -> EngineResult<()> {
        apply::undo(&self.access, lease, job, drop_data).await
    }

    async fn conflicts(&self, request: &ConflictsRequest) -> EngineResult<ConflictsPage> {
        undo::conflicts(&self.access, request).await
    }

    async fn mismatches(&self, request: &MismatchesRequest, job: &DataJob) -> EngineResult<MismatchesPage> {
        anew::mismatches(&self.access, request, job).await
    }

    async fn repair(
        &self,
        leader: &Fence,
        request: &RepairRequest,
        job: &DataJob,
    ) -> EngineResult<RepairPage> {
        anew::repair(&self.access, leader, request, job).await
    }

    async fn purge(&self, leader: &Fence, migration: &MigrationKey) -> EngineResult<Purged> {
        purge::purge(&self.access, leader, migration).await
    }

    async fn open_collection(
        &self,
        lease: &TaskLease,
        job: Arc<DataJob>,
    ) -> EngineResult<Box<dyn Collector>> {
        unique::open(&self.access, lease, &job).await
    }

    async fn unique(
        &self,
        leader: &Fence,
        request: &UniqueRequest,
        job: &DataJob,
    ) -> EngineResult<UniqueAnswer> {
        unique::answer(&self.access, leader, request, job).await
    }

    async fn rehearse(&self, request: &RehearsalRequest, job: &DataJob) -> EngineResult<ShardRehearsal> {
        rehearse::rehearse(&self.access, request, job).await
    }
}
