//! Four eyes: somebody approves what is to begin. Whether the approver may is decided here; that nothing begins without, where
//! the next one to begin is chosen.

use shardlift_domain::failure::ErrorCode;
use shardlift_domain::ids::MigrationId;
use shardlift_domain::migration::Event;

use super::leader::{Leader, StepDown};
use super::refusals::Refusal;
use super::view::MigrationView;
use super::wake::{Asker, Reply};

/// As doors call it.
const APPROVE: &str = "shardlift.v1.MigrationService/Approve";

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
                self.note_own_approval(id, by);
                self.outbox.tell(reply, Err(failure));
                Ok(())
            }
        }
    }

    /// Who would approve what is their own stands in the history, like whoever tries what their role may not.
    fn note_own_approval(&mut self, id: &MigrationId, by: Asker) {
        let Ok(page) = self.book.find(id, None) else { return };
        if self.seat.approval.is_of_the_author(page.migration(), &by.name) {
            let key = page.migration().key.clone();
            let (verb, code) = (APPROVE.to_owned(), ErrorCode::ApprovalRefused);
            self.refused(Some(key), by, Refusal { verb, code, role: None, shard: None, times: 1 });
        }
    }
}
