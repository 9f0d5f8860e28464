//! Whether the rows of a migration can be compared with what their transform gives, or with what was written, which needs what
//! it has kept of them; and whether they can be repaired.

use serde_json::json;
use shardlift_domain::failure::{ErrorCode, Failure};
use shardlift_domain::ids::{MigrationId, MigrationKey, ShardId};
use shardlift_domain::migration::Status;
use shardlift_domain::spec::{DataSpec, SpecBody, Undo, unrepeatable};

use super::book::Page;
use super::leader::Leader;
use super::wake::{Comparable, Reply};
use crate::store::HistoryEvent;

impl Leader {
    pub(super) fn on_comparable(&mut self, id: &MigrationId, reply: Reply<Comparable>) {
        let comparable = self.book.find(id, None).and_then(comparable);
        self.outbox.tell(reply, comparable);
    }

    pub(super) fn on_repairable(&mut self, id: &MigrationId, reply: Reply<Comparable>) {
        let repairable = self.book.find(id, None).and_then(|page| self.repairable(page));
        self.outbox.tell(reply, repairable);
    }

    /// Rows of a shard were repaired: that is kept, and answered once it is stored.
    pub(super) fn on_mended(&mut self, key: &MigrationKey, shard: &ShardId, rows: u64, reply: Reply<()>) {
        self.book.note(key, HistoryEvent::Repaired, json!({ "shard": shard, "rows": rows }));
        self.outbox.tell(reply, Ok(()));
        self.changed();
    }

    /// Only while nobody writes or searches: after a halt or a pause, once every worker has finished its batch.
    fn repairable(&self, page: &Page) -> Result<Comparable, Failure> {
        let comparable = comparable(page)?;
        let migration = page.migration();
        if let SpecBody::Data(data) = &page.spec.body
            && let Some(failure) = unmendable(data)
        {
            return Err(failure.in_migration(&migration.key));
        }
        let status = migration.status;
        let refuse = |next: &str| {
            let message = format!("cannot repair rows of a migration that is {status}");
            Err(Failure::new(ErrorCode::RequestIllegal, message, next).in_migration(&migration.key))
        };
        match status {
            Status::Paused | Status::Failed if self.board.is_held(&migration.key) => {
                refuse("a worker still finishes its last batch: ask again in a moment")
            }
            Status::Paused | Status::Failed => Ok(comparable),
            Status::Running => refuse("wait for its verification, or pause it first"),
            Status::Completed => {
                refuse("its verification has passed; `shardlift mismatches` compares it anew")
            }
            Status::Pending => refuse("it has changed nothing yet"),
            Status::Cancelled | Status::RollingBack | Status::RolledBack => {
                refuse("it is given up or undone: its rows stay as they are")
            }
        }
    }
}

/// Why nobody can say what its rows ought to be, so that nothing is repaired.
fn unmendable(data: &DataSpec) -> Option<Failure> {
    let message = match unrepeatable(&data.transform) {
        Some(why) => format!("what its rows ought to be cannot be evaluated anew: {why}"),
        None if data.known_by_digest() => {
            "`verify: digest` says that a row is not what was written, not what it ought to be".to_owned()
        }
        None => return None,
    };
    let next =
        "mend the rows by hand, or `rollback`; a spec with `verify: [ { transform: … } ]` can be repaired";
    Some(Failure::new(ErrorCode::RequestIllegal, message, next))
}

fn comparable(page: &Page) -> Result<Comparable, Failure> {
    let migration = page.migration();
    let id = &migration.key.id;
    let refuse = |message: String, next: &str| {
        Err(Failure::new(ErrorCode::RequestIllegal, message, next).in_migration(&migration.key))
    };
    if !matches!(&page.spec.body, SpecBody::Data(data) if data.undo == Undo::Capture) {
        return refuse(
            format!("{id} keeps nothing to compare its rows with: that needs `undo: capture` in its spec"),
            "ask the shards with queries of your own",
        );
    }
    if migration.undo.is_some() {
        return refuse(
            format!("{id} is undone, or is being undone: what it had kept goes with that"),
            "`shardlift conflicts` lists the rows that the rollback has left alone",
        );
    }
    if migration.purge.is_some() {
        return refuse(
            format!("the before-images of {id} were purged: there is nothing to compare its rows with"),
            "ask the shards with queries of your own",
        );
    }
    Ok(Comparable {
        migration: migration.key.clone(),
        file: page.stored.spec.clone(),
        shards: migration.shards.keys().cloned().collect(),
    })
}
