//! A MongoDB replica set as a shard: the database of the DSN holds the application's collections, the database
//! `shardlift` of the same replica set holds Shardlift's own, keyed by the application's database.
//!
//! A batch is one multi-document transaction ([`writer`]) that changes the documents of a window of `_id`s and
//! advances the checkpoint of its range ([`checkpoint`]). Keys are compared by the server only: [`bracket`] knows
//! which of them may be compared with each other at all.
//!
//! Documents that the application commits late: a transaction of the application that is open when a pass ends may
//! still commit documents in the old form. MongoDB ends every transaction after `transactionLifetimeLimitSeconds`
//! (60 s unless changed), so [`sweep`] first waits, as far as the privileges allow to look, until every transaction
//! that is older than the pass's end is over, and counts then.

mod anew;
mod apply;
mod assertion;
mod backup;
mod bracket;
mod busy;
mod capture;
mod change;
mod checkpoint;
mod claim;
mod codes;
mod commands;
mod connection;
mod diff;
mod error;
mod extjson;
mod facts;
mod fence;
mod identity;
mod image;
mod inspect;
mod ledger;
mod lookahead;
mod placement;
mod portion;
mod precheck;
mod privileges;
mod proof;
mod purge;
mod quarantine;
mod references;
mod rehearse;
mod rewrite;
mod schema;
mod secondaries;
mod share;
mod split;
mod sweep;
mod transaction;
mod undo;
mod unique;
mod verify;
mod writer;

use std::sync::Arc;

use async_trait::async_trait;
use shardlift_domain::backup::Restored;
use shardlift_domain::facts::{
    ConflictsPage, ConflictsRequest, FactsRequest, PlacementPage, PlacementRequest, Purged, ShardFacts,
    ShardHello,
};
use shardlift_domain::fence::Fence;
use shardlift_domain::ids::{ClusterName, MigrationKey, ShardId};
use shardlift_domain::mismatch::{MismatchesPage, MismatchesRequest};
use shardlift_domain::quarantine::{QuarantineAnswer, QuarantineRequest};
use shardlift_domain::range::Pass;
use shardlift_domain::rehearsal::{RehearsalRequest, ShardRehearsal};
use shardlift_domain::repair::{RepairPage, RepairRequest};
use shardlift_domain::unique::{UniqueAnswer, UniqueRequest};
use shardlift_domain::verdict::{Finding, Sweep, VerifyReport};
use shardlift_domain::{ErrorCode, Failure};

use self::connection::Connection;
use self::writer::Writer;
use super::{Collector, DataJob, EngineResult, Health, Job, RangeWriter, SchemaJob, ShardEngine, UndoWriter};
use crate::backup::format::RowsDigest;
use crate::backup::{Saving, Subject, Target};
use crate::lease::TaskLease;

/// One shard on MongoDB.
pub struct MongodbEngine {
    connection: Connection,
}

impl MongodbEngine {
    /// Reads the DSN (`mongodb://…/database?replicaSet=…`); connects with the first call that needs it.
    pub fn new(shard: ShardId, cluster: ClusterName, dsn: &str) -> Result<Self, Failure> {
        Ok(Self { connection: Connection::new(shard, cluster, dsn)? })
    }
}

#[async_trait]
impl ShardEngine for MongodbEngine {
    async fn hello(&self) -> ShardHello {
        facts::hello(&self.connection).await
    }

    async fn health(&self) -> EngineResult<Health> {
        facts::health(&self.connection).await
    }

    async fn identify(&self, cluster_uuid: &str) -> EngineResult<()> {
        identity::identify(&self.connection, cluster_uuid).await
    }

    async fn inspect(&self, request: &FactsRequest) -> EngineResult<ShardFacts> {
        facts::inspect(&self.connection, request).await
    }

    async fn placement(&self, request: &PlacementRequest) -> EngineResult<PlacementPage> {
        placement::look(&self.connection, request).await
    }

    async fn check(&self, migration: &MigrationKey, job: &Job) -> EngineResult<Vec<Finding>> {
        precheck::check(&self.connection, migration, job).await
    }

