//! Four eyes: somebody approves what is to begin. Whether the approver may is decided here; that nothing begins without, where
//! the next one to begin is chosen.

use shardlift_domain::ids::MigrationId;
use shardlift_domain::migration::Event;

use super::leader::{Leader, StepDown};
use super::view::MigrationView;
use super::wake::{Asker, Reply};

impl Leader {
    pub(super) async fn on_approve(
        &mut self,
        id: &MigrationId,
        checksum: Option<&str>,
        by: Asker,
        reply: Reply<(MigrationView, bool)>,
    ) -> Result<(), StepDown> {
        let admitted = self
            .book
            .find(id, None)
            .and_then(|page| self.seat.approval.admits(page.migration(), &by.name, checksum));
        match admitted {
            Ok(()) => self.on_asked(id, &Event::Approved { by: by.name.clone() }, &by, reply).await,
            Err(failure) => {
                self.outbox.tell(reply, Err(failure));
                Ok(())
            }
        }
    }
}
