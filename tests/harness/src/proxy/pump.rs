//! Carries one connection, with the faults of the moment.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::sleep;

use super::fault::{Direction, Faults, Lookout, State};

/// How long a swallowed reply is waited for before the connection is cut all the same.
const REPLY: Duration = Duration::from_secs(10);

/// The peer sees a connection reset instead of an orderly end when the stream is dropped.
pub(super) fn reset(stream: &TcpStream) {
    // Fails only when the socket is gone already.
    let _ = stream.set_zero_linger();
}

/// Carries until both sides have ended in order, or the connection is to be reset.
pub(super) async fn carry(mut client: TcpStream, mut server: TcpStream, state: &State) {
    let _counted = Counted::new(state);
    let _ = client.set_nodelay(true);
    let _ = server.set_nodelay(true);
    let end = {
        let (from_client, to_client) = client.split();
        let (from_server, to_server) = server.split();
        let swallow = AtomicBool::new(false);
        let requests = Pump::new(Direction::ToServer, state, &swallow).run(from_client, to_server);
        let replies = Pump::new(Direction::ToClient, state, &swallow).run(from_server, to_client);
        tokio::select! {
            end = async { tokio::try_join!(requests, replies) } => end.map(drop),
            () = until_reset(state.watch()) => Err(Reset),
        }
    };
    if end.is_err() {
        reset(&client);
        reset(&server);
    }
}

/// The connection ends with a reset on both sides.
struct Reset;

impl From<std::io::Error> for Reset {
    fn from(_: std::io::Error) -> Self {
        Self
    }
}

struct Counted<'a>(&'a State);

impl<'a> Counted<'a> {
    fn new(state: &'a State) -> Self {
        state.connections.fetch_add(1, Ordering::SeqCst);
        Self(state)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::SeqCst);
    }
}

async fn until_reset(mut faults: watch::Receiver<Faults>) {
    let resets = faults.borrow().resets;
    // The sender lives as long as the proxy, whose end aborts this task.
    let _ = faults.wait_for(|now| now.resets > resets).await;
}

struct Pump<'a> {
    direction: Direction,
    state: &'a State,
    faults: watch::Receiver<Faults>,
    lookout: Lookout,
    /// Set by the pump of requests when the reply must not arrive.
    swallow: &'a AtomicBool,
}

impl<'a> Pump<'a> {
    fn new(direction: Direction, state: &'a State, swallow: &'a AtomicBool) -> Self {
        Self { direction, state, faults: state.watch(), lookout: Lookout::new(direction), swallow }
    }

    async fn run(
        mut self,
        mut from: impl AsyncRead + Unpin,
        mut to: impl AsyncWrite + Unpin,
    ) -> Result<(), Reset> {
        let mut buffer = vec![0; 64 * 1024];
        loop {
            self.until_not_stalled().await;
            let read = from.read(&mut buffer).await?;
            // The link may have gone down while we waited for data; then this piece is under way.
            self.until_not_stalled().await;
            if read == 0 {
                to.shutdown().await?;
                return Ok(());
            }
            if self.direction == Direction::ToClient && self.swallow.load(Ordering::SeqCst) {
                return Err(self.cut_done());
            }
            let latency = self.faults.borrow().latency;
            if latency > Duration::ZERO {
                sleep(latency).await;
            }
            self.pass(&buffer[..read], &mut to).await?;
        }
    }

    async fn pass(&mut self, piece: &[u8], to: &mut (impl AsyncWrite + Unpin)) -> Result<(), Reset> {
        let (passing, cut) = self.lookout.see(self.state, piece);
        let Some(cut) = cut else { return Ok(to.write_all(piece).await?) };
        if cut.delivered {
            // Before the request leaves, or its reply might slip through.
            self.swallow.store(true, Ordering::SeqCst);
        }
        to.write_all(&piece[..passing]).await?;
        if cut.delivered {
            sleep(REPLY).await;
        } else {
            to.flush().await?;
        }
        Err(self.cut_done())
    }

    fn cut_done(&self) -> Reset {
        self.state.cuts.fetch_add(1, Ordering::SeqCst);
        Reset
    }

    async fn until_not_stalled(&mut self) {
        let direction = self.direction as usize;
        let _ = self.faults.wait_for(|now| !now.stalled[direction]).await;
    }
}
