//! Three coordinators over an etcd of three members and a store that they share, with a worker beside a real shard and
//! an application that writes (faults 5 to 7, 12, 13, 38): whatever befalls who leads, every row is changed once.

mod chaos;
mod ground;
mod leaders;

use shardlift_harness::writer::ItemsWriter;

use crate::stage::{
    Control, Engine, Form, Items, ItemsSpec, Lead, Play, Witness, checkpoints, curtain, learns, scalar,
};

const ID: &str = "0001_items";
const NONE: Vec<String> = Vec::new();

/// Coordinators in the middle of a migration of one shard.
struct Scene<'a> {
    play: Play,
    control: &'a Control,
    items: &'a Items,
    form: Form,
    witness: Witness<'a>,
    writer: ItemsWriter,
    /// Who leads, as it was when the scene was set.
    lead: Lead,
}

impl<'a> Scene<'a> {
    /// Starts everything; the migration has changed its first rows, and needs some seconds for the rest.
    async fn set(control: &'a Control, items: &'a Items, form: Form) -> Self {
        let play = Play::of(control.builder(&[items])).await;
        Self::begin(play, control, items, form).await
    }

    /// As [`Scene::set`], with an installation of its own.
    async fn begin(play: Play, control: &'a Control, items: &'a Items, form: Form) -> Self {
        let witness = Witness::of(items).await;
        let writer = items.writer(form);
        play.apply(&[ItemsSpec::new(ID, items.engine(), form).rows_per_second(900).text()]).await;
        play.until_rows(ID, 200).await;
        let lead = control.lead().await.unwrap();
        Self { play, control, items, form, witness, writer, lead }
    }

    /// The coordinators except this one.
    fn others(number: usize) -> impl Iterator<Item = usize> {
        (0..3).filter(move |other| *other != number)
    }

    fn coordinator(&self, number: usize) -> &shardlift_harness::installation::Member {
        self.play.installation.coordinators()[number].member()
    }

    /// How many rows the shard says were changed.
    async fn rows(&self) -> u64 {
        checkpoints(self.items, ID).await.iter().map(|range| range.rows).sum()
    }

    /// Waits until the worker goes on: the shard itself tells of more rows, changed in this epoch or a later one.
    async fn goes_on(&self, epoch: i64) {
        let before = self.rows().await;
        self.play
            .until(&format!("the worker to go on in epoch {epoch}"), async || {
                let ranges = checkpoints(self.items, ID).await;
                let rows: u64 = ranges.iter().map(|range| range.rows).sum();
                let there = ranges.iter().any(|range| range.epoch >= epoch);
                anyhow::ensure!(there && rows > before, "{before} rows before; {ranges:#?}");
                Ok(())
            })
            .await;
    }

    /// Waits for the end, and checks everything. Answers who led last.
    async fn end(self) -> Lead {
        learns(&self.writer, self.form);
        self.play.completed(ID).await;
        assert_eq!(self.witness.complaints().await, NONE);
        assert_eq!(self.control.repeated().await, NONE);
        curtain(&self.play, ID, self.items, self.form, Some(self.writer)).await;
        self.control.lead().await.unwrap()
    }
}

/// The epoch in the fence of a PostgreSQL shard.
async fn fence_of(items: &Items) -> i64 {
    scalar(&items.dsn, "SELECT epoch::text FROM shardlift.fence").await.parse().unwrap()
}

/// The shard, filled so that a migration needs about seven seconds.
async fn shard(engine: Engine) -> Items {
    Items::of(engine, 6_000).await
}
