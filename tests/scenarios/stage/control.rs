//! What three coordinators stand on: an etcd of three members, and a server for their metadata. It tells who leads by
//! the fence in that server, past Shardlift.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bson::{Document, doc};
use futures::TryStreamExt;
use mongodb::Client;
use shardlift_harness::installation::{Election, InstallationBuilder, Store};
use shardlift_harness::process::Process;
use shardlift_harness::servers::{
    Etcd, EtcdOptions, ExclusiveMongod, Postgres, exclusive_mongod, shared_postgres,
};
use sqlx::{Connection, PgConnection};

use super::{Engine, Items, Play};

/// How long a dead leader keeps the seat.
pub(crate) const SEAT: Duration = Duration::from_secs(2);
/// The database of the metadata, where the scenario may choose it. In MongoDB it is Shardlift's default.
const DATABASE: &str = "shardlift_coordinator";
/// What may be done again: a new leader reads the ranges from the shard anew, and a sweep may find new rows.
const AGAIN: [&str; 3] = ["split", "backfill", "sweep"];
/// What happens once, beside the steps.
const ONCE: [&str; 3] = ["submitted", "step_done", "completed"];

/// Where the metadata is.
#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "one for each scenario")]
enum Memory {
    /// A database of the server of all scenarios.
    Shared(String),
    Postgres(Box<Postgres>),
    Mongod(ExclusiveMongod),
}

/// Who took the store last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Lead {
    /// Which coordinator, counted from 0.
    pub(crate) number: usize,
    /// In which epoch.
    pub(crate) epoch: i64,
}

/// The servers.
#[derive(Debug)]
pub(crate) struct Control {
    pub(crate) etcd: Etcd,
    memory: Memory,
    seat: Duration,
}

impl Control {
    /// Metadata in a store of this kind; PostgreSQL: on the shared server.
    pub(crate) async fn of(store: Engine) -> Self {
        let memory = match store {
            Engine::Postgres => Memory::Shared(shared_postgres().await.unwrap()),
            Engine::Mongodb => Memory::Mongod(exclusive_mongod().await.unwrap()),
        };
        Self { etcd: members().await, memory, seat: SEAT }
    }

    /// Metadata on a server that the scenario may kill, pause or restore.
    pub(crate) async fn alone(store: Engine) -> Self {
        match store {
            Engine::Postgres => {
                let server = Postgres::start_named("store", Default::default()).await.unwrap();
                server.create_database(DATABASE).await.unwrap();
                Self { etcd: members().await, memory: Memory::Postgres(Box::new(server)), seat: SEAT }
            }
            Engine::Mongodb => Self::of(store).await,
        }
    }

    /// Leases of coordinators and workers last so long instead: whoever waits for one is told from whoever does not.
    pub(crate) fn seated(self, seat: Duration) -> Self {
        Self { seat, ..self }
    }

    /// Three coordinators over these shards; a lease is short enough to run out within a scenario, unless it was
    /// [`Control::seated`].
    pub(crate) fn builder(&self, shards: &[&Items]) -> InstallationBuilder {
        let ttl_ms = self.seat.as_millis().try_into().unwrap();
        let election = Election::Etcd { endpoints: self.etcd.endpoints(), ttl_ms };
        let store = match &self.memory {
            Memory::Mongod(_) => Store::Mongodb(self.url()),
            _ => Store::Postgres(self.url()),
        };
        let builder = Play::builder(shards).coordinators(3).store(store).election(election);
        if self.seat == SEAT { builder } else { builder.lease_ttl_ms(ttl_ms) }
    }

    fn url(&self) -> String {
        match &self.memory {
            Memory::Shared(dsn) => dsn.clone(),
            Memory::Postgres(server) => server.dsn(DATABASE),
            Memory::Mongod(server) => server.dsn(DATABASE),
        }
    }

    /// The process of the store, which must be the scenario's own.
    pub(crate) fn store(&self) -> &Process {
        match &self.memory {
            Memory::Shared(_) => panic!("the store is on the server of all scenarios"),
            Memory::Postgres(server) => server.process(),
            Memory::Mongod(server) => server.process(),
        }
    }

    /// Starts the server of the store again after it was killed.
    pub(crate) async fn restart_store(&self) {
        match &self.memory {
            Memory::Shared(_) => panic!("the store is on the server of all scenarios"),
            Memory::Postgres(server) => server.restart().await.unwrap(),
            Memory::Mongod(server) => server.restart().await.unwrap(),
        }
    }

    /// Keeps a copy of the store. Nobody may use it meanwhile.
    pub(crate) async fn save_store(&self) {
        let Memory::Postgres(server) = &self.memory else { panic!("there is no PostgreSQL of its own") };
        server.execute(&format!("CREATE DATABASE saved TEMPLATE {DATABASE}")).await.unwrap();
    }

