//! Where this coordinator listens, and what its doors present.

use std::net::SocketAddr;

use anyhow::Context;
use shardlift_domain::{ErrorCode, Failure};
use shardlift_runtime::tls::{Door, ServerTls};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::api::access::Access;
use crate::api::{Listening, RestOptions};
use crate::config::Config;
use crate::metrics::Metrics;

/// Addresses that are taken; nobody is served yet.
pub(crate) struct Bound {
    pub(crate) grpc: TcpListener,
    rest: Option<TcpListener>,
}

/// What the doors present, if they are to be encrypted.
pub(crate) fn tls(config: &Config, metrics: &Metrics) -> Result<Option<ServerTls>, Failure> {
    let Some(written) = &config.tls else { return Ok(None) };
    let unusable = |error: shardlift_runtime::tls::TlsError| {
        Failure::new(
            ErrorCode::ConfigInvalid,
            format!("[tls] cannot be used: {error}"),
            "give a certificate, its own key and, for client_ca, the authority of the clients, each as a file in PEM form that this process may read",
        )
    };
    written.dial.check().map_err(unusable)?;
    ServerTls::read(written.files.clone(), metrics.handshakes.clone()).map(Some).map_err(unusable)
}

/// Takes the addresses first, so that one that is taken already is told before anything is changed.
pub(crate) async fn bind(config: &Config) -> anyhow::Result<Bound> {
    let grpc = taken(config.listen, "listen").await?;
    let rest = match config.rest_listen {
        Some(address) => Some(taken(address, "rest_listen").await?),
        None => None,
    };
    Ok(Bound { grpc, rest })
}

async fn taken(address: SocketAddr, key: &str) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address)
        .await
        .with_context(|| format!("cannot listen on {address} (`{key}`): choose a free address"))
}

impl Bound {
    /// Opens the doors: connections are taken from here on. The files of certificates are followed.
    pub(crate) fn open(
        self,
        config: &Config,
        tls: Option<ServerTls>,
        access: Access,
        shutdown: &CancellationToken,
    ) -> anyhow::Result<Listening> {
        tracing::info!(address = %self.grpc.local_addr()?, tls = tls.is_some(), "listening");
        if let Some(tls) = &tls {
            tokio::spawn(tls.clone().follow(shutdown.clone()));
        }
        let rest = match self.rest {
            Some(rest) => {
                let address = rest.local_addr()?;
                tracing::info!(%address, tls = tls.is_some(), "listening for REST");
                let options = RestOptions { requests_per_second: config.requests_per_second };
                Some((Door::http(rest, tls.clone())?, options))
            }
            None => None,
        };
        Ok(Listening {
            grpc: Door::grpc(self.grpc, tls)?,
            rest,
            dial: config.tls.as_ref().map(|tls| tls.dial.clone()),
            reflection: config.reflection,
            access,
        })
    }
}
