//! Doors over TLS, as clients see them.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::serve::Listener;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, sleep, timeout};
use tokio_rustls::TlsConnector;
use tokio_util::sync::CancellationToken;

use super::*;

/// How long anything here may take.
const WITHIN: Duration = Duration::from_secs(20);

/// An authority that signs for `localhost`.
struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("parameters");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        Self(CertifiedIssuer::self_signed(params, key).expect("an authority"))
    }

    /// Certificate and key, as a renewal writes them.
    fn renew(&self, directory: &Path) -> ServerFiles {
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new(["localhost".to_owned()]).expect("parameters");
        let certificate = params.signed_by(&key, &self.0).expect("signed");
        let files = ServerFiles {
            certificate: directory.join("server.pem"),
            key: directory.join("server.key"),
            client_ca: None,
        };
        std::fs::write(&files.certificate, certificate.pem()).expect("written");
        std::fs::write(&files.key, key.serialize_pem()).expect("written");
        files
    }

    /// Whether whoever trusts this authority alone is served there.
    async fn trusts(&self, address: SocketAddr) -> bool {
        let mut roots = RootCertStore::empty();
        roots.add(self.0.der().clone()).expect("a root");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        let stream = TcpStream::connect(address).await.expect("connects");
        let name = ServerName::try_from("localhost").expect("a name");
        let shaken = timeout(WITHIN, TlsConnector::from(Arc::new(config)).connect(name, stream)).await;
        let Ok(mut stream) = shaken.expect("an end of the handshake") else { return false };
        stream.write_all(b"x").await.expect("written");
        let mut answer = [0];
        timeout(WITHIN, stream.read_exact(&mut answer)).await.expect("an answer").is_ok()
    }
}

/// Serves one byte back over each connection.
async fn echo(tls: ServerTls) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("an address");
    let mut door = Door::http(listener, Some(tls)).expect("a door");
    let address = Listener::local_addr(&door).expect("an address");
    tokio::spawn(async move {
        loop {
            let (mut connection, _) = door.accept().await;
            assert!(connection.is_secure());
            tokio::spawn(async move {
                let mut byte = [0];
                if connection.read_exact(&mut byte).await.is_ok() {
                    let _ = connection.write_all(&byte).await;
                    let _ = connection.flush().await;
                }
            });
        }
    });
    address
}

async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let end = Instant::now() + WITHIN;
    while !holds().await {
        assert!(Instant::now() < end, "not within {WITHIN:?}: {what}");
        sleep(Duration::from_millis(50)).await;
    }
}

fn counted(counts: &Handshakes, outcome: &'static str) -> (u64, u64) {
    let of = |family: &crate::metrics::Family<crate::metrics::Labels<1>, crate::metrics::Counter>| {
        family.get_or_create_owned(&[("outcome", outcome)]).get()
    };
    (of(&counts.handshakes), of(&counts.reloads))
}

#[tokio::test]
async fn a_renewed_certificate_is_taken_and_a_broken_one_is_not() {
    let directory = tempfile::tempdir().expect("a directory");
    let (old, new) = (Authority::new(), Authority::new());
    let counts = Handshakes::default();
    let tls = ServerTls::read(old.renew(directory.path()), counts.clone()).expect("usable");
    let cancel = CancellationToken::new();
    let following = tokio::spawn(tls.clone().follow(cancel.clone()));
    let address = echo(tls).await;
    assert!(old.trusts(address).await && !new.trusts(address).await);

    // The certificate of one pair and the key of another.
    let files = new.renew(directory.path());
    let key = std::fs::read(&files.key).expect("a key");
    std::fs::write(&files.key, KeyPair::generate().expect("a key").serialize_pem()).expect("written");
    until("the broken pair is told", async || counted(&counts, "refused").1 > 0).await;
    assert!(old.trusts(address).await && !new.trusts(address).await);

    std::fs::write(&files.key, key).expect("written");
    until("the whole pair is taken", async || new.trusts(address).await).await;
    assert!(!old.trusts(address).await);
    assert_eq!(counted(&counts, "taken").1, 1);
    std::fs::remove_file(&files.key).expect("removed");
    until("a missing file is told", async || counted(&counts, "refused").1 > 1).await;
    assert!(new.trusts(address).await);
    cancel.cancel();
    following.await.expect("it ends");
}

