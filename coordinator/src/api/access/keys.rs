//! The public keys of who issues tokens: a JSON web key set, read from a file or an address, kept, and read again when it is
//! due, or when a token names a key that is not among them.

use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyAlgorithm, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey};
use serde_json::Value;
use tokio::sync::Mutex;
use tokio::time::Instant;

/// Where the keys come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeySource {
    /// This file.
    File(PathBuf),
    /// This address.
    Url(String),
}

/// How long an answer may take.
const WITHIN: Duration = Duration::from_secs(5);
/// How often keys are read at most: whoever presents tokens with made-up keys must not make a flood of it.
const APART: Duration = Duration::from_secs(5);
/// For how long keys are trusted that could not be read again: a key that was withdrawn must not count for ever.
const TRUSTED: Duration = Duration::from_secs(24 * 3600);
/// Largest key set.
const MAX_SET: usize = 1024 * 1024;

/// One key, and the one algorithm that it is used with.
#[derive(Debug, Clone)]
pub(super) struct Key {
    id: Option<String>,
    pub(super) algorithm: Algorithm,
    pub(super) key: DecodingKey,
}

#[derive(Debug, Default)]
struct Held {
    keys: Vec<Key>,
    /// When they were read; `None`: never.
    read: Option<Instant>,
}

/// The keys of one issuer.
#[derive(Debug)]
pub(super) struct Keys {
    source: KeySource,
    every: Duration,
    held: RwLock<Arc<Held>>,
    /// When they were last asked for; whoever holds it asks.
    asked: Mutex<Option<Instant>>,
}

impl Keys {
    pub(super) fn new(source: KeySource, every: Duration) -> Self {
        Self { source, every, held: RwLock::default(), asked: Mutex::new(None) }
    }

    /// The keys that a token with this header may be signed by.
    pub(super) async fn fitting(&self, id: Option<&str>, algorithm: Algorithm) -> Vec<Key> {
        let held = self.held();
        let due = held.read.is_none_or(|read| read.elapsed() >= self.every);
        let found = fitting(&held, id, algorithm);
        if due || found.is_empty() {
            self.read_again(&held).await;
            return fitting(&self.held(), id, algorithm);
        }
        found
    }

