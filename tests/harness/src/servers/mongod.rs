//! A real mongod: a replica set of one member (transactions work), or a standalone server (they do not).

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bson::{Document, doc};
use mongodb::Client;
use mongodb::options::ClientOptions;

use crate::ports::Port;
use crate::process::{Launch, Process};
use crate::programs;
use crate::sandbox::Sandbox;

const READY: Duration = Duration::from_secs(90);
const STOPPED: Duration = Duration::from_secs(30);
pub(super) const REPLICA_SET: &str = "rs0";

/// How the server is to run.
#[derive(Debug, Clone)]
pub struct MongodOptions {
    replica_set: bool,
    cache_gb: f32,
    parameters: Vec<(String, String)>,
}

impl Default for MongodOptions {
    /// A replica set of one member with 256 MB of cache and test commands (failCommand) enabled.
    fn default() -> Self {
        let parameters = [("enableTestCommands", "1"), ("diagnosticDataCollectionEnabled", "false")];
        let parameters = parameters.map(|(key, value)| (key.to_owned(), value.to_owned())).to_vec();
        Self { replica_set: true, cache_gb: 0.25, parameters }
    }
}

impl MongodOptions {
    /// Not a member of a replica set: no transactions.
    pub fn standalone(mut self) -> Self {
        self.replica_set = false;
        self
    }

    /// Size of the storage engine's cache in GB.
    pub fn cache_gb(mut self, gigabytes: f32) -> Self {
        self.cache_gb = gigabytes;
        self
    }

    /// Sets any server parameter, for example `("transactionLifetimeLimitSeconds", "1")`.
    pub fn set(mut self, parameter: &str, value: &str) -> Self {
        self.parameters.retain(|(key, _)| key != parameter);
        self.parameters.push((parameter.to_owned(), value.to_owned()));
        self
    }
}

/// A mongod on a free port with an empty data directory. Dropping it kills it and removes its data.
#[derive(Debug)]
pub struct Mongod {
    process: Process,
    port: Port,
    options: MongodOptions,
    sandbox: Sandbox,
}

impl Mongod {
    /// Starts a replica set of one member, or a standalone server, and waits until it takes writes.
    pub async fn start(replica_set: bool) -> Result<Self> {
        let options = MongodOptions::default();
        Self::start_with(if replica_set { options } else { options.standalone() }).await
    }

    /// Starts a server with other options and waits until it takes writes.
    pub async fn start_with(options: MongodOptions) -> Result<Self> {
        Self::start_named("mongod", options).await
    }

    /// As [`Mongod::start_with`]; `name` is part of the name of its directory.
    pub async fn start_named(name: &str, options: MongodOptions) -> Result<Self> {
        let server = Self::start_alone(name, options).await?;
        if server.options.replica_set {
            server.initiate(std::slice::from_ref(&server)).await?;
        }
        server.wait_writable().await?;
        Ok(server)
    }

    /// A server that answers, and that is member of no replica set yet.
    pub(super) async fn start_alone(name: &str, options: MongodOptions) -> Result<Self> {
        let sandbox = Sandbox::new(name)?;
        std::fs::create_dir(sandbox.path().join("data"))?;
        let port = Port::reserve()?;
        let launch = Launch::new("mongod", programs::mongod()?).args(arguments(&sandbox, &port, &options));
        let process = Process::spawn(&sandbox, launch)?;
        let server = Self { process, port, options, sandbox };
        server.wait_listening().await?;
        Ok(server)
    }

    /// The TCP port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// The connection string of a database of this server.
    pub fn dsn(&self, database: &str) -> String {
        let query =
            if self.options.replica_set { format!("?replicaSet={REPLICA_SET}") } else { String::new() };
        format!("mongodb://{}/{database}{query}", self.port.address())
    }

    /// A connection string that asks no server for the members of the set: needed through a proxy.
    pub fn direct_dsn(&self, database: &str) -> String {
        format!("mongodb://{}/{database}?directConnection=true", self.port.address())
    }

    /// The server process: its log, its number.
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// Runs a command in the database `admin`.
    pub async fn admin(&self, command: Document) -> Result<Document> {
        let mut options = ClientOptions::parse(self.direct_dsn("admin")).await?;
        options.server_selection_timeout = Some(Duration::from_secs(5));
        let client = Client::with_options(options)?;
        let answer = client.database("admin").run_command(command).await;
        // A client left to itself keeps monitoring its server until the runtime ends.
        client.shutdown().immediate(true).await;
        Ok(answer?)
    }

    /// Lets commands fail. `mode` is `{times: 2}`, `"alwaysOn"` …; `data` is that of mongod's failCommand, such as
    /// `{failCommands: ["commitTransaction"], closeConnection: true}`, or with `errorCode`, `errorLabels`,
    /// `writeConcernError`, `blockConnection` and `blockTimeMS`.
    pub async fn fail_command(&self, mode: impl Into<bson::Bson>, data: Document) -> Result<()> {
        self.admin(doc! { "configureFailPoint": "failCommand", "mode": mode.into(), "data": data })
            .await
            .map(drop)
    }

