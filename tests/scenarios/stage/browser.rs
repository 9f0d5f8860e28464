//! A real headless Chromium, driven over the W3C WebDriver protocol by `chromedriver`: what a person sees and clicks.

use std::io::{Read as _, Write as _};
use std::net::SocketAddr;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};
use shardlift_harness::ports::Port;
use shardlift_harness::process::{Launch, Process};
use shardlift_harness::programs::on_path;
use shardlift_harness::sandbox::Sandbox;
use shardlift_harness::wait::wait_for_ok;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::DEADLINE;

/// How long one command may take.
const WITHIN: Duration = Duration::from_secs(60);

/// The key under which the protocol gives a found element.
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

/// One window of a browser of its own; nothing of it stays.
#[derive(Debug)]
pub(crate) struct Browser {
    driver: SocketAddr,
    session: String,
    // Dropped in this order: the driver ends its browser, then their files go.
    process: Process,
    _port: Port,
    sandbox: Sandbox,
}

impl Browser {
    /// Opens a window of this size.
    pub(crate) async fn open(width: u32, height: u32) -> Self {
        let program = on_path("chromedriver")
            .expect("no chromedriver on PATH: cargo xtask test installs chromium and chromium-driver");
        let sandbox = Sandbox::new("browser").unwrap();
        let port = Port::reserve().unwrap();
        let driver = port.address();
        let launch = Launch::new("chromedriver", program).arg(format!("--port={}", driver.port()));
        let process = Process::spawn(&sandbox, launch).unwrap();
        let ready = async || {
            TcpStream::connect(driver).await?;
            anyhow::Ok(())
        };
        wait_for_ok("chromedriver to take connections", DEADLINE, ready).await.unwrap();
        let mut browser = Self { driver, session: String::new(), process, _port: port, sandbox };
        let profile = browser.sandbox.path().join("profile");
        let arguments = [
            "--headless=new".to_owned(),
            // Tests run as root in containers, where Chromium's own sandbox cannot.
            "--no-sandbox".to_owned(),
            "--disable-gpu".to_owned(),
            "--disable-dev-shm-usage".to_owned(),
            "--no-first-run".to_owned(),
            "--disable-background-networking".to_owned(),
            "--force-prefers-reduced-motion".to_owned(),
            "--hide-scrollbars".to_owned(),
            format!("--user-data-dir={}", profile.display()),
        ];
        let options = json!({
            "browserName": "chrome",
            "goog:chromeOptions": { "args": arguments },
            "goog:loggingPrefs": { "browser": "WARNING" },
        });
        let opened =
            browser.ask("POST", "/session", &json!({ "capabilities": { "alwaysMatch": options } })).await;
        browser.session = opened["sessionId"].as_str().expect("a session has an id").to_owned();
        browser.size((width, height)).await;
        browser
    }

    /// Makes the page so wide and high. A window has a least width, which is more than that of a phone.
    pub(crate) async fn size(&self, (width, height): (u32, u32)) {
        let size = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": false });
        self.emulate("Emulation.setDeviceMetricsOverride", &size).await;
    }

    /// As on a system that is set to dark, or to light.
    pub(crate) async fn dark(&self, dark: bool) {
        let scheme = if dark { "dark" } else { "light" };
        let features = json!([{ "name": "prefers-color-scheme", "value": scheme }]);
        self.emulate("Emulation.setEmulatedMedia", &json!({ "features": features })).await;
    }

    /// What is seen now, as PNG.
    pub(crate) async fn picture(&self) -> Vec<u8> {
        let picture = self.ask("GET", &format!("/session/{}/screenshot", self.session), &json!({})).await;
        BASE64_STANDARD.decode(picture.as_str().expect("a picture is text")).expect("in base 64")
    }

    async fn emulate(&self, command: &str, params: &Value) {
        self.command("/goog/cdp/execute", &json!({ "cmd": command, "params": params })).await;
    }

    /// Goes to an address.
    pub(crate) async fn go(&self, url: &str) {
        self.command("/url", &json!({ "url": url })).await;
    }

    /// What an expression of JavaScript is on the page now.
    pub(crate) async fn evaluate(&self, expression: &str) -> Value {
        let script = json!({ "script": format!("return ({expression});"), "args": [] });
        self.command("/execute/sync", &script).await
    }

