//! The way to one shard's server: made once, at the first need; majority in both directions; no credential leaves it.

use std::sync::Arc;
use std::time::Duration;

use bson::{Document, doc};
use mongodb::options::{
    ClientOptions, ConnectionString, ReadConcern, ReadPreference, SelectionCriteria, WriteConcern,
};
use mongodb::{Client, Collection, Database};
use shardlift_domain::ids::{ClusterName, ShardId};
use shardlift_domain::{ErrorCode, Failure};
use tokio::sync::OnceCell;

use super::error;
use crate::engine::replicas::Track;
use crate::engine::{EngineError, EngineResult};

/// Where Shardlift keeps its own collections.
pub(super) const OWN_DATABASE: &str = "shardlift";

/// How long to look for a primary.
const SELECTION: Duration = Duration::from_secs(5);
/// How long one server may take to answer when each is asked.
const PROBE: Duration = Duration::from_secs(2);
/// How long a write may wait for the majority before its outcome counts as unknown.
const MAJORITY: Duration = Duration::from_secs(30);
const CONNECTIONS: u32 = 64;

/// One shard's server and the database on it.
pub(super) struct Connection {
    pub(super) shard: ShardId,
    pub(super) cluster: ClusterName,
    /// Name of the application's database.
    pub(super) database: String,
    /// How far the oplog has come, for how far secondaries are behind.
    pub(super) track: Arc<Track>,
    address: ConnectionString,
    client: OnceCell<Client>,
}

impl Connection {
    pub(super) fn new(shard: ShardId, cluster: ClusterName, dsn: &str) -> Result<Self, Failure> {
        // The driver's message may quote the address, and with it a password.
        let address = ConnectionString::parse(dsn)
            .map_err(|_| refused(&shard, "is not a MongoDB connection string"))?;
        let Some(database) = address.default_database.clone() else {
            return Err(refused(&shard, "names no database"));
        };
        if [OWN_DATABASE, "admin", "config", "local"].contains(&database.as_str()) {
            return Err(refused(&shard, &format!("names the database {database}, which cannot be migrated")));
        }
        Ok(Self { shard, cluster, database, track: Arc::default(), address, client: OnceCell::new() })
    }

    /// The driver's client. Making it reads DNS for `mongodb+srv` addresses, nothing more.
    pub(super) async fn client(&self) -> EngineResult<&Client> {
        self.client.get_or_try_init(|| self.connect()).await.map_err(error::asking("reading the address"))
    }

    async fn connect(&self) -> mongodb::error::Result<Client> {
        let mut options = ClientOptions::parse(self.address.clone()).await?;
        let mut majority = WriteConcern::majority();
        majority.w_timeout = Some(MAJORITY);
        options.app_name = Some("shardlift-worker".to_owned());
        options.write_concern = Some(majority);
        options.read_concern = Some(ReadConcern::majority());
        options.selection_criteria = Some(SelectionCriteria::ReadPreference(ReadPreference::Primary));
        options.retry_writes = Some(true);
        options.server_selection_timeout.get_or_insert(SELECTION);
        options.connect_timeout.get_or_insert(SELECTION);
        options.max_pool_size.get_or_insert(CONNECTIONS);
        Client::with_options(options)
    }

    /// The application's database.
    pub(super) async fn application(&self) -> EngineResult<Database> {
        Ok(self.client().await?.database(&self.database))
    }

    /// One collection of the application.
    pub(super) async fn collection(&self, name: &str) -> EngineResult<Collection<Document>> {
        Ok(self.application().await?.collection(name))
    }

    /// Shardlift's own collections.
    pub(super) async fn books(&self) -> EngineResult<Books> {
        let database = self.client().await?.database(OWN_DATABASE);
        Ok(Books { database, shard_database: self.database.clone() })
    }

    /// Runs a command in `admin`.
    pub(super) async fn admin(&self, command: Document) -> mongodb::error::Result<Document> {
        let client = self.client.get_or_try_init(|| self.connect()).await?;
        client.database("admin").run_command(command).await
    }

    /// What the first server of the address that answers says of itself, whether or not it is in the replica set.
    pub(super) async fn probe(&self) -> Option<Document> {
        let all = ClientOptions::parse(self.address.clone()).await.ok()?;
        for host in all.hosts.clone() {
            let mut options = all.clone();
            options.hosts = vec![host];
            options.repl_set_name = None;
            options.direct_connection = Some(true);
            options.server_selection_timeout = Some(PROBE);
            let client = Client::with_options(options).ok()?;
            let hello = client.database("admin").run_command(doc! { "hello": 1 }).await;
            client.shutdown().immediate(true).await;
            if let Ok(hello) = hello {
                return Some(hello);
            }
        }
        None
    }

