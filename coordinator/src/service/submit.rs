//! submit: plan once more, refuse what is wrong, store the rest; answers after the commit (promise P4).

use std::collections::BTreeMap;

use shardlift_domain::failure::{ErrorCode, Failure};
use shardlift_domain::plan::Plan;
use shardlift_domain::spec::SpecFile;
use shardlift_domain::verdict::Severity;
use shardlift_runtime::telemetry::context;

use super::Services;
use crate::orchestrator::{Asker, Submission};
use crate::planner::Tenancy;
use crate::shard::stale;

/// How often a plan is made when the topology moves under it.
const REPLANS: u32 = 5;

impl Services {
    /// Stores the migrations of the files, and starts them if wanted. The same content again changes nothing.
    ///
    /// `revision`: of the topology, as the person has seen it in the plan; when it moved since, the person looks again.
    /// Without it the plan is made anew until it holds. `by`: the author, as the history tells it.
    pub async fn submit(
        &self,
        files: Vec<SpecFile>,
        start: bool,
        revision: Option<u64>,
        by: impl Into<Asker>,
    ) -> Result<Plan, Vec<Failure>> {
        let by = by.into();
        let mut tries = 1;
        loop {
            match self.submit_once(&files, start, revision, &by).await {
                Err(failures)
                    if revision.is_none()
                        && tries < REPLANS
                        && failures.iter().any(|failure| failure.code == ErrorCode::PlanStale) =>
                {
                    tries += 1;
                }
                other => return other,
            }
        }
    }

    async fn submit_once(
        &self,
        files: &[SpecFile],
        start: bool,
        revision: Option<u64>,
        by: &Asker,
    ) -> Result<Plan, Vec<Failure>> {
        let planned = self.planned(files).await?;
        let now = planned.plan.topology_revision;
        if let Some(seen) = revision.filter(|seen| *seen != now) {
            return Err(vec![stale(&planned.topology, seen)]);
        }
        if !planned.plan.submittable() {
            let errors =
                planned.plan.findings.into_iter().filter(|finding| finding.severity == Severity::Error);
            return Err(errors.map(|finding| finding.failure).collect());
        }
        if start {
            let held = planned.tenancy.held();
            if !held.is_empty() {
                return Err(held);
            }
            self.may_begin_known(&planned.plan).await.map_err(|failure| vec![failure])?;
        }
        let Tenancy { specs, files, .. } = planned.tenancy;
        let mut parsed: BTreeMap<_, _> =
            specs.into_iter().zip(files).map(|(spec, file)| (spec.id.clone(), (spec, file))).collect();
        let told = self.listeners();
        let traceparent = context::current();
        let submissions = planned
            .plan
            .migrations
            .iter()
            .filter_map(|migration| {
                let (spec, file) = parsed.remove(&migration.id)?;
                let traceparent = traceparent.clone();
                let (planned, told) = (migration.clone(), told.clone());
                Some(Submission { planned, spec, file, traceparent, told })
            })
            .collect();
        let stored = self.orchestrator.submit(submissions, now, start, by.clone()).await;
        stored.map_err(|failure| vec![failure])?;
        tracing::info!(migrations = planned.plan.migrations.len(), start, by = by.name, "submitted");
        Ok(planned.plan)
    }
}
