//! start, pause, resume, cancel, retry, roll back: one move each, decided by the table of moves.

use shardlift_domain::failure::Failure;
use shardlift_domain::migration::Verb;

use super::{Services, migration_id};
use crate::orchestrator::MigrationView;

impl Services {
    /// Carries out a person's verb. `true`: something changed; `false`: it was so already.
    pub async fn verb(&self, id: &str, verb: Verb) -> Result<(MigrationView, bool), Failure> {
        let id = migration_id(id)?;
        if verb == Verb::Start {
            self.may_begin(&id).await?;
        }
        self.orchestrator.asked(id, verb).await
    }
}
