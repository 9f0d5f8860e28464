//! Whether a migration may be rolled back, as far as that depends on its spec and on other migrations.

use shardlift_domain::failure::{ErrorCode, Failure};
use shardlift_domain::ids::MigrationId;
use shardlift_domain::migration::{Migration, Status};

use super::book::{Book, Page};
use super::holders::holds;

impl Book {
    /// Refused when there is nothing to roll back with, while something that depends on it stands, and while somebody else
    /// works on the same tables. What the table of moves says comes after this.
    pub(super) fn may_roll_back(&self, page: &Page) -> Result<(), Failure> {
        let migration = page.migration();
        // Those go on, or are over, or hear from the table of moves why not.
        if migration.undo.is_some() || !migration.touched {
            return Ok(());
        }
        let refuse = |message: String, next: &str| {
            Err(Failure::new(ErrorCode::RequestIllegal, message, next).in_migration(&migration.key))
        };
        let id = &migration.key.id;
        if !page.spec.undoable() {
            return refuse(
                format!("{id} keeps nothing to roll back with: data needs `undo: capture`, schema a `down`"),
                "go on forward: write a migration that mends what this one did",
            );
        }
        let dependents: Vec<_> = self.dependents(id).collect();
        if let [one] = dependents[..] {
            return refuse(
                format!("{one} depends on {id} and has changed something"),
                "roll that back first",
            );
        }
        if !dependents.is_empty() {
            return refuse(
                format!("{} depend on {id} and have changed something", named(dependents.into_iter())),
                "roll those back first, the newest one before the others",
            );
        }
        let others = named(self.in_the_way(migration));
        if !others.is_empty() {
            return refuse(
                format!("{others} work on the same tables as {id}"),
                "wait until they are done, or cancel them; then roll back",
            );
        }
        Ok(())
    }

    /// Migrations that name it in `depends_on` and have changed something that stands.
    fn dependents<'a>(&'a self, id: &'a MigrationId) -> impl Iterator<Item = &'a MigrationId> {
        let stands = |migration: &Migration| match migration.status {
            Status::Running | Status::Paused | Status::Failed => migration.touched,
            Status::Completed | Status::RollingBack => true,
            Status::Pending | Status::Cancelled | Status::RolledBack => false,
        };
        let newest = self.newest().filter(move |page| stands(page.migration()));
        newest.filter(move |page| page.spec.depends_on.contains(id)).map(|page| &page.migration().key.id)
    }

    /// Others that hold what it needs to hold.
    fn in_the_way<'a>(&'a self, migration: &'a Migration) -> impl Iterator<Item = &'a MigrationId> {
        let others = self.pages().map(Page::migration).filter(|other| other.key != migration.key);
        let active = others.filter(|other| holds(other.status) || self.is_holding(&other.key));
        active.filter(|other| other.collides_with(migration)).map(|other| &other.key.id)
    }
}

fn named<'a>(ids: impl Iterator<Item = &'a MigrationId>) -> String {
    ids.map(MigrationId::as_str).collect::<Vec<_>>().join(", ")
}
