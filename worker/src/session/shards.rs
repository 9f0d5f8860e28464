//! The shards of this worker: whether each can be used, and whether it is the shard it is said to be.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::future::join_all;
use shardlift_domain::facts::ShardHello;
use shardlift_domain::failure::{ErrorCode, Failure};
use shardlift_domain::ids::{MigrationKey, ShardId};
use shardlift_proto::convert::hello_to_wire;
use shardlift_proto::v1;
use tokio::time::{Instant, timeout};

use super::health;
use crate::backup::{Shelf, Vault};
use crate::config::HealthConfig;
use crate::engine::{EngineError, EngineResult, ShardEngine};
use crate::metrics::Metrics;

/// How long a shard may take to answer a look: a dozen round trips, also to one that is far away.
const LOOK_WITHIN: Duration = Duration::from_secs(6);
/// The same before it has ever answered: longer than the drivers search for a server, since only the engine can say
/// what a shard is that nobody has seen yet. A shard left out of the hello would pass for one without a worker.
const FIRST_LOOK_WITHIN: Duration = Duration::from_secs(12);

/// How often the health of a shard is looked at.
const HEALTH_EVERY: Duration = Duration::from_secs(5);

/// The shards of this worker. Cheap to clone.
#[derive(Clone)]
pub struct Shards {
    engines: Arc<BTreeMap<ShardId, Arc<dyn ShardEngine>>>,
    seen: Arc<Mutex<Seen>>,
    metrics: Arc<Metrics>,
    vault: Arc<Vault>,
    bounds: HealthConfig,
}

#[derive(Default)]
struct Seen {
    /// When the health of each shard was looked at last, and what was wrong with it.
    health: BTreeMap<ShardId, (Instant, Option<Failure>)>,
    /// What the coordinator was told last.
    told: Vec<ShardHello>,
    /// What the newest look found, if it differs.
    news: Option<Vec<ShardHello>>,
    /// The uuid of each cluster, as the present coordinator has it.
    uuids: BTreeMap<String, String>,
    /// A look is under way.
    looking: bool,
    /// A person wants this worker to be given nothing new.
    draining: bool,
}

impl Shards {
    /// Shards behind these engines, with their backups in this vault.
    pub fn new(engines: BTreeMap<ShardId, Arc<dyn ShardEngine>>, vault: Vault) -> Self {
        let engines = Arc::new(engines);
        Self {
            engines,
            seen: Arc::default(),
            metrics: Arc::default(),
            vault: Arc::new(vault),
            bounds: HealthConfig::default(),
        }
    }

    /// The same, ill beyond these bounds.
    pub fn judged(self, bounds: HealthConfig) -> Self {
        Self { bounds, ..self }
    }

    /// The same, counted by these metrics.
    pub fn counted(self, metrics: Arc<Metrics>) -> Self {
        Self { metrics, ..self }
    }

    /// What counts the work on them.
    pub(super) fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    /// The engine of a shard.
    pub(super) fn engine(&self, shard: &ShardId) -> Option<Arc<dyn ShardEngine>> {
        self.engines.get(shard).cloned()
    }

