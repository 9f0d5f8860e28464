//! The REST API: the same services as gRPC, for programs and people without a client of ours.
//!
//! It calls the gRPC doors in this process, so there is one translation of every verb, and while this coordinator follows,
//! what it is asked is passed on to the leader as any call is. [`document`] lists every route, and is what is served;
//! [`door`] is what every request goes through; [`asked`] reads requests, [`answers`] are the shapes of what is told, [`words`]
//! their words, [`problem`] the refusals. [`stream`] follows a migration as server-sent events.

mod answers;
mod aside;
mod asked;
mod changes;
mod cluster;
mod document;
mod door;
mod events;
mod health;
mod looks;
mod migrations;
mod problem;
mod repair;
mod stream;
#[cfg(test)]
mod tests;
mod verbs;
mod words;

use std::sync::Arc;

use axum::Router;
use axum::middleware::from_fn;
use shardlift_proto::v1::cluster_service_client::ClusterServiceClient;
use shardlift_proto::v1::cluster_service_server::ClusterServiceServer;
use shardlift_proto::v1::migration_service_client::MigrationServiceClient;
use shardlift_proto::v1::migration_service_server::MigrationServiceServer;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::cluster::ClusterDoor;
use super::forward::Forwarding;
use super::migration::MigrationDoor;
use crate::orchestrator::Standing;

/// The doors of this process, or of the leader.
pub(super) type Migrations = Forwarding<MigrationServiceServer<MigrationDoor>>;
/// The same of the cluster.
pub(super) type Cluster = Forwarding<ClusterServiceServer<ClusterDoor>>;

/// Largest message of our own doors: a migration with ten thousand shards fits.
const MAX_ANSWER: usize = 64 * 1024 * 1024;

/// Event streams that are open at once.
const MAX_STREAMS: usize = 256;

/// What the handlers share. Cheap to clone.
#[derive(Clone)]
pub(super) struct Rest {
    migrations: MigrationServiceClient<Migrations>,
    cluster: ClusterServiceClient<Cluster>,
    standing: Standing,
    closing: CancellationToken,
    streams: Arc<Semaphore>,
}

impl Rest {
    pub(super) fn new(
        migrations: Migrations,
        cluster: Cluster,
        standing: Standing,
        closing: CancellationToken,
    ) -> Self {
        Self {
            migrations: MigrationServiceClient::new(migrations).max_decoding_message_size(MAX_ANSWER),
            cluster: ClusterServiceClient::new(cluster).max_decoding_message_size(MAX_ANSWER),
            standing,
            closing,
            streams: Arc::new(Semaphore::new(MAX_STREAMS)),
        }
    }

    fn migrations(&self) -> MigrationServiceClient<Migrations> {
        self.migrations.clone()
    }

    fn cluster(&self) -> ClusterServiceClient<Cluster> {
        self.cluster.clone()
    }
}

/// Everything that is served over HTTP.
fn router(rest: Rest) -> Router {
    let (routes, _) = document::routes().split_for_parts();
    routes
        .with_state(rest)
        .merge(super::dashboard::router())
        .fallback(door::nowhere)
        .layer(from_fn(door::through))
}

/// Serves until the token is cancelled and the open requests are answered.
pub(super) async fn serve(rest: Rest, listener: TcpListener) -> std::io::Result<()> {
    let closing = rest.closing.clone();
    axum::serve(listener, router(rest)).with_graceful_shutdown(closing.cancelled_owned()).await
}
