//! How this program dials a coordinator: whom it trusts, and what it shows of itself. The files are read at each dial, so that
//! renewed ones are taken without a restart.

use std::error::Error;
use std::path::PathBuf;

use serde::Deserialize;
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint, Identity};

use super::files::{TlsError, certificates, key, read};
use crate::config::ConfigProblems;

/// TLS of a caller.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Dial {
    /// The authorities that may have signed the other side's certificate; those of the machine if there is no file.
    pub ca: Option<PathBuf>,
    /// The name that the other side's certificate has to be for, if not the host that is dialled.
    pub server_name: Option<String>,
    /// Certificate and key to show, if the other side asks for one.
    pub identity: Option<(PathBuf, PathBuf)>,
}

/// The section `[tls]` of a program that dials.
#[derive(Debug, Default, Clone, Deserialize)]
#[serde(default)]
pub struct WrittenDial {
    ca: Option<PathBuf>,
    server_name: Option<String>,
    certificate: Option<PathBuf>,
    key: Option<PathBuf>,
}

impl WrittenDial {
    /// Tells everything that is wrong: files that cannot be used now could not be used later either.
    pub fn check(self, problems: &mut ConfigProblems) -> Dial {
        if self.certificate.is_some() != self.key.is_some() {
            problems.add("tls", "give both `certificate` and `key`, or neither");
        }
        let identity = self.certificate.zip(self.key);
        let dial = Dial { ca: self.ca, server_name: self.server_name, identity };
        if let Err(error) = dial.check() {
            problems.add("tls", error.to_string());
        }
        dial
    }
}

impl Dial {
    /// The endpoint, over TLS if its scheme is `https`.
    pub fn secure(&self, endpoint: Endpoint) -> Result<Endpoint, TlsError> {
        if endpoint.uri().scheme_str() != Some("https") {
            return Ok(endpoint);
        }
        let uri = PathBuf::from(endpoint.uri().to_string());
        endpoint.tls_config(self.settings()?).map_err(|error| TlsError::unfit(&uri, reasons(&error)))
    }

    /// Whether there is anything to say about TLS.
    pub fn is_plain(&self) -> bool {
        *self == Self::default()
    }

    /// Whether its files can be used now.
    pub fn check(&self) -> Result<(), TlsError> {
        self.settings().map(drop)
    }

    fn settings(&self) -> Result<ClientTlsConfig, TlsError> {
        let mut tls = ClientTlsConfig::new();
        tls = match &self.ca {
            Some(file) => {
                let pem = read(file)?;
                // The library would take a file without any for "trust nobody".
                certificates(file, &pem)?;
                tls.ca_certificate(Certificate::from_pem(pem))
            }
            None => tls.with_enabled_roots(),
        };
        if let Some(name) = &self.server_name {
            tls = tls.domain_name(name.as_str());
        }
        if let Some((certificate, private)) = &self.identity {
            let (chain, pem) = (read(certificate)?, read(private)?);
            certificates(certificate, &chain)?;
            key(private, &pem)?;
            tls = tls.identity(Identity::from_pem(chain, pem));
        }
        Ok(tls)
    }
}

/// An error with all that led to it: a handshake says why only at the bottom.
pub fn reasons(error: &(dyn Error + 'static)) -> String {
    let mut told = vec![error.to_string()];
    let mut next = error.source();
    while let Some(error) = next {
        let text = error.to_string();
        if !told.iter().any(|known| known.contains(&text)) {
            told.push(text);
        }
        next = error.source();
    }
    told.join(": ")
}