    /// Waits until an expression holds.
    pub(crate) async fn until(&self, what: &str, expression: &str) {
        let holds = async || {
            let now = self.evaluate(expression).await;
            anyhow::ensure!(now == json!(true), "it is {now}; the page says: {}", self.page().await);
            Ok(())
        };
        wait_for_ok(what, DEADLINE, holds).await.unwrap();
    }

    /// The text that is seen.
    pub(crate) async fn page(&self) -> String {
        self.evaluate("document.body.innerText").await.as_str().unwrap_or_default().to_owned()
    }

    /// Waits until an element is there, can be seen and is enabled, then clicks it as a mouse does.
    pub(crate) async fn click(&self, selector: &str) {
        let quoted = json!(selector);
        let usable = format!(
            "(() => {{ const e = document.querySelector({quoted}); return Boolean(e && !e.disabled && e.checkVisibility()); }})()"
        );
        self.until(&format!("{selector} to be there"), &usable).await;
        let found = self.command("/element", &json!({ "using": "css selector", "value": selector })).await;
        let element = found[ELEMENT].as_str().expect("an element has a reference").to_owned();
        self.command(&format!("/element/{element}/click"), &json!({})).await;
    }

    /// Presses keys, as if typed.
    pub(crate) async fn press(&self, keys: &[&str]) {
        let actions: Vec<Value> = keys
            .iter()
            .flat_map(|key| {
                [json!({ "type": "keyDown", "value": key }), json!({ "type": "keyUp", "value": key })]
            })
            .collect();
        self.command(
            "/actions",
            &json!({ "actions": [{ "type": "key", "id": "keyboard", "actions": actions }] }),
        )
        .await;
    }

    /// What the page has complained about in the console: mistakes of scripts, refusals of its policy.
    pub(crate) async fn complaints(&self) -> Vec<String> {
        let log = self.command("/se/log", &json!({ "type": "browser" })).await;
        let entries = log.as_array().cloned().unwrap_or_default();
        entries.iter().map(|entry| entry["message"].as_str().unwrap_or_default().to_owned()).collect()
    }

    async fn command(&self, path: &str, body: &Value) -> Value {
        self.ask("POST", &format!("/session/{}{path}", self.session), body).await
    }

    /// One request to the driver, and the value that it answers.
    async fn ask(&self, method: &str, path: &str, body: &Value) -> Value {
        let body = body.to_string();
        let (host, length) = (self.driver, body.len());
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\
             content-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
        );
        let exchange = async {
            let mut stream = TcpStream::connect(self.driver).await?;
            stream.write_all(request.as_bytes()).await?;
            read(&mut stream).await
        };
        let told = || format!("{method} {path} {body}\n{}", self.process.log_tail(20));
        let answer = timeout(WITHIN, exchange).await.unwrap_or_else(|_| panic!("no answer: {}", told()));
        let answer = answer.unwrap_or_else(|error| panic!("{error}: {}", told()));
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}\n{}", told());
        let (_, value) = answer.split_once("\r\n\r\n").unwrap_or_default();
        let value: Value = serde_json::from_str(value).unwrap_or_else(|error| panic!("{error}: {answer}"));
        value["value"].clone()
    }
}

impl Drop for Browser {
    /// Also when a scenario fails. The driver answers once its browser is gone; killed before that, it would leave it.
    fn drop(&mut self) {
        let _ = end(self.driver, &self.session);
    }
}

fn end(driver: SocketAddr, session: &str) -> std::io::Result<usize> {
    let mut stream = std::net::TcpStream::connect(driver)?;
    stream.set_read_timeout(Some(WITHIN))?;
    write!(stream, "DELETE /session/{session} HTTP/1.1\r\nhost: {driver}\r\ncontent-length: 2\r\n\r\n{{}}")?;
    stream.read(&mut [0; 64])
}

/// Head and body of an answer. The driver leaves the connection open, so its length decides.
async fn read(stream: &mut TcpStream) -> std::io::Result<String> {
    let (mut answer, mut piece) = (Vec::new(), [0; 4096]);
    loop {
        let text = String::from_utf8_lossy(&answer);
        if let Some((head, _)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| {
                line.to_ascii_lowercase().strip_prefix("content-length:")?.trim().parse().ok()
            });
            if answer.len() >= head.len() + 4 + length.unwrap_or(0) {
                return Ok(text.into_owned());
            }
        }
        match stream.read(&mut piece).await? {
            0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
            count => answer.extend_from_slice(&piece[..count]),
        }
    }
}