    /// Remembers for the life of this process whether a person wants it drained: the next leader is to know it, too.
    pub(super) fn drain(&self, draining: bool) {
        tracing::info!(draining, "is told whether to take anything new");
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).draining = draining;
    }

    /// Whether a person wants it drained.
    pub(super) fn draining(&self) -> bool {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).draining
    }

    /// Looks at all shards at once, and takes the result as told.
    pub(super) async fn look(&self) -> Vec<v1::ShardHello> {
        let found = self.found().await;
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.told.clone_from(&found);
        seen.news = None;
        found.iter().map(hello_to_wire).collect()
    }

    /// A session begins: the identities of the shards are compared with what this coordinator has.
    pub(super) fn begin_session(&self, uuids: BTreeMap<String, String>) {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).uuids = uuids;
    }

    /// What changed since the coordinator was told; starts the next look in the background.
    pub(super) fn news(&self) -> Option<Vec<v1::ShardHello>> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if !std::mem::replace(&mut seen.looking, true) {
            tokio::spawn(self.clone().look_again());
        }
        let news = seen.news.take()?;
        seen.told.clone_from(&news);
        Some(news.iter().map(hello_to_wire).collect())
    }

    async fn look_again(self) {
        let found = self.found().await;
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.looking = false;
        seen.news = (found != seen.told).then_some(found);
    }

    async fn found(&self) -> Vec<ShardHello> {
        let uuids = self.seen.lock().unwrap_or_else(PoisonError::into_inner).uuids.clone();
        let looks = self.engines.iter().map(async |(shard, engine)| {
            let known = self.told(shard);
            let patience = if known.is_some() { LOOK_WITHIN } else { FIRST_LOOK_WITHIN };
            let mut hello = match timeout(patience, engine.hello()).await {
                Ok(hello) => hello,
                Err(_) => return known.map(|hello| ShardHello { problem: Some(silent(shard)), ..hello }),
            };
            if let (None, Some(uuid)) = (&hello.problem, uuids.get(hello.cluster.as_str())) {
                hello.problem =
                    self.identify(engine.as_ref(), uuid).await.err().map(|failure| failure.on_shard(shard));
            }
            if hello.problem.is_none() {
                hello.alarm = self.alarm(shard, engine.as_ref()).await;
            }
            Some(hello)
        });
        join_all(looks).await.into_iter().flatten().collect()
    }

    /// What is wrong with the health of a shard that answers. One that does not tell its health is no sicker for it.
    async fn alarm(&self, shard: &ShardId, engine: &dyn ShardEngine) -> Option<Failure> {
        let known = self.seen.lock().unwrap_or_else(PoisonError::into_inner).health.get(shard).cloned();
        if let Some((_, alarm)) = known.filter(|(at, _)| at.elapsed() < HEALTH_EVERY) {
            return alarm;
        }
        let alarm = match timeout(LOOK_WITHIN, engine.health()).await {
            Ok(Ok(health)) => health::alarm(shard, &health, &self.bounds),
            Ok(Err(error)) => {
                tracing::debug!(%shard, %error, "did not tell its health");
                None
            }
            Err(_) => None,
        };
        let now = (Instant::now(), alarm.clone());
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).health.insert(shard.clone(), now);
        alarm
    }

    /// The failed task tells the coordinator that this worker cannot use the shard (a wrong database, a newer form):
    /// so the next look that finds nothing wrong is news.
    pub(super) fn tell_with_the_task(&self, shard: &ShardId, failure: &Failure) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let told = seen.told.iter_mut().find(|hello| hello.shard == *shard);
        let ours = matches!(failure.code, ErrorCode::ShardWrongIdentity | ErrorCode::WorkerOutdated);
        if let Some(hello) = told.filter(|_| ours) {
            hello.problem = Some(failure.clone().on_shard(shard));
        }
    }

    /// What the coordinator was told last of a shard.
    fn told(&self, shard: &ShardId) -> Option<ShardHello> {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.told.iter().find(|hello| hello.shard == *shard).cloned()
    }

    async fn identify(&self, engine: &dyn ShardEngine, uuid: &str) -> Result<(), Failure> {
        match timeout(LOOK_WITHIN, engine.identify(uuid)).await {
            Ok(known) => known.map_err(crate::engine::EngineError::into_failure),
            Err(_) => Ok(()),
        }
    }

    /// The engine of a shard, after the shard has shown that it is the one.
    pub(super) async fn admitted(&self, shard: &ShardId) -> Result<Arc<dyn ShardEngine>, Failure> {
        let engine = self.engine(shard).ok_or_else(|| {
            Failure::new(
                ErrorCode::ShardNoWorker,
                format!("this worker does not serve {shard}"),
                "nothing to do: it is handed out again",
            )
        })?;
        let uuid = self.cluster_uuid(shard)?;
        let known = engine.identify(&uuid).await.map_err(crate::engine::EngineError::into_failure);
        known.inspect_err(|failure| self.tell_with_the_task(shard, failure))?;
        Ok(engine)
    }
}

