//! The doors: they authorise ([`access`]) and translate; they decide nothing. While this coordinator does not lead, what
//! people ask is passed on to the leader ([`forward`]), and workers are told where to go ([`fleet`]). REST ([`rest`]) stands
//! before the same doors as gRPC.

pub mod access;
mod asker;
mod audit;
mod backup;
mod cluster;
mod dashboard;
mod events;
mod fleet;
mod forward;
mod hearing;
mod indoubt;
mod migration;
mod mismatches;
mod pieces;
mod placement;
mod quarantine;
mod refusals;
mod repair;
mod rest;
mod spans;
mod topology;
mod views;

use std::num::NonZeroU32;

use anyhow::Context;
use shardlift_proto::v1::cluster_service_server::ClusterServiceServer;
use shardlift_proto::v1::fleet_service_server::FleetServiceServer;
use shardlift_proto::v1::migration_service_server::MigrationServiceServer;
use shardlift_runtime::tls::{Dial, Door};
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;
use tower::limit::GlobalConcurrencyLimitLayer;

use crate::service::Services;
use access::{Access, GateLayer};

/// Largest message either way: a directory of specs fits, abuse does not.
const MAX_MESSAGE: usize = 16 * 1024 * 1024;

/// Calls that may be answered at once, over all connections; more wait. Open streams do not count.
const MAX_CALLS: usize = 1024;

/// Where the doors are.
pub struct Listening {
    /// Of gRPC: clients and workers.
    pub grpc: Door,
    /// Of REST, if there is such a door.
    pub rest: Option<(Door, RestOptions)>,
    /// How another coordinator is dialled, if that goes over TLS.
    pub dial: Option<Dial>,
    /// Whether the gRPC reflection service is offered.
    pub reflection: bool,
    /// Who may ask.
    pub access: Access,
}

/// How often the REST door may be asked.
#[derive(Debug, Clone, Default)]
pub struct RestOptions {
    /// Requests of one caller in a second; without a number as many as it likes.
    pub requests_per_second: Option<NonZeroU32>,
}

/// Serves until the token is cancelled, whether this coordinator leads or not.
pub async fn serve(
    services: Services,
    listening: Listening,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let Listening { mut grpc, rest, dial, reflection, access } = listening;
    let (health, health_service) = tonic_health::server::health_reporter();
    health.set_serving::<MigrationServiceServer<migration::MigrationDoor>>().await;
    health.set_serving::<FleetServiceServer<fleet::FleetDoor>>().await;
    health.set_serving::<ClusterServiceServer<cluster::ClusterDoor>>().await;
    let reflection = reflection.then(|| {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(shardlift_proto::DESCRIPTORS)
            .build_v1()
    });
    let migration = migration::MigrationDoor::new(services.clone(), shutdown.clone());
    let fleet = fleet::FleetDoor::new(services.orchestrator().clone(), access.clone(), shutdown.clone());
    let cluster = cluster::ClusterDoor::new(services.clone(), access.clone());
    let forward = forward::Forward::new(services.orchestrator().standing().clone(), dial, shutdown.clone());
    let migration = MigrationServiceServer::new(migration).max_decoding_message_size(MAX_MESSAGE);
    let migration = forward.around(migration);
    let cluster = forward.around(ClusterServiceServer::new(cluster));
    let standing = services.orchestrator().standing().clone();
    let admin =
        rest::Shared::new(migration.clone(), cluster.clone(), standing, access.clone(), shutdown.clone());
    tokio::spawn(refusals::note_all(access.clone(), cluster.clone(), shutdown.clone()));
    let connections = futures::stream::poll_fn(move |context| grpc.poll_next(context));
    let grpc = Server::builder()
        .http2_keepalive_interval(Some(std::time::Duration::from_secs(5)))
        .http2_keepalive_timeout(Some(std::time::Duration::from_secs(10)))
        .layer(GlobalConcurrencyLimitLayer::new(MAX_CALLS))
        .layer(GateLayer::new(access))
        .add_service(health_service)
        .add_optional_service(reflection.transpose()?)
        .add_service(migration)
        .add_service(cluster)
        .add_service(FleetServiceServer::new(fleet).max_decoding_message_size(MAX_MESSAGE))
        .serve_with_incoming_shutdown(connections, shutdown.cancelled_owned());
    let rest = async {
        match rest {
            Some((door, options)) => rest::serve(admin, door, &options).await.context("the REST door"),
            None => Ok(()),
        }
    };
    tokio::try_join!(async { grpc.await.context("the gRPC door") }, rest)?;
    Ok(())
}
