//! The bench of the shared cases: a database of its own on the replica set that all tests share.

use std::ops::RangeInclusive;
use std::sync::Arc;

use anyhow::Result;
use async_trait::async_trait;
use bson::{Document, doc};
use futures::TryStreamExt;
use mongodb::{Client, Collection};
use shardlift_domain::ids::{ClusterName, ShardId};
use shardlift_domain::spec::OnError;
use shardlift_harness::servers::shared_mongod;
use shardlift_worker::backup::RowsDigest;
use shardlift_worker::engine::mongodb::MongodbEngine;
use shardlift_worker::engine::{DataJob, ShardEngine};

use super::super::bench::{Bench, CLUSTER_UUID, Form, Item, SHARD, WRONG};
use super::spec_of;

/// An identified shard with an empty collection `items`.
pub(crate) struct MongodbBench {
    dsn: String,
    pub(crate) items: Collection<Document>,
}

impl MongodbBench {
    pub(crate) async fn start() -> Result<Self> {
        let dsn = shared_mongod().await?;
        let client = Client::with_uri_str(&dsn).await?;
        let database = client.default_database().expect("the dsn names a database");
        let refused = doc! { "$nor": [{ "spoilt": true, "migrated": true }] };
        database.create_collection("items").validator(refused).await?;
        let bench = Self { items: database.collection("items"), dsn };
        bench.engine().identify(CLUSTER_UUID).await?;
        Ok(bench)
    }

    /// Documents as they are.
    pub(crate) async fn insert(&self, documents: Vec<Document>) -> Result<()> {
        self.items.insert_many(documents).await?;
        Ok(())
    }

    /// The digest of what was restored.
    pub(crate) async fn restored_digest(&self) -> Result<RowsDigest> {
        let there = self.items.client().database(&self.beside()).collection::<bson::RawDocumentBuf>("items");
        let all: Vec<_> = there.find(doc! {}).await?.try_collect().await?;
        Ok(RowsDigest::of(all.iter().map(|document| document.as_bytes())))
    }

    async fn set(&self, id: i64, change: Document) -> Result<()> {
        let update = self.items.update_one(doc! { "_id": id }, doc! { "$set": change });
        update.bypass_document_validation(true).await?;
        Ok(())
    }
}

#[async_trait]
impl Bench for MongodbBench {
    fn engine(&self) -> Arc<dyn ShardEngine> {
        self.engine_named(SHARD)
    }

    fn engine_named(&self, shard: &str) -> Arc<dyn ShardEngine> {
        let shard = ShardId::new(shard).expect("a name");
        let cluster = ClusterName::new("chat-docs").expect("a name");
        Arc::new(MongodbEngine::new(shard, cluster, &self.dsn).expect("a dsn"))
    }

    fn job(&self, form: Form) -> Arc<DataJob> {
        let pipeline = |migrated| {
            format!(
                "  pipeline: [{{ $set: {{ migrated: {migrated}, applied: {{ $add: [$applied, 1] }} }} }}]"
            )
        };
        let (pending, transform) = match form {
            Form::Pending | Form::Aside => (true, pipeline("true")),
            Form::Everything => (false, pipeline("true")),
            Form::Stuck => (true, pipeline("false")),
            Form::Worker => {
                (true, "  vrl: |\n    .migrated = true\n    .applied = int!(.applied) + 1".to_owned())
            }
        };
        let (filter, verify) = match pending {
            true => ("  where: { migrated: false }\n", "[remaining, { count: { tolerance: 0.01 } }]"),
            false => ("", "[{ count: { tolerance: 0.01 } }]"),
        };
        let text = format!("{filter}transform:\n{transform}\nverify: {verify}");
        let mut job = spec_of("0001_items", "items", &text);
        if form == Form::Aside {
            Arc::get_mut(&mut job).expect("the only one").data.on_error = OnError::Quarantine { budget: 3 };
        }
        job
    }

    fn faulty(&self, form: Form) -> Arc<DataJob> {
        let transform = match form {
            Form::Worker => format!(
                "  vrl: |\n    .migrated = true\n    .applied = int!(.applied) + 1\n    if ._id == {WRONG} {{ .applied = .applied + 1 }}"
            ),
            _ => format!(
                "  pipeline: [{{ $set: {{ migrated: true, applied: {{ $add: [$applied, {{ $cond: [{{ $eq: [$_id, {WRONG}] }}, 2, 1] }}] }} }} }}]"
            ),
        };
        spec_of("0001_items", "items", &format!("  where: {{ migrated: false }}\ntransform:\n{transform}\n"))
    }

    async fn add(&self, ids: RangeInclusive<i64>) -> Result<()> {
        let item = |id| doc! { "_id": id, "migrated": false, "applied": 0_i64 };
        self.items.insert_many(ids.map(item)).await?;
        Ok(())
    }

    async fn spoil(&self, id: i64) -> Result<()> {
        self.set(id, doc! { "spoilt": true }).await
    }

    async fn mend(&self, id: i64) -> Result<()> {
        self.set(id, doc! { "spoilt": false }).await
    }

    async fn remove(&self, id: i64) -> Result<()> {
        self.items.delete_one(doc! { "_id": id }).await?;
        Ok(())
    }

    async fn revert(&self, id: i64) -> Result<()> {
        self.set(id, doc! { "migrated": false }).await
    }

    async fn set_applied(&self, id: i64, applied: i64) -> Result<()> {
        self.set(id, doc! { "applied": applied }).await
    }

    async fn checkpoint_form(&self, form: i64) -> Result<()> {
        let checkpoints = self.items.client().database("shardlift").collection::<Document>("checkpoint");
        checkpoints
            .update_many(doc! { "db": self.items.namespace().db }, doc! { "$set": { "form": form } })
            .await?;
        Ok(())
    }

    async fn items(&self) -> Result<Vec<Item>> {
        items_of(&self.items).await
    }

    fn beside(&self) -> String {
        format!("{}_restored", self.items.namespace().db)
    }

    async fn restored(&self) -> Result<Vec<Item>> {
        items_of(&self.items.client().database(&self.beside()).collection("items")).await
    }

    async fn scratch(&self) -> Result<Vec<String>> {
        let names = self.items.client().database("shardlift").list_collection_names().await?;
        Ok(names.into_iter().filter(|name| name.starts_with("scratch")).collect())
    }

    fn shown(&self, id: i64) -> String {
        format!(r#"{{"$numberLong":"{id}"}}"#)
    }
}

async fn items_of(items: &Collection<Document>) -> Result<Vec<Item>> {
    let found: Vec<Document> = items.find(doc! {}).sort(doc! { "_id": 1 }).await?.try_collect().await?;
    let item = |document: &Document| {
        Ok(Item {
            id: document.get_i64("_id")?,
            migrated: document.get_bool("migrated")?,
            applied: document.get_i64("applied")?,
        })
    };
    found.iter().map(item).collect()
}
