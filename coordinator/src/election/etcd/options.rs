//! What an etcd election is told: where, as whom, for how long.

use std::time::Duration;

use etcd_client::{Certificate, ConnectOptions, Identity, TlsOptions};
use shardlift_runtime::config::Secret;

/// The settings, all valid.
#[derive(Debug, Clone)]
pub struct EtcdOptions {
    /// `http://host:port` or `https://host:port` of the members; at least one.
    pub endpoints: Vec<String>,
    /// All keys begin with it; coordinators of one store share it.
    pub prefix: String,
    /// How long a dead leader keeps the seat.
    pub ttl: Duration,
    /// How to trust and be trusted, for `https`.
    pub tls: Option<EtcdTls>,
    /// User and password.
    pub login: Option<(String, Secret)>,
}

/// PEM texts.
#[derive(Debug, Clone, Default)]
pub struct EtcdTls {
    /// The authority that signed the certificates of the members; without it the machine's authorities count.
    pub ca: Option<Secret>,
    /// Certificate and key of this coordinator.
    pub identity: Option<(Secret, Secret)>,
}

/// No call to one member takes longer.
const PATIENCE: std::ops::RangeInclusive<Duration> = Duration::from_millis(300)..=Duration::from_secs(2);
/// The deadline by this machine's clock is so much earlier than the lease's end, at least.
const LEAST_MARGIN: Duration = Duration::from_millis(100);

impl EtcdOptions {
    /// How long one member may take to answer. Two of three may hang, and a lease is still renewed in time.
    pub(super) fn patience(&self) -> Duration {
        (self.ttl / 5).clamp(*PATIENCE.start(), *PATIENCE.end())
    }

    /// How long a renewed lease counts here: its time less a margin for clocks that do not run equally fast, and
    /// for what it takes to stop.
    pub(super) fn term(&self) -> Duration {
        self.ttl.saturating_sub(LEAST_MARGIN.max(self.ttl / 10))
    }

    /// How often a lease is renewed.
    pub(super) fn renewal(&self) -> Duration {
        self.ttl / 3
    }

    /// How often everything is read again, in case a watch was silent for no good reason.
    pub(super) fn reconciliation(&self) -> Duration {
        self.ttl / 4
    }

    /// etcd counts leases in whole seconds. Rounded up: the lease never ends before the time that counts here.
    pub(super) fn lease_seconds(&self) -> i64 {
        i64::try_from(self.ttl.as_millis().div_ceil(1000)).unwrap_or(i64::MAX)
    }

    /// For the driver. Its `Debug` shows the password: print it nowhere.
    pub(super) fn connect(&self) -> ConnectOptions {
        let mut options = ConnectOptions::new()
            .with_connect_timeout(self.patience())
            // A member that is cut off from the others must say so, not answer from what it remembers.
            .with_require_leader(true)
            .with_auto_token_refresh(true);
        if let Some((user, password)) = &self.login {
            options = options.with_user(user, password.expose());
        }
        if self.endpoints.iter().any(|endpoint| endpoint.starts_with("https://")) {
            options = options.with_tls(self.tls_options());
        }
        options
    }

    fn tls_options(&self) -> TlsOptions {
        let tls = self.tls.clone().unwrap_or_default();
        let options = match &tls.ca {
            Some(ca) => TlsOptions::new().ca_certificate(Certificate::from_pem(ca.expose())),
            None => TlsOptions::new().with_native_roots(),
        };
        match &tls.identity {
            Some((cert, key)) => options.identity(Identity::from_pem(cert.expose(), key.expose())),
            None => options,
        }
    }
}
