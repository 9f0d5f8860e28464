//! What can be asked of a coordinator, one verb per file. Doors call these; they know nothing of gRPC or HTTP.

mod answers;
mod audit;
mod backup;
mod conflicts;
mod courtesy;
mod drift;
mod indoubt;
mod mismatches;
mod placement;
mod plan;
mod purge;
mod quarantine;
mod rehearse;
mod repair;
mod submit;
mod tenants;
mod topology;
mod unique;
mod verbs;

use std::sync::Arc;

use shardlift_domain::failure::{ErrorCode, Failure};
use shardlift_domain::ids::MigrationId;

use crate::clients::Clients;
use crate::orchestrator::{Declare, Handle};

pub use audit::Verified;
pub use drift::ClusterDrift;
pub use indoubt::{InDoubt, Verdict};
pub use mismatches::Differing;
pub use placement::Found;
pub use quarantine::{Decision, Rows};
pub use rehearse::ShownRow;
pub use repair::Mended;
pub use topology::{cluster_name, shard_id};

/// The services of one coordinator. Cheap to clone.
#[derive(Clone)]
pub struct Services {
    orchestrator: Handle,
    declare: Declare,
    clients: Arc<Clients>,
}

impl Services {
    /// Services over this orchestrator; `declare` reads the file again.
    pub fn new(orchestrator: Handle, declare: Declare) -> Self {
        Self { orchestrator, declare, clients: Arc::default() }
    }

    /// The same with services outside to talk to.
    pub fn with_clients(self, clients: Arc<Clients>) -> Self {
        Self { clients, ..self }
    }

    /// The orchestrator's handle, for reading.
    pub fn orchestrator(&self) -> &Handle {
        &self.orchestrator
    }
}

/// Checks an id that came from outside.
pub fn migration_id(text: &str) -> Result<MigrationId, Failure> {
    MigrationId::new(text).map_err(|error| {
        Failure::new(ErrorCode::RequestInvalid, error.to_string(), "use an id as `shardlift list` shows it")
    })
}