impl Shards {
    /// The uuid of the shard's cluster, as the present coordinator has it.
    fn cluster_uuid(&self, shard: &ShardId) -> Result<String, Failure> {
        let (cluster, uuids) = {
            let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
            let cluster =
                seen.told.iter().find(|hello| hello.shard == *shard).map(|hello| hello.cluster.clone());
            (cluster, seen.uuids.clone())
        };
        cluster.and_then(|cluster| uuids.get(cluster.as_str()).cloned()).ok_or_else(|| {
            Failure::new(
                ErrorCode::WorkerRefused,
                format!("the coordinator knows no cluster of {shard}"),
                "declare the cluster at the coordinator",
            )
        })
    }

    /// The place of the shard's backup of a migration.
    pub(super) async fn shelf(&self, shard: &ShardId, migration: &MigrationKey) -> EngineResult<Shelf> {
        let uuid = self.cluster_uuid(shard).map_err(EngineError::Failed)?;
        self.vault.shelf(&uuid, shard, migration).await
    }
}

fn silent(shard: &ShardId) -> Failure {
    Failure::new(
        ErrorCode::ShardUnreachable,
        format!("the server of {shard} did not answer within {} s", LOOK_WITHIN.as_secs()),
        "look whether it runs and is not overloaded; work goes on by itself when it answers",
    )
    .on_shard(shard)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::BackupConfig;
    use crate::engine::Disk;
    use crate::engine::testing::{Memory, SHARD};

    #[tokio::test(start_paused = true)]
    async fn an_alarm_is_news_when_it_begins_and_when_it_ends() {
        let shard = ShardId::new(SHARD).expect("a name");
        let engine = Arc::new(Memory::new(0, Duration::ZERO));
        let engines = BTreeMap::from([(shard, Arc::clone(&engine) as Arc<dyn ShardEngine>)]);
        let bounds = HealthConfig { min_disk_free: 10, ..HealthConfig::default() };
        let shards = Shards::new(engines, Vault::new(BackupConfig::default())).judged(bounds);
        shards.look().await;
        let after_a_look = async || {
            tokio::time::advance(HEALTH_EVERY).await;
            shards.clone().look_again().await;
            shards.news().map(|news| news[0].alarm.clone().map(|alarm| alarm.message))
        };
        assert_eq!(after_a_look().await, None, "nothing has changed");
        engine.table().health.disk = Some(Disk { total: 1_000, free: 50 });
        let told = after_a_look().await.expect("it is news").expect("an alarm");
        assert!(told.contains("less than 10 %"), "{told}");
        engine.table().health.disk = Some(Disk { total: 1_000, free: 40 });
        assert_eq!(after_a_look().await, None, "it is ill as before");
        engine.table().health.disk = None;
        assert_eq!(after_a_look().await, Some(None), "it is well again");
    }

    #[tokio::test]
    async fn a_database_that_was_wrong_for_a_moment_is_told_to_be_right_again() {
        let shard = ShardId::new(SHARD).expect("a name");
        let engine = Arc::new(Memory::new(0, Duration::ZERO));
        let shards = Shards::new(
            BTreeMap::from([(shard.clone(), Arc::clone(&engine) as Arc<dyn ShardEngine>)]),
            Vault::new(BackupConfig::default()),
        );
        shards.begin_session(BTreeMap::from([("c".to_owned(), "uuid".to_owned())]));
        assert!(shards.look().await.iter().all(|hello| hello.problem.is_none()));
        engine.table().foreign = true;
        let refused = shards.admitted(&shard).await.err().expect("another shard's database is refused");
        assert_eq!(refused.code, ErrorCode::ShardWrongIdentity);
        engine.table().foreign = false;
        shards.clone().look_again().await;
        let news = shards.news().expect("the coordinator holds it for wrong until it hears better");
        assert!(news.iter().all(|hello| hello.problem.is_none()), "{news:?}");
    }
}
