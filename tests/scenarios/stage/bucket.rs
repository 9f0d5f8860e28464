//! A bucket as an S3-compatible service shows it over HTTP, as far as backups ask for it: objects are put, got, listed and
//! deleted, and a conditional put of what is there is refused. It can be told to misbehave.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

const NAME: &str = "backups";

/// How it misbehaves.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) enum Mood {
    #[default]
    Well,
    /// It takes nothing, and says in its answer what it was sent.
    Full,
    /// It gives back another byte in objects whose name holds this.
    Spoils(&'static str),
    /// The first object whose name holds this is put only once the bucket is let go.
    Holds(&'static str),
}

#[derive(Default)]
struct State {
    objects: BTreeMap<String, Vec<u8>>,
    mood: Mood,
    held: usize,
}

/// A bucket; gone with the value.
pub(crate) struct Bucket {
    endpoint: String,
    state: Arc<Mutex<State>>,
    go: watch::Sender<bool>,
    server: JoinHandle<()>,
}

impl Drop for Bucket {
    fn drop(&mut self) {
        self.server.abort();
    }
}

struct Asked {
    method: String,
    path: String,
    query: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Bucket {
    pub(crate) async fn open() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let state = Arc::<Mutex<State>>::default();
        let (go, waits) = watch::channel(false);
        let shared = Arc::clone(&state);
        let server = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, Arc::clone(&shared), waits.clone()));
            }
        });
        Self { endpoint, state, go, server }
    }

    /// Environment variables of a worker that keeps its backups here.
    pub(crate) fn env(&self, key: &str, secret: &str) -> Vec<(String, String)> {
        let of = |name: &str, value: &str| (format!("SHARDLIFT__BACKUP__S3__{name}"), value.to_owned());
        vec![
            of("BUCKET", NAME),
            of("ENDPOINT", &self.endpoint),
            of("PREFIX", "production"),
            of("ACCESS_KEY_ID", key),
            of("SECRET_ACCESS_KEY", secret),
        ]
    }

    pub(crate) fn turn(&self, mood: Mood) {
        self.state.lock().unwrap().mood = mood;
    }

    /// How many puts wait to be let go.
    pub(crate) fn held(&self) -> usize {
        self.state.lock().unwrap().held
    }

    pub(crate) fn let_go(&self) {
        self.go.send_replace(true);
    }

    /// The names of all objects.
    pub(crate) fn names(&self) -> Vec<String> {
        self.state.lock().unwrap().objects.keys().cloned().collect()
    }
}

async fn serve(stream: TcpStream, state: Arc<Mutex<State>>, mut waits: watch::Receiver<bool>) {
    let mut stream = BufReader::new(stream);
    while let Some(asked) = read(&mut stream).await {
        let holds = {
            let mut state = state.lock().unwrap();
            match state.mood {
                Mood::Holds(part)
                    if asked.method == "PUT" && asked.path.contains(part) && state.held == 0 =>
                {
                    state.held += 1;
                    true
                }
                _ => false,
            }
        };
        if holds {
            // The bucket may be gone first.
            let _ = waits.wait_for(|go| *go).await;
        }
        let answer = answer(&mut state.lock().unwrap(), &asked);
        if stream.write_all(&answer).await.is_err() {
            return;
        }
    }
}

async fn read(stream: &mut BufReader<TcpStream>) -> Option<Asked> {
    let mut line = String::new();
    stream.read_line(&mut line).await.ok().filter(|read| *read > 0)?;
    let mut words = line.split_whitespace();
    let (method, target) = (words.next()?.to_owned(), words.next()?.to_owned());
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).await.ok()?;
        let Some((name, value)) = line.trim_end().split_once(": ") else { break };
        headers.push((name.to_ascii_lowercase(), value.to_owned()));
    }
    let length = headers.iter().find(|(name, _)| name == "content-length").map(|(_, value)| value.parse());
    let mut body = vec![0; length.and_then(Result::ok).unwrap_or(0)];
    stream.read_exact(&mut body).await.ok()?;
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    let path = decoded(path).trim_start_matches(&format!("/{NAME}")).trim_start_matches('/').to_owned();
    Some(Asked { method, path, query: query.to_owned(), headers, body })
}

fn answer(state: &mut State, asked: &Asked) -> Vec<u8> {
    if state.mood == Mood::Full {
        let told = format!("<Error><Code>AccessDenied</Code><Message>{:?}</Message></Error>", asked.headers);
        return response("403 Forbidden", told.as_bytes());
    }
    match asked.method.as_str() {
        "PUT" => {
            let once = asked.headers.iter().any(|(name, _)| name == "if-none-match");
            if once && state.objects.contains_key(&asked.path) {
                return response(
                    "412 Precondition Failed",
                    b"<Error><Code>PreconditionFailed</Code></Error>",
                );
            }
            state.objects.insert(asked.path.clone(), asked.body.clone());
            response("200 OK", b"")
        }
        "GET" if asked.path.is_empty() => response("200 OK", listing(state, &asked.query).as_bytes()),
        "GET" => match state.objects.get(&asked.path) {
            Some(bytes) => response("200 OK", &spoilt(&state.mood, &asked.path, bytes)),
            None => response("404 Not Found", b"<Error><Code>NoSuchKey</Code></Error>"),
        },
        "DELETE" => {
            state.objects.remove(&asked.path);
            response("204 No Content", b"")
        }
        _ => response("405 Method Not Allowed", b""),
    }
}

fn spoilt(mood: &Mood, path: &str, bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    if let (Mood::Spoils(part), Some(last)) = (mood, bytes.last_mut())
        && path.contains(part)
    {
        *last ^= 1;
    }
    bytes
}

fn response(status: &str, body: &[u8]) -> Vec<u8> {
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Length: {}\r\nETag: \"1\"\r\nLast-Modified: Thu, 01 Jan 2026 00:00:00 GMT\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

fn listing(state: &State, query: &str) -> String {
    let prefix =
        query.split('&').find_map(|pair| pair.strip_prefix("prefix=")).map(decoded).unwrap_or_default();
    let found = state.objects.iter().filter(|(name, _)| name.starts_with(&prefix));
    let entries: String = found
        .map(|(name, bytes)| {
            format!(
                "<Contents><Key>{name}</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified>\
                 <ETag>\"1\"</ETag><Size>{}</Size></Contents>",
                bytes.len()
            )
        })
        .collect();
    format!(
        "<ListBucketResult><Name>{NAME}</Name><IsTruncated>false</IsTruncated>{entries}</ListBucketResult>"
    )
}

/// Percent-decoded.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let code =
            (*first == b'%').then(|| after.get(..2).and_then(|two| std::str::from_utf8(two).ok())).flatten();
        match code.and_then(|code| u8::from_str_radix(code, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8(bytes).unwrap()
}
