//! The section `[clients]`: services outside that are talked to, and where requests may go.

use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;
use shardlift_runtime::config::{ConfigProblems, Secret};

use crate::clients::{ClientsConfig, HostPort, Key, ServiceConfig, may_be_asked};

/// How long one try may take, in milliseconds.
const TIMEOUT_BOUNDS: std::ops::RangeInclusive<u64> = 50..=30_000;
/// How long adaptors may take to be quiet, in milliseconds.
const DEADLINE_BOUNDS: std::ops::RangeInclusive<u64> = 500..=3_600_000;
/// Longest name of a channel.
const MAX_CHANNEL: usize = 200;

#[derive(Debug, Deserialize)]
#[serde(default)]
pub(super) struct WrittenClients {
    allow: Vec<String>,
    timeout_ms: u64,
    mcp: Option<WrittenService>,
    chat: Option<WrittenChat>,
    adaptor: Option<WrittenAdaptor>,
}

#[derive(Debug, Deserialize)]
struct WrittenService {
    url: String,
    key: Option<Secret>,
    key_file: Option<PathBuf>,
}

#[derive(Debug, Deserialize)]
struct WrittenChat {
    url: String,
    key: Option<Secret>,
    key_file: Option<PathBuf>,
    channel: String,
}

#[derive(Debug, Deserialize)]
struct WrittenAdaptor {
    url: String,
    key: Option<Secret>,
    key_file: Option<PathBuf>,
    #[serde(default = "usual_deadline")]
    deadline_ms: u64,
}

fn usual_deadline() -> u64 {
    60_000
}

impl Default for WrittenClients {
    fn default() -> Self {
        Self { allow: Vec::new(), timeout_ms: 3_000, mcp: None, chat: None, adaptor: None }
    }
}

impl WrittenClients {
    pub(super) fn check(self, problems: &mut ConfigProblems) -> ClientsConfig {
        let Self { allow, timeout_ms, mcp, chat, adaptor } = self;
        let mut allowed = Vec::with_capacity(allow.len());
        for (at, text) in allow.iter().enumerate() {
            match HostPort::parse(text) {
                Some(place) => allowed.push(place),
                None => problems.add(
                    format!("clients.allow[{at}]"),
                    format!("{text:?} is no host with a port, such as mcp.example:443"),
                ),
            }
        }
        within(problems, "clients.timeout_ms", timeout_ms, &TIMEOUT_BOUNDS);
        let timeout = Duration::from_millis(timeout_ms);
        let mut service = |at: &str, url: &str, key: Option<&Secret>, file: Option<PathBuf>| {
            let url =
                may_be_asked(url, &allowed).map_err(|why| problems.add(format!("clients.{at}.url"), why));
            let key = Key::read(key, file)
                .map_err(|error| problems.add(format!("clients.{at}.key"), error.to_string()));
            Some(ServiceConfig { url: url.ok()?, key: key.ok()?, timeout })
        };
        let mcp = mcp
            .and_then(|WrittenService { url, key, key_file }| service("mcp", &url, key.as_ref(), key_file));
        let told = chat.map(|WrittenChat { url, key, key_file, channel }| {
            (service("chat", &url, key.as_ref(), key_file), channel)
        });
        let quiet = adaptor.map(|WrittenAdaptor { url, key, key_file, deadline_ms }| {
            (service("adaptor", &url, key.as_ref(), key_file), deadline_ms)
        });
        let chat = told.and_then(|(service, channel)| {
            if channel.trim().is_empty()
                || channel.len() > MAX_CHANNEL
                || matches!(channel.as_str(), "." | "..")
            {
                let why = format!("{channel:?} is no name of a channel, of {MAX_CHANNEL} bytes at most");
                problems.add("clients.chat.channel", why);
            }
            service.map(|service| (service, channel))
        });
        let adaptor = quiet.and_then(|(service, deadline_ms)| {
            within(problems, "clients.adaptor.deadline_ms", deadline_ms, &DEADLINE_BOUNDS);
            service.map(|service| (service, Duration::from_millis(deadline_ms)))
        });
        ClientsConfig { mcp, chat, adaptor }
    }
}

fn within(problems: &mut ConfigProblems, key: &str, millis: u64, bounds: &std::ops::RangeInclusive<u64>) {
    if !bounds.contains(&millis) {
        let (least, most) = (bounds.start(), bounds.end());
        problems.add(key, format!("{millis} is not between {least} and {most} milliseconds"));
    }
}