    fn held(&self) -> Arc<Held> {
        Arc::clone(&self.held.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Reads them, unless somebody has meanwhile or a moment ago.
    async fn read_again(&self, seen: &Arc<Held>) {
        let mut asked = self.asked.lock().await;
        let lately = asked.is_some_and(|asked| asked.elapsed() < APART);
        if lately || !Arc::ptr_eq(seen, &self.held()) {
            return;
        }
        *asked = Some(Instant::now());
        match self.read().await {
            Ok(keys) => {
                tracing::debug!(keys = keys.len(), "the keys of tokens were read");
                let held = Arc::new(Held { keys, read: Some(Instant::now()) });
                *self.held.write().unwrap_or_else(PoisonError::into_inner) = held;
            }
            Err(why) => {
                tracing::warn!(
                    "the keys of tokens (access.jwt) cannot be read: {why}; those that are known are used meanwhile"
                );
            }
        }
    }

    async fn read(&self) -> Result<Vec<Key>, String> {
        let text = match &self.source {
            KeySource::File(file) => {
                tokio::fs::read(file).await.map_err(|error| format!("{}: {error}", file.display()))?
            }
            KeySource::Url(url) => fetch(url).await.map_err(|error| format!("{url}: {error}"))?,
        };
        parse(&text)
    }
}

fn fitting(held: &Held, id: Option<&str>, algorithm: Algorithm) -> Vec<Key> {
    if held.read.is_none_or(|read| read.elapsed() > TRUSTED) {
        return Vec::new();
    }
    let named = |key: &&Key| id.is_none() || key.id.is_none() || key.id.as_deref() == id;
    held.keys.iter().filter(|key| key.algorithm == algorithm).filter(named).cloned().collect()
}

async fn fetch(url: &str) -> Result<Vec<u8>, String> {
    let told = |error: reqwest::Error| error.without_url().to_string();
    let client = reqwest::Client::builder().timeout(WITHIN).redirect(reqwest::redirect::Policy::none());
    let client = client.build().map_err(told)?;
    let mut answer =
        client.get(url).send().await.and_then(reqwest::Response::error_for_status).map_err(told)?;
    let mut text = Vec::new();
    while let Some(part) = answer.chunk().await.map_err(told)? {
        if text.len() + part.len() > MAX_SET {
            return Err(format!("it is larger than {MAX_SET} bytes"));
        }
        text.extend_from_slice(&part);
    }
    Ok(text)
}

/// The keys of a set that are of use here. Others, such as keys for encryption or of algorithms that are not accepted, are
/// left out; a set without any is refused.
fn parse(text: &[u8]) -> Result<Vec<Key>, String> {
    let set: Value = serde_json::from_slice(text).map_err(|error| format!("it is no JSON: {error}"))?;
    let all = set["keys"].as_array().ok_or("it is no key set: it has no list `keys`")?;
    let keys: Vec<Key> = all.iter().filter_map(usable).collect();
    if keys.is_empty() {
        return Err("none of its keys is for signatures by RS256, ES256 or EdDSA".to_owned());
    }
    Ok(keys)
}

/// The algorithm follows from what the key is, never from what a token says: a secret of HMAC is no key here.
fn usable(value: &Value) -> Option<Key> {
    let jwk: Jwk = serde_json::from_value(value.clone()).ok()?;
    let (algorithm, told) = match &jwk.algorithm {
        AlgorithmParameters::RSA(_) => (Algorithm::RS256, KeyAlgorithm::RS256),
        AlgorithmParameters::EllipticCurve(curve) if curve.curve == EllipticCurve::P256 => {
            (Algorithm::ES256, KeyAlgorithm::ES256)
        }
        AlgorithmParameters::OctetKeyPair(pair) if pair.curve == EllipticCurve::Ed25519 => {
            (Algorithm::EdDSA, KeyAlgorithm::EdDSA)
        }
        _ => return None,
    };
    let other_use = jwk.common.public_key_use.as_ref().is_some_and(|used| *used != PublicKeyUse::Signature);
    let other_algorithm = jwk.common.key_algorithm.is_some_and(|named| named != told);
    if other_use || other_algorithm {
        return None;
    }
    Some(Key { algorithm, key: DecodingKey::from_jwk(&jwk).ok()?, id: jwk.common.key_id })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const X: &str = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";

    #[test]
    fn the_algorithm_follows_from_the_key_and_what_is_of_no_use_is_left_out() {
        let set = json!({ "keys": [
            { "kty": "OKP", "crv": "Ed25519", "x": X, "kid": "a" },
            { "kty": "OKP", "crv": "Ed25519", "x": X, "kid": "b", "use": "enc" },
            { "kty": "oct", "k": "c2VjcmV0", "kid": "c", "alg": "HS256" },
            { "kty": "RSA", "n": "AQAB", "e": "AQAB", "kid": "d", "alg": "RS512" },
            { "kty": "RSA", "n": "AQAB", "e": "AQAB", "kid": "e" },
            { "kty": "EC", "crv": "P-384", "x": X, "y": X, "kid": "f" },
            { "kty": "EC", "crv": "P-256", "x": X, "y": X, "kid": "g" },
            { "kty": "something of a later time" },
        ]});
        let keys = parse(set.to_string().as_bytes()).expect("some are of use");
        let told: Vec<_> =
            keys.iter().map(|key| (key.id.as_deref().unwrap_or_default(), key.algorithm)).collect();
        assert_eq!(told, [("a", Algorithm::EdDSA), ("e", Algorithm::RS256), ("g", Algorithm::ES256)]);
        for none in ["", "{}", "{\"keys\": []}", "{\"keys\": [{\"kty\": \"oct\", \"k\": \"eA\"}]}"] {
            assert!(parse(none.as_bytes()).is_err(), "{none}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn keys_are_read_again_when_due_or_when_an_unknown_one_is_named_and_never_in_a_flood() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("keys.json");
        let write = |id: &str| {
            let set = json!({ "keys": [{ "kty": "OKP", "crv": "Ed25519", "x": X, "kid": id }] });
            std::fs::write(&file, set.to_string()).expect("written");
        };
        write("one");
        let keys = Keys::new(KeySource::File(file.clone()), Duration::from_secs(300));
        let has = async |id| !keys.fitting(Some(id), Algorithm::EdDSA).await.is_empty();
        assert!(has("one").await);
        write("two");
        assert!(!has("two").await, "it was read a moment ago");
        tokio::time::advance(APART).await;
        assert!(has("two").await && !has("one").await, "the set is replaced");
        std::fs::remove_file(&file).expect("removed");
        tokio::time::advance(Duration::from_secs(301)).await;
        assert!(has("two").await, "what is known counts while it cannot be read");
        tokio::time::advance(TRUSTED).await;
        assert!(!has("two").await, "but not for ever");
    }

    #[tokio::test]
    async fn keys_come_from_an_address_as_well_and_what_is_no_answer_is_told() {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        shardlift_runtime::tls::install_provider();
        let server = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}/keys", server.local_addr().expect("bound"));
        let set = json!({ "keys": [{ "kty": "OKP", "crv": "Ed25519", "x": X }] }).to_string();
        let moved = "HTTP/1.1 302 Found\r\nlocation: /elsewhere\r\ncontent-length: 0\r\n\r\n".to_owned();
        let good = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{set}", set.len());
        let broken = "HTTP/1.1 500 Oh\r\ncontent-length: 0\r\n\r\n".to_owned();
        tokio::spawn(async move {
            for answer in [broken, moved, good] {
                let (mut stream, _) = server.accept().await.expect("asked");
                let _ = stream.read(&mut [0; 1024]).await;
                let _ = stream.write_all(answer.as_bytes()).await;
            }
        });
        let keys = Keys::new(KeySource::Url(url), Duration::from_secs(300));
        assert!(keys.read().await.expect_err("refused").contains("500"));
        assert!(keys.read().await.is_err(), "no other address than that one");
        assert_eq!(keys.read().await.expect("keys").len(), 1);
    }
}
