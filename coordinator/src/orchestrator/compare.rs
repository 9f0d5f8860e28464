//! Whether the rows of a migration can be compared with what their transform gives, which needs what it has kept of them.

use shardlift_domain::failure::{ErrorCode, Failure};
use shardlift_domain::ids::MigrationId;
use shardlift_domain::spec::{SpecBody, Undo, unrepeatable};

use super::book::Page;
use super::leader::Leader;
use super::wake::{Comparable, Reply};

impl Leader {
    pub(super) fn on_comparable(&mut self, id: &MigrationId, reply: Reply<Comparable>) {
        let comparable = self.book.find(id, None).and_then(comparable);
        self.outbox.tell(reply, comparable);
    }
}

fn comparable(page: &Page) -> Result<Comparable, Failure> {
    let migration = page.migration();
    let id = &migration.key.id;
    let refuse = |message: String, next: &str| {
        Err(Failure::new(ErrorCode::RequestIllegal, message, next).in_migration(&migration.key))
    };
    let data = match &page.spec.body {
        SpecBody::Data(data) if data.undo == Undo::Capture => data,
        _ => {
            return refuse(
                format!(
                    "{id} keeps nothing to compare its rows with: that needs `undo: capture` in its spec"
                ),
                "ask the shards with queries of your own",
            );
        }
    };
    if let Some(why) = unrepeatable(&data.transform) {
        return refuse(
            format!("the transform of {id} cannot be evaluated anew: {why}"),
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
