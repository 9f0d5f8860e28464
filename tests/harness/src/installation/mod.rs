//! A whole Shardlift as an operator runs it: coordinators and workers as real processes with configuration files,
//! and the command line. It knows the programs by their documented interfaces only.

mod build;
mod cli;
mod config;
mod tls;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Result, bail};
use serde_json::Value;
use tokio::net::TcpStream;

use crate::ports::Port;
use crate::process::{Launch, Process};
use crate::programs;
use crate::sandbox::Sandbox;
use crate::wait::{and_tell, wait_for_ok};

pub use build::InstallationBuilder;
pub use cli::Output;
pub use config::{Election, Engine, Shard, Store, WorkerSpec};
pub use tls::Tls;

const READY: Duration = Duration::from_secs(30);
const STOPPED: Duration = Duration::from_secs(30);

/// Running coordinators and workers in a temporary directory. Dropping it kills and removes everything.
#[derive(Debug)]
pub struct Installation {
    coordinators: Vec<Coordinator>,
    workers: Mutex<Vec<Arc<Member>>>,
    shards: Vec<Shard>,
    token: Option<String>,
    tls: Option<Tls>,
    sandbox: Sandbox,
}

/// A coordinator and its addresses.
#[derive(Debug)]
pub struct Coordinator {
    member: Member,
    listen: Port,
    metrics: Port,
    rest: Option<Port>,
    secure: bool,
}

impl Coordinator {
    /// Its process.
    pub fn member(&self) -> &Member {
        &self.member
    }

    /// Its URL for clients and workers.
    pub fn url(&self) -> String {
        let scheme = if self.secure { "https" } else { "http" };
        format!("{scheme}://{}", self.listen.address())
    }

    /// Its gRPC address.
    pub fn address(&self) -> SocketAddr {
        self.listen.address()
    }

    /// `http://127.0.0.1:port/metrics`.
    pub fn metrics_url(&self) -> String {
        format!("http://{}/metrics", self.metrics.address())
    }

    /// Where it serves REST, if it does.
    pub fn rest_address(&self) -> Option<SocketAddr> {
        self.rest.as_ref().map(Port::address)
    }
}

/// One program of an installation.
#[derive(Debug)]
pub struct Member {
    process: Process,
    config: PathBuf,
    /// The address that is open when the program is of use; workers have none.
    address: Option<SocketAddr>,
}

impl Member {
    /// The process: pause, resume, terminate, log, whether it runs.
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// The configuration file, which a test may change before a restart.
    pub fn config(&self) -> &Path {
        &self.config
    }

    /// SIGKILL.
    pub fn kill9(&self) {
        self.process.kill9();
    }

    /// SIGTERM, and waits for the end; fails when the exit code is not 0.
    pub async fn stop(&self) -> Result<()> {
        self.process.terminate();
        let status = self.process.wait_exit(STOPPED).await?;
        if !status.success() {
            bail!("{} ended with {status} after SIGTERM\n{}", self.process.name(), self.process.log_tail(20));
        }
        Ok(())
    }

    /// Kills it if it runs, starts it again, and waits until a coordinator takes connections.
    pub async fn restart(&self) -> Result<()> {
        self.process.kill9();
        self.process.start_again()?;
        self.wait_ready().await
    }

    /// Failpoints for the next start, such as `worker::before_commit=1*panic`; an empty text removes them.
    pub fn set_failpoints(&self, failpoints: &str) {
        self.process.set_env("FAILPOINTS", failpoints);
    }

    async fn wait_ready(&self) -> Result<()> {
        let Some(address) = self.address else { return Ok(()) };
        let what = format!("{} to take connections", self.process.name());
        let ask = async || Ok(TcpStream::connect(address).await.map(drop)?);
        self.process.wait_ready(&what, READY, ask).await
    }
}

impl Installation {
    /// Describes an installation; see [`InstallationBuilder::start`].
    pub fn builder() -> InstallationBuilder {
        InstallationBuilder::default()
    }

    /// The only coordinator, or the first of several.
    pub fn coordinator(&self) -> &Member {
        &self.first().member
    }

    /// All coordinators.
    pub fn coordinators(&self) -> &[Coordinator] {
        &self.coordinators
    }

    fn first(&self) -> &Coordinator {
        &self.coordinators[0]
    }

    /// The worker `index`, in the order in which they were added.
    pub fn worker(&self, index: usize) -> Arc<Member> {
        let workers = self.workers();
        workers
            .get(index)
            .cloned()
            .unwrap_or_else(|| panic!("there is no worker {index} of {}", workers.len()))
    }

