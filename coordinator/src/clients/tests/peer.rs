//! A server in this process that does with each connection what it is told to.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// What is done with a connection once its request is read.
#[derive(Debug, Clone)]
pub(super) enum Reply {
    /// An answer: status, further header lines, body.
    Answer(u16, String, String),
    /// The connection is closed without a word.
    HangUp,
    /// The answer is no HTTP.
    Nonsense,
    /// The body is shorter than announced.
    CutOff,
    /// Nothing, for ever.
    Silence,
    /// A body without an end, as fast as it is read.
    Endless,
    /// A body without an end, a byte at a time.
    Drips,
}

impl Reply {
    pub(super) fn ok(body: &str) -> Self {
        Self::status(200, body)
    }

    pub(super) fn status(status: u16, body: &str) -> Self {
        Self::with(status, "", body)
    }

    pub(super) fn with(status: u16, headers: &str, body: &str) -> Self {
        Self::Answer(status, headers.to_owned(), body.to_owned())
    }
}

/// A request that has come.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    pub(super) line: String,
    headers: Vec<(String, String)>,
    pub(super) body: Value,
}

impl Asked {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// The server. Dropping it ends it.
pub(super) struct Peer {
    address: std::net::SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
    serving: JoinHandle<()>,
}

impl Peer {
    /// One connection after the other gets one of these; the last of them all that come later.
    pub(super) async fn that(replies: impl IntoIterator<Item = Reply>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("listens");
        let address = listener.local_addr().expect("an address");
        let asked = Arc::<Mutex<Vec<Asked>>>::default();
        let (kept, mut replies) = (Arc::clone(&asked), replies.into_iter().collect::<Vec<_>>().into_iter());
        let serving = tokio::spawn(async move {
            let mut last = Reply::HangUp;
            let mut open = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                last = replies.next().unwrap_or(last);
                open.spawn(serve(stream, last.clone(), Arc::clone(&kept)));
            }
        });
        Self { address, asked, serving }
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}/base", self.address)
    }

    pub(super) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().expect("no panic").clone()
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// Whoever has heard enough closes the connection: that a write fails is as it should be.
async fn serve(stream: TcpStream, reply: Reply, asked: Arc<Mutex<Vec<Asked>>>) {
    let mut stream = BufReader::new(stream);
    let Some(request) = read(&mut stream).await else { return };
    asked.lock().expect("no panic").push(request);
    let mut stream = stream.into_inner();
    let text = match &reply {
        Reply::Answer(status, headers, body) => {
            let length = body.len();
            format!(
                "HTTP/1.1 {status} X\r\nconnection: close\r\n{headers}content-length: {length}\r\n\r\n{body}"
            )
        }
        Reply::HangUp => return,
        Reply::Nonsense => "\u{1}\u{2} this is no HTTP\r\n\r\n".to_owned(),
        Reply::CutOff => "HTTP/1.1 200 X\r\ncontent-length: 100\r\n\r\n{\"migra".to_owned(),
        Reply::Silence => return std::future::pending().await,
        Reply::Endless | Reply::Drips => "HTTP/1.1 200 X\r\nconnection: close\r\n\r\n".to_owned(),
    };
    let _ = stream.write_all(text.as_bytes()).await;
    loop {
        let (part, pause): (&[u8], _) = match &reply {
            Reply::Endless => (&[b' '; 4096], Duration::ZERO),
            Reply::Drips => (b" ", Duration::from_millis(20)),
            _ => return,
        };
        if stream.write_all(part).await.is_err() {
            return;
        }
        tokio::time::sleep(pause).await;
    }
}

async fn read(stream: &mut BufReader<TcpStream>) -> Option<Asked> {
    let mut line = String::new();
    stream.read_line(&mut line).await.ok()?;
    let mut headers = Vec::new();
    loop {
        let mut header = String::new();
        stream.read_line(&mut header).await.ok()?;
        let Some((name, value)) = header.trim().split_once(": ") else { break };
        headers.push((name.to_ascii_lowercase(), value.to_owned()));
    }
    let length = headers.iter().find(|(name, _)| name == "content-length");
    let mut body = vec![0; length.map_or(0, |(_, length)| length.parse().expect("a length"))];
    stream.read_exact(&mut body).await.ok()?;
    let body = serde_json::from_slice(&body).unwrap_or_default();
    (!line.is_empty()).then(|| Asked { line: line.trim().to_owned(), headers, body })
}
