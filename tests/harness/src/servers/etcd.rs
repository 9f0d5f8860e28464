//! A real etcd of one member.

use std::time::Duration;

use anyhow::{Context, Result};
use tokio::net::TcpStream;

use crate::ports::Port;
use crate::process::{Launch, Process};
use crate::programs;
use crate::sandbox::Sandbox;
use crate::wait::{and_tell, wait_for_ok};

const READY: Duration = Duration::from_secs(30);

/// An etcd of one member on free ports. Dropping it kills it and removes its data.
#[derive(Debug)]
pub struct Etcd {
    process: Process,
    client: Port,
    _peer: Port,
    _sandbox: Sandbox,
}

impl Etcd {
    /// Starts it and waits until it takes client connections (which it does once it leads).
    pub async fn start() -> Result<Self> {
        let program =
            programs::on_path("etcd").context("no etcd on PATH; cargo xtask servers installs it")?;
        let sandbox = Sandbox::new("etcd")?;
        let (client, peer) = (Port::reserve()?, Port::reserve()?);
        let (client_url, peer_url) =
            (format!("http://{}", client.address()), format!("http://{}", peer.address()));
        let launch = Launch::new("etcd", program)
            .args(["--name", "one", "--logger", "zap", "--log-level", "warn", "--enable-v2=false"])
            .arg("--data-dir")
            .arg(sandbox.path().join("data"))
            .args(["--listen-client-urls", &client_url, "--advertise-client-urls", &client_url])
            .args(["--listen-peer-urls", &peer_url, "--initial-advertise-peer-urls", &peer_url])
            .args(["--initial-cluster", &format!("one={peer_url}"), "--initial-cluster-state", "new"])
            .args(["--heartbeat-interval", "100", "--election-timeout", "1000"]);
        let process = Process::spawn(&sandbox, launch)?;
        let server = Self { process, client, _peer: peer, _sandbox: sandbox };
        server.wait_ready().await?;
        Ok(server)
    }

    /// `http://127.0.0.1:port` for clients.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.client.address())
    }

    /// The server process: kill, pause, resume, log.
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// Starts it again on the same ports and data after it was killed.
    pub async fn restart(&self) -> Result<()> {
        self.process.kill9();
        self.process.start_again()?;
        self.wait_ready().await
    }

    async fn wait_ready(&self) -> Result<()> {
        let connect = async || TcpStream::connect(self.client.address()).await;
        let ready = wait_for_ok("etcd to take connections", READY, connect).await;
        and_tell(ready.map(drop), || self.process.log_tail(20))
    }
}
