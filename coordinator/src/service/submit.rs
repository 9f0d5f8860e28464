//! submit: plan once more, refuse what is wrong, store the rest; answers after the commit (promise P4).

use std::collections::BTreeMap;

use shardlift_domain::failure::Failure;
use shardlift_domain::plan::Plan;
use shardlift_domain::spec::SpecFile;
use shardlift_domain::verdict::Severity;
use shardlift_runtime::telemetry::context;

use super::Services;
use crate::orchestrator::Submission;

impl Services {
    /// Stores the migrations of the files, and starts them if wanted. The same content again changes nothing.
    pub async fn submit(&self, files: Vec<SpecFile>, start: bool) -> Result<Plan, Vec<Failure>> {
        let planned = self.planned(&files).await?;
        if !planned.plan.submittable() {
            let errors =
                planned.plan.findings.into_iter().filter(|finding| finding.severity == Severity::Error);
            return Err(errors.map(|finding| finding.failure).collect());
        }
        let mut parsed: BTreeMap<_, _> = planned
            .specs
            .into_iter()
            .zip(files)
            .map(|(spec, file)| (spec.id.clone(), (spec, file)))
            .collect();
        let traceparent = context::current();
        let submissions = planned
            .plan
            .migrations
            .iter()
            .filter_map(|migration| {
                let (spec, file) = parsed.remove(&migration.id)?;
                let traceparent = traceparent.clone();
                Some(Submission { planned: migration.clone(), spec, file, traceparent })
            })
            .collect();
        self.orchestrator.submit(submissions, start).await.map_err(|failure| vec![failure])?;
        tracing::info!(migrations = planned.plan.migrations.len(), start, "submitted");
        Ok(planned.plan)
    }
}
