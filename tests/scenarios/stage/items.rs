//! A shard that holds `items` only, of either engine, and the application that uses it.

use shardlift_harness::dataset::items::{
    IdKind, KeyKind, items_lost_writes_mongodb, items_lost_writes_postgres, items_violations_mongodb,
    items_violations_postgres, load_items_mongodb, load_items_postgres,
};
use shardlift_harness::installation::{InstallationBuilder, WorkerSpec};
use shardlift_harness::proxy::Proxy;
use shardlift_harness::servers::{ExclusiveMongod, Postgres, ReplicaSet, exclusive_mongod, shared_postgres};
use shardlift_harness::writer::{ItemsOptions, ItemsWriter, WriterReport};

use super::{Engine, Form, MONGODB, POSTGRES};

/// What its keys are.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Keys {
    Postgres(KeyKind),
    Mongodb(IdKind),
}

/// Where its database is.
#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "one for each scenario")]
enum Home {
    /// On the server of all scenarios, which nobody may kill.
    Shared,
    Postgres(Box<Postgres>),
    Mongod(ExclusiveMongod),
    ReplicaSet(ReplicaSet),
}

/// One shard.
#[derive(Debug)]
pub(crate) struct Items {
    pub(crate) shard: String,
    pub(crate) dsn: String,
    pub(crate) rows: u64,
    pub(crate) keys: Keys,
    home: Home,
}

impl Items {
    /// A shard of this engine with the plainest keys. PostgreSQL: a database of the shared server.
    pub(crate) async fn of(engine: Engine, rows: u64) -> Self {
        match engine {
            Engine::Postgres => Self::postgres("pg-01", rows, KeyKind::Bigint).await,
            Engine::Mongodb => Self::mongodb("mg-01", rows, IdKind::ObjectId).await,
        }
    }

    /// As [`Items::of`], on a server that the scenario may kill.
    pub(crate) async fn alone(engine: Engine, rows: u64) -> Self {
        match engine {
            Engine::Postgres => {
                let server = Postgres::start().await.unwrap();
                let dsn = server.create_database("items").await.unwrap();
                Self::load(
                    "pg-01",
                    dsn,
                    rows,
                    Keys::Postgres(KeyKind::Bigint),
                    Home::Postgres(Box::new(server)),
                )
                .await
            }
            Engine::Mongodb => Self::of(engine, rows).await,
        }
    }

    /// A database of the shared PostgreSQL server.
    pub(crate) async fn postgres(shard: &str, rows: u64, kind: KeyKind) -> Self {
        let dsn = shared_postgres().await.unwrap();
        Self::load(shard, dsn, rows, Keys::Postgres(kind), Home::Shared).await
    }

    /// A replica set of its own.
    pub(crate) async fn mongodb(shard: &str, documents: u64, kind: IdKind) -> Self {
        let server = exclusive_mongod().await.unwrap();
        let dsn = server.dsn("items");
        Self::load(shard, dsn, documents, Keys::Mongodb(kind), Home::Mongod(server)).await
    }

    /// A replica set of three members.
    pub(crate) async fn replicated(shard: &str, documents: u64) -> Self {
        let servers = ReplicaSet::start().await.unwrap();
        let dsn = servers.dsn("items");
        let keys = Keys::Mongodb(IdKind::ObjectId);
        Self::load(shard, dsn, documents, keys, Home::ReplicaSet(servers)).await
    }

    /// A PostgreSQL database that is there already.
    pub(crate) async fn database(shard: &str, dsn: String, rows: u64) -> Self {
        Self::load(shard, dsn, rows, Keys::Postgres(KeyKind::Bigint), Home::Shared).await
    }

    async fn load(shard: &str, dsn: String, rows: u64, keys: Keys, home: Home) -> Self {
        match keys {
            Keys::Postgres(kind) => load_items_postgres(&dsn, rows, kind).await.unwrap(),
            Keys::Mongodb(kind) => load_items_mongodb(&dsn, rows, kind).await.unwrap(),
        }
        Self { shard: shard.to_owned(), dsn, rows, keys, home }
    }

