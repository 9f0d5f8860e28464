//! A door: takes connections, in plain or over TLS, and yields those that are ready to be served.
//!
//! Handshakes go on beside each other and beside the taking of connections. One that does not end within its time is given
//! up; when very many are open the oldest one is, since a well-meant one takes milliseconds. So nobody who connects and says
//! nothing keeps others out.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::extract::connect_info::Connected;
use axum::serve::{IncomingStream, Listener};
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tonic::transport::server::TcpConnectInfo;

use super::server::ServerTls;

/// Handshakes that are open at once.
const MAX_HANDSHAKES: usize = 512;
/// Connections that are ready and not yet served.
const QUEUE: usize = 64;
/// A pause when the system has no more connections to give.
const EXHAUSTED: Duration = Duration::from_millis(500);

/// A bound address that yields connections. Its connections outlive it.
#[derive(Debug)]
pub struct Door {
    local: SocketAddr,
    ready: mpsc::Receiver<Connection>,
    taking: AbortHandle,
}

impl Drop for Door {
    fn drop(&mut self) {
        self.taking.abort();
    }
}

impl Door {
    /// A door for gRPC (HTTP/2): over TLS where there is any.
    pub fn grpc(listener: TcpListener, tls: Option<ServerTls>) -> io::Result<Self> {
        Self::open(listener, tls.map(|tls| (tls, ServerTls::http2 as Offer)))
    }

    /// A door for HTTP/1.1: over TLS where there is any.
    pub fn http(listener: TcpListener, tls: Option<ServerTls>) -> io::Result<Self> {
        Self::open(listener, tls.map(|tls| (tls, ServerTls::http1 as Offer)))
    }

    fn open(listener: TcpListener, tls: Option<(ServerTls, Offer)>) -> io::Result<Self> {
        let local = listener.local_addr()?;
        let (out, ready) = mpsc::channel(QUEUE);
        let taking = tokio::spawn(take(listener, tls, out)).abort_handle();
        Ok(Self { local, ready, taking })
    }

    /// The next connection, as a stream polls for it; `None` never comes while the door is open.
    pub fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<io::Result<Connection>>> {
        self.ready.poll_recv(context).map(|connection| connection.map(Ok))
    }
}

/// The settings that a door offers at this moment.
type Offer = fn(&ServerTls) -> Arc<ServerConfig>;

async fn take(listener: TcpListener, tls: Option<(ServerTls, Offer)>, out: mpsc::Sender<Connection>) {
    let mut open: VecDeque<AbortHandle> = VecDeque::new();
    loop {
        let (stream, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) if of_the_peer(&error) => continue,
            Err(error) => {
                tracing::warn!(%error, "no connection can be taken for now");
                sleep(EXHAUSTED).await;
                continue;
            }
        };
        // Small messages are answered at once; without it the connection works all the same.
        let _ = stream.set_nodelay(true);
        let Some((tls, offer)) = &tls else {
            let plain = Connection { peer, stream: Stream::Plain(stream) };
            if out.send(plain).await.is_err() {
                return;
            }
            continue;
        };
        open.retain(|handshake| !handshake.is_finished());
        if open.len() >= MAX_HANDSHAKES
            && let Some(oldest) = open.pop_front()
        {
            oldest.abort();
            tls.counts.ended("crowded_out");
        }
        let shaken = shake(stream, peer, tls.clone(), offer(tls), out.clone());
        open.push_back(tokio::spawn(shaken).abort_handle());
    }
}

/// One handshake, then the connection is handed over.
async fn shake(
    stream: TcpStream,
    peer: SocketAddr,
    tls: ServerTls,
    config: Arc<ServerConfig>,
    out: mpsc::Sender<Connection>,
) {
    match timeout(tls.handshake_within, TlsAcceptor::from(config).accept(stream)).await {
        Ok(Ok(stream)) => {
            tls.counts.ended("done");
            // Nobody takes it any more: the door is closed.
            let _ = out.send(Connection { peer, stream: Stream::Tls(Box::new(stream)) }).await;
        }
        Ok(Err(error)) => {
            tls.counts.ended("refused");
            tracing::debug!(%peer, %error, "a handshake failed");
        }
        Err(_) => {
            tls.counts.ended("late");
            tracing::debug!(%peer, "a handshake did not end in time");
        }
    }
}

/// The connection was gone before it was taken: not ours to worry about.
fn of_the_peer(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionRefused
    )
}

/// A connection that is ready to be served.
#[derive(Debug)]
pub struct Connection {
    peer: SocketAddr,
    stream: Stream,
}

#[derive(Debug)]
enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Connection {
    /// Whether nobody on the way can read it.
    pub fn is_secure(&self) -> bool {
        matches!(self.stream, Stream::Tls(_))
    }
}

macro_rules! through {
    ($self:ident, $stream:ident => $call:expr) => {
        match &mut $self.get_mut().stream {
            Stream::Plain(plain) => {
                let $stream = Pin::new(plain);
                $call
            }
            Stream::Tls(tls) => {
                let $stream = Pin::new(tls.as_mut());
                $call
            }
        }
    };
}

impl AsyncRead for Connection {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        through!(self, stream => stream.poll_read(context, into))
    }
}

impl AsyncWrite for Connection {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, from: &[u8]) -> Poll<io::Result<usize>> {
        through!(self, stream => stream.poll_write(context, from))
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        through!(self, stream => stream.poll_flush(context))
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        through!(self, stream => stream.poll_shutdown(context))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        from: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        through!(self, stream => stream.poll_write_vectored(context, from))
    }

    fn is_write_vectored(&self) -> bool {
        match &self.stream {
            Stream::Plain(plain) => plain.is_write_vectored(),
            Stream::Tls(tls) => tls.is_write_vectored(),
        }
    }
}

impl tonic::transport::server::Connected for Connection {
    type ConnectInfo = TcpConnectInfo;

    fn connect_info(&self) -> TcpConnectInfo {
        TcpConnectInfo { local_addr: None, remote_addr: Some(self.peer) }
    }
}

impl Listener for Door {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        match self.ready.recv().await {
            Some(connection) => {
                let peer = connection.peer;
                (connection, peer)
            }
            // The runtime ends.
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.local)
    }
}

/// Where the caller of an HTTP request is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer(pub SocketAddr);

impl Connected<IncomingStream<'_, Door>> for Peer {
    fn connect_info(stream: IncomingStream<'_, Door>) -> Self {
        Self(*stream.remote_addr())
    }
}
