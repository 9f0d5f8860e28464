//! The coordinator's settings. Text is checked here once; everywhere else a setting has its type.

mod access;
mod broker;
mod clients;
mod election;
mod store;
#[cfg(test)]
mod tests;
mod tls;

mod routing;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::Path;
use std::time::Duration;

use serde::Deserialize;
use shardlift_domain::routing::Routing;
use shardlift_domain::spec::Engine;
use shardlift_domain::{ClusterName, ShardId};
use shardlift_runtime::config::{ConfigProblems, load};
use shardlift_runtime::telemetry::{self, Settings};

pub use crate::clients::ClientsConfig;
pub use access::AccessConfig;
use access::{WrittenAccess, guarded};
use broker::WrittenBroker;
pub use broker::{BrokerConfig, BrokerKind, ConsumerConfig};
use clients::WrittenClients;
pub use election::ElectionConfig;
use election::WrittenElection;
use routing::WrittenRouting;
pub use store::StoreConfig;
use store::WrittenStore;
pub use tls::TlsConfig;
use tls::WrittenTls;

/// The name of a coordinator that was given none.
const NAME: &str = "coordinator";

/// How long a worker may be silent: shorter and a pause of its machine costs it its tasks, longer and a dead one
/// blocks them.
const TTL_BOUNDS: std::ops::RangeInclusive<u64> = 500..=600_000;

/// What one caller may ask of the REST API in a second: far more than the dashboard does, far less than a loop gone wild.
const REQUESTS_PER_SECOND: u32 = 200;

/// Longest time in seconds that before-images are kept, unless for ever.
const LONGEST_KEPT: u64 = 10 * 366 * 86_400;

/// The settings, all valid.
#[derive(Debug, Clone)]
pub struct Config {
    /// Name of this coordinator, for people.
    pub name: String,
    /// Where clients and workers connect; without TLS a loopback address.
    pub listen: SocketAddr,
    /// Where metrics and health are shown, if at all.
    pub metrics_listen: Option<SocketAddr>,
    /// Where the REST API is served, if at all; without TLS a loopback address.
    pub rest_listen: Option<SocketAddr>,
    /// TLS of both doors, if they have it.
    pub tls: Option<TlsConfig>,
    /// Requests of one caller of the REST API in a second; `None`: as many as it likes.
    pub requests_per_second: Option<NonZeroU32>,
    /// Logs and traces.
    pub telemetry: Settings,
    /// Whether the gRPC reflection service is offered.
    pub reflection: bool,
    /// Where the metadata is.
    pub store: StoreConfig,
    /// How coordinators agree on a leader.
    pub election: ElectionConfig,
    /// Who outside is told what happens, if anybody.
    pub broker: Option<BrokerConfig>,
    /// Where others reach this coordinator, if not at `listen`: host and port.
    pub advertise: Option<String>,
    /// A worker that is silent for longer has lost its tasks.
    pub lease_ttl: Duration,
    /// Who may ask.
    pub access: AccessConfig,
    /// Before-images of completed migrations are removed so long after their end. `None`: never by themselves.
    pub purge_after: Option<Duration>,
    /// Services outside that are talked to.
    pub clients: ClientsConfig,
    /// The clusters and their shards, as declared; names and ids are unique.
    pub clusters: Vec<ClusterConfig>,
}

/// What the command line says instead of the file.
#[derive(Debug, Clone, Default)]
pub struct Flags {
    /// Where clients and workers connect.
    pub listen: Option<String>,
    /// Where the REST API is served.
    pub rest_listen: Option<String>,
}

/// A declared cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterConfig {
    /// Its name.
    pub name: ClusterName,
    /// The engine of all its shards.
    pub engine: Engine,
    /// Its shards; at least one, unless they are discovered.
    pub shards: Vec<ShardId>,
    /// A shard that a worker announces joins by itself.
    pub discover: bool,
    /// Which shard holds which key.
    pub routing: Option<Routing>,
}

impl Config {
    /// Reads file, environment (`SHARDLIFT__…`) and the flags `--listen` and `--rest-listen`, and tells everything that is
    /// wrong at once.
    pub fn load(file: &Path, flags: &Flags) -> Result<Self, ConfigProblems> {
        let told = [("listen", &flags.listen), ("rest_listen", &flags.rest_listen)];
        let flags: Vec<_> =
            told.into_iter().filter_map(|(key, told)| Some((key, told.as_deref()?.into()))).collect();
        load::<Written>(Some(file), "SHARDLIFT", &flags)?.check()
    }
}