    /// What the server says of itself.
    pub(super) async fn server_hello(&self) -> mongodb::error::Result<Document> {
        self.admin(doc! { "hello": 1 }).await
    }
}

fn refused(shard: &ShardId, what: &str) -> Failure {
    Failure::new(
        ErrorCode::ConfigInvalid,
        format!("the dsn of shard {shard} {what}"),
        "write mongodb://user@host:port/database?replicaSet=name in the worker's configuration",
    )
    .on_shard(shard)
}

/// Shardlift's own collections on this replica set. They serve all its databases: everything in them is keyed by the
/// name of the application's database.
#[derive(Clone)]
pub(super) struct Books {
    pub(super) database: Database,
    /// The application's database.
    pub(super) shard_database: String,
}

/// Names of all own collections, so that none is first made inside a transaction.
pub(super) const OWN_COLLECTIONS: [&str; 15] = [
    "identity",
    "fence",
    "applied",
    "intent",
    "checkpoint",
    "quarantine",
    "quarantine_image",
    "undo",
    "undo_conflict",
    "undoing",
    "verifying",
    "difference",
    "repaired",
    "collecting",
    "collected",
];

impl Books {
    /// `{_id: database, cluster_uuid, shard}`.
    pub(super) fn identity(&self) -> Collection<Document> {
        self.database.collection("identity")
    }

    /// `{_id: database, epoch, nonce, layouts}`.
    pub(super) fn fence(&self) -> Collection<Document> {
        self.database.collection("fence")
    }

    /// The ledger: `{_id: {db, migration, version}, checksum, direction, epoch, at}`.
    pub(super) fn applied(&self) -> Collection<Document> {
        self.database.collection("applied")
    }

    /// How far a schema change is: `{_id: {db, migration, version}, checksum, epoch, attempt, command, begun}`.
    pub(super) fn intent(&self) -> Collection<Document> {
        self.database.collection("intent")
    }

    /// One document per range, see `checkpoint`.
    pub(super) fn checkpoint(&self) -> Collection<Document> {
        self.database.collection("checkpoint")
    }

    /// One document for each that was set aside, see `quarantine`.
    pub(super) fn quarantine(&self) -> Collection<Document> {
        self.database.collection("quarantine")
    }

    /// What those were.
    pub(super) fn quarantine_image(&self) -> Collection<Document> {
        self.database.collection("quarantine_image")
    }

    /// Before-images, see `capture`.
    pub(super) fn undo(&self) -> Collection<Document> {
        self.database.collection("undo")
    }

    /// What undoing has left alone: `{_id: {db, migration, version, number}, key, fields, old, written, reason}`.
    pub(super) fn undo_conflict(&self) -> Collection<Document> {
        self.database.collection("undo_conflict")
    }

    /// How far the undoing of a migration is, see `undo`.
    pub(super) fn undoing(&self) -> Collection<Document> {
        self.database.collection("undoing")
    }

    /// How far the verification of a migration is, see `anew::progress`.
    pub(super) fn verifying(&self) -> Collection<Document> {
        self.database.collection("verifying")
    }

    /// What verification has found different, see `anew::progress`.
    pub(super) fn difference(&self) -> Collection<Document> {
        self.database.collection("difference")
    }

    /// How far the collecting of digests is, see `unique`.
    pub(super) fn collecting(&self) -> Collection<Document> {
        self.database.collection("collecting")
    }

    /// Digests of documents, see `unique`.
    pub(super) fn collected(&self) -> Collection<Document> {
        self.database.collection("collected")
    }

    /// What a repair has replaced: `{db, migration, version, key, fields, replaced, at}`.
    pub(super) fn repaired(&self) -> Collection<Document> {
        self.database.collection("repaired")
    }
}

/// The failure of a shard that was never identified.
pub(super) fn not_identified() -> EngineError {
    EngineError::Failed(Failure::new(
        ErrorCode::ShardRefused,
        "Shardlift's own collections are missing from the database `shardlift` of this shard",
        "restart the worker: it creates them when it connects; if they were dropped, restore them from a backup",
    ))
}
