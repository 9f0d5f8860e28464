//! The coordinator: plans, decides and watches; never touches a shard.
//!
//! Reading order: [`config`]; [`api`] are the doors, [`service`] the verbs behind them; [`planner`] and [`scheduler`]
//! decide purely, [`shard`] knows where things are; [`clients`] are the services outside that it talks to; [`orchestrator`] is the heart; [`store`] is its memory, [`election`] its right to lead;
//! a [`broker`] is told what happens.

pub mod api;
pub mod broker;
pub mod clients;
pub mod config;
mod doors;
pub mod election;
pub mod metrics;
pub mod orchestrator;
pub mod planner;
pub mod scheduler;
pub mod service;
pub mod shard;
pub mod store;

use std::sync::Arc;

use anyhow::Context;
use shardlift_domain::Failure;
use shardlift_domain::topology::{Cluster, ClusterRules, Topology};
use shardlift_runtime::config::ConfigProblems;
use shardlift_runtime::doors::Doors;
use shardlift_runtime::hangup::Hangups;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use api::Listening;
use api::access::Access;
use broker::rabbitmq::RabbitMq;
use broker::relay::Relay;
use broker::requests::Requests;
use broker::{Broker, event};
use clients::{Adaptor, Clients};
use config::{BrokerConfig, BrokerKind, Config, ConsumerConfig, ElectionConfig, StoreConfig};
use election::{Election, Etcd, Peer, Standalone};
use metrics::Metrics;
use orchestrator::{Declare, Parts, Sink};
use service::Services;
use store::{MongodbStore, ObservedStore, PostgresStore, SqliteStore, Store};

/// Runs the coordinator until the token is cancelled.
///
/// `reread` reads the settings again: its clusters are declared, who may ask is known anew, and services outside are shown the keys
/// that stand there, at every take-over and at every reload.
pub async fn run(config: Config, reread: Reread, shutdown: CancellationToken) -> anyhow::Result<()> {
    // From the first moment: an early SIGHUP must not end the process.
    let hangups = Hangups::listen()?;
    let mut registry = shardlift_runtime::metrics::registry();
    let metrics = Metrics::new(&mut registry);
    let tls = doors::tls(&config, &metrics)?;
    let doors = doors::bind(&config).await?;
    let store: Arc<dyn Store> = match &config.store {
        StoreConfig::Sqlite { path } => Arc::new(SqliteStore::open(path).await?),
        StoreConfig::Postgres { url } => Arc::new(PostgresStore::open(url).await?),
        StoreConfig::Mongodb { url, database } => Arc::new(MongodbStore::open(url, database).await?),
    };
    let address = match &config.advertise {
        Some(address) => address.clone(),
        None => doors.grpc.local_addr()?.to_string(),
    };
    let me = Peer { name: config.name.clone(), address };
    let election: Arc<dyn Election> = match &config.election {
        ElectionConfig::Standalone => Arc::new(Standalone::new(me.clone())),
        ElectionConfig::Etcd(options) => Arc::new(Etcd::start((**options).clone(), me.clone()).await?),
    };
    let clients = Arc::new(Clients::new(&config.clients).map_err(Failure::from)?);
    let access = Access::new(config.access.clone(), Arc::clone(&metrics));
    if access.is_open() {
        tracing::warn!(
            "open: [access] knows nobody, so whoever reaches this machine's loopback addresses may do everything"
        );
    }
    let (known, outside) = (access.clone(), Arc::clone(&clients));
    let declare: Declare = Arc::new(move || {
        let config = reread().map_err(Failure::from)?;
        known.replace(&config.access);
        outside.read_again(&config.clients);
        Ok(declared(&config))
    });
    let broker = config.broker.as_ref().map(|config| open_broker(&config.kind)).transpose()?;
    let parts = Parts {
        name: me.name,
        address: me.address,
        ttl: config.lease_ttl,
        declare: Arc::clone(&declare),
        store: Arc::new(ObservedStore::new(store, Arc::clone(&metrics))),
        election: Arc::clone(&election),
        quiet_within: clients.adaptor.as_ref().map(Adaptor::within),
        approval: config.access.approval,
        metrics: Arc::clone(&metrics),
        sink: broker.as_ref().map(|broker| Sink { name: broker.name(), kinds: event::TOLD }),
    };
    let (orchestrator, heart) = orchestrator::run(parts, shutdown.clone());
    if let Some(address) = config.metrics_listen {
        let standing = orchestrator.standing().clone();
        let ready = Arc::new(move || standing.ready());
        let doors = Doors::bind(address, registry, ready).await.with_context(|| {
            format!("cannot listen on {address} (`metrics_listen`): choose a free address")
        })?;
        tokio::spawn(doors.serve(shutdown.child_token()));
    }
    let services = Services::new(orchestrator, declare).with_clients(clients);
    if let Some((broker, config)) = broker.zip(config.broker.clone()) {
        speak(&services, &broker, config, &metrics, &shutdown);
    }
    tokio::spawn(reload_on_hangup(services.clone(), hangups, shutdown.clone()));
    tokio::spawn(services.clone().purge(config.purge_after, shutdown.clone()));
    tokio::spawn(services.clone().compare(shutdown.clone()));
    tokio::spawn(services.clone().courtesies(shutdown.clone()));
    let listening = doors.open(&config, tls, access, &shutdown)?;
    let ended = serve(services, heart, listening, shutdown).await;
    election.leave().await;
    ended
}

