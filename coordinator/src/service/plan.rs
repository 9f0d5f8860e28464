//! plan: parse, ask the shards for facts, plan. Changes nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use shardlift_domain::facts::{FactsRequest, ShardFacts};
use shardlift_domain::failure::{ErrorCode, Failure};
use shardlift_domain::ids::{MigrationId, ShardId};
use shardlift_domain::plan::Plan;
use shardlift_domain::spec::{self, Spec, SpecFile};
use shardlift_domain::topology::Topology;
use tokio::time::timeout;

use super::Services;
use crate::planner::{self, Tenancy};

/// How long a shard may take to tell its facts.
const FACTS_WITHIN: Duration = Duration::from_secs(20);

/// A plan with the parsed specs that it was made from, in the order of the files.
pub(super) struct Planned {
    pub(super) plan: Plan,
    /// Without tenants that have opted out; with the files that say so.
    pub(super) tenancy: Tenancy,
    pub(super) topology: Arc<Topology>,
    /// Migrations before which the shape of their tables changes.
    pub(super) early: BTreeSet<MigrationId>,
}

impl Services {
    /// Makes a plan. Everything that is wrong with the files is told at once; what is wrong with the shards stands
    /// in the plan's findings.
    pub async fn plan(&self, files: &[SpecFile]) -> Result<Plan, Vec<Failure>> {
        Ok(self.planned(files).await?.plan)
    }

    pub(super) async fn planned(&self, files: &[SpecFile]) -> Result<Planned, Vec<Failure>> {
        if files.is_empty() {
            let failure = Failure::new(
                ErrorCode::RequestInvalid,
                "there are no specs",
                "name a directory that holds some",
            );
            return Err(vec![failure]);
        }
        let specs = spec::parse_all(files)
            .map_err(|problems| problems.iter().flat_map(spec::SpecProblems::failures).collect::<Vec<_>>())?;
        let view = self.orchestrator.planning().await.map_err(|failure| vec![failure])?;
        refuse_left_out(&specs, files)?;
        let (tenancy, tenants) = self.tenancy(specs, files, &view.known).await;
        let (topology, directory) = (&view.topology, &view.directory);
        let needs = planner::needs(&tenancy.specs, &tenancy.files, topology, directory, &view.known);
        let shards = self.facts(needs).await;
        let facts = planner::Facts { topology, directory, known: &view.known, tenants: &tenants, shards };
        let mut plan = planner::plan(&tenancy.specs, &facts);
        tenancy.tell(&mut plan);
        let early = planner::rehearsal::early(&plan, &view.known);
        Ok(Planned { plan, tenancy, topology: view.topology, early })
    }

    /// Asks many shards at once.
    pub(super) async fn facts(
        &self,
        needs: BTreeMap<ShardId, FactsRequest>,
    ) -> BTreeMap<ShardId, Result<ShardFacts, Failure>> {
        let asked = needs.into_iter().map(|(shard, request)| async move {
            let told = timeout(FACTS_WITHIN, self.orchestrator.facts(shard.clone(), request)).await;
            (shard, told.unwrap_or_else(|_| Err(silent())))
        });
        join_all(asked).await.into_iter().collect()
    }
}

/// Who is left out is decided by the tenants, and written by the coordinator: a file from outside has no say in it.
fn refuse_left_out(specs: &[Spec], files: &[SpecFile]) -> Result<(), Vec<Failure>> {
    let says = |spec: &Spec| spec.tenants().is_some_and(|tenants| !tenants.left_out.is_empty());
    let saying = specs.iter().zip(files).filter(|(spec, _)| says(spec));
    let refused: Vec<Failure> = saying
        .map(|(_, file)| {
            let message = "left_out is written by the coordinator alone, for tenants that have opted out";
            Failure::new(ErrorCode::SpecInvalid, message, "take those tenants out of `tenants` instead")
                .in_file(&file.name)
        })
        .collect();
    if refused.is_empty() { Ok(()) } else { Err(refused) }
}

fn silent() -> Failure {
    Failure::new(
        ErrorCode::ShardUnreachable,
        format!("the shard did not tell its facts within {} s", FACTS_WITHIN.as_secs()),
        "look whether its server is overloaded or locked, then plan again",
    )
}
