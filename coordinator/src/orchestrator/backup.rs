//! Which migrations save what they change. Where their backups lie, and whether they are whole, only workers know.

use shardlift_domain::failure::{ErrorCode, Failure};
use shardlift_domain::ids::MigrationId;

use super::book::Page;
use super::leader::Leader;
use super::wake::{BackedUp, Reply};

impl Leader {
    pub(super) fn on_backed_up(&mut self, id: Option<&MigrationId>, reply: Reply<Vec<BackedUp>>) {
        let known = id.map_or(Ok(()), |id| self.book.find(id, None).map(drop));
        let found = known.and_then(|()| {
            let wanted = |page: &&Page| id.is_none_or(|id| page.migration().key.id == *id);
            let pages = self.book.pages().filter(wanted).filter(|page| page.migration().backup);
            let found: Vec<BackedUp> = pages.map(backed_up).collect();
            match id {
                Some(id) if found.is_empty() => Err(without(id)),
                _ => Ok(found),
            }
        });
        self.outbox.tell(reply, found);
    }
}

fn backed_up(page: &Page) -> BackedUp {
    let migration = page.migration();
    BackedUp {
        migration: migration.key.clone(),
        ended: migration.status.is_final(),
        shards: migration.shards.keys().cloned().collect(),
    }
}

fn without(id: &MigrationId) -> Failure {
    Failure::new(
        ErrorCode::RequestIllegal,
        format!("{id} saves nothing: that needs `backup: table` in its spec"),
        "`shardlift backup list` shows the backups that there are",
    )
}
