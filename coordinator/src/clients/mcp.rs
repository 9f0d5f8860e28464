//! The MCP service: what each tenant wants of migrations, and where its messages stand.

use serde::{Deserialize, Serialize};
use shardlift_domain::migration::Status;

use super::ServiceConfig;
use super::base::Service;
use super::error::ClientError;
use crate::planner::TenantSettings;

/// Its client.
#[derive(Debug)]
pub struct Mcp(Service);

/// The settings of a tenant; keys that are no business of ours are left alone.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Config {
    migrations: Wishes,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Wishes {
    opt_out: bool,
    hold: bool,
    reason: Option<String>,
    order: Option<i64>,
}

#[derive(Serialize)]
struct Version<'a> {
    version: i64,
    migration: &'a str,
}

/// How a migration ended.
#[derive(Debug, Serialize)]
pub struct Ended<'a> {
    /// Its id.
    pub migration: &'a str,
    /// Its version.
    pub version: u32,
    /// Its cluster.
    pub cluster: &'a str,
    /// `completed`, or that this was taken back.
    pub status: Status,
    /// Whose rows it changed; none: those of all.
    pub tenants: &'a [String],
    /// The message schema version that it leaves behind, if it has any.
    pub message_schema_version: Option<i64>,
}

impl Mcp {
    pub(super) fn new(config: &ServiceConfig) -> Result<Self, ClientError> {
        Service::new("MCP", config).map(Self)
    }

    pub(super) fn service(&self) -> &Service {
        &self.0
    }

    /// What a tenant wants. One that the service does not know wants nothing.
    pub async fn settings(&self, tenant: &str) -> Result<TenantSettings, ClientError> {
        let config: Option<Config> = self.0.get(&["api", "tenants", tenant, "config"]).await?;
        let Wishes { opt_out, hold, reason, order } = config.unwrap_or_default().migrations;
        Ok(TenantSettings { opt_out, held: hold.then(|| reason.unwrap_or_default()), order })
    }

    /// The messages of a tenant are of this schema version now.
    pub async fn message_version(
        &self,
        tenant: &str,
        version: i64,
        migration: &str,
    ) -> Result<(), ClientError> {
        let path = ["api", "tenants", tenant, "message-schema-version"];
        self.0.tell(&path, &Version { version, migration }).await
    }

    /// A migration has ended. `name` names it for ever, so that it counts once however often it is told.
    pub async fn ended(&self, name: &str, ended: &Ended<'_>) -> Result<(), ClientError> {
        self.0.tell(&["api", "migrations", name], ended).await
    }
}
