//! The worker: does the work beside its shards.
//!
//! Reading order: [`config`] says which shards it serves; [`session`] is its one stream to the coordinator;
//! [`token`] says who it is; [`lease`] is the right to write; [`backup`] keeps what was there before; [`executor`] takes one task from lease to receipt; [`engine`] knows the two
//! databases; [`transformer`] turns old rows into new ones.
//!
//! It decides nothing about a migration: it does what it is given, and says what it found.

pub mod backup;
pub mod config;
pub mod engine;
pub mod executor;
pub mod lease;
pub mod metrics;
pub mod session;
pub mod token;
pub mod transformer;

use std::collections::BTreeMap;
use std::sync::Arc;

use shardlift_domain::failure::Failure;
use shardlift_domain::ids::ShardId;
use shardlift_domain::spec::Engine;
use shardlift_runtime::doors::Doors;
use tokio_util::sync::CancellationToken;

use backup::Vault;
use config::{Config, ShardConfig};
use engine::mongodb::MongodbEngine;
use engine::postgres::PostgresEngine;
use engine::{Observed, ShardEngine};
use metrics::Metrics;
use session::Shards;

/// Runs the worker until the token is cancelled. Running batches finish.
pub async fn run(config: Config, shutdown: CancellationToken) -> Result<(), Failure> {
    let mut registry = shardlift_runtime::metrics::registry();
    let metrics = Metrics::new(&mut registry);
    let shards =
        config.shards.iter().map(|shard| open(shard, &metrics)).collect::<Result<BTreeMap<_, _>, _>>()?;
    if let Some(address) = config.metrics_listen {
        let doors = Doors::bind(address, registry, Arc::new(|| Ok(()))).await.map_err(|error| {
            Failure::new(
                shardlift_domain::ErrorCode::ConfigInvalid,
                format!("cannot listen on {address} (metrics_listen): {error}"),
                "choose a free address",
            )
        })?;
        tokio::spawn(doors.serve(shutdown.child_token()));
    }
    let shards =
        Shards::new(shards, Vault::new(config.backup.clone())).counted(metrics).judged(config.health);
    session::run(&config, shards, shutdown).await;
    Ok(())
}

fn open(shard: &ShardConfig, metrics: &Arc<Metrics>) -> Result<(ShardId, Arc<dyn ShardEngine>), Failure> {
    let (id, cluster, dsn) = (shard.id.clone(), shard.cluster.clone(), &shard.dsn);
    let engine: Arc<dyn ShardEngine> = match shard.engine {
        Engine::Postgres => Arc::new(PostgresEngine::new(id, cluster, dsn)?),
        Engine::Mongodb => Arc::new(MongodbEngine::new(id, cluster, dsn.expose())?),
    };
    Ok((shard.id.clone(), Arc::new(Observed::new(engine, shard.engine, Arc::clone(metrics)))))
}
