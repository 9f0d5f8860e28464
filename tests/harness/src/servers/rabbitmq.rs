//! A real RabbitMQ of one node as an ordinary process, and what can befall it.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::Command;

use crate::ports::Port;
use crate::process::{Launch, Process};
use crate::programs;
use crate::sandbox::Sandbox;

/// An Erlang machine starts slowly where all processors are busy.
const READY: Duration = Duration::from_secs(120);

/// What follows from its messages being few and its machine being shared.
const SETTINGS: &str = "vm_memory_high_watermark.absolute = 256MB\ndisk_free_limit.absolute = 50MB\n\
                        log.console = true\nlog.console.level = warning\n";

/// A RabbitMQ on free ports. Dropping it kills it and removes its data.
#[derive(Debug)]
pub struct RabbitMq {
    server: Process,
    // The directory of Erlang nodes. A child of ours: else the server would leave one behind.
    _epmd: Process,
    ports: [Port; 3],
    sandbox: Sandbox,
}

impl RabbitMq {
    /// Starts it, and waits until it speaks AMQP.
    pub async fn start() -> Result<Self> {
        let bin = programs::rabbitmq_dir()?;
        let epmd = programs::on_path("epmd").context("no epmd on PATH; cargo xtask test installs it")?;
        let sandbox = Sandbox::new("rabbitmq")?;
        let ports = [Port::reserve()?, Port::reserve()?, Port::reserve()?];
        let [amqp, names, distribution] = &ports;
        let file = |name: &str| sandbox.path().join(name).display().to_string();
        std::fs::write(file("enabled_plugins"), "[].")?;
        let listen = format!("listeners.tcp.default = {}\n", amqp.address());
        std::fs::write(file("rabbitmq.conf"), format!("{listen}{SETTINGS}"))?;
        let number = |port: &Port| port.number().to_string();
        let daemon = Launch::new("epmd", epmd).args(["-port", &number(names), "-address", "127.0.0.1"]);
        let daemon = Process::spawn(&sandbox, daemon)?;
        let launch = Launch::new("rabbitmq", bin.join("rabbitmq-server"));
        let launch = [
            ("HOME", file("")),
            ("ERL_EPMD_PORT", number(names)),
            ("ERL_EPMD_ADDRESS", "127.0.0.1".to_owned()),
            ("RABBITMQ_NODENAME", NODE.to_owned()),
            ("RABBITMQ_NODE_IP_ADDRESS", "127.0.0.1".to_owned()),
            ("RABBITMQ_NODE_PORT", number(amqp)),
            ("RABBITMQ_DIST_PORT", number(distribution)),
            ("RABBITMQ_MNESIA_BASE", file("mnesia")),
            ("RABBITMQ_LOG_BASE", file("log")),
            ("RABBITMQ_LOGS", "-".to_owned()),
            ("RABBITMQ_ENABLED_PLUGINS_FILE", file("enabled_plugins")),
            ("RABBITMQ_CONFIG_FILE", file("rabbitmq.conf")),
            ("RABBITMQ_PID_FILE", file("pid")),
            ("RABBITMQ_GENERATED_CONFIG_DIR", file("generated")),
            ("RABBITMQ_CONF_ENV_FILE", "/dev/null".to_owned()),
            // Idle schedulers sleep, and nobody else's machine is spoken to.
            (
                "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS",
                "+sbwt none -kernel inet_dist_use_interface {127,0,0,1}".to_owned(),
            ),
        ]
        .into_iter()
        .fold(launch, |launch, (key, value)| launch.env(key, value));
        let server = Process::spawn(&sandbox, launch)?;
        let rabbitmq = Self { server, _epmd: daemon, ports, sandbox };
        rabbitmq.wait_ready().await?;
        Ok(rabbitmq)
    }

    /// `amqp://guest:guest@127.0.0.1:port/%2f`.
    pub fn url(&self) -> String {
        format!("amqp://guest:guest@{}/%2f", self.ports[0].address())
    }

    /// Its process: pause, resume, log.
    pub fn process(&self) -> &Process {
        &self.server
    }

    /// SIGKILL.
    pub fn kill9(&self) {
        self.server.kill9();
    }

    /// Starts it again on the same port and data, killing it if it runs.
    pub async fn restart(&self) -> Result<()> {
        self.server.kill9();
        self.server.start_again()?;
        self.wait_ready().await
    }

    /// It is out of memory, as it sees it: it takes no messages, and blocks who sends some.
    pub async fn fill(&self) -> Result<()> {
        self.ctl(&["set_vm_memory_high_watermark", "absolute", "1"]).await
    }

    /// It has memory again.
    pub async fn make_room(&self) -> Result<()> {
        self.ctl(&["set_vm_memory_high_watermark", "absolute", "256MB"]).await
    }

    async fn ctl(&self, args: &[&str]) -> Result<()> {
        let mut command = Command::new(programs::rabbitmq_dir()?.join("rabbitmqctl"));
        command.env("HOME", self.sandbox.path()).env("ERL_EPMD_PORT", self.ports[1].number().to_string());
        let output = command.args(["-n", NODE]).args(args).kill_on_drop(true).output().await?;
        if !output.status.success() {
            bail!("rabbitmqctl: {}", String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(())
    }

    async fn wait_ready(&self) -> Result<()> {
        let ask = async || {
            let mut stream = TcpStream::connect(self.ports[0].address()).await?;
            stream.write_all(b"AMQP\x00\x00\x09\x01").await?;
            // The first octet of a frame that carries a method.
            ensure!(stream.read_u8().await? == 1, "it says something else");
            Ok(())
        };
        self.server.wait_ready("RabbitMQ to speak AMQP", READY, ask).await
    }
}

const NODE: &str = "shardlift@localhost";
