//! The REST API: the same services as gRPC, for programs and people without a client of ours.
//!
//! It calls the gRPC doors in this process, so there is one translation of every verb, and while this coordinator follows,
//! what it is asked is passed on to the leader as any call is. [`document`] lists every route, and is what is served;
//! [`door`] is what every request goes through, [`caller`] who asks and goes with the call to the gRPC doors; [`asked`] reads requests, [`answers`] are the shapes of what is told, [`words`]
//! their words, [`problem`] the refusals. [`stream`] follows a migration as server-sent events.

mod answers;
mod aside;
mod asked;
mod audit;
mod backups;
mod caller;
mod changes;
mod cluster;
mod document;
mod door;
mod events;
mod health;
mod limits;
mod looks;
mod me;
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
use axum::middleware::from_fn_with_state;
use shardlift_proto::v1::cluster_service_client::ClusterServiceClient;
use shardlift_proto::v1::cluster_service_server::ClusterServiceServer;
use shardlift_proto::v1::migration_service_client::MigrationServiceClient;
use shardlift_proto::v1::migration_service_server::MigrationServiceServer;
use shardlift_runtime::tls::{Door, Peer};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::RestOptions;
use super::access::Access;
use super::cluster::ClusterDoor;
use super::forward::Forwarding;
use super::migration::MigrationDoor;
use crate::orchestrator::Standing;
use caller::{As, Caller};
use door::Guard;

/// The doors of this process, or of the leader.
pub(super) type Migrations = Forwarding<MigrationServiceServer<MigrationDoor>>;
/// The same of the cluster.
pub(super) type Cluster = Forwarding<ClusterServiceServer<ClusterDoor>>;

/// Largest message of our own doors: a migration with ten thousand shards fits.
const MAX_ANSWER: usize = 64 * 1024 * 1024;

/// Event streams that are open at once.
const MAX_STREAMS: usize = 256;

/// What all requests share.
#[derive(Clone)]
pub(super) struct Shared {
    migrations: Migrations,
    cluster: Cluster,
    standing: Standing,
    access: Access,
    closing: CancellationToken,
    streams: Arc<Semaphore>,
}

impl Shared {
    pub(super) fn new(
        migrations: Migrations,
        cluster: Cluster,
        standing: Standing,
        access: Access,
        closing: CancellationToken,
    ) -> Self {
        let streams = Arc::new(Semaphore::new(MAX_STREAMS));
        Self { migrations, cluster, standing, access, closing, streams }
    }
}

/// What a handler has at hand: what all share, in the name of who asks. Cheap to clone.
#[derive(Clone)]
struct Rest {
    shared: Shared,
    /// `None`: the route is open to everybody.
    caller: Option<Caller>,
}

impl Rest {
    fn migrations(&self) -> MigrationServiceClient<As<Migrations>> {
        let door = As::new(self.shared.migrations.clone(), self.caller.clone());
        MigrationServiceClient::new(door).max_decoding_message_size(MAX_ANSWER)
    }

    fn cluster(&self) -> ClusterServiceClient<As<Cluster>> {
        let door = As::new(self.shared.cluster.clone(), self.caller.clone());
        ClusterServiceClient::new(door).max_decoding_message_size(MAX_ANSWER)
    }
}

/// Everything that is served over HTTP.
fn router(shared: Shared, options: &RestOptions) -> Router {
    let (routes, _) = document::routes().split_for_parts();
    let guard = Guard::new(shared.access.clone(), options);
    routes
        .with_state(shared)
        .route_layer(from_fn_with_state(guard.clone(), caller::admitted))
        .merge(super::dashboard::router())
        .fallback(door::nowhere)
        .layer(from_fn_with_state(guard, door::through))
}

/// Serves until the token is cancelled and the open requests are answered.
pub(super) async fn serve(shared: Shared, door: Door, options: &RestOptions) -> std::io::Result<()> {
    let closing = shared.closing.clone();
    let service = router(shared, options).into_make_service_with_connect_info::<Peer>();
    axum::serve(door, service).with_graceful_shutdown(closing.cancelled_owned()).await
}

/// Method and path of each documented route.
#[cfg(test)]
pub(super) fn documented() -> Vec<(axum::http::Method, String)> {
    tests::documented()
}
