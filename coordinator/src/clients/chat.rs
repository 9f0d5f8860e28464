//! The chat service: one message for each migration, which is replaced as the migration goes on.

use serde::Serialize;

use super::ServiceConfig;
use super::base::Service;
use super::error::ClientError;

/// Its client.
#[derive(Debug)]
pub struct Chat {
    service: Service,
    channel: String,
}

/// What a message says.
#[derive(Debug, Serialize)]
pub struct Message<'a> {
    /// For people.
    pub text: &'a str,
    /// The migration's id.
    pub migration: &'a str,
    /// Its version.
    pub version: u32,
    /// Where it stands, for programs.
    pub status: &'a str,
}

impl Chat {
    pub(super) fn new(config: &ServiceConfig, channel: &str) -> Result<Self, ClientError> {
        Ok(Self { service: Service::new("chat", config)?, channel: channel.to_owned() })
    }

    pub(super) fn service(&self) -> &Service {
        &self.service
    }

    /// Shows a message under its name: a new one, or instead of what it said before.
    pub async fn show(&self, name: &str, message: &Message<'_>) -> Result<(), ClientError> {
        self.service.tell(&["api", "channels", &self.channel, "messages", name], message).await
    }
}