    async fn precheck(&self, lease: &TaskLease, job: &Job) -> EngineResult<()> {
        precheck::precheck(&self.connection, lease, job).await
    }

    async fn apply(&self, lease: &TaskLease, job: &SchemaJob) -> EngineResult<bool> {
        apply::apply(&self.connection, lease, job).await
    }

    async fn split(&self, lease: &TaskLease, job: &DataJob, ranges: u32) -> EngineResult<Pass> {
        split::first_pass(&self.connection, lease, job, ranges).await
    }

    async fn open_range(&self, lease: &TaskLease, job: Arc<DataJob>) -> EngineResult<Box<dyn RangeWriter>> {
        Ok(Box::new(Writer::open(&self.connection, lease, job).await?))
    }

    async fn sweep(&self, lease: &TaskLease, job: &DataJob) -> EngineResult<Sweep> {
        sweep::sweep(&self.connection, lease, job).await
    }

    async fn save(&self, lease: &TaskLease, job: &DataJob, into: &mut dyn Saving) -> EngineResult<()> {
        backup::save(&self.connection, lease, job, into).await
    }

    async fn try_out(&self, subject: &Subject, rows: &[u8]) -> EngineResult<RowsDigest> {
        backup::try_out(&self.connection, subject, rows).await
    }

    async fn restore(&self, subject: &Subject, target: &Target, rows: &[u8]) -> EngineResult<Restored> {
        backup::restore(&self.connection, subject, target, rows).await
    }

    async fn verify(&self, lease: &TaskLease, job: &Job) -> EngineResult<VerifyReport> {
        verify::verify(&self.connection, lease, job).await
    }

    async fn quarantine(
        &self,
        leader: &Fence,
        request: &QuarantineRequest,
    ) -> EngineResult<QuarantineAnswer> {
        quarantine::patiently(&self.connection, leader, request).await
    }

    async fn open_undo(&self, lease: &TaskLease, job: Arc<DataJob>) -> EngineResult<Box<dyn UndoWriter>> {
        undo::open(&self.connection, lease, &job).await
    }

    async fn undo_schema(&self, lease: &TaskLease, job: &SchemaJob, drop_data: bool) -> EngineResult<()> {
        apply::undo(&self.connection, lease, job, drop_data).await
    }

    async fn conflicts(&self, request: &ConflictsRequest) -> EngineResult<ConflictsPage> {
        undo::conflicts(&self.connection, request).await
    }

    async fn mismatches(&self, request: &MismatchesRequest, job: &DataJob) -> EngineResult<MismatchesPage> {
        anew::mismatches(&self.connection, request, job).await
    }

    async fn repair(
        &self,
        leader: &Fence,
        request: &RepairRequest,
        job: &DataJob,
    ) -> EngineResult<RepairPage> {
        anew::repair(&self.connection, leader, request, job).await
    }

    async fn purge(&self, leader: &Fence, migration: &MigrationKey) -> EngineResult<Purged> {
        purge::purge(&self.connection, leader, migration).await
    }

    async fn open_collection(
        &self,
        lease: &TaskLease,
        job: Arc<DataJob>,
    ) -> EngineResult<Box<dyn Collector>> {
        unique::open(&self.connection, lease, &job).await
    }

    async fn unique(
        &self,
        leader: &Fence,
        request: &UniqueRequest,
        job: &DataJob,
    ) -> EngineResult<UniqueAnswer> {
        unique::answer(&self.connection, leader, request, job).await
    }

    async fn rehearse(&self, request: &RehearsalRequest, job: &DataJob) -> EngineResult<ShardRehearsal> {
        rehearse::rehearse(&self.connection, request, job).await
    }
}

/// A value that only a defect of Shardlift can bring about.
fn defect(message: impl Into<String>) -> super::EngineError {
    super::EngineError::Failed(Failure::new(
        ErrorCode::Internal,
        message,
        "report this with the worker's log; the shard was not changed by it",
    ))
}