    pub(crate) fn engine(&self) -> Engine {
        match self.keys {
            Keys::Postgres(_) => Engine::Postgres,
            Keys::Mongodb(_) => Engine::Mongodb,
        }
    }

    /// The PostgreSQL server, if it is this shard's own.
    pub(crate) fn server(&self) -> &Postgres {
        match &self.home {
            Home::Postgres(server) => server,
            _ => panic!("{} has no PostgreSQL server of its own", self.shard),
        }
    }

    /// The replica set of one member.
    pub(crate) fn mongod(&self) -> &ExclusiveMongod {
        match &self.home {
            Home::Mongod(server) => server,
            _ => panic!("{} is no replica set of one member", self.shard),
        }
    }

    /// The replica set of three members.
    pub(crate) fn replica_set(&self) -> &ReplicaSet {
        match &self.home {
            Home::ReplicaSet(servers) => servers,
            _ => panic!("{} is no replica set of three members", self.shard),
        }
    }

    /// A proxy to its server, which must be its own, and the connection string through it.
    pub(crate) async fn through_a_proxy(&self) -> (Proxy, String) {
        let (port, direct) = match self.engine() {
            Engine::Postgres => (self.server().port(), self.dsn.clone()),
            // A client that asks for the members of the set goes around the proxy.
            Engine::Mongodb => (self.mongod().port(), self.mongod().direct_dsn("items")),
        };
        let server = format!("127.0.0.1:{port}");
        let proxy = Proxy::start(server.clone()).await.unwrap();
        let dsn = proxy.instead_of(&server, &direct);
        (proxy, dsn)
    }

    /// SIGKILL to its server.
    pub(crate) fn kill9(&self) {
        match &self.home {
            Home::Postgres(server) => server.kill9(),
            Home::Mongod(server) => server.kill9(),
            Home::Shared | Home::ReplicaSet(_) => panic!("{} has no server of its own", self.shard),
        }
    }

    /// Starts its server again.
    pub(crate) async fn restart(&self) {
        match &self.home {
            Home::Postgres(server) => server.restart().await.unwrap(),
            Home::Mongod(server) => server.restart().await.unwrap(),
            Home::Shared | Home::ReplicaSet(_) => panic!("{} has no server of its own", self.shard),
        }
    }

    /// Adds it to an installation.
    pub(crate) fn declared(&self, builder: InstallationBuilder) -> InstallationBuilder {
        let cluster = match self.engine() {
            Engine::Postgres => POSTGRES,
            Engine::Mongodb => MONGODB,
        };
        builder.shard(&self.shard, cluster, self.engine(), &self.dsn)
    }

    /// A worker for it alone.
    pub(crate) fn worker(&self, name: &str) -> WorkerSpec {
        WorkerSpec::new(name, &[&self.shard])
    }

    /// The application on this shard, writing the old form. Without `where` it leaves keys alone.
    pub(crate) fn writer(&self, form: Form) -> ItemsWriter {
        let key_updates = form == Form::WithWhere;
        self.writer_with(ItemsOptions { rate_per_second: 60, new_form: false, key_updates })
    }

    /// The application on this shard, behaving so.
    pub(crate) fn writer_with(&self, options: ItemsOptions) -> ItemsWriter {
        match self.keys {
            Keys::Postgres(kind) => ItemsWriter::start_postgres(self.dsn.clone(), 7, kind, options),
            Keys::Mongodb(kind) => ItemsWriter::start_mongodb(self.dsn.clone(), 7, kind, options),
        }
    }

    /// Everything that speaks against I1, I2 and I8.
    pub(crate) async fn violations(&self, form: Form, report: Option<&WriterReport>) -> Vec<String> {
        let (mut told, lost) = match self.keys {
            Keys::Postgres(kind) => (
                items_violations_postgres(&self.dsn, form).await.unwrap(),
                items_lost_writes_postgres(&self.dsn, self.rows, kind, report).await.unwrap(),
            ),
            Keys::Mongodb(kind) => (
                items_violations_mongodb(&self.dsn, form).await.unwrap(),
                items_lost_writes_mongodb(&self.dsn, self.rows, kind, report).await.unwrap(),
            ),
        };
        told.extend(lost);
        told
    }
}
