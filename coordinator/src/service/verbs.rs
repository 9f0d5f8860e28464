//! start, pause, resume, cancel, retry, roll back: one move each, decided by the table of moves; and approve, decided by the rule.

use shardlift_domain::failure::Failure;
use shardlift_domain::migration::Verb;

use super::{Services, migration_id};
use crate::orchestrator::{Asker, MigrationView};

impl Services {
    /// Carries out a person's verb. `true`: something changed; `false`: it was so already.
    pub async fn verb(&self, id: &str, verb: Verb, by: Asker) -> Result<(MigrationView, bool), Failure> {
        let id = migration_id(id)?;
        if verb == Verb::Start {
            self.may_begin(&id).await?;
        }
        self.orchestrator.asked(id, verb, by).await
    }

    /// Approves the content of a migration that has not begun. `checksum`: the content that was read.
    pub async fn approve(
        &self,
        id: &str,
        checksum: Option<String>,
        by: Asker,
    ) -> Result<(MigrationView, bool), Failure> {
        self.orchestrator.approve(migration_id(id)?, checksum, by).await
    }
}
