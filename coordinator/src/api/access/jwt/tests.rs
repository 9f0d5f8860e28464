//! Tokens that are right, and everything that can be wrong with one.

use std::fs;

use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair};
use serde_json::json;

use super::*;

const ISSUER: &str = "https://id.example";

/// The public half of a key that was thrown away, and what it has signed for the year 2100: ring makes no RSA keys.
const RSA: &str = "-r7SKA1-z7wacKjSqiI0N7DTNK_EUDZc0muc90pCszNnH9cwckQ4abqKdKEficDBxUUr2Z3hKDFOhHaKpRd5b6fG6I-4Upus\
     ESYw7tmFuM4o-zbuBTN_vhHv47UKhACTxlQjCzv1OuvKpqtP5wHLj0bIdvSYL14KhOVT4ojJxMaB1ciPBjGMqorbXZysDcKO\
     4EitZAf6sWl-XbmpnsTeCyYVs3SN021EOb2rKS4WrR6WV1BEu9avRi5ScsBFzWtIv1_A2B5hsZGCcYdH2bwDY4U97X4HOP5C\
     A7yFKGWuB7D7azZgthF1VaAFeOwA6WEPHKx5lk1COBffx77xFbRyFQ";
const SIGNED_BY_RSA: &str = "eyJhbGciOiJSUzI1NiIsImtpZCI6InJzYSJ9.eyJpc3MiOiJodHRwczovL2lkLmV4YW1wbGUiLCJhdWQiOiJzaGFyZGxpZnQ\
     iLCJzdWIiOiJtaXJhIiwicm9sZSI6InZpZXdlciIsImV4cCI6NDEwMjQ0NDgwMH0.6Yy6_obQIO6jFctogE8AuXzaas2n8nl\
     vONlRoTzkyXcEeGdwsMYoxk2VMsdeSKY9Oju_lgPfhrqWs6kBYpxb5MIGmSqSFmvhZwfMR19vb1PPM3y_Jn2xqNNceWtFdaT\
     Qv-l-_8jdwQdTOCEP11_DBWjclFBqwVmeewa-zsfw0k0aZSB4b7EOI5sQp3bm1U5bpjo1cP2iIIGgnKoHIcqnBfKSOMfCSSU\
     PMmtivvqnOS9Sg88HEz094pKDGtZ1vlhomG9b5xaDk3Nv9FOLNZpdqf_by65axlv8BN196Ll4NNDpc1zPG47NvUSEccWJVCR\
     8K0Xkfy4juizZYDUpdgiiNw";

/// Base64 for addresses, without padding.
fn base64(bytes: &[u8]) -> String {
    const WORDS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut text = String::new();
    for part in bytes.chunks(3) {
        let number =
            part.iter().fold(0_u32, |number, byte| number << 8 | u32::from(*byte)) << (8 * (3 - part.len()));
        for at in 0..=part.len() {
            text.push(char::from(WORDS[(number >> (18 - 6 * at)) as usize & 63]));
        }
    }
    text
}

struct Issuer {
    edwards: Ed25519KeyPair,
    curve: EcdsaKeyPair,
    random: SystemRandom,
    dir: tempfile::TempDir,
}

impl Issuer {
    fn new() -> Self {
        let random = SystemRandom::new();
        let edwards = Ed25519KeyPair::generate_pkcs8(&random).expect("a key");
        let how = &ECDSA_P256_SHA256_FIXED_SIGNING;
        let curve = EcdsaKeyPair::generate_pkcs8(how, &random).expect("a key");
        let issuer = Self {
            edwards: Ed25519KeyPair::from_pkcs8(edwards.as_ref()).expect("a key"),
            curve: EcdsaKeyPair::from_pkcs8(how, curve.as_ref(), &random).expect("a key"),
            random,
            dir: tempfile::tempdir().expect("a directory"),
        };
        let point = issuer.curve.public_key().as_ref();
        let set = json!({ "keys": [
            { "kty": "OKP", "crv": "Ed25519", "kid": "ed", "x": base64(issuer.edwards.public_key().as_ref()) },
            { "kty": "EC", "crv": "P-256", "kid": "ec", "x": base64(&point[1..33]), "y": base64(&point[33..]) },
            { "kty": "RSA", "kid": "rsa", "n": RSA, "e": "AQAB" },
        ]});
        fs::write(issuer.file(), set.to_string()).expect("written");
        issuer
    }

    fn file(&self) -> std::path::PathBuf {
        self.dir.path().join("keys.json")
    }

    fn reader(&self) -> Jwt {
        Jwt::new(JwtConfig {
            issuer: ISSUER.into(),
            audience: "shardlift".into(),
            keys: KeySource::File(self.file()),
            refresh: Duration::from_secs(300),
            name_claim: "sub".into(),
            role_claim: "role".into(),
            roles: BTreeMap::new(),
        })
    }

    fn signed(&self, header: &Value, claims: &Value) -> String {
        let message =
            format!("{}.{}", base64(header.to_string().as_bytes()), base64(claims.to_string().as_bytes()));
        let signature = match header["alg"].as_str() {
            Some("ES256") => {
                self.curve.sign(&self.random, message.as_bytes()).expect("signed").as_ref().to_vec()
            }
            _ => self.edwards.sign(message.as_bytes()).as_ref().to_vec(),
        };
        format!("{message}.{}", base64(&signature))
    }

