//! Somebody who issues JSON web tokens, and publishes its keys in a file.

use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use rcgen::{KeyPair, PKCS_ED25519, PublicKeyData, SigningKey};
use serde_json::{Value, json};
use tempfile::TempDir;

const ISSUER: &str = "https://id.example";
const AUDIENCE: &str = "shardlift";

/// It signs with one Ed25519 key.
pub(super) struct Issuer {
    key: KeyPair,
    dir: TempDir,
}

impl Issuer {
    pub(super) fn new() -> Self {
        let issuer =
            Self { key: KeyPair::generate_for(&PKCS_ED25519).unwrap(), dir: TempDir::new().unwrap() };
        let x = base64(issuer.key.der_bytes());
        let set = json!({ "keys": [{ "kty": "OKP", "crv": "Ed25519", "kid": "one", "use": "sig", "x": x }] });
        std::fs::write(issuer.dir.path().join("keys.json"), set.to_string()).unwrap();
        issuer
    }

    /// The coordinators' settings.
    pub(super) fn section(&self) -> String {
        let file = self.dir.path().join("keys.json");
        format!("[access.jwt]\nissuer = {ISSUER:?}\naudience = {AUDIENCE:?}\njwks_file = {file:?}\n")
    }

    pub(super) fn claims(&self, name: &str, role: &str) -> Value {
        json!({ "iss": ISSUER, "aud": AUDIENCE, "sub": name, "role": role, "exp": now() + 600 })
    }

    /// The same for so many seconds: a coordinator gives clocks 30 s.
    pub(super) fn brief(&self, name: &str, role: &str, seconds: u64) -> Value {
        let mut claims = self.claims(name, role);
        claims["exp"] = json!(now() + seconds - 30);
        claims
    }

    /// A file for somebody's token.
    pub(super) fn file(&self) -> PathBuf {
        self.dir.path().join("token")
    }

    pub(super) fn token(&self, claims: &Value) -> String {
        self.signed(&json!({ "alg": "EdDSA", "kid": "one" }), claims)
    }

    fn signed(&self, header: &Value, claims: &Value) -> String {
        let part = |value: &Value| base64(value.to_string().as_bytes());
        let message = format!("{}.{}", part(header), part(claims));
        let signature = self.key.sign(message.as_bytes()).unwrap();
        format!("{message}.{}", base64(&signature))
    }

    /// Tokens that must be refused, and what is to be told of each.
    pub(super) fn wrong(&self) -> Vec<(String, &'static str)> {
        let with = |key: &str, value: Value| {
            let mut claims = self.claims("mallory", "admin");
            claims[key] = value;
            claims
        };
        let claims = with("sub", json!("mallory"));
        let unsigned = self.signed(&json!({ "alg": "none" }), &claims);
        let unsigned = format!("{}.", unsigned.rsplit_once('.').unwrap().0);
        vec![
            (self.token(&with("exp", json!(now() - 3600))), "expired"),
            (self.token(&with("iss", json!("https://elsewhere.example"))), "another issuer"),
            (self.token(&with("aud", json!("another program"))), "another audience"),
            (self.token(&with("role", json!("root"))), "no role"),
            (unsigned, "header"),
            (self.signed(&json!({ "alg": "HS256", "kid": "one" }), &claims), "no key"),
            (Self::new().token(&claims), "signature"),
        ]
    }
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// Base64 for addresses, without padding.
fn base64(bytes: &[u8]) -> String {
    const WORDS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut text = String::new();
    for part in bytes.chunks(3) {
        let number = part.iter().fold(0_u32, |number, byte| (number << 8) | u32::from(*byte));
        let number = number << (8 * (3 - part.len()));
        for at in 0..=part.len() {
            text.push(char::from(WORDS[(number >> (18 - 6 * at)) as usize & 63]));
        }
    }
    text
}
