//! Describes an installation and starts it.

use std::sync::Mutex;

use anyhow::Result;

use super::config::CoordinatorConfig;
use super::{Engine, Installation, Member, Shard, WorkerSpec};
use crate::ports::Port;
use crate::process::{Launch, Process};
use crate::programs;
use crate::sandbox::Sandbox;

/// What is to run. Without [`InstallationBuilder::worker`] each shard gets a worker of its own, `worker-SHARD`.
#[derive(Debug, Clone)]
pub struct InstallationBuilder {
    shards: Vec<Shard>,
    workers: Option<Vec<WorkerSpec>>,
    lease_ttl_ms: u64,
    coordinator_env: Vec<(String, String)>,
    extra: String,
}

impl Default for InstallationBuilder {
    fn default() -> Self {
        Self {
            shards: Vec::new(),
            workers: None,
            lease_ttl_ms: 5000,
            coordinator_env: Vec::new(),
            extra: String::new(),
        }
    }
}

impl InstallationBuilder {
    /// Adds a shard; its cluster comes into being with its first shard.
    pub fn shard(mut self, id: &str, cluster: &str, engine: Engine, dsn: &str) -> Self {
        let shard = Shard { id: id.to_owned(), cluster: cluster.to_owned(), engine, dsn: dsn.to_owned() };
        self.shards.push(shard);
        self
    }

    /// Adds a worker, instead of one for each shard.
    pub fn worker(mut self, spec: WorkerSpec) -> Self {
        self.workers.get_or_insert_default().push(spec);
        self
    }

    /// No worker: a test adds them later.
    pub fn no_workers(mut self) -> Self {
        self.workers = Some(Vec::new());
        self
    }

    /// After this long without a word a worker has lost its tasks.
    pub fn lease_ttl_ms(mut self, milliseconds: u64) -> Self {
        self.lease_ttl_ms = milliseconds;
        self
    }

    /// An environment variable of the coordinator.
    pub fn coordinator_env(mut self, key: &str, value: &str) -> Self {
        self.coordinator_env.push((key.to_owned(), value.to_owned()));
        self
    }

    /// Failpoints of the coordinator.
    pub fn coordinator_failpoints(self, failpoints: &str) -> Self {
        self.coordinator_env("FAILPOINTS", failpoints)
    }

    /// Top-level keys of the coordinator's configuration, as TOML lines, for example `reflection = true`.
    pub fn coordinator_config(mut self, toml: &str) -> Self {
        self.extra.push_str(toml);
        self.extra.push('\n');
        self
    }

    /// Starts everything, and waits until the coordinator knows all workers and reaches all shards through them.
    pub async fn start(self) -> Result<Installation> {
        let installation = self.launch().await?;
        installation.wait_connected().await?;
        Ok(installation)
    }

    /// Starts everything, and waits only until the coordinator takes connections.
    pub async fn launch(self) -> Result<Installation> {
        let sandbox = Sandbox::new("installation")?;
        let (listen, metrics) = (Port::reserve()?, Port::reserve()?);
        let config = sandbox.path().join("coordinator.toml");
        let text = CoordinatorConfig {
            listen: listen.address().to_string(),
            metrics_listen: metrics.address().to_string(),
            store: sandbox.path().join("coordinator.db").display().to_string(),
            lease_ttl_ms: self.lease_ttl_ms,
            shards: &self.shards,
            extra: &self.extra,
        };
        std::fs::write(&config, text.toml())?;
        let launch = self.coordinator_env.iter().fold(
            Launch::new("coordinator", programs::product("shardlift-coordinator")?)
                .arg("--config")
                .arg(&config),
            |launch, (key, value)| launch.env(key, value),
        );
        let process = Process::spawn(&sandbox, launch)?;
        let coordinator = Member { process, config, address: Some(listen.address()) };
        let workers = self.workers.unwrap_or_else(|| self.shards.iter().map(one_worker).collect());
        let installation = Installation {
            coordinator,
            workers: Mutex::default(),
            shards: self.shards,
            listen,
            metrics,
            sandbox,
        };
        installation.coordinator.wait_ready().await?;
        for spec in &workers {
            installation.add_worker(spec)?;
        }
        Ok(installation)
    }
}

fn one_worker(shard: &Shard) -> WorkerSpec {
    WorkerSpec::new(&format!("worker-{}", shard.id), &[&shard.id])
}
