//! Describes an installation and starts it.

use std::sync::Mutex;

use anyhow::{Result, ensure};

use super::config::CoordinatorConfig;
use super::{Coordinator, Election, Engine, Installation, Member, Shard, Store, Tls, WorkerSpec};
use crate::ports::Port;
use crate::process::{Launch, Process};
use crate::programs;
use crate::sandbox::Sandbox;

/// What is to run. Without [`InstallationBuilder::worker`] each shard gets a worker of its own, `worker-SHARD`.
#[derive(Debug, Clone)]
pub struct InstallationBuilder {
    shards: Vec<Shard>,
    workers: Option<Vec<WorkerSpec>>,
    coordinators: usize,
    store: Store,
    election: Election,
    lease_ttl_ms: u64,
    coordinator_env: Vec<(String, String)>,
    rest: bool,
    extra: String,
    token: Option<String>,
    tls: Option<Tls>,
}

impl Default for InstallationBuilder {
    fn default() -> Self {
        Self {
            shards: Vec::new(),
            workers: None,
            coordinators: 1,
            store: Store::default(),
            election: Election::default(),
            lease_ttl_ms: 5000,
            coordinator_env: Vec::new(),
            rest: false,
            extra: String::new(),
            token: None,
            tls: None,
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

    /// So many coordinators, `coordinator-1` and so on; more than one needs an election.
    pub fn coordinators(mut self, count: usize) -> Self {
        self.coordinators = count;
        self
    }

    /// Where the coordinators keep their memory.
    pub fn store(mut self, store: Store) -> Self {
        self.store = store;
        self
    }

    /// How the coordinators agree.
    pub fn election(mut self, election: Election) -> Self {
        self.election = election;
        self
    }

    /// After this long without a word a worker has lost its tasks.
    pub fn lease_ttl_ms(mut self, milliseconds: u64) -> Self {
        self.lease_ttl_ms = milliseconds;
        self
    }

    /// The coordinators serve REST as well.
    pub fn rest(mut self) -> Self {
        self.rest = true;
        self
    }

    /// The command line shows this token, unless a call says otherwise.
    pub fn token(mut self, token: &str) -> Self {
        self.token = Some(token.to_owned());
        self
    }

    /// Everybody speaks TLS, with these certificates.
    pub fn tls(mut self, tls: &Tls) -> Self {
        self.tls = Some(tls.clone());
        self
    }

    /// An environment variable of the coordinators.
    pub fn coordinator_env(mut self, key: &str, value: &str) -> Self {
        self.coordinator_env.push((key.to_owned(), value.to_owned()));
        self
    }

    /// Failpoints of the coordinators.
    pub fn coordinator_failpoints(self, failpoints: &str) -> Self {
        self.coordinator_env("FAILPOINTS", failpoints)
    }

    /// Top-level keys of the coordinators' configuration, as TOML lines, for example `reflection = true`.
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

    /// Starts everything, and waits only until the coordinators take connections.
    pub async fn launch(mut self) -> Result<Installation> {
        ensure!(self.coordinators > 0, "an installation needs a coordinator");
        let sandbox = Sandbox::new("installation")?;
        let coordinators = (1..=self.coordinators)
            .map(|number| self.coordinator(&sandbox, number))
            .collect::<Result<Vec<_>>>()?;
        let workers = self.workers.take();
        let workers = workers.unwrap_or_else(|| self.shards.iter().map(one_worker).collect());
        let installation = Installation {
            coordinators,
            workers: Mutex::default(),
            shards: self.shards,
            token: self.token,
            tls: self.tls,
            sandbox,
        };
        for coordinator in &installation.coordinators {
            coordinator.member.wait_ready().await?;
        }
        for spec in &workers {
            installation.add_worker(spec)?;
        }
        Ok(installation)
    }

    fn coordinator(&self, sandbox: &Sandbox, number: usize) -> Result<Coordinator> {
        let (listen, metrics) = (Port::reserve()?, Port::reserve()?);
        let rest = self.rest.then(Port::reserve).transpose()?;
        let name = format!("coordinator-{number}");
        let config = sandbox.path().join(format!("{name}.toml"));
        let text = CoordinatorConfig {
            name: name.clone(),
            listen: listen.address().to_string(),
            metrics_listen: metrics.address().to_string(),
            rest_listen: rest.as_ref().map(|rest| rest.address().to_string()),
            store: &self.store,
            file: sandbox.path().join("coordinator.db").display().to_string(),
            election: &self.election,
            lease_ttl_ms: self.lease_ttl_ms,
            shards: &self.shards,
            extra: &self.extra,
            tls: self.tls.as_ref(),
        };
        std::fs::write(&config, text.toml())?;
        let program = programs::product("shardlift-coordinator")?;
        let launch = self
            .coordinator_env
            .iter()
            .fold(Launch::new(name, program).arg("--config").arg(&config), |launch, (key, value)| {
                launch.env(key, value)
            });
        let process = Process::spawn(sandbox, launch)?;
        let member = Member { process, config, address: Some(listen.address()) };
        Ok(Coordinator { member, listen, metrics, rest, secure: self.tls.is_some() })
    }
}

fn one_worker(shard: &Shard) -> WorkerSpec {
    WorkerSpec::new(&format!("worker-{}", shard.id), &[&shard.id])
}
