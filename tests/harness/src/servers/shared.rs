//! Servers that all tests of one process share: starting one costs a second, a database costs milliseconds.
//!
//! They are statics, so nothing drops them: the watchdog of their sandbox ends them after the test process.

use std::ops::Deref;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};

use anyhow::Result;
use tokio::sync::OnceCell;

use super::{Etcd, Mongod, MongodOptions, Postgres, RabbitMq};

static DATABASES: AtomicU32 = AtomicU32::new(1);

/// The connection string of a fresh, empty database on the PostgreSQL server of this process.
/// A test must not kill, pause or reconfigure that server; it starts its own for that.
pub async fn shared_postgres() -> Result<String> {
    shared_postgres_server().await?.create_database(&fresh_name()).await
}

/// The PostgreSQL server behind [`shared_postgres`].
pub async fn shared_postgres_server() -> Result<&'static Postgres> {
    static SERVER: OnceCell<Postgres> = OnceCell::const_new();
    SERVER.get_or_try_init(Postgres::start).await
}

/// The connection string of a fresh, empty database on the MongoDB replica set of this process. Other databases of that
/// set, such as `shardlift`, are shared by all tests: one that uses them takes [`exclusive_mongod`].
pub async fn shared_mongod() -> Result<String> {
    static SERVER: OnceCell<Mongod> = OnceCell::const_new();
    let server = SERVER.get_or_try_init(|| Mongod::start_with(MongodOptions::default())).await?;
    Ok(server.dsn(&fresh_name()))
}

/// The etcd of this process. Tests keep apart by the prefix of their keys, and leave the server alone; one that kills,
/// pauses or wipes it starts its own.
pub async fn shared_etcd() -> Result<&'static Etcd> {
    static SERVER: OnceCell<Etcd> = OnceCell::const_new();
    SERVER.get_or_try_init(Etcd::start).await
}

/// The RabbitMQ of this process. Tests keep apart by the names of their exchanges and queues; one that kills, pauses or fills it
/// starts its own.
pub async fn shared_rabbitmq() -> Result<&'static RabbitMq> {
    static SERVER: OnceCell<RabbitMq> = OnceCell::const_new();
    SERVER.get_or_try_init(RabbitMq::start).await
}

/// A replica set of which one test has all databases for itself. It comes from a pool: tests that run one after the
/// other use the same server, emptied in between. Killing or pausing it is allowed when it runs again at the end.
pub async fn exclusive_mongod() -> Result<ExclusiveMongod> {
    let pooled = POOL.lock().unwrap_or_else(PoisonError::into_inner).pop();
    if let Some(server) = pooled
        && server.process().is_running()
        && reset(&server).await.is_ok()
    {
        return Ok(ExclusiveMongod { server: Some(server) });
    }
    Ok(ExclusiveMongod { server: Some(Mongod::start_with(MongodOptions::default()).await?) })
}

/// What a test may have changed: databases, failing commands, the limit of transactions.
async fn reset(server: &Mongod) -> Result<()> {
    server.heal_commands().await?;
    server.set_parameter("transactionLifetimeLimitSeconds", 60).await?;
    server.drop_databases().await
}

static POOL: Mutex<Vec<Mongod>> = Mutex::new(Vec::new());

/// A [`Mongod`] from the pool; dropping it returns it.
#[derive(Debug)]
pub struct ExclusiveMongod {
    server: Option<Mongod>,
}

impl Deref for ExclusiveMongod {
    type Target = Mongod;

    fn deref(&self) -> &Mongod {
        self.server.as_ref().expect("only drop takes the server out")
    }
}

impl Drop for ExclusiveMongod {
    fn drop(&mut self) {
        if let Some(server) = self.server.take() {
            server.resume();
            POOL.lock().unwrap_or_else(PoisonError::into_inner).push(server);
        }
    }
}

fn fresh_name() -> String {
    format!("test_{}", DATABASES.fetch_add(1, Ordering::Relaxed))
}