#[derive(Debug, Deserialize)]
#[serde(default)]
struct Written {
    name: String,
    listen: String,
    metrics_listen: Option<String>,
    rest_listen: Option<String>,
    tls: Option<WrittenTls>,
    rest: WrittenRest,
    reflection: bool,
    telemetry: telemetry::Written,
    store: WrittenStore,
    election: WrittenElection,
    broker: WrittenBroker,
    lease: WrittenLease,
    undo: WrittenUndo,
    clients: WrittenClients,
    access: WrittenAccess,
    cluster: Vec<WrittenCluster>,
}

#[derive(Debug, Deserialize)]
#[serde(default)]
struct WrittenLease {
    ttl_ms: u64,
}

#[derive(Debug, Deserialize)]
#[serde(default)]
struct WrittenRest {
    /// 0: no limit.
    requests_per_second: u32,
}

#[derive(Debug, Deserialize)]
#[serde(default)]
struct WrittenUndo {
    purge_after: String,
}

#[derive(Debug, Deserialize)]
struct WrittenCluster {
    name: String,
    engine: String,
    #[serde(default)]
    shards: Vec<String>,
    #[serde(default)]
    discover: bool,
    routing: Option<WrittenRouting>,
}

impl Default for Written {
    fn default() -> Self {
        Self {
            name: NAME.to_owned(),
            listen: "127.0.0.1:7400".to_owned(),
            metrics_listen: None,
            rest_listen: None,
            tls: None,
            rest: WrittenRest::default(),
            reflection: false,
            telemetry: telemetry::Written::default(),
            store: WrittenStore::default(),
            election: WrittenElection::default(),
            broker: WrittenBroker::default(),
            lease: WrittenLease::default(),
            undo: WrittenUndo::default(),
            clients: WrittenClients::default(),
            access: WrittenAccess::default(),
            cluster: Vec::new(),
        }
    }
}

impl Default for WrittenLease {
    fn default() -> Self {
        Self { ttl_ms: 5000 }
    }
}

impl Default for WrittenRest {
    fn default() -> Self {
        Self { requests_per_second: REQUESTS_PER_SECOND }
    }
}

impl Default for WrittenUndo {
    fn default() -> Self {
        Self { purge_after: "7d".to_owned() }
    }
}