    fn token(&self, claims: &Value) -> String {
        self.signed(&json!({ "alg": "EdDSA", "kid": "ed" }), claims)
    }
}

fn now() -> i64 {
    shardlift_runtime::clock::now().timestamp()
}

fn claims() -> Value {
    json!({ "iss": ISSUER, "aud": ["other", "shardlift"], "sub": "mira", "role": "operator", "exp": now() + 600 })
}

fn with(key: &str, value: Value) -> Value {
    let mut claims = claims();
    claims[key] = value;
    claims
}

async fn refused(reader: &Jwt, token: &str, part: &str) {
    let why = reader.principal(token).await.expect_err(part);
    assert!(why.contains(part), "{why:?} does not tell {part:?}");
}

#[tokio::test]
async fn a_token_of_each_kind_of_key_is_accepted() {
    let issuer = Issuer::new();
    let reader = issuer.reader();
    for header in [
        json!({ "alg": "EdDSA", "kid": "ed" }),
        json!({ "alg": "ES256", "kid": "ec" }),
        json!({ "alg": "EdDSA" }),
    ] {
        let known = reader.principal(&issuer.signed(&header, &claims())).await.expect("accepted");
        assert_eq!((known.name(), known.role()), ("mira", Role::Operator), "{header}");
    }
    let known = reader.principal(SIGNED_BY_RSA).await.expect("accepted");
    assert_eq!((known.name(), known.role()), ("mira", Role::Viewer));
}

#[tokio::test]
async fn what_is_wrong_with_a_token_is_told_and_it_is_refused() {
    let issuer = Issuer::new();
    let reader = issuer.reader();
    for (claims, part) in [
        (with("exp", json!(now() - 3600)), "expired"),
        (with("nbf", json!(now() + 3600)), "not valid yet"),
        (with("iss", json!("https://elsewhere.example")), "another issuer"),
        (with("aud", json!("somebody else")), "another audience"),
        (with("exp", Value::Null), "exp"),
        (with("iss", Value::Null), "iss"),
        (with("aud", Value::Null), "aud"),
        (with("role", json!("root")), "no role"),
        (with("role", Value::Null), "no role"),
        (with("sub", Value::Null), "whose"),
        (with("sub", json!("coordinator")), "history"),
        (with("role", json!("worker")), "shards"),
    ] {
        refused(&reader, &issuer.token(&claims), part).await;
    }
    let good = issuer.token(&claims());
    let (message, _) = good.rsplit_once('.').expect("three parts");
    refused(&reader, &format!("{message}.{}", base64(&[7; 64])), "signature").await;
    refused(&reader, "a.b", "header").await;
    let other = Issuer::new().token(&claims());
    refused(&reader, &other, "signature").await;
}

#[tokio::test]
async fn the_algorithm_is_that_of_the_key_and_never_none_or_a_secret() {
    let issuer = Issuer::new();
    let reader = issuer.reader();
    let none = format!("{}.{}.", base64(br#"{"alg":"none"}"#), base64(claims().to_string().as_bytes()));
    refused(&reader, &none, "header").await;
    for header in [
        json!({ "alg": "HS256", "kid": "ed" }),
        json!({ "alg": "ES256", "kid": "ed" }),
        json!({ "alg": "RS512", "kid": "rsa" }),
        json!({ "alg": "EdDSA", "kid": "unknown" }),
    ] {
        refused(&reader, &issuer.signed(&header, &claims()), "no key").await;
    }
    // An HMAC of the public key, which everybody knows.
    let message = format!("{}.{}", base64(br#"{"alg":"HS256"}"#), base64(claims().to_string().as_bytes()));
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, issuer.edwards.public_key().as_ref());
    let forged = format!("{message}.{}", base64(ring::hmac::sign(&key, message.as_bytes()).as_ref()));
    refused(&reader, &forged, "no key").await;
}

#[tokio::test]
async fn roles_may_be_several_lie_deeper_and_have_the_issuers_own_words() {
    let issuer = Issuer::new();
    let role = async |reader: &Jwt, claims: &Value| {
        reader.principal(&issuer.token(claims)).await.map(|known| known.role())
    };
    let reader = issuer.reader();
    let several = with("role", json!(["viewer", "something", "approver", "worker"]));
    assert_eq!(role(&reader, &several).await, Ok(Role::Approver));
    let mut config = issuer.reader().config;
    config.role_claim = "realm.roles".into();
    config.roles = [("sl-ops".to_owned(), Role::Operator), ("sl-boss".to_owned(), Role::Admin)].into();
    let reader = Jwt::new(config);
    let deeper = |words: Value| with("realm", json!({ "roles": words }));
    assert_eq!(role(&reader, &deeper(json!(["sl-ops"]))).await, Ok(Role::Operator));
    assert!(role(&reader, &deeper(json!(["admin"]))).await.is_err(), "our words do not count then");
}

#[tokio::test]
async fn a_workers_token_names_its_shards() {
    let issuer = Issuer::new();
    let reader = issuer.reader();
    let mut claims = with("role", json!("worker"));
    claims["shards"] = json!(["chat-pg-01"]);
    let worker = reader.principal(&issuer.token(&claims)).await.expect("accepted");
    let serves = |shard: &str| worker.serves(&ShardId::new(shard).expect("a name"));
    assert!(serves("chat-pg-01") && !serves("chat-pg-02"));
}
