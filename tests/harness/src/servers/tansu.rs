//! `tansu`: one broker that speaks Kafka's protocol, as an ordinary process with its memory in a file. It shares no code with
//! librdkafka, unlike that library's own mock cluster. It knows no transactions.

use std::time::Duration;

use anyhow::{Result, ensure};
use tokio::net::TcpStream;
use tokio::process::Command;

use crate::ports::Port;
use crate::process::{Launch, Process};
use crate::programs;
use crate::sandbox::Sandbox;

const READY: Duration = Duration::from_secs(60);

/// A broker on a free port. Dropping it kills it and removes its data.
#[derive(Debug)]
pub struct Tansu {
    server: Process,
    port: Port,
    _sandbox: Sandbox,
}

impl Tansu {
    /// Starts it, waits until it takes connections, and makes these topics, each of so many partitions.
    pub async fn start(topics: &[&str], partitions: i32) -> Result<Self> {
        let program = programs::tansu()?;
        let sandbox = Sandbox::new("tansu")?;
        let port = Port::reserve()?;
        let url = format!("tcp://{}", port.address());
        // It takes the path of its file for one below its working directory.
        let launch = Launch::new("tansu", "env").arg("-C").arg(sandbox.path()).arg(&program).args([
            "broker",
            "--cluster-id",
            "shardlift",
            "--listener-url",
            &url,
            "--advertised-listener-url",
            &url,
            "--storage-engine",
            "sqlite://tansu.db",
        ]);
        let server = Process::spawn(&sandbox, launch)?;
        let tansu = Self { server, port, _sandbox: sandbox };
        tansu.wait_ready().await?;
        for topic in topics {
            let mut command = Command::new(&program);
            command.args([
                "topic",
                "create",
                "--broker",
                &url,
                "--partitions",
                &partitions.to_string(),
                topic,
            ]);
            let output = command.kill_on_drop(true).output().await?;
            let said = String::from_utf8_lossy(&output.stderr);
            ensure!(output.status.success(), "tansu topic create {topic}: {}", said.trim());
        }
        Ok(tansu)
    }

    /// `127.0.0.1:port`.
    pub fn servers(&self) -> String {
        self.port.address().to_string()
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

    async fn wait_ready(&self) -> Result<()> {
        let ask = async || Ok(TcpStream::connect(self.port.address()).await.map(drop)?);
        self.server.wait_ready("tansu to take connections", READY, ask).await
    }
}