    /// Ends [`Mongod::fail_command`].
    pub async fn heal_commands(&self) -> Result<()> {
        self.admin(doc! { "configureFailPoint": "failCommand", "mode": "off" }).await.map(drop)
    }

    /// Changes a server parameter, for example `transactionLifetimeLimitSeconds`, until the next restart.
    pub async fn set_parameter(&self, name: &str, value: impl Into<bson::Bson>) -> Result<()> {
        self.admin(doc! { "setParameter": 1, name: value.into() }).await.map(drop)
    }

    /// Drops all databases except mongod's own.
    pub async fn drop_databases(&self) -> Result<()> {
        let list = self.admin(doc! { "listDatabases": 1, "nameOnly": true }).await?;
        let mut options = ClientOptions::parse(self.direct_dsn("admin")).await?;
        options.server_selection_timeout = Some(Duration::from_secs(5));
        let client = Client::with_options(options)?;
        for database in list.get_array("databases")? {
            let name = database.as_document().context("listDatabases")?.get_str("name")?;
            if !["admin", "config", "local"].contains(&name) {
                client.database(name).drop().await?;
            }
        }
        client.shutdown().immediate(true).await;
        Ok(())
    }

    /// The primary becomes a secondary for a moment: open transactions and writes fail.
    pub async fn step_down(&self) -> Result<()> {
        self.admin(doc! { "replSetStepDown": 1, "force": true }).await.map(drop)
    }

    /// SIGKILL. What a majority had acknowledged is there after [`Mongod::restart`].
    pub fn kill9(&self) {
        self.process.kill9();
    }

    /// A clean shutdown.
    pub async fn stop(&self) -> Result<()> {
        self.process.terminate();
        self.process.wait_exit(STOPPED).await.map(drop)
    }

    /// Starts it again on the same port and data, after a clean shutdown when it still runs.
    pub async fn restart(&self) -> Result<()> {
        self.restart_as_member().await?;
        self.wait_writable().await
    }

    /// As [`Mongod::restart`], for a server that need not become the primary.
    pub(super) async fn restart_as_member(&self) -> Result<()> {
        if self.process.is_running() {
            self.stop().await?;
        }
        self.process.set_args(arguments(&self.sandbox, &self.port, &self.options));
        self.process.start_again()?;
        self.wait_listening().await
    }

    /// SIGSTOP: connections stay open and silent.
    pub fn pause(&self) {
        self.process.pause();
    }

    /// Ends [`Mongod::pause`].
    pub fn resume(&self) {
        self.process.resume();
    }

    /// Makes these servers one replica set, whose elections take little time.
    pub(super) async fn initiate(&self, members: &[Self]) -> Result<()> {
        let hosts = members.iter().map(|member| member.port.address().to_string());
        let members: Vec<Document> =
            (0..).zip(hosts).map(|(id, host): (i32, _)| doc! { "_id": id, "host": host }).collect();
        let settings = doc! { "electionTimeoutMillis": 2_000, "heartbeatIntervalMillis": 500 };
        let config = doc! { "_id": REPLICA_SET, "members": members, "settings": settings };
        self.admin(doc! { "replSetInitiate": config }).await.map(drop)
    }

    async fn wait_listening(&self) -> Result<()> {
        self.wait("mongod to answer", doc! { "ping": 1 }, |_| true).await
    }

    /// `127.0.0.1:port`.
    pub(super) fn address(&self) -> String {
        self.port.address().to_string()
    }

    async fn wait_writable(&self) -> Result<()> {
        let writable = |answer: &Document| answer.get_bool("isWritablePrimary").unwrap_or(false);
        self.wait("mongod to take writes", doc! { "hello": 1 }, writable).await
    }

    /// Waits for a good answer to `command`.
    async fn wait(&self, what: &str, command: Document, good: impl Fn(&Document) -> bool) -> Result<()> {
        let ask = async || {
            // Cheaper than the driver's server selection while nobody listens.
            tokio::net::TcpStream::connect(self.port.address()).await?;
            let answer = self.admin(command.clone()).await?;
            ensure!(good(&answer), "it answered {answer}");
            Ok(())
        };
        self.process.wait_ready(what, READY, ask).await
    }
}

fn arguments(sandbox: &Sandbox, port: &Port, options: &MongodOptions) -> Vec<String> {
    let data = sandbox.path().join("data").display().to_string();
    let (port, cache) = (port.number().to_string(), options.cache_gb.to_string());
    let mut arguments: Vec<String> =
        ["--dbpath", &data, "--port", &port, "--bind_ip", "127.0.0.1", "--nounixsocket"]
            .into_iter()
            .chain(["--wiredTigerCacheSizeGB", &cache, "--quiet"])
            .map(str::to_owned)
            .collect();
    if options.replica_set {
        arguments.extend(["--replSet", REPLICA_SET, "--oplogSize", "256"].map(str::to_owned));
    }
    for (key, value) in &options.parameters {
        arguments.extend(["--setParameter".to_owned(), format!("{key}={value}")]);
    }
    arguments
}
