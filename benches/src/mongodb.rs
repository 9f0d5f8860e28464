//! S5 and S7b: a pipeline transform through the whole path, against one unbounded updateMany, and itself with before-images.

use std::time::{Duration, Instant};

use ::mongodb::{Client, Collection, Database};
use anyhow::Result;
use bson::{Bson, Document, doc};
use futures::TryStreamExt;
use shardlift_harness::installation::{Engine, Installation};
use shardlift_harness::servers::{Mongod, MongodOptions};

use crate::figure::{Figure, Goal};
use crate::postgres::{ONE, ONE_ANEW, ONE_DIGEST, verification};
use crate::run::{Ranges, Took, apply};

const DATABASE: &str = "bench";

struct Bench {
    client: Client,
    installation: Installation,
    rows: u64,
    runs: u32,
    // Dropped last: the installation uses it.
    _server: Mongod,
}

impl Bench {
    async fn start(rows: u64) -> Result<Self> {
        let server = Mongod::start_with(MongodOptions::default().cache_gb(2.0)).await?;
        let client = Client::with_uri_str(server.dsn(DATABASE)).await?;
        let installation = Installation::builder()
            .shard("bench-mg", "bench", Engine::Mongodb, &server.dsn(DATABASE))
            .start()
            .await?;
        Ok(Self { client, installation, rows, runs: 0, _server: server })
    }

    fn items(&self) -> Collection<Document> {
        self.client.database(DATABASE).collection("items")
    }

    /// Documents of about 150 B, with `_id` and one secondary index.
    async fn fresh(&self) -> Result<()> {
        self.items().drop().await?;
        let document = |id: u64| -> Result<Document> {
            let id = i64::try_from(id)?;
            Ok(
                doc! { "_id": id, "tenant": id % 977, "body": format!("{id:096}"), "applied": 0, "migrated": false },
            )
        };
        for start in (0..self.rows).step_by(20_000) {
            let end = (start + 20_000).min(self.rows);
            self.items().insert_many((start..end).map(document).collect::<Result<Vec<_>>>()?).await?;
        }
        self.client
            .database(DATABASE)
            .run_command(
                doc! { "createIndexes": "items", "indexes": [{ "key": { "tenant": 1 }, "name": "tenant" }] },
            )
            .await?;
        self.client.database("admin").run_command(doc! { "fsync": 1 }).await?;
        Ok(())
    }

    async fn raw(&self) -> Result<Duration> {
        self.fresh().await?;
        let began = Instant::now();
        let pipeline = vec![
            doc! { "$set": { "body": { "$concat": ["$body", "."] }, "applied": { "$add": ["$applied", 1] }, "migrated": true } },
        ];
        self.items().update_many(doc! { "migrated": false }, pipeline).await?;
        Ok(began.elapsed())
    }

    async fn migrated(&mut self, parallel: &str) -> Result<Took> {
        self.fresh().await?;
        self.runs += 1;
        let id = format!("run_{:03}", self.runs);
        let spec = format!(
            "id: {id}\nkind: data\nengine: mongodb\ncluster: bench\nsource: {{ collection: items, where: {{ migrated: false }} }}\n\
             transform:\n  pipeline:\n    - $set: {{ body: {{ $concat: [$body, \".\"] }}, applied: {{ $add: [$applied, 1] }}, migrated: true }}\n{parallel}"
        );
        let books = self.client.database("shardlift");
        apply(&self.installation, &id, &spec, async || ranges(&books, &id).await).await
    }
}

async fn ranges(books: &Database, id: &str) -> Result<Ranges> {
    let checkpoints = books.collection::<Document>("checkpoint");
    let found: Vec<Document> = checkpoints.find(doc! { "migration": id }).await?.try_collect().await?;
    let walk = books.collection::<Document>("verifying").find_one(doc! { "_id.migration": id }).await?;
    let walked = walk.map(|walk| walk.get_bool("done").unwrap_or(false));
    let number = |document: &Document, field: &str| match document.get(field) {
        Some(Bson::Int64(number)) => *number,
        Some(Bson::Int32(number)) => i64::from(*number),
        _ => 0,
    };
    Ok(found.iter().fold(Ranges { walked, ..Ranges::default() }, |sum, document| Ranges {
        walked,
        all: sum.all + 1,
        claimed: sum.claimed + i64::from(number(document, "epoch") > 0),
        done: sum.done + i64::from(document.get_bool("done").unwrap_or(false)),
        batches: sum.batches + number(document, "batches"),
    }))
}

/// S5: one connection, and default parallelism.
pub(crate) async fn s5(rows: u64, runs: usize) -> Result<Vec<Figure>> {
    let mut bench = Bench::start(rows).await?;
    let (mut one, mut default) = (Vec::new(), Vec::new());
    for run in 1..=runs {
        let raw = bench.raw().await?.as_secs_f64();
        let single = bench.migrated(ONE).await?.backfill.as_secs_f64();
        let parallel = bench.migrated("").await?.backfill.as_secs_f64();
        println!(
            "S5 run {run}: raw {raw:.2} s, one connection {single:.2} s, default parallelism {parallel:.2} s"
        );
        one.push(raw / single);
        default.push(raw / parallel);
    }
    let figure = |name, goal, runs| Figure {
        name,
        goal,
        runs,
        against: "documents/s of one unbounded updateMany",
        rows,
    };
    Ok(vec![figure("S5", Goal::AtLeast(1.15), one), figure("S5b", Goal::AtLeast(1.80), default)])
}

/// S7b: what before-images leave of the speed, on one connection; S7d and S7f: how long their verification takes, of the
/// backfill's time.
pub(crate) async fn s7(rows: u64, runs: usize) -> Result<Vec<Figure>> {
    let mut bench = Bench::start(rows).await?;
    let (mut ratios, mut anew, mut digest) = (Vec::new(), Vec::new(), Vec::new());
    for run in 1..=runs {
        let without = bench.migrated(ONE).await?.backfill.as_secs_f64();
        let first = bench.migrated(ONE_ANEW).await?;
        let second = bench.migrated(ONE_DIGEST).await?;
        let with = (first.backfill.as_secs_f64() + second.backfill.as_secs_f64()) / 2.0;
        println!(
            "S7b run {run}: {without:.2} s, with before-images {with:.2} s; verified anew in {:.2} s, by digests in {:.2} s",
            first.walk.as_secs_f64(),
            second.walk.as_secs_f64(),
        );
        ratios.push(without / with);
        anew.push(first.walk.as_secs_f64() / with);
        digest.push(second.walk.as_secs_f64() / with);
    }
    let against = "documents/s of the same migration without before-images";
    Ok(vec![
        Figure { name: "S7b", goal: Goal::AtLeast(0.65), runs: ratios, against, rows },
        verification("S7d", anew, rows),
        verification("S7f", digest, rows),
    ])
}
