//! What services outside of Shardlift are still to be told: recomputed from what is stored, so that no message has to be
//! lucky. Who tells them is `service/courtesy`; what they were told is stored like any move.

use shardlift_domain::failure::Failure;
use shardlift_domain::fence::Epoch;
use shardlift_domain::ids::{ClusterName, MigrationId, MigrationKey};
use shardlift_domain::migration::{Event, Headline, Migration, News, Status};
use shardlift_domain::spec::TenantKey;

use super::book::Page;
use super::leader::Leader;
use super::wake::Reply;

/// What is still to be told of one migration.
#[derive(Debug, Clone)]
pub struct Courtesy {
    /// Which one.
    pub migration: MigrationKey,
    /// Its cluster.
    pub cluster: ClusterName,
    /// Names the cluster for ever, whatever it is called.
    pub uuid: String,
    /// The epoch of the leader that tells it: whoever has heard a higher one may refuse it.
    pub epoch: Epoch,
    /// Whose rows it changes; none: those of all.
    pub tenants: Vec<String>,
    /// The message schema version that it leaves behind, if it has any.
    pub message_version: Option<i64>,
    /// What its channel is to show, and why it is halted or failed.
    pub show: Option<(Headline, Option<Failure>)>,
    /// How it ended.
    pub end: Option<Status>,
    /// What the adaptors of its tenants are to do.
    pub quiet: Option<Quiet>,
}

/// What adaptors are to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Quiet {
    /// Take in nothing new at the gate of this wave; the first is 0.
    Begin(u32),
    /// Go on.
    End,
}

impl Leader {
    /// All that services are still to be told.
    pub(super) fn on_courtesies(&mut self, reply: Reply<Vec<Courtesy>>) {
        let open = self.book.pages().filter_map(|page| self.courtesy(page)).collect();
        self.outbox.tell(reply, Ok(open));
    }

    /// Looks at a few fields of most migrations: there may be thousands that have ended.
    fn courtesy(&self, page: &Page) -> Option<Courtesy> {
        let migration = page.migration();
        let show = migration.unshown().map(|headline| (headline, migration.reason().cloned()));
        let end = migration.untold_end();
        let quiet = quiet(migration);
        if show.is_none() && end.is_none() && quiet.is_none() {
            return None;
        }
        let cluster = self.book.topology().clusters.get(&migration.cluster);
        Some(Courtesy {
            migration: migration.key.clone(),
            cluster: migration.cluster.clone(),
            uuid: cluster.map(|cluster| cluster.uuid.clone()).unwrap_or_default(),
            epoch: self.book.permit().fence().epoch,
            tenants: tenants(page),
            message_version: page.spec.message_version(),
            show,
            end,
            quiet,
        })
    }

    /// A service was told.
    pub(super) fn on_told(&mut self, key: &MigrationKey, news: News, reply: Reply<()>) {
        self.apply(key, &Event::Told(news));
        self.outbox.tell(reply, Ok(()));
    }

    /// Adaptors are quiet, or not yet. Not stored: another leader asks them again.
    pub(super) fn on_quieted(
        &mut self,
        key: &MigrationKey,
        wave: u32,
        quiet: Result<(), Failure>,
        reply: Reply<()>,
    ) {
        self.gates.quieted(key, wave, quiet);
        self.outbox.tell(reply, Ok(()));
    }

    pub(super) fn on_tenants(&mut self, id: &MigrationId, reply: Reply<Vec<String>>) {
        let named = self.book.find(id, None).map(tenants);
        self.outbox.tell(reply, named);
    }
}

fn quiet(migration: &Migration) -> Option<Quiet> {
    let wave = migration.told.quiet?;
    Some(if migration.is_to_resume() { Quiet::End } else { Quiet::Begin(wave) })
}

fn tenants(page: &Page) -> Vec<String> {
    page.spec.tenants().iter().flat_map(|tenants| &tenants.keys).map(TenantKey::text).collect()
}
