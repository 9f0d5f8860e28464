//! Looks a shard over for migrations that are only planned.

use std::time::Duration;

use futures::StreamExt;
use shardlift_domain::facts::Check;
use shardlift_domain::failure::{ErrorCode, Failure};
use shardlift_domain::ids::ShardId;
use shardlift_domain::verdict::{Finding, Severity};
use tokio::time::{Instant, timeout_at};

use crate::engine::ShardEngine;
use crate::executor::job;

/// How long all looks may take together: whoever plans waits for them, also where the shard is far away.
const WITHIN: Duration = Duration::from_secs(10);
/// Looks at once.
const AT_ONCE: usize = 4;

/// The findings of all checks, each told once.
pub(super) async fn look(engine: &dyn ShardEngine, shard: &ShardId, checks: Vec<Check>) -> Vec<Finding> {
    let (deadline, all) = (Instant::now() + WITHIN, checks.len());
    let looks: Vec<_> = checks.into_iter().map(|check| one(engine, shard, check)).collect();
    let mut looks = futures::stream::iter(looks).buffered(AT_ONCE);
    let (mut found, mut done): (Vec<Finding>, usize) = (Vec::new(), 0);
    while let Ok(Some(findings)) = timeout_at(deadline, looks.next()).await {
        done += 1;
        findings.into_iter().for_each(|finding| add(&mut found, finding));
    }
    if done < all {
        let message = format!(
            "within {} s the shard was looked over for {done} of {all} migrations only",
            WITHIN.as_secs()
        );
        let failure =
            Failure::new(ErrorCode::PrecheckRefused, message, "nothing: the precheck of each looks again");
        found.push(Finding { severity: Severity::Note, failure: failure.on_shard(shard) });
    }
    found
}

/// What concerns the shard is found by every look, and is as serious as the most serious says.
fn add(found: &mut Vec<Finding>, finding: Finding) {
    match found.iter_mut().find(|other| other.failure == finding.failure) {
        Some(other) => other.severity = other.severity.max(finding.severity),
        None => found.push(finding),
    }
}

async fn one(engine: &dyn ShardEngine, shard: &ShardId, check: Check) -> Vec<Finding> {
    let found = match job(&check.file) {
        Ok(job) => {
            engine.check(&check.migration, &job).await.map_err(crate::engine::EngineError::into_failure)
        }
        Err(failure) => Err(failure),
    };
    found.unwrap_or_else(|failure| {
        let failure = failure.on_shard(shard).in_migration(&check.migration);
        vec![Finding { severity: Severity::Error, failure }]
    })
}