    /// Puts the copy in the place of the store. Nobody may use it meanwhile.
    pub(crate) async fn restore_store(&self) {
        let Memory::Postgres(server) = &self.memory else { panic!("there is no PostgreSQL of its own") };
        server.drop_database(DATABASE).await.unwrap();
        server.execute(&format!("ALTER DATABASE saved RENAME TO {DATABASE}")).await.unwrap();
    }

    /// Who took the store last.
    pub(crate) async fn lead(&self) -> anyhow::Result<Lead> {
        let (epoch, holder) = match &self.memory {
            Memory::Mongod(_) => document_of_fence(&self.url()).await?,
            _ => row_of_fence(&self.url()).await?,
        };
        let number: usize = holder.trim_start_matches("coordinator-").parse()?;
        Ok(Lead { number: number - 1, epoch })
    }

    /// What the history has twice although it can happen but once.
    pub(crate) async fn repeated(&self) -> Vec<String> {
        let entries = match &self.memory {
            Memory::Mongod(_) => documents_of_history(&self.url()).await.unwrap(),
            _ => rows_of_history(&self.url()).await.unwrap(),
        };
        let mut counts = BTreeMap::<String, u32>::new();
        for (event, details) in entries {
            let again = AGAIN.iter().any(|step| details.contains(&format!("\"{step}\"")));
            if ONCE.contains(&event.as_str()) && !again {
                *counts.entry(format!("{event} {details}")).or_default() += 1;
            }
        }
        assert!(counts.len() >= 3, "the history tells of too little: {counts:#?}");
        counts.into_iter().filter(|(_, count)| *count > 1).map(|(entry, _)| entry).collect()
    }

    /// Waits until the store was taken in an epoch above this one: by whom, and how long that took.
    pub(crate) async fn next(&self, play: &Play, above: i64) -> (Lead, Duration) {
        let began = Instant::now();
        let what = format!("a leader in an epoch above {above}");
        let lead = play
            .until(&what, async || {
                let lead = self.lead().await?;
                anyhow::ensure!(lead.epoch > above, "{lead:?}");
                Ok(lead)
            })
            .await;
        (lead, began.elapsed())
    }

    /// Revokes the lease of the leader, as the election lists it.
    pub(crate) async fn revoke(&self) {
        let order = ["get", "--prefix", "--keys-only", "--sort-by=CREATE", "/shardlift/election/"];
        let keys = self.etcd.ctl(&order).await.unwrap();
        let lease = keys.lines().next().and_then(|first| first.rsplit('/').next()).unwrap();
        self.etcd.ctl(&["lease", "revoke", lease]).await.unwrap();
    }
}

async fn members() -> Etcd {
    Etcd::start_with(EtcdOptions { members: 3, ..EtcdOptions::default() }).await.unwrap()
}

async fn row_of_fence(dsn: &str) -> anyhow::Result<(i64, String)> {
    let mut session = PgConnection::connect(dsn).await?;
    let row = sqlx::query_as("SELECT epoch, holder FROM shardlift_coordinator.fence");
    let row = row.fetch_one(&mut session).await?;
    session.close().await?;
    Ok(row)
}

async fn document_of_fence(dsn: &str) -> anyhow::Result<(i64, String)> {
    let client = Client::with_uri_str(dsn).await?;
    let fences = client.database(DATABASE).collection::<Document>("fence");
    let found = fences.find_one(doc! {}).await;
    client.shutdown().immediate(true).await;
    let found = found?.ok_or_else(|| anyhow::anyhow!("there is no fence"))?;
    Ok((found.get_i64("epoch")?, found.get_str("holder")?.to_owned()))
}

async fn rows_of_history(dsn: &str) -> anyhow::Result<Vec<(String, String)>> {
    let mut session = PgConnection::connect(dsn).await?;
    let entries = "SELECT event_type, details::text FROM shardlift_coordinator.migration_history";
    let entries = sqlx::query_as(entries).fetch_all(&mut session).await?;
    session.close().await?;
    Ok(entries)
}

async fn documents_of_history(dsn: &str) -> anyhow::Result<Vec<(String, String)>> {
    let client = Client::with_uri_str(dsn).await?;
    let events = client.database(DATABASE).collection::<Document>("migration_events");
    let events: Vec<Document> = events.find(doc! {}).await?.try_collect().await?;
    client.shutdown().immediate(true).await;
    let entry = |event: &Document| {
        Ok((event.get_str("event_type")?.to_owned(), event.get_document("details")?.to_string()))
    };
    events.iter().map(entry).collect()
}
