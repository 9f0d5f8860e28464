//! A small TCP proxy whose faults a test chooses: latency, silence, refusal, a cut in the middle of a COMMIT.
//!
//! It knows nothing of the protocols that it carries. MongoDB clients must connect through it with
//! `directConnection=true`, or they learn the address of the server and go around it.

mod fault;
mod pump;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

pub use fault::{Cut, Direction};
use fault::{Faults, State};

/// A proxy on a free port of the loopback interface to one server. Dropping it resets its connections.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    state: Arc<State>,
    accepting: JoinHandle<()>,
}

impl Proxy {
    /// Listens on a free port; connects to `server` (`127.0.0.1:5432`) once for each connection.
    pub async fn start(server: impl Into<String>) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.context("cannot listen")?;
        let address = listener.local_addr()?;
        let state = Arc::new(State::default());
        let accepting = tokio::spawn(accept(listener, server.into(), Arc::clone(&state)));
        Ok(Self { address, state, accepting })
    }

    /// Where clients connect to.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// `text`, for example a connection string, with the address `server` replaced by that of this proxy.
    pub fn instead_of(&self, server: &str, text: &str) -> String {
        text.replace(server, &self.address.to_string())
    }

    /// Holds every piece of data back for this long, in both directions.
    pub fn latency(&self, latency: Duration) {
        self.state.change(|faults| faults.latency = latency);
    }

    /// A link that is down in one direction: nothing arrives, not even the end of a connection, until
    /// [`Proxy::heal`]; then everything arrives, as after retransmission.
    pub fn stall(&self, direction: Direction) {
        self.state.change(|faults| faults.stalled[direction as usize] = true);
    }

    /// A link that is down in both directions: a partition.
    pub fn stall_both(&self) {
        self.state.change(|faults| faults.stalled = [true; 2]);
    }

    /// New connections are reset at once; those that are open go on.
    pub fn refuse(&self) {
        self.state.change(|faults| faults.refusing = true);
    }

    /// Resets all open connections: both sides see a connection error, data under way is lost.
    pub fn reset_all(&self) {
        self.state.change(|faults| faults.resets += 1);
    }

    /// Arms a cut, which happens once, on the first connection where its trigger is seen. It replaces an armed one.
    pub fn cut(&self, cut: Cut) {
        *self.state.armed() = Some(cut);
    }

    /// How many cuts have happened.
    pub fn cuts(&self) -> u64 {
        self.state.cuts.load(Ordering::SeqCst)
    }

    /// How many connections are open.
    pub fn connections(&self) -> u64 {
        self.state.connections.load(Ordering::SeqCst)
    }

    /// Ends all faults that last, and disarms a cut.
    pub fn heal(&self) {
        *self.state.armed() = None;
        self.state.change(|faults| *faults = Faults { resets: faults.resets, ..Faults::default() });
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // The connections are tasks of the accepting task, and end with it.
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, server: String, state: Arc<State>) {
    let mut connections = JoinSet::new();
    loop {
        let Ok((client, _)) = listener.accept().await else { continue };
        while connections.try_join_next().is_some() {}
        if state.now().refusing {
            pump::reset(&client);
            continue;
        }
        let (server, state) = (server.clone(), Arc::clone(&state));
        connections.spawn(async move {
            match TcpStream::connect(&server).await {
                Ok(upstream) => pump::carry(client, upstream, &state).await,
                Err(_) => pump::reset(&client),
            }
        });
    }
}
