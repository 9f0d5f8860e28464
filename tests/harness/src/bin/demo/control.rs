//! What the coordinators stand on: the server of their metadata store, and etcd.

use anyhow::{Result, bail, ensure};
use clap::ValueEnum;
use shardlift_harness::installation::{Election, InstallationBuilder, Store};
use shardlift_harness::process::Process;
use shardlift_harness::servers::{Etcd, EtcdOptions, Mongod, MongodOptions, Postgres, PostgresOptions};

const DATABASE: &str = "shardlift_coordinator";
const MEMBERS: usize = 3;
/// How long a dead leader keeps the seat.
const TTL_MS: u64 = 3000;

/// Where the coordinators keep their memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum StoreKind {
    /// A file, for one coordinator.
    Sqlite,
    /// A PostgreSQL server of their own.
    Postgres,
    /// A MongoDB replica set of their own.
    Mongodb,
}

/// How the coordinators agree on a leader.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ElectionKind {
    /// There is one only.
    Standalone,
    /// Through an etcd of three members.
    Etcd,
}

/// What was asked for, with the defaults filled in.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shape {
    pub(crate) coordinators: usize,
    store: StoreKind,
    election: ElectionKind,
}

impl Shape {
    pub(crate) fn new(
        coordinators: u8,
        store: Option<StoreKind>,
        election: Option<ElectionKind>,
    ) -> Result<Self> {
        let several = coordinators > 1;
        let (file, agree) = if several {
            (StoreKind::Postgres, ElectionKind::Etcd)
        } else {
            (StoreKind::Sqlite, ElectionKind::Standalone)
        };
        let shape = Self {
            coordinators: coordinators.into(),
            store: store.unwrap_or(file),
            election: election.unwrap_or(agree),
        };
        ensure!(
            !several || shape.election == ElectionKind::Etcd,
            "several coordinators have to agree on a leader: give --election etcd, or leave it out"
        );
        if several && shape.store == StoreKind::Sqlite {
            bail!(
                "several coordinators need a store that they share: give --store postgres or --store mongodb"
            );
        }
        Ok(shape)
    }

    /// The servers that it needs, in words; `None`: it needs none.
    pub(crate) fn servers(self) -> Option<&'static str> {
        match (self.store, self.election) {
            (StoreKind::Sqlite, ElectionKind::Standalone) => None,
            (StoreKind::Sqlite, ElectionKind::Etcd) => Some("etcd with three members"),
            (StoreKind::Postgres, ElectionKind::Standalone) => Some("PostgreSQL for the coordinator"),
            (StoreKind::Mongodb, ElectionKind::Standalone) => Some("MongoDB for the coordinator"),
            (StoreKind::Postgres, ElectionKind::Etcd) => {
                Some("PostgreSQL for the coordinators, and etcd with three members")
            }
            (StoreKind::Mongodb, ElectionKind::Etcd) => {
                Some("MongoDB for the coordinators, and etcd with three members")
            }
        }
    }
}

enum Memory {
    File,
    Postgres(Postgres),
    Mongod(Mongod),
}

/// The running servers.
pub(crate) struct Control {
    memory: Memory,
    etcd: Option<Etcd>,
}

impl Control {
    pub(crate) async fn start(shape: Shape) -> Result<Self> {
        let memory = match shape.store {
            StoreKind::Sqlite => Memory::File,
            StoreKind::Postgres => {
                let server = Postgres::start_named("store-postgres", PostgresOptions::default()).await?;
                server.create_database(DATABASE).await?;
                Memory::Postgres(server)
            }
            StoreKind::Mongodb => {
                Memory::Mongod(Mongod::start_named("store-mongodb", MongodOptions::default()).await?)
            }
        };
        let etcd = match shape.election {
            ElectionKind::Standalone => None,
            ElectionKind::Etcd => {
                Some(Etcd::start_with(EtcdOptions { members: MEMBERS, ..EtcdOptions::default() }).await?)
            }
        };
        Ok(Self { memory, etcd })
    }

    /// Tells the coordinators of these servers.
    pub(crate) fn describe(&self, builder: InstallationBuilder, shape: Shape) -> InstallationBuilder {
        let store = match &self.memory {
            Memory::File => Store::Sqlite,
            Memory::Postgres(server) => Store::Postgres(server.dsn(DATABASE)),
            Memory::Mongod(server) => Store::Mongodb(server.dsn(DATABASE)),
        };
        let election = match &self.etcd {
            None => Election::Standalone,
            Some(etcd) => Election::Etcd { endpoints: etcd.endpoints(), ttl_ms: TTL_MS },
        };
        builder.coordinators(shape.coordinators).store(store).election(election)
    }

    /// The etcd, if there is one.
    pub(crate) fn etcd(&self) -> Option<&Etcd> {
        self.etcd.as_ref()
    }

    /// All processes.
    pub(crate) fn processes(&self) -> Vec<&Process> {
        let memory = match &self.memory {
            Memory::File => None,
            Memory::Postgres(server) => Some(server.process()),
            Memory::Mongod(server) => Some(server.process()),
        };
        let etcd = self.etcd.iter().flat_map(|etcd| (0..MEMBERS).map(|number| etcd.member(number)));
        memory.into_iter().chain(etcd).collect()
    }
}
