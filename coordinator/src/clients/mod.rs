//! The services outside that Shardlift talks to, each only if it is configured: [`mcp`] knows the settings of tenants,
//! [`chat`] shows people how migrations go, [`adaptor`] quiets channel adaptors. [`base`] is what they share: one request with
//! its limits of time and size, tried again with pauses; [`key`] is what it is shown, [`breaker`] spares a service that is in trouble, [`allow`] keeps
//! requests to where the configuration lets them go. Docs: docs/operations/services.md.
//!
//! They know nothing of migrations' states: what is to be told, and whether it was, is the orchestrator's.

mod adaptor;
mod allow;
mod base;
mod breaker;
mod chat;
mod error;
mod key;
mod mcp;
#[cfg(test)]
mod tests;

use std::time::Duration;

pub use adaptor::{Adaptor, Cause};
pub use allow::{HostPort, may_be_asked};
pub use chat::{Chat, Message};
pub use error::ClientError;
pub use key::Key;
pub use mcp::{Ended, Mcp};

/// How a service is reached.
#[derive(Debug, Clone)]
pub struct ServiceConfig {
    /// Below which address its routes are; without `/` at the end.
    pub url: String,
    /// The bearer key.
    pub key: Key,
    /// How long one try may take.
    pub timeout: Duration,
}

/// Which services there are.
#[derive(Debug, Clone, Default)]
pub struct ClientsConfig {
    /// The settings of tenants.
    pub mcp: Option<ServiceConfig>,
    /// Where people hear of migrations, and the channel.
    pub chat: Option<(ServiceConfig, String)>,
    /// Who quiets channel adaptors, and how long that may take.
    pub adaptor: Option<(ServiceConfig, Duration)>,
}

/// The services of one coordinator.
#[derive(Debug, Default)]
pub struct Clients {
    /// The settings of tenants.
    pub mcp: Option<Mcp>,
    /// Where people hear of migrations.
    pub chat: Option<Chat>,
    /// Who quiets channel adaptors.
    pub adaptor: Option<Adaptor>,
}

impl Clients {
    /// Clients of the configured services. Nothing is asked yet.
    pub fn new(config: &ClientsConfig) -> Result<Self, ClientError> {
        let mcp = config.mcp.as_ref().map(Mcp::new).transpose()?;
        let chat = config.chat.as_ref().map(|(service, channel)| Chat::new(service, channel)).transpose()?;
        let adaptor =
            config.adaptor.as_ref().map(|(service, within)| Adaptor::new(service, *within)).transpose()?;
        Ok(Self { mcp, chat, adaptor })
    }

    /// The configuration was read again: keys are those that stand there now. All else counts from the next start on.
    pub fn read_again(&self, config: &ClientsConfig) {
        let (chat, adaptor) = (config.chat.as_ref(), config.adaptor.as_ref());
        let services = [
            (self.mcp.as_ref().map(Mcp::service), config.mcp.as_ref()),
            (self.chat.as_ref().map(Chat::service), chat.map(|(service, _)| service)),
            (self.adaptor.as_ref().map(Adaptor::service), adaptor.map(|(service, _)| service)),
        ];
        for (service, config) in services {
            if let Some((service, config)) = service.zip(config) {
                service.take_key(config);
            }
        }
    }
}
