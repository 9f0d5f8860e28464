//! The services outside that a coordinator talks to, in this process: MCP, chat and adaptor behind one address.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

/// What nobody may ever see, and what comes after it.
const KEY: &str = "canary-of-the-services";
const RENEWED: &str = "canary-of-the-services-renewed";

/// A request that has come and was answered as it should be.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Asked {
    /// Method and path.
    pub(crate) what: String,
    pub(crate) body: Value,
}

#[derive(Debug, Default)]
struct State {
    settings: BTreeMap<String, Value>,
    busy: bool,
    down: Vec<String>,
    renewed: bool,
    asked: Vec<Asked>,
    messages: BTreeMap<String, String>,
}

/// The services. Dropping them ends them.
#[derive(Debug)]
pub(crate) struct Outside {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
    serving: tokio::task::JoinHandle<()>,
}

impl Outside {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::<Mutex<State>>::default();
        let mine = Arc::clone(&state);
        let serving = tokio::spawn(async move {
            let mut open = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                open.spawn(serve(stream, Arc::clone(&mine)));
            }
        });
        Self { address, state, serving }
    }

    /// The section of a coordinator's file that names these services.
    pub(crate) fn config(&self, deadline_ms: u64) -> String {
        let place = self.address;
        let service =
            |name: &str| format!("[clients.{name}]\nurl = \"http://{place}/{name}\"\nkey = \"{KEY}\"\n");
        format!(
            "[clients]\nallow = [\"{place}\"]\ntimeout_ms = 1000\n{}{}channel = \"ops\"\n{}deadline_ms = {deadline_ms}\n",
            service("mcp"),
            service("chat"),
            service("adaptor"),
        )
    }

    /// From now on another key is wanted; what becomes of a coordinator's file then.
    pub(crate) fn renew(&self, file: &str) -> String {
        self.state().renewed = true;
        file.replace(KEY, RENEWED)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// What a tenant wants of migrations.
    pub(crate) fn set(&self, tenant: &str, wishes: Value) {
        self.state().settings.insert(tenant.to_owned(), wishes);
    }

    /// Adaptors say that they still have something to finish.
    pub(crate) fn busy(&self, busy: bool) {
        self.state().busy = busy;
    }

    /// These services answer 500 to everything.
    pub(crate) fn down(&self, services: &[&str]) {
        self.state().down = services.iter().map(|&service| service.to_owned()).collect();
    }

    /// What was asked of a service, in order, but for questions about settings.
    pub(crate) fn asked(&self, service: &str) -> Vec<Asked> {
        let of = |asked: &&Asked| asked.what.starts_with(&format!("PUT /{service}/"));
        self.state().asked.iter().filter(of).cloned().collect()
    }

    /// The statuses that each message of the channel had, by its name.
    pub(crate) fn messages(&self) -> BTreeMap<String, Vec<String>> {
        let mut all = BTreeMap::<String, Vec<String>>::new();
        for Asked { what, body } in self.asked("chat") {
            let name = what.rsplit('/').next().unwrap().to_owned();
            all.entry(name).or_default().push(body["status"].as_str().unwrap().to_owned());
        }
        all
    }

    /// What the one message of the channel says now.
    pub(crate) fn text(&self) -> String {
        let state = self.state();
        assert!(state.messages.len() <= 1, "{:?}", state.messages);
        state.messages.values().next().cloned().unwrap_or_default()
    }

    /// Whether a text holds the key of a service.
    pub(crate) fn is_betrayed_by(text: &str) -> bool {
        text.contains(KEY)
    }
}

impl Drop for Outside {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn serve(stream: TcpStream, state: Arc<Mutex<State>>) {
    let mut stream = BufReader::new(stream);
    let Some((what, body, shown)) = read(&mut stream).await else { return };
    let (status, answer) = answer(&mut state.lock().unwrap(), &what, body, &shown);
    let text = answer.to_string();
    let answer = format!(
        "HTTP/1.1 {status} X\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{text}",
        text.len()
    );
    // Whoever asked may have gone.
    let _ = stream.into_inner().write_all(answer.as_bytes()).await;
}

async fn read(stream: &mut BufReader<TcpStream>) -> Option<(String, Value, String)> {
    let mut line = String::new();
    stream.read_line(&mut line).await.ok()?;
    let what = line.rsplit_once(' ')?.0.to_owned();
    let (mut length, mut shown) = (0, String::new());
    loop {
        let mut header = String::new();
        stream.read_line(&mut header).await.ok()?;
        let Some((name, value)) = header.trim().split_once(": ") else { break };
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.parse().unwrap(),
            "authorization" => shown = value.to_owned(),
            _ => {}
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.ok()?;
    Some((what, serde_json::from_slice(&body).unwrap_or_default(), shown))
}

fn answer(state: &mut State, what: &str, body: Value, shown: &str) -> (u16, Value) {
    let service = what.split('/').nth(1).unwrap_or_default();
    let key = if state.renewed { RENEWED } else { KEY };
    if shown != format!("Bearer {key}") {
        return (401, json!({}));
    }
    if state.down.iter().any(|down| down == service) {
        return (500, json!({ "secret": "of the service" }));
    }
    if let Some(tenant) =
        what.strip_prefix("GET /mcp/api/tenants/").and_then(|rest| rest.strip_suffix("/config"))
    {
        return match state.settings.get(tenant) {
            Some(wishes) => (200, json!({ "theme": "dark", "migrations": wishes })),
            None => (404, json!({})),
        };
    }
    if let Some((_, name)) = what.split_once("/messages/") {
        state.messages.insert(name.to_owned(), body["text"].as_str().unwrap_or_default().to_owned());
    }
    let quiet = body["quiet"] == true && !state.busy;
    state.asked.push(Asked { what: what.to_owned(), body });
    (200, json!({ "quiet": quiet }))
}
