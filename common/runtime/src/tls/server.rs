//! What the doors of this process present, and whom they let in: read from files, and followed.

use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use rustls::ServerConfig;
use rustls::server::WebPkiClientVerifier;
use shardlift_domain::Checksum;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::files::{TlsError, certificates, key, read, roots};
use crate::metrics::{Counter, Family, Labels};

/// How often the files are read. They are small, and what is compared is their content: a copy with an old time, or a
/// link that now leads elsewhere, is seen as well.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// How long a handshake may take.
const HANDSHAKE_WITHIN: Duration = Duration::from_secs(10);

/// What is spoken inside of TLS, as clients and servers agree on it.
const HTTP2: &[u8] = b"h2";
const HTTP1: &[u8] = b"http/1.1";

/// Where certificate and key of a server are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerFiles {
    /// The certificate, then those that lead to an authority, in PEM form.
    pub certificate: PathBuf,
    /// Its private key, in PEM form.
    pub key: PathBuf,
    /// If clients have to show a certificate: the authorities that may have signed it, in PEM form.
    pub client_ca: Option<PathBuf>,
}

/// The content of all files, as of one look.
struct Content {
    certificate: Vec<u8>,
    key: Vec<u8>,
    client_ca: Option<Vec<u8>>,
}

/// What both kinds of doors need: they differ in the protocol that they offer.
struct Material {
    http2: Arc<ServerConfig>,
    http1: Arc<ServerConfig>,
}

/// How handshakes and renewals went, as metrics.
#[derive(Debug, Clone, Default)]
pub struct Handshakes {
    /// By `outcome`, see [`Handshakes::OUTCOMES`].
    pub handshakes: Family<Labels<1>, Counter>,
    /// By `outcome`, see [`Handshakes::RENEWALS`].
    pub reloads: Family<Labels<1>, Counter>,
}

impl Handshakes {
    /// How a handshake may end. `late`: not within its time; `crowded out`: too many were open.
    pub const OUTCOMES: [&'static str; 4] = ["done", "refused", "late", "crowded_out"];
    /// What may become of changed files.
    pub const RENEWALS: [&'static str; 2] = ["taken", "refused"];

    pub(super) fn ended(&self, outcome: &'static str) {
        self.handshakes.get_or_create_owned(&[("outcome", outcome)]).inc();
    }

    fn reloaded(&self, outcome: &'static str) {
        self.reloads.get_or_create_owned(&[("outcome", outcome)]).inc();
    }
}

/// TLS of the doors of this process. Clones share it.
#[derive(Clone)]
pub struct ServerTls {
    files: ServerFiles,
    current: Arc<RwLock<Arc<Material>>>,
    /// What the files were when they were last taken or refused; `None`: they could not be read.
    seen: Option<Checksum>,
    pub(super) counts: Handshakes,
    /// Less than [`HANDSHAKE_WITHIN`] in tests only.
    pub(super) handshake_within: Duration,
}

impl std::fmt::Debug for ServerTls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ServerTls").field("files", &self.files).finish_non_exhaustive()
    }
}

impl ServerTls {
    /// Reads the files; refused when they cannot be used, so that no door opens with less than was asked for.
    pub fn read(files: ServerFiles, counts: Handshakes) -> Result<Self, TlsError> {
        let content = files.content()?;
        let current = Arc::new(RwLock::new(Arc::new(files.material(&content)?)));
        let seen = Some(content.mark());
        Ok(Self { seen, files, current, counts, handshake_within: HANDSHAKE_WITHIN })
    }

    /// Follows the files until the token is cancelled. New connections get what is newest; those that are open stay. Files
    /// that cannot be used change nothing.
    pub async fn follow(mut self, cancel: CancellationToken) {
        let mut looks = interval(LOOK_EVERY);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut before = None;
        while cancel.run_until_cancelled(looks.tick()).await.is_some() {
            let now = self.files.content();
            let mark = now.as_ref().map(Content::mark).map_err(ToString::to_string);
            // Somebody may be writing them: they count once two looks in a row have seen the same.
            if before.as_ref() == Some(&mark) {
                self.take(now, mark.as_ref().ok());
            }
            before = Some(mark);
        }
    }

    /// Takes what was read, if it is new; says once what came of it.
    fn take(&mut self, now: Result<Content, TlsError>, mark: Option<&Checksum>) {
        if self.seen.as_ref() == mark {
            return;
        }
        self.seen = mark.cloned();
        match now.and_then(|content| self.files.material(&content)) {
            Ok(material) => {
                *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(material);
                self.counts.reloaded("taken");
                tracing::info!(certificate = %self.files.certificate.display(), "took the renewed certificate");
            }
            Err(error) => {
                self.counts.reloaded("refused");
                tracing::warn!(%error, "the renewed certificate was not taken, the one before stays in use");
            }
        }
    }

    pub(super) fn http2(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.now().http2)
    }

    pub(super) fn http1(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.now().http1)
    }

    fn now(&self) -> Arc<Material> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Content {
    /// Tells one content from another without keeping a key.
    fn mark(&self) -> Checksum {
        let parts = [Some(&self.certificate), Some(&self.key), self.client_ca.as_ref()];
        let marks = parts.map(|part| part.map(|bytes| Checksum::of(bytes).as_str().to_owned()));
        Checksum::of(format!("{marks:?}").as_bytes())
    }
}

impl ServerFiles {
    fn content(&self) -> Result<Content, TlsError> {
        Ok(Content {
            certificate: read(&self.certificate)?,
            key: read(&self.key)?,
            client_ca: self.client_ca.as_deref().map(read).transpose()?,
        })
    }

    fn material(&self, content: &Content) -> Result<Material, TlsError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|why| TlsError::unfit(&self.certificate, why))?;
        let builder = match (&self.client_ca, &content.client_ca) {
            (Some(file), Some(pem)) => {
                let roots = Arc::new(roots(file, pem)?);
                let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider).build();
                builder.with_client_cert_verifier(verifier.map_err(|why| TlsError::unfit(file, why))?)
            }
            _ => builder.with_no_client_auth(),
        };
        let chain = certificates(&self.certificate, &content.certificate)?;
        let key = key(&self.key, &content.key)?;
        // Refuses a key that is not that of the certificate.
        let config =
            builder.with_single_cert(chain, key).map_err(|why| TlsError::unfit(&self.certificate, why))?;
        let with = |protocol: &[u8]| {
            let mut config = config.clone();
            config.alpn_protocols = vec![protocol.to_vec()];
            Arc::new(config)
        };
        Ok(Material { http2: with(HTTP2), http1: with(HTTP1) })
    }
}
