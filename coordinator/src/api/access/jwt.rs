//! JSON web tokens: whose they are, once their signature, issuer, audience and time are right.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Validation, decode, decode_header};
use serde_json::{Map, Value};
use shardlift_domain::ShardId;
use shardlift_domain::principal::{Principal, Reach, Role};

use super::keys::{KeySource, Keys};
use super::signatures;

/// Clocks of two machines differ by so much, in seconds.
const LEEWAY: i64 = 30;

/// Whose tokens are accepted, and what is read of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JwtConfig {
    /// Who must have issued them.
    pub issuer: String,
    /// For whom they must be.
    pub audience: String,
    /// The issuer's keys.
    pub keys: KeySource,
    /// How long keys are used before they are read again.
    pub refresh: Duration,
    /// The claim that names the principal.
    pub name_claim: String,
    /// The claim that holds a role, or several; dots lead into it.
    pub role_claim: String,
    /// The issuer's own words for roles.
    pub roles: BTreeMap<String, Role>,
}

/// Reads tokens of one issuer.
#[derive(Debug)]
pub(super) struct Jwt {
    config: JwtConfig,
    keys: Keys,
}

type Claims = Map<String, Value>;

impl Jwt {
    pub(super) fn new(config: JwtConfig) -> Self {
        signatures::install();
        let keys = Keys::new(config.keys.clone(), config.refresh);
        Self { config, keys }
    }

    /// Whose token this is; otherwise what is wrong with it, without a word of it.
    pub(super) async fn principal(&self, token: &str) -> Result<Principal, String> {
        // `alg: none` is no algorithm, so such a header cannot be read.
        let header = decode_header(token)
            .map_err(|error| format!("its header is not understood ({})", why(&error)))?;
        let mut validation = Validation::new(header.alg);
        validation.set_issuer(&[&self.config.issuer]);
        validation.set_audience(&[&self.config.audience]);
        validation.set_required_spec_claims(&["exp", "iss", "aud"]);
        // By our own clock, below.
        validation.validate_exp = false;
        let mut refused = "no key of its issuer fits it".to_owned();
        for key in self.keys.fitting(header.kid.as_deref(), header.alg).await {
            match decode::<Claims>(token, &key.key, &validation) {
                Ok(read) => return self.read(&read.claims, shardlift_runtime::clock::now().timestamp()),
                Err(error) => refused = why(&error).to_owned(),
            }
        }
        Err(refused)
    }

    fn read(&self, claims: &Claims, now: i64) -> Result<Principal, String> {
        let seconds = |name: &str| claims.get(name).and_then(Value::as_f64);
        let ends = seconds("exp").ok_or("it does not say when it ends (exp)")?;
        if ends <= (now - LEEWAY) as f64 {
            return Err("it has expired".to_owned());
        }
        if seconds("nbf").is_some_and(|begins| begins > (now + LEEWAY) as f64) {
            return Err("it is not valid yet".to_owned());
        }
        let JwtConfig { name_claim, role_claim, .. } = &self.config;
        let name = at(claims, name_claim).and_then(Value::as_str);
        let name = name.ok_or_else(|| format!("it does not say whose it is (claim {name_claim})"))?;
        let role = at(claims, role_claim).and_then(|value| self.role(value));
        let role = role.ok_or_else(|| format!("it names no role that is known here (claim {role_claim})"))?;
        let reach = if role == Role::Worker { reach(claims)? } else { Reach::Nothing };
        let principal = Principal::new(name, role, reach).map_err(|error| error.to_string())?;
        // A float too large for the type becomes its largest value.
        Ok(principal.until((ends as i64).saturating_add(LEEWAY)))
    }

    /// The highest of the roles that it names; of a worker only that.
    fn role(&self, value: &Value) -> Option<Role> {
        let words: Vec<&str> = match value {
            Value::String(word) => vec![word],
            Value::Array(words) => words.iter().filter_map(Value::as_str).collect(),
            _ => return None,
        };
        let roles: Vec<Role> = words.iter().filter_map(|word| self.word(word)).collect();
        let highest = roles.iter().copied().filter(|role| *role != Role::Worker);
        let highest = highest.reduce(|one, other| if other.covers(one) { other } else { one });
        highest.or_else(|| roles.first().copied())
    }

    /// Where the issuer's own words are told, no others count.
    fn word(&self, word: &str) -> Option<Role> {
        if self.config.roles.is_empty() { Role::parse(word) } else { self.config.roles.get(word).copied() }
    }
}

/// A claim by its name, or by the way to it with dots.
fn at<'a>(claims: &'a Claims, name: &str) -> Option<&'a Value> {
    if let Some(value) = claims.get(name) {
        return Some(value);
    }
    let (first, rest) = name.split_once('.')?;
    rest.split('.').try_fold(claims.get(first)?, |value, part| value.get(part))
}

/// Which shards a worker may serve: the claim `shards`.
fn reach(claims: &Claims) -> Result<Reach, String> {
    let wrong = || "it is a worker's, and does not name its shards (claim shards)".to_owned();
    let names = claims.get("shards").and_then(Value::as_array).ok_or_else(wrong)?;
    let names: Vec<&str> = names.iter().filter_map(Value::as_str).collect();
    if names == ["*"] {
        return Ok(Reach::Everything);
    }
    let shards: Result<BTreeSet<_>, _> = names.into_iter().map(ShardId::new).collect();
    Ok(Reach::Only(shards.map_err(|_| wrong())?))
}

/// What is wrong, without a part of the token.
fn why(error: &jsonwebtoken::errors::Error) -> &'static str {
    match error.kind() {
        ErrorKind::InvalidSignature => "its signature is wrong",
        ErrorKind::InvalidIssuer => "it is of another issuer",
        ErrorKind::InvalidAudience => "it is for another audience",
        ErrorKind::MissingRequiredClaim(_) => "it lacks one of the claims exp, iss and aud",
        ErrorKind::InvalidAlgorithm | ErrorKind::InvalidAlgorithmName => "its algorithm is not accepted",
        _ => "it is malformed",
    }
}

#[cfg(test)]
mod tests;
