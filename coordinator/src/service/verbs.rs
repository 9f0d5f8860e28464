//! start, pause, resume, cancel, retry, roll back: one move each, decided by the table of moves.

use shardlift_domain::failure::{ErrorCode, Failure};
use shardlift_domain::migration::Verb;

use super::{Services, migration_id};
use crate::orchestrator::MigrationView;

impl Services {
    /// Carries out a person's verb. `true`: something changed; `false`: it was so already.
    pub async fn verb(&self, id: &str, verb: Verb) -> Result<(MigrationView, bool), Failure> {
        if matches!(verb, Verb::Rollback { .. }) {
            let next = "this release does not have it";
            return Err(Failure::new(
                ErrorCode::SpecUnsupported,
                "rolling back is not in this release",
                next,
            ));
        }
        self.orchestrator.asked(migration_id(id)?, verb).await
    }
}
