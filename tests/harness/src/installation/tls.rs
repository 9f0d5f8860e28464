//! The certificates of an installation, as files that the scenario has made.

use std::path::PathBuf;

use super::config::text;

/// Where they are.
#[derive(Debug, Clone)]
pub struct Tls {
    /// Of the coordinators.
    pub certificate: PathBuf,
    /// The key of that.
    pub key: PathBuf,
    /// Who has signed it.
    pub ca: PathBuf,
    /// Who has to have signed the certificates of workers and clients, if they need one.
    pub client_ca: Option<PathBuf>,
    /// Certificate and key of workers and clients.
    pub client: Option<(PathBuf, PathBuf)>,
}

impl Tls {
    pub(super) fn of_coordinator(&self) -> String {
        let client_ca = self.client_ca.as_ref().map(|file| line("client_ca", file)).unwrap_or_default();
        let own = [line("certificate", &self.certificate), line("key", &self.key), line("ca", &self.ca)];
        format!("[tls]\n{}{client_ca}\n", own.concat())
    }

    pub(super) fn of_worker(&self) -> String {
        let own = self
            .client
            .as_ref()
            .map(|(certificate, key)| [line("certificate", certificate), line("key", key)].concat());
        format!("\n[tls]\n{}{}", line("ca", &self.ca), own.unwrap_or_default())
    }

    pub(super) fn of_cli(&self) -> Vec<(&'static str, String)> {
        let show = |file: &PathBuf| file.display().to_string();
        let mut all = vec![("SHARDLIFT_CA", show(&self.ca))];
        if let Some((certificate, key)) = &self.client {
            all.extend([("SHARDLIFT_CERTIFICATE", show(certificate)), ("SHARDLIFT_KEY", show(key))]);
        }
        all
    }
}

fn line(key: &str, file: &std::path::Path) -> String {
    format!("{key} = {}\n", text(&file.display().to_string()))
}
