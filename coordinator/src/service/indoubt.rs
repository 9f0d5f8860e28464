//! indoubt: what is prepared on the shards, and what was decided about it.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::future::join_all;
use shardlift_domain::failure::{ErrorCode, Failure};
use shardlift_domain::ids::{MigrationId, ShardId};
use shardlift_domain::migration::{Decision, Migration};
use shardlift_domain::prepared::{Named, PreparedTransaction};
use shardlift_domain::spec::Engine;

use super::Services;

/// How long a shard may take to answer.
const WITHIN: Duration = Duration::from_secs(10);

/// What is known about a prepared transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is not ours.
    Foreign,
    /// Some shard has still to prepare.
    Open,
    /// It is to be committed.
    Commit,
    /// It is to be rolled back.
    Abort,
    /// Nothing here knows its migration.
    Unknown,
}

/// The answer.
#[derive(Debug, Default)]
pub struct InDoubt {
    /// By shard, the oldest first.
    pub transactions: Vec<(ShardId, PreparedTransaction, Verdict)>,
    /// Shards that could not be asked, and why.
    pub unknown: BTreeMap<ShardId, Failure>,
}

impl Services {
    /// Asks every shard that can prepare anything. `all`: also for what is not ours.
    pub async fn in_doubt(&self, all: bool) -> Result<InDoubt, Failure> {
        let view = self.orchestrator.planning().await?;
        let able = view.topology.shards().filter(|(_, cluster)| cluster.engine == Engine::Postgres);
        let asked = able.map(|(shard, _)| async move {
            let told = tokio::time::timeout(WITHIN, self.orchestrator.prepared(shard.clone(), all)).await;
            (shard.clone(), told.unwrap_or_else(|_| Err(silent())))
        });
        let mut found = InDoubt::default();
        for (shard, told) in join_all(asked).await {
            match told {
                Ok(transactions) => found.transactions.extend(transactions.into_iter().map(|one| {
                    let verdict = verdict(&view.known, one.named.as_ref());
                    (shard.clone(), one, verdict)
                })),
                Err(failure) => drop(found.unknown.insert(shard, failure)),
            }
        }
        found.transactions.sort_by(|one, other| one.0.cmp(&other.0).then(other.1.age_ms.cmp(&one.1.age_ms)));
        Ok(found)
    }
}

/// What no decision speaks of is rolled back, by whoever prepares the migration anew or gives it up.
fn verdict(known: &BTreeMap<MigrationId, Migration>, named: Option<&Named>) -> Verdict {
    let Some(named) = named else { return Verdict::Foreign };
    match known.values().find(|migration| named.is_of(&migration.key)) {
        None => Verdict::Unknown,
        Some(migration) => match migration.decision {
            Some(Decision::Commit) => Verdict::Commit,
            Some(Decision::Abort { .. }) => Verdict::Abort,
            None => Verdict::Open,
        },
    }
}

fn silent() -> Failure {
    Failure::new(
        ErrorCode::ShardUnreachable,
        format!("the shard did not tell what is prepared within {} s", WITHIN.as_secs()),
        "look whether its server is overloaded, and whether its workers are of this release",
    )
}
