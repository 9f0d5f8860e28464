//! A real PostgreSQL server.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use tokio::process::Command;
use tokio::sync::OnceCell;

use crate::ports::Port;
use crate::process::{Launch, Process};
use crate::programs;
use crate::sandbox::Sandbox;
use crate::wait::wait_for_ok;

const READY: Duration = Duration::from_secs(60);
const STOPPED: Duration = Duration::from_secs(30);

/// How the server is to run.
#[derive(Debug, Clone)]
pub struct PostgresOptions {
    durable: bool,
    settings: Vec<(String, String)>,
}

impl Default for PostgresOptions {
    /// For tests: fsync off, 200 connections, two-phase commit and logical decoding allowed.
    fn default() -> Self {
        let settings = [
            ("max_connections", "200"),
            ("max_prepared_transactions", "64"),
            ("wal_level", "logical"),
            ("max_replication_slots", "8"),
            ("max_wal_senders", "8"),
            ("shared_buffers", "64MB"),
        ];
        let settings = settings.map(|(key, value)| (key.to_owned(), value.to_owned())).to_vec();
        Self { durable: false, settings }
    }
}

impl PostgresOptions {
    /// As in production: fsync and full page writes on. For measurements.
    pub fn durable(mut self) -> Self {
        self.durable = true;
        self
    }

    /// Sets any server parameter, for example `("max_connections", "20")`.
    pub fn set(mut self, parameter: &str, value: &str) -> Self {
        self.settings.retain(|(key, _)| key != parameter);
        self.settings.push((parameter.to_owned(), value.to_owned()));
        self
    }

    fn arguments(&self) -> Vec<String> {
        // Shared memory in the data directory, gone with it: a server that is killed leaves a megabyte of /dev/shm behind
        // otherwise.
        let always = [("dynamic_shared_memory_type", "mmap")];
        let passing: &[(&str, &str)] =
            if self.durable { &[] } else { &[("fsync", "off"), ("full_page_writes", "off")] };
        let given = self.settings.iter().map(|(key, value)| (key.as_str(), value.as_str()));
        let own = always.iter().chain(passing).copied();
        own.chain(given).flat_map(|(k, v)| ["-c".to_owned(), format!("{k}={v}")]).collect()
    }
}

/// A PostgreSQL server on a free port with an empty data directory. Everybody on this machine may connect as
/// `postgres`. Dropping it kills it and removes its data.
#[derive(Debug)]
pub struct Postgres {
    process: Process,
    port: Port,
    _sandbox: Sandbox,
}

impl Postgres {
    /// Starts a server for tests and waits until it answers.
    pub async fn start() -> Result<Self> {
        Self::start_with(PostgresOptions::default()).await
    }

    /// Starts a server with other options and waits until it answers.
    pub async fn start_with(options: PostgresOptions) -> Result<Self> {
        Self::start_named("postgres", options).await
    }

    /// As [`Postgres::start_with`]; `name` is part of the name of its directory.
    pub async fn start_named(name: &str, options: PostgresOptions) -> Result<Self> {
        let programs = programs::postgres_dir()?;
        let sandbox = Sandbox::new(name)?;
        copy(template(&programs).await?, &sandbox.path().join("data")).await?;
        Self::run(&programs, sandbox, options).await
    }

    /// A standby that streams from this server and replays what it gets.
    pub async fn start_standby(&self) -> Result<Self> {
        let programs = programs::postgres_dir()?;
        let sandbox = Sandbox::new("standby")?;
        let data = sandbox.path().join("data");
        let launch = as_server_user("pg_basebackup", programs.join("pg_basebackup"))
            .args(["-h", "127.0.0.1", "-p", &self.port().to_string(), "-U", "postgres"])
            .args(["--write-recovery-conf", "--checkpoint=fast", "--no-sync", "-D"])
            .arg(data);
        run_once(&sandbox, launch).await?;
        // A standby tells every ten seconds how far it has replayed; who waits for that need not wait so long.
        let talkative = PostgresOptions::default().set("wal_receiver_status_interval", "1s");
        Self::run(&programs, sandbox, talkative).await
    }

    /// Starts a server on the data that is there.
    async fn run(programs: &Path, sandbox: Sandbox, options: PostgresOptions) -> Result<Self> {
        let port = Port::reserve()?;
        let launch = as_server_user("postgres", programs.join("postgres"))
            .arg("-D")
            .arg(sandbox.path().join("data"))
            .args(["-p", &port.number().to_string()])
            .args(["-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories="])
            .args(["-c", "timezone=UTC", "-c", "log_timezone=UTC"])
            .args(options.arguments());
        let process = Process::spawn(&sandbox, launch)?;
        let server = Self { process, port, _sandbox: sandbox };
        server.wait_ready().await?;
        Ok(server)
    }

    /// The TCP port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// The connection string of a database of this server.
    pub fn dsn(&self, database: &str) -> String {
        format!("postgres://postgres@{}/{database}", self.port.address())
    }

    /// The server process: its log, its number.
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// Creates an empty database and returns its connection string.
    pub async fn create_database(&self, name: &str) -> Result<String> {
        self.execute(&format!("CREATE DATABASE {}", identifier(name))).await?;
        Ok(self.dsn(name))
    }

    /// Drops a database with all its connections.
    pub async fn drop_database(&self, name: &str) -> Result<()> {
        self.execute(&format!("DROP DATABASE {} WITH (FORCE)", identifier(name))).await
    }