#[tokio::test]
async fn whoever_connects_and_says_nothing_keeps_nobody_out() {
    let directory = tempfile::tempdir().expect("a directory");
    let authority = Authority::new();
    let counts = Handshakes::default();
    let tls = ServerTls::read(authority.renew(directory.path()), counts.clone()).expect("usable");
    let address = echo(tls).await;
    let mut silent = Vec::new();
    for _ in 0..600 {
        silent.push(TcpStream::connect(address).await.expect("connects"));
    }
    assert!(authority.trusts(address).await);
    until("the oldest are given up", async || counted(&counts, "crowded_out").0 >= 80).await;
    assert!(authority.trusts(address).await);
}

#[tokio::test]
async fn whoever_does_not_end_a_handshake_in_time_is_hung_up_on() {
    let directory = tempfile::tempdir().expect("a directory");
    let authority = Authority::new();
    let counts = Handshakes::default();
    let files = authority.renew(directory.path());
    let mut tls = ServerTls::read(files, counts.clone()).expect("usable");
    assert_eq!(tls.handshake_within, Duration::from_secs(10), "as it is documented");
    tls.handshake_within = Duration::from_millis(500);
    let address = echo(tls).await;
    let began = Instant::now();
    let mut silent = TcpStream::connect(address).await.expect("connects");
    let mut answer = Vec::new();
    let _ = timeout(WITHIN, silent.read_to_end(&mut answer)).await.expect("it is hung up");
    assert!(answer.is_empty() && began.elapsed() >= Duration::from_millis(500), "{:?}", began.elapsed());
    assert_eq!(counted(&counts, "late").0, 1);
    until("others are served", async || authority.trusts(address).await).await;
}

#[tokio::test]
async fn who_speaks_no_tls_is_refused() {
    let directory = tempfile::tempdir().expect("a directory");
    let authority = Authority::new();
    let counts = Handshakes::default();
    let tls = ServerTls::read(authority.renew(directory.path()), counts.clone()).expect("usable");
    let address = echo(tls).await;
    let mut plain = TcpStream::connect(address).await.expect("connects");
    plain.write_all(b"GET / HTTP/1.1\r\n\r\n").await.expect("written");
    let mut answer = Vec::new();
    let _ = timeout(WITHIN, plain.read_to_end(&mut answer)).await.expect("it is hung up");
    assert!(!answer.starts_with(b"HTTP"), "{answer:?}");
    assert_eq!(counted(&counts, "refused").0, 1);
}

#[test]
fn files_that_cannot_be_used_are_refused_and_no_key_is_shown() {
    let directory = tempfile::tempdir().expect("a directory");
    let authority = Authority::new();
    let good = authority.renew(directory.path());
    let other = directory.path().join("other");
    let refused = |files: &ServerFiles| {
        ServerTls::read(files.clone(), Handshakes::default()).map(drop).expect_err("it was taken").to_string()
    };
    let with = |text: &str| {
        std::fs::write(&other, text).expect("written");
        other.clone()
    };
    let missing = ServerFiles { key: directory.path().join("nowhere"), ..good.clone() };
    assert!(refused(&missing).contains("nowhere cannot be read"));
    let no_key = ServerFiles { key: with("hunter2"), ..good.clone() };
    assert!(refused(&no_key).contains("no private key in PEM form") && !refused(&no_key).contains("hunter2"));
    let swapped = ServerFiles { certificate: good.key.clone(), ..good.clone() };
    assert!(refused(&swapped).contains("no certificate in PEM form"));
    let foreign =
        ServerFiles { key: with(&KeyPair::generate().expect("a key").serialize_pem()), ..good.clone() };
    assert!(refused(&foreign).contains("server.pem cannot be used"), "{}", refused(&foreign));
    let nobody = ServerFiles { client_ca: Some(with("")), ..good };
    assert!(refused(&nobody).contains("no certificate in PEM form"));
}