    /// All workers, in the order in which they were added.
    pub fn workers(&self) -> Vec<Arc<Member>> {
        self.workers.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The shards, as they were described.
    pub fn shards(&self) -> &[Shard] {
        &self.shards
    }

    /// Starts one more worker. It does not wait until the coordinator knows it.
    pub fn add_worker(&self, spec: &WorkerSpec) -> Result<Arc<Member>> {
        let config = self.sandbox.path().join(format!("{}.toml", spec.name()));
        std::fs::write(&config, spec.toml(&self.shards, &self.urls(), self.tls.as_ref())?)?;
        let launch = spec.environment().iter().fold(
            Launch::new(spec.name(), programs::product("shardlift-worker")?).arg("--config").arg(&config),
            |launch, (key, value)| launch.env(key, value),
        );
        let process = Process::spawn(&self.sandbox, launch)?;
        let member = Arc::new(Member { process, config, address: None });
        self.workers.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(&member));
        Ok(member)
    }

    /// The URL of the (first) coordinator.
    pub fn url(&self) -> String {
        self.first().url()
    }

    /// The URLs of all coordinators.
    pub fn urls(&self) -> Vec<String> {
        self.coordinators.iter().map(Coordinator::url).collect()
    }

    /// The gRPC address of the (first) coordinator.
    pub fn address(&self) -> SocketAddr {
        self.first().address()
    }

    /// `http://127.0.0.1:port/metrics` of the (first) coordinator.
    pub fn metrics_url(&self) -> String {
        self.first().metrics_url()
    }

    /// The directory of configuration files, logs and the coordinator's store.
    pub fn directory(&self) -> &Path {
        self.sandbox.path()
    }

    /// Runs `shardlift ARGS` against all coordinators and waits for its end (two minutes at most).
    pub async fn cli(&self, args: &[&str]) -> Result<Output> {
        self.cli_with(args, &[]).await
    }

    /// The same with environment variables of its own.
    pub async fn cli_with(&self, args: &[&str], env: &[(&str, &str)]) -> Result<Output> {
        self.cli_without(args, env, &[]).await
    }

    /// The same with these environment variables only, but for the address: of the installation's own those in `without` are
    /// left out.
    pub async fn cli_without(&self, args: &[&str], env: &[(&str, &str)], without: &[&str]) -> Result<Output> {
        let own = self.tls.as_ref().map(Tls::of_cli).unwrap_or_default();
        let own = own.iter().map(|(key, value)| (*key, value.as_str()));
        let token = self.token.iter().map(|token| ("SHARDLIFT_TOKEN", token.as_str()));
        let own = own.chain(token).filter(|(key, _)| !without.contains(key));
        let env: Vec<_> = own.chain(env.iter().copied()).collect();
        cli::run(&self.urls().join(","), args, &env).await
    }

    /// Runs `shardlift ARGS --output json`; fails unless it exits with 0 and prints JSON.
    pub async fn cli_json(&self, args: &[&str]) -> Result<Value> {
        self.cli(&[args, &["--output", "json"]].concat()).await?.json()
    }

    /// What `shardlift status ID` tells.
    pub async fn status(&self, id: &str) -> Result<Value> {
        self.cli_json(&["status", id]).await
    }

    /// Waits until the migration has this status. Fails at once when it has ended otherwise; the failure holds the last
    /// status and the ends of all logs. The coordinator may be away for a while.
    pub async fn wait_status(&self, id: &str, wanted: &str, deadline: Duration) -> Result<Value> {
        let reached = wait_for_ok(&format!("migration {id} to be {wanted}"), deadline, async || {
            let last = self.status(id).await?;
            let status = last["status"].as_str().unwrap_or_default();
            let over = ["completed", "failed", "cancelled", "rolled_back"].contains(&status);
            if status != wanted && !over {
                bail!("its last status is {last:#}");
            }
            Ok(last)
        })
        .await;
        let reached = and_tell(reached, || self.log_tails(15))?;
        if reached["status"] != wanted {
            bail!("migration {id} is not {wanted} but {reached:#}\n{}", self.log_tails(15));
        }
        Ok(reached)
    }

    /// Waits until the coordinator knows all workers and reaches all shards through them.
    pub async fn wait_connected(&self) -> Result<()> {
        let connected = wait_for_ok("all workers and shards to be reachable", READY, async || {
            let (workers, shards) = (self.cli_json(&["workers"]).await?, self.cli_json(&["shards"]).await?);
            let known = workers["workers"].as_array().map_or(0, Vec::len);
            let reachable = shards["shards"].as_array().into_iter().flatten();
            let reachable = reachable.filter(|shard| shard["reachable"] == true).count();
            if known < self.workers().len() || reachable < self.shards.len() {
                bail!("{workers:#}\n{shards:#}");
            }
            Ok(())
        })
        .await;
        and_tell(connected, || self.log_tails(15))
    }

    /// The ends of the logs of all programs.
    pub fn log_tails(&self, lines: usize) -> String {
        let workers = self.workers();
        let coordinators = self.coordinators.iter().map(Coordinator::member);
        let members = coordinators.chain(workers.iter().map(AsRef::as_ref));
        members.map(|member| member.process.log_tail(lines)).collect::<Vec<_>>().join("\n")
    }
}