    /// Runs statements in the database `postgres`, outside of a transaction when it is one statement.
    pub async fn execute(&self, sql: &str) -> Result<()> {
        let mut connection = PgConnection::connect(&self.dsn("postgres")).await?;
        sqlx::raw_sql(AssertSqlSafe(sql.to_owned()))
            .execute(&mut connection)
            .await
            .with_context(|| sql.to_owned())?;
        Ok(connection.close().await?)
    }

    /// As if the machine lost power (with a durable server: nothing that was committed is lost).
    pub fn kill9(&self) {
        self.process.kill9();
    }

    /// A fast shutdown: open transactions are rolled back, connections closed.
    pub async fn stop(&self) -> Result<()> {
        self.process.interrupt();
        self.process.wait_exit(STOPPED).await.map(drop)
    }

    /// Starts it again on the same port and data, after a fast shutdown when it still runs.
    pub async fn restart(&self) -> Result<()> {
        if self.process.is_running() {
            self.stop().await?;
        }
        self.process.start_again()?;
        self.wait_ready().await
    }

    /// Stops the server and all its sessions in their tracks (SIGSTOP); connections stay open and silent.
    pub fn pause(&self) {
        self.process.pause();
    }

    /// Ends [`Postgres::pause`].
    pub fn resume(&self) {
        self.process.resume();
    }

    /// Makes every new transaction read-only, or lifts that; returns once new sessions see it.
    pub async fn set_read_only(&self, read_only: bool) -> Result<()> {
        let wanted = if read_only { "on" } else { "off" };
        self.execute(&format!("ALTER SYSTEM SET default_transaction_read_only = {wanted}")).await?;
        self.execute("SELECT pg_reload_conf()").await?;
        wait_for_ok(&format!("default_transaction_read_only = {wanted}"), READY, async || {
            let mut connection = PgConnection::connect(&self.dsn("postgres")).await?;
            let now: String =
                sqlx::query_scalar("SHOW default_transaction_read_only").fetch_one(&mut connection).await?;
            connection.close().await?;
            ensure!(now == wanted, "it is {now}");
            Ok(())
        })
        .await
    }

    async fn wait_ready(&self) -> Result<()> {
        let ask = async || Ok(PgConnection::connect(&self.dsn("postgres")).await?.close().await?);
        self.process.wait_ready("PostgreSQL to answer", READY, ask).await
    }
}

/// PostgreSQL refuses to run as root: then it runs as the user that its package has made. `setpriv` replaces itself by
/// the server, so that the process we start is the server.
fn as_server_user(name: &str, program: PathBuf) -> Launch {
    if !programs::is_root() {
        return Launch::new(name, program);
    }
    Launch::new(name, "setpriv")
        .args(["--reuid=postgres", "--regid=postgres", "--clear-groups", "--inh-caps=-all", "--"])
        .arg(program)
}

/// An initialised, never started data directory. `initdb` takes about a second; copying its result takes a tenth.
async fn template(programs: &Path) -> Result<&'static Path> {
    static TEMPLATE: OnceCell<PathBuf> = OnceCell::const_new();
    TEMPLATE.get_or_try_init(|| find_or_make_template(programs)).await.map(PathBuf::as_path)
}

async fn find_or_make_template(programs: &Path) -> Result<PathBuf> {
    let version = Command::new(programs.join("postgres")).arg("--version").output().await?;
    let version = String::from_utf8_lossy(&version.stdout).into_owned();
    let version = version.split_whitespace().nth(2).context("postgres --version tells no version")?;
    let cache = programs::cache_dir().context("neither XDG_CACHE_HOME nor HOME is set")?;
    let template = cache.join(format!("postgres-{version}-data"));
    if template.join("PG_VERSION").is_file() {
        return Ok(template);
    }
    let sandbox = Sandbox::new("initdb")?;
    initialise(programs, &sandbox).await?;
    // Other processes may do this at once: each copies to a place of its own, and the first to rename it wins.
    std::fs::create_dir_all(&cache)?;
    let own = tempfile::Builder::new().prefix(".postgres-").tempdir_in(&cache)?;
    let copied = own.path().join("data");
    copy(&sandbox.path().join("data"), &copied).await?;
    let renamed = std::fs::rename(&copied, &template);
    if !template.join("PG_VERSION").is_file() {
        renamed.with_context(|| format!("cannot make {}", template.display()))?;
    }
    Ok(template)
}

async fn initialise(programs: &Path, sandbox: &Sandbox) -> Result<()> {
    let launch = as_server_user("initdb", programs.join("initdb"))
        .arg("-D")
        .arg(sandbox.path().join("data"))
        .args(["-U", "postgres", "-A", "trust", "-N", "--locale=C", "-E", "UTF8"]);
    run_once(sandbox, launch).await
}

/// Runs a program to its end that makes something in the sandbox, as the user of the server.
async fn run_once(sandbox: &Sandbox, launch: Launch) -> Result<()> {
    if programs::is_root() {
        run(Command::new("chown").arg("postgres").arg(sandbox.path())).await?;
    }
    let process = Process::spawn(sandbox, launch)?;
    let status = process.wait_exit(READY).await?;
    ensure!(status.success(), "{} failed\n{}", process.name(), process.log_tail(20));
    Ok(())
}

/// `cp -a` keeps the owner, which the server checks.
async fn copy(from: &Path, to: &Path) -> Result<()> {
    run(Command::new("cp").arg("-a").arg(from).arg(to)).await
}

async fn run(command: &mut Command) -> Result<()> {
    let output = command.stdin(Stdio::null()).output().await?;
    if !output.status.success() {
        bail!("{command:?} failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}

fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
