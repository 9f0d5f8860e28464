//! The adaptor service: has the channel adaptors of a tenant take in nothing new for a moment.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::ServiceConfig;
use super::base::Service;
use super::error::ClientError;

/// Its client.
#[derive(Debug)]
pub struct Adaptor {
    service: Service,
    within: Duration,
}

/// Why a tenant is to be quiet, and since when it may ignore that.
#[derive(Debug, Serialize)]
pub struct Cause<'a> {
    /// The migration's id.
    pub migration: &'a str,
    /// Its version.
    pub version: u32,
    /// Which leader asks: whoever has heard a higher one may refuse it.
    pub epoch: u64,
}

#[derive(Serialize)]
struct Wish<'a> {
    #[serde(flatten)]
    cause: &'a Cause<'a>,
    quiet: bool,
    /// After so long the adaptors go on by themselves.
    for_ms: Option<u64>,
}

#[derive(Deserialize)]
struct State {
    quiet: bool,
}

impl Adaptor {
    pub(super) fn new(config: &ServiceConfig, within: Duration) -> Result<Self, ClientError> {
        Ok(Self { service: Service::new("adaptor", config)?, within })
    }

    pub(super) fn service(&self) -> &Service {
        &self.service
    }

    /// How long it may take until all are quiet.
    pub fn within(&self) -> Duration {
        self.within
    }

    /// Asks the adaptors of a tenant to be quiet, and whether they are. Whatever becomes of this coordinator, they go on by
    /// themselves some time after they had to be quiet.
    pub async fn quiesce(&self, tenant: &str, cause: &Cause<'_>) -> Result<bool, ClientError> {
        let for_ms = u64::try_from(self.within.saturating_mul(2).as_millis()).unwrap_or(u64::MAX);
        let state: State = self.wish(tenant, &Wish { cause, quiet: true, for_ms: Some(for_ms) }).await?;
        Ok(state.quiet)
    }

    /// Asks them to go on.
    pub async fn resume(&self, tenant: &str, cause: &Cause<'_>) -> Result<(), ClientError> {
        let wish = Wish { cause, quiet: false, for_ms: None };
        self.wish(tenant, &wish).await.map(|_: State| ())
    }

    async fn wish(&self, tenant: &str, wish: &Wish<'_>) -> Result<State, ClientError> {
        self.service.put(&["api", "tenants", tenant, "quiet"], wish).await
    }
}
