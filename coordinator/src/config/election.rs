//! The section `[election]`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use shardlift_runtime::config::{ConfigProblems, Secret, read_secret};

use crate::election::{EtcdOptions, EtcdTls};

/// How coordinators agree on a leader.
#[derive(Debug, Clone)]
pub enum ElectionConfig {
    /// This coordinator is the only one.
    Standalone,
    /// They ask etcd.
    Etcd(Box<EtcdOptions>),
}

/// How long a dead leader keeps the seat: etcd grants no shorter lease with its usual settings, and nobody wants to
/// wait longer.
const TTL_BOUNDS: std::ops::RangeInclusive<u64> = 2_000..=60_000;
const TTL: u64 = 5_000;
const PREFIX: &str = "/shardlift";

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct WrittenElection {
    kind: Option<String>,
    advertise: Option<String>,
    endpoints: Option<Vec<String>>,
    ttl_ms: Option<u64>,
    prefix: Option<String>,
    user: Option<String>,
    password_file: Option<PathBuf>,
    tls: Option<WrittenTls>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct WrittenTls {
    ca_file: Option<PathBuf>,
    cert_file: Option<PathBuf>,
    key_file: Option<PathBuf>,
}

impl WrittenElection {
    /// The address told to others, if it is not `listen`.
    pub(super) fn advertise(&self, problems: &mut ConfigProblems) -> Option<String> {
        let address = self.advertise.as_ref()?;
        let valid = address.rsplit_once(':').is_some_and(|(host, port)| is_host(host) && is_port(port));
        if !valid {
            let example = "coordinator-1.example:7400";
            problems
                .add("election.advertise", format!("{address:?} is not host and port, such as {example}"));
        }
        valid.then(|| address.clone())
    }

    /// `name` is the name of this coordinator.
    pub(super) fn check(self, problems: &mut ConfigProblems, name: &str) -> ElectionConfig {
        match self.kind.as_deref() {
            None | Some("standalone") => self.standalone(problems),
            Some("etcd") => self.etcd(problems, name),
            Some(other) => {
                let known = "use \"standalone\" or \"etcd\"";
                problems.add("election.kind", format!("{other:?} is no kind of election; {known}"));
                ElectionConfig::Standalone
            }
        }
    }

    fn standalone(self, problems: &mut ConfigProblems) -> ElectionConfig {
        let given = [
            ("endpoints", self.endpoints.is_some()),
            ("ttl_ms", self.ttl_ms.is_some()),
            ("prefix", self.prefix.is_some()),
            ("user", self.user.is_some()),
            ("password_file", self.password_file.is_some()),
            ("tls", self.tls.is_some()),
        ];
        for (key, _) in given.iter().filter(|(_, given)| *given) {
            problems.add(format!("election.{key}"), "it means nothing without `kind = \"etcd\"`");
        }
        ElectionConfig::Standalone
    }

    fn etcd(self, problems: &mut ConfigProblems, name: &str) -> ElectionConfig {
        if name.contains('/') || name == super::NAME {
            problems.add("name", "with etcd each coordinator needs a name of its own, without \"/\"");
        }
        let endpoints = self.endpoints.unwrap_or_default();
        check_endpoints(problems, &endpoints, self.tls.is_some());
        let ttl = self.ttl_ms.unwrap_or(TTL);
        if !TTL_BOUNDS.contains(&ttl) {
            let (least, most) = (TTL_BOUNDS.start(), TTL_BOUNDS.end());
            problems.add("election.ttl_ms", format!("{ttl} is not between {least} and {most} milliseconds"));
        }
        let prefix = self.prefix.unwrap_or_else(|| PREFIX.to_owned());
        if prefix.trim_matches('/').is_empty() || prefix.contains(char::is_whitespace) {
            problems
                .add("election.prefix", format!("{prefix:?} is no beginning of a key, such as {PREFIX:?}"));
        }
        let tls = self.tls.map(|tls| tls.check(problems));
        let login = login(problems, self.user, self.password_file.as_deref());
        let ttl = Duration::from_millis(ttl);
        ElectionConfig::Etcd(Box::new(EtcdOptions { endpoints, prefix, ttl, tls, login }))
    }
}

impl WrittenTls {
    fn check(self, problems: &mut ConfigProblems) -> EtcdTls {
        let mut pem = |key: &str, file: Option<PathBuf>| {
            let (file, key) = (file?, format!("election.tls.{key}"));
            let text = secret(problems, &key, &file)?;
            // The driver would take a file without any for "trust nobody".
            if !text.expose().contains("-----BEGIN ") {
                problems.add(&key, format!("there is nothing in PEM form in {}", file.display()));
            }
            Some(text)
        };
        let (has_cert, has_key) = (self.cert_file.is_some(), self.key_file.is_some());
        let ca = pem("ca_file", self.ca_file);
        let (cert, key) = (pem("cert_file", self.cert_file), pem("key_file", self.key_file));
        if has_cert != has_key {
            problems.add("election.tls", "give both `cert_file` and `key_file`, or neither");
        }
        EtcdTls { ca, identity: cert.zip(key) }
    }
}

fn check_endpoints(problems: &mut ConfigProblems, endpoints: &[String], tls: bool) {
    if endpoints.is_empty() {
        problems.add("election.endpoints", "name the members of etcd, such as http://10.0.0.1:2379");
    }
    for (index, endpoint) in endpoints.iter().enumerate() {
        let key = format!("election.endpoints[{index}]");
        if endpoints[..index].contains(endpoint) {
            problems.add(&key, format!("{endpoint:?} is there already"));
        }
        match endpoint.split_once("://") {
            Some(("http", _)) if tls => {
                problems.add(&key, "with [election.tls] each endpoint begins with https://");
            }
            Some(("http" | "https", address)) if is_address(address) => {}
            // Not quoted: somebody may have put a password into it.
            _ => problems.add(&key, "it is not http:// or https:// with host and port, and nothing else"),
        }
    }
}

fn is_address(text: &str) -> bool {
    text.rsplit_once(':').is_some_and(|(host, port)| is_host(host) && is_port(port))
}

fn is_port(text: &str) -> bool {
    text.parse::<u16>().is_ok_and(|port| port != 0)
}

/// A name, an IPv4 address, or an IPv6 address in brackets.
fn is_host(text: &str) -> bool {
    let inner = text.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
    match inner {
        Some(v6) => v6.parse::<std::net::Ipv6Addr>().is_ok(),
        None => !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || "-._".contains(c)),
    }
}

fn login(
    problems: &mut ConfigProblems,
    user: Option<String>,
    password_file: Option<&Path>,
) -> Option<(String, Secret)> {
    match (user, password_file) {
        (None, None) => None,
        (Some(user), Some(file)) => Some(user).zip(secret(problems, "election.password_file", file)),
        (Some(_), None) => {
            problems.add("election.password_file", "it is missing: a user has a password");
            None
        }
        (None, Some(_)) => {
            problems.add("election.user", "it is missing: a password belongs to a user");
            None
        }
    }
}

fn secret(problems: &mut ConfigProblems, key: &str, file: &Path) -> Option<Secret> {
    read_secret("", None, Some(file)).map_err(|error| problems.add(key, error.to_string())).ok()
}
