//! The section `[tls]`, and where a door may be without it.

use std::net::SocketAddr;
use std::path::PathBuf;

use serde::Deserialize;
use shardlift_runtime::config::ConfigProblems;
use shardlift_runtime::tls::{Dial, ServerFiles};

/// TLS of the doors, and of what this coordinator asks another one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsConfig {
    /// What the doors present, and whom they let in.
    pub files: ServerFiles,
    /// How the leader is dialled.
    pub dial: Dial,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct WrittenTls {
    certificate: Option<PathBuf>,
    key: Option<PathBuf>,
    client_ca: Option<PathBuf>,
    ca: Option<PathBuf>,
    server_name: Option<String>,
}

impl WrittenTls {
    /// The files themselves are looked at when the doors open, and followed from then on.
    pub(super) fn check(self, problems: &mut ConfigProblems) -> Option<TlsConfig> {
        for (key, there) in [("certificate", self.certificate.is_some()), ("key", self.key.is_some())] {
            if !there {
                problems.add(
                    format!("tls.{key}"),
                    "it is missing: TLS needs a certificate and its key, as files in PEM form",
                );
            }
        }
        let (certificate, key) = self.certificate.zip(self.key)?;
        let dial = Dial {
            ca: self.ca,
            server_name: self.server_name,
            identity: Some((certificate.clone(), key.clone())),
        };
        Some(TlsConfig { files: ServerFiles { certificate, key, client_ca: self.client_ca }, dial })
    }
}

/// What goes over a network is encrypted, tokens above all.
pub(super) fn exposed(
    problems: &mut ConfigProblems,
    key: &str,
    address: Option<SocketAddr>,
    tls: Option<&TlsConfig>,
) {
    if address.is_none_or(|address| address.ip().is_loopback()) {
        return;
    }
    if tls.is_none() {
        problems.add(
            key,
            "it is no loopback address, so others could read along: add [tls] with `certificate` and `key`, or listen on 127.0.0.1",
        );
    }
}