/// Serves as long as the heart beats. The doors stay open until the lead is handed over: whoever is inside is told
/// where to go.
async fn serve(
    services: Services,
    heart: JoinHandle<()>,
    listening: Listening,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let closing = CancellationToken::new();
    let guard = closing.clone().drop_guard();
    let heart = tokio::spawn(async move {
        let ended = heart.await;
        drop(guard);
        ended
    });
    let served = api::serve(services, listening, closing).await;
    shutdown.cancel();
    heart.await.and_then(|ended| ended).context("the orchestrator ended with a defect")?;
    served
}

/// Events to the broker, and requests from it.
fn speak(
    services: &Services,
    broker: &Arc<dyn Broker>,
    config: BrokerConfig,
    metrics: &Arc<Metrics>,
    shutdown: &CancellationToken,
) {
    let BrokerConfig { source, progress_every, consumer, .. } = config;
    let (heart, metrics) = (services.orchestrator().clone(), || Arc::clone(metrics));
    let relay = Relay::new(heart, Arc::clone(broker), source, progress_every, metrics());
    tokio::spawn(relay.run(shutdown.clone()));
    if let Some(ConsumerConfig { place, principal }) = consumer {
        let requests = Requests::new(services.clone(), Arc::clone(broker), place, principal, metrics());
        tokio::spawn(requests.run(shutdown.clone()));
    }
}

/// Connects nothing yet: a broker that is away keeps no coordinator from its work.
fn open_broker(kind: &BrokerKind) -> anyhow::Result<Arc<dyn Broker>> {
    Ok(match kind {
        BrokerKind::RabbitMq { uri, ca, exchange } => {
            Arc::new(RabbitMq::new((**uri).clone(), ca.clone(), exchange.clone()))
        }
        #[cfg(feature = "kafka")]
        BrokerKind::Kafka { servers, topic } => {
            Arc::new(broker::kafka::Kafka::new(servers.clone(), topic.clone()))
        }
        #[cfg(not(feature = "kafka"))]
        BrokerKind::Kafka { .. } => anyhow::bail!("built without the feature `kafka`"),
    })
}

/// Reads the settings again.
pub type Reread = Arc<dyn Fn() -> Result<Config, ConfigProblems> + Send + Sync>;

/// As the history tells who has asked by a signal.
const SIGHUP: &str = "coordinator";

/// SIGHUP asks for what `shardlift topology reload` asks for; the log has the answer.
async fn reload_on_hangup(services: Services, mut hangups: Hangups, shutdown: CancellationToken) {
    while shutdown.run_until_cancelled(hangups.next()).await.flatten().is_some() {
        // Who has sent the signal is not known.
        match services.reload(SIGHUP.into()).await {
            Ok((changed, revision)) => tracing::info!(changed, revision, "read the file again (SIGHUP)"),
            Err(failure) => {
                tracing::warn!(code = %failure.code, "the file was not taken (SIGHUP): {} ({})", failure.message, failure.next)
            }
        }
    }
}

fn declared(config: &Config) -> Topology {
    let clusters = config.clusters.iter().map(|cluster| {
        let declared = Cluster {
            name: cluster.name.clone(),
            uuid: String::new(),
            engine: cluster.engine,
            shards: cluster.shards.clone(),
            rules: ClusterRules {
                routing: cluster.routing.clone(),
                routing_declared: cluster.routing.is_some(),
                discover: cluster.discover,
                ..ClusterRules::default()
            },
        };
        (cluster.name.clone(), declared)
    });
    Topology { clusters: clusters.collect(), ..Topology::default() }
}