impl WrittenUndo {
    /// `never`, or a whole number of days, hours, minutes or seconds.
    fn check(&self, problems: &mut ConfigProblems) -> Option<Duration> {
        let text = self.purge_after.as_str();
        if text == "never" {
            return None;
        }
        let units = [("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1)];
        let found = units.into_iter().find_map(|(unit, seconds)| {
            let number: u64 = text.strip_suffix(unit)?.parse().ok()?;
            number.checked_mul(seconds).filter(|seconds| *seconds <= LONGEST_KEPT)
        });
        if found.is_none() {
            problems.add("undo.purge_after", format!("{text:?} is neither \"never\" nor a time such as 7d, 12h, 30m or 10s, of 10 years at most"));
        }
        found.map(Duration::from_secs)
    }
}

impl Written {
    fn check(self) -> Result<Config, ConfigProblems> {
        let mut problems = ConfigProblems::default();
        if self.name.trim().is_empty() {
            problems.add("name", "it is empty");
        }
        let tls = self.tls.and_then(|written| written.check(&mut problems));
        let listen = address(&mut problems, "listen", &self.listen);
        let metrics_listen =
            self.metrics_listen.as_deref().and_then(|text| address(&mut problems, "metrics_listen", text));
        let rest_listen =
            self.rest_listen.as_deref().and_then(|text| address(&mut problems, "rest_listen", text));
        let listens = [("listen", listen), ("metrics_listen", metrics_listen), ("rest_listen", rest_listen)];
        same_addresses(&mut problems, &listens);
        for (key, at) in [("listen", listen), ("rest_listen", rest_listen)] {
            tls::exposed(&mut problems, key, at, tls.as_ref());
        }
        let access = self.access.check(&mut problems);
        guarded(&mut problems, &access, &[("listen", listen), ("rest_listen", rest_listen)]);
        let store = self.store.check(&mut problems);
        let advertise = self.election.advertise(&mut problems);
        let election = self.election.check(&mut problems, &self.name);
        let broker = self.broker.check(&mut problems);
        if !TTL_BOUNDS.contains(&self.lease.ttl_ms) {
            let (least, most) = (TTL_BOUNDS.start(), TTL_BOUNDS.end());
            let ttl = self.lease.ttl_ms;
            problems.add("lease.ttl_ms", format!("{ttl} is not between {least} and {most} milliseconds"));
        }
        let purge_after = self.undo.check(&mut problems);
        let clients = self.clients.check(&mut problems);
        let clusters = clusters(&mut problems, &self.cluster);
        let config = Config {
            name: self.name,
            // Only a value for the case that is refused below.
            listen: listen.unwrap_or(SocketAddr::from(([127, 0, 0, 1], 0))),
            metrics_listen,
            rest_listen,
            tls,
            requests_per_second: NonZeroU32::new(self.rest.requests_per_second),
            telemetry: self.telemetry.check(&mut problems),
            reflection: self.reflection,
            store,
            election,
            broker,
            advertise,
            lease_ttl: Duration::from_millis(self.lease.ttl_ms),
            purge_after,
            clients,
            access,
            clusters,
        };
        problems.into_result(config)
    }
}

fn address(problems: &mut ConfigProblems, key: &str, text: &str) -> Option<SocketAddr> {
    let parsed = text.parse().ok();
    if parsed.is_none() {
        problems.add(key, format!("{text:?} is not an address with a port, such as 127.0.0.1:7400"));
    }
    parsed
}

fn same_addresses(problems: &mut ConfigProblems, listens: &[(&str, Option<SocketAddr>)]) {
    for (at, (key, address)) in listens.iter().enumerate() {
        let Some(address) = address.filter(|address| address.port() != 0) else { continue };
        let taken = listens.iter().take(at).find(|(_, other)| *other == Some(address));
        if let Some((other, _)) = taken {
            problems.add(*key, format!("it is the same address as `{other}`"));
        }
    }
}

fn clusters(problems: &mut ConfigProblems, written: &[WrittenCluster]) -> Vec<ClusterConfig> {
    if written.is_empty() {
        problems
            .add("cluster", "there is none; declare each cluster and its shards in a [[cluster]] section");
    }
    let mut names = BTreeMap::new();
    let mut owners = BTreeMap::new();
    let mut clusters = Vec::with_capacity(written.len());
    for (index, cluster) in written.iter().enumerate() {
        let key = format!("cluster[{index}]");
        if let Some(first) = names.insert(cluster.name.as_str(), index) {
            problems.add(
                format!("{key}.name"),
                format!("{:?} is declared by cluster[{first}] already", cluster.name),
            );
        }
        if cluster.shards.is_empty() && !cluster.discover {
            problems.add(format!("{key}.shards"), "a cluster needs at least one shard, or `discover = true`");
        }
        let name = valid(problems, &format!("{key}.name"), ClusterName::new(&cluster.name));
        let engine = engine(problems, &format!("{key}.engine"), &cluster.engine);
        let mut shards = Vec::with_capacity(cluster.shards.len());
        for (at, shard) in cluster.shards.iter().enumerate() {
            let key = format!("{key}.shards[{at}]");
            if let Some(owner) = owners.insert(shard.as_str(), cluster.name.as_str()) {
                problems.add(&key, format!("shard {shard:?} is declared already, in cluster {owner:?}"));
            }
            shards.extend(valid(problems, &key, ShardId::new(shard)));
        }
        let routing = cluster.routing.as_ref();
        let routing = routing.and_then(|written| written.check(problems, &format!("{key}.routing"), &shards));
        clusters.extend(name.zip(engine).map(|(name, engine)| ClusterConfig {
            name,
            engine,
            shards,
            discover: cluster.discover,
            routing,
        }));
    }
    clusters
}

fn engine(problems: &mut ConfigProblems, key: &str, word: &str) -> Option<Engine> {
    let known = [Engine::Postgres, Engine::Mongodb].into_iter().find(|engine| engine.as_str() == word);
    if known.is_none() {
        problems.add(key, format!("{word:?} is no engine; use \"postgres\" or \"mongodb\""));
    }
    known
}

fn valid<T>(
    problems: &mut ConfigProblems,
    key: &str,
    name: Result<T, shardlift_domain::IdError>,
) -> Option<T> {
    name.map_err(|error| problems.add(key, error.to_string())).ok()
}
