//! The section `[access]`: who may ask, and what must be approved.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;
use shardlift_domain::ShardId;
use shardlift_domain::migration::ApprovalRule;
use shardlift_domain::principal::{Principal, Reach, Role};
use shardlift_runtime::config::ConfigProblems;

use crate::api::access::{JwtConfig, KeySource, KnownToken, TokenHash};

/// How often an issuer's keys are read, in seconds: more often is a load on it, less often leaves withdrawn keys in use.
const REFRESH: std::ops::RangeInclusive<u64> = 5..=86_400;

/// Who may ask.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AccessConfig {
    /// Tokens by their hashes.
    pub tokens: Vec<KnownToken>,
    /// Tokens of an issuer.
    pub jwt: Option<JwtConfig>,
    /// What must be approved before it begins.
    pub approval: ApprovalRule,
}

impl AccessConfig {
    /// Whether nobody is known, so that nobody is asked who they are.
    pub fn is_open(&self) -> bool {
        self.tokens.is_empty() && self.jwt.is_none()
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct WrittenAccess {
    approval: Option<String>,
    tokens_file: Option<PathBuf>,
    principal: Vec<WrittenPrincipal>,
    jwt: Option<WrittenJwt>,
}

#[derive(Debug, Deserialize)]
struct WrittenPrincipal {
    name: String,
    role: String,
    token_sha256: String,
    #[serde(default)]
    shards: Vec<String>,
}

#[derive(Debug, Deserialize)]
struct WrittenJwt {
    issuer: String,
    audience: String,
    jwks_file: Option<PathBuf>,
    jwks_url: Option<String>,
    #[serde(default = "five_minutes")]
    refresh_s: u64,
    #[serde(default = "sub")]
    name_claim: String,
    #[serde(default = "role")]
    role_claim: String,
    #[serde(default)]
    roles: BTreeMap<String, String>,
}

fn five_minutes() -> u64 {
    300
}

fn sub() -> String {
    "sub".to_owned()
}

fn role() -> String {
    "role".to_owned()
}

impl WrittenAccess {
    pub(super) fn check(self, problems: &mut ConfigProblems) -> AccessConfig {
        let mut tokens = Vec::new();
        for (index, written) in self.principal.iter().enumerate() {
            let key = format!("access.principal[{index}]");
            tokens.extend(written.check(problems, &key));
        }
        if let Some(file) = &self.tokens_file {
            match std::fs::read_to_string(file) {
                Ok(text) => tokens.extend(of_file(problems, &text)),
                Err(error) => {
                    problems.add("access.tokens_file", format!("cannot read {}: {error}", file.display()));
                }
            }
        }
        contradictions(problems, &tokens);
        let approval = self.approval.as_deref().map_or(ApprovalRule::None, |word| rule(problems, word));
        if approval != ApprovalRule::None && tokens.is_empty() && self.jwt.is_none() {
            let message = "whoever asks may be anybody: declare principals or an issuer of tokens as well";
            problems.add("access.approval", message);
        }
        AccessConfig { tokens, jwt: self.jwt.and_then(|jwt| jwt.check(problems)), approval }
    }
}

fn rule(problems: &mut ConfigProblems, word: &str) -> ApprovalRule {
    let known = ApprovalRule::ALL.into_iter().find(|rule| rule.as_str() == word);
    known.unwrap_or_else(|| {
        let words = ApprovalRule::ALL.map(|rule| format!("{:?}", rule.as_str())).join(", ");
        problems.add("access.approval", format!("{word:?} is no rule; known are {words}"));
        ApprovalRule::None
    })
}

impl WrittenPrincipal {
    fn check(&self, problems: &mut ConfigProblems, key: &str) -> Option<KnownToken> {
        let Self { name, role, token_sha256, shards } = self;
        let told = known_token(name, role, token_sha256, shards);
        told.map_err(|(part, why)| problems.add(format!("{key}.{part}"), why)).ok()
    }
}

/// Lines of name, role, SHA-256 in hex, and for a worker its shards with commas between them; `#` begins a comment.
fn of_file(problems: &mut ConfigProblems, text: &str) -> Vec<KnownToken> {
    let mut tokens = Vec::new();
    for (at, line) in text.lines().enumerate() {
        let words: Vec<&str> = line.split('#').next().unwrap_or_default().split_whitespace().collect();
        let (name, role, hash, shards) = match words.as_slice() {
            [] => continue,
            [name, role, hash] => (name, role, hash, ""),
            [name, role, hash, shards] => (name, role, hash, *shards),
            _ => {
                let why = "a line has a name, a role, the SHA-256 of a token, and for a worker its shards with commas";
                problems.add("access.tokens_file", format!("line {}: {why}", at + 1));
                continue;
            }
        };
        let shards: Vec<String> =
            shards.split(',').filter(|shard| !shard.is_empty()).map(str::to_owned).collect();
        match known_token(name, role, hash, &shards) {
            Ok(token) => tokens.push(token),
            Err((_, why)) => problems.add("access.tokens_file", format!("line {}: {why}", at + 1)),
        }
    }
    tokens
}

/// The part that is wrong, and why.
type Wrong = (&'static str, String);

fn known_token(name: &str, role: &str, hash: &str, shards: &[String]) -> Result<KnownToken, Wrong> {
    let role = named_role(role).map_err(|why| ("role", why))?;
    let hash = from_hex(hash).ok_or_else(|| {
        let how = "it is no SHA-256: 64 hex digits, as `printf %s \"$TOKEN\" | sha256sum` prints them";
        ("token_sha256", how.to_owned())
    })?;
    let reach = match (role, shards) {
        (_, []) => Reach::Nothing,
        (_, [all]) if all == "*" => Reach::Everything,
        (_, some) => {
            let some: Result<BTreeSet<_>, _> = some.iter().map(ShardId::new).collect();
            Reach::Only(some.map_err(|error| ("shards", error.to_string()))?)
        }
    };
    let principal = Principal::new(name, role, reach);
    let principal = principal.map_err(|error| {
        use shardlift_domain::principal::PrincipalError;
        let part = match error {
            PrincipalError::Name(_) | PrincipalError::Reserved(_) => "name",
            PrincipalError::NoShards | PrincipalError::Shards => "shards",
        };
        (part, error.to_string())
    })?;
    Ok(KnownToken { hash, principal })
}

fn named_role(word: &str) -> Result<Role, String> {
    Role::parse(word).ok_or_else(|| {
        let known = Role::ALL.map(Role::as_str).join(", ");
        format!("{word:?} is no role; known are {known}")
    })
}

fn from_hex(text: &str) -> Option<TokenHash> {
    let digits: Option<Vec<u8>> =
        text.chars().map(|digit| digit.to_digit(16).and_then(|digit| u8::try_from(digit).ok())).collect();
    let bytes: Vec<u8> =
        digits?.chunks(2).map(|pair| pair.iter().fold(0, |byte, digit| byte << 4 | digit)).collect();
    if text.len() == 64 { bytes.try_into().ok() } else { None }
}

/// One token is one principal's, and one name is one principal, who may have several tokens: the old one and the new one.
fn contradictions(problems: &mut ConfigProblems, tokens: &[KnownToken]) {
    for (at, token) in tokens.iter().enumerate() {
        let name = token.principal.name();
        for other in &tokens[..at] {
            if other.hash == token.hash {
                let message = format!("{name} and {} have the same token", other.principal.name());
                problems.add("access.principal", message);
            } else if other.principal.name() == name && other.principal != token.principal {
                problems.add("access.principal", format!("{name} is there twice, with different rights"));
            }
        }
    }
}

impl WrittenJwt {
    fn check(self, problems: &mut ConfigProblems) -> Option<JwtConfig> {
        let before = problems.list().len();
        for (key, text) in [
            ("issuer", &self.issuer),
            ("audience", &self.audience),
            ("name_claim", &self.name_claim),
            ("role_claim", &self.role_claim),
        ] {
            if text.is_empty() {
                problems.add(format!("access.jwt.{key}"), "it is empty");
            }
        }
        if !REFRESH.contains(&self.refresh_s) {
            let (least, most) = (REFRESH.start(), REFRESH.end());
            problems.add("access.jwt.refresh_s", format!("it is not between {least} and {most} seconds"));
        }
        let keys = match (self.jwks_file, self.jwks_url) {
            (Some(file), None) => Some(KeySource::File(file)),
            (None, Some(url)) => checked_url(problems, url),
            _ => {
                problems.add("access.jwt", "give the issuer's keys either as `jwks_file` or as `jwks_url`");
                None
            }
        };
        let mut roles = BTreeMap::new();
        for (word, role) in self.roles {
            match named_role(&role) {
                Ok(role) => drop(roles.insert(word, role)),
                Err(why) => problems.add(format!("access.jwt.roles.{word}"), why),
            }
        }
        let keys = keys.filter(|_| problems.list().len() == before)?;
        Some(JwtConfig {
            issuer: self.issuer,
            audience: self.audience,
            keys,
            refresh: Duration::from_secs(self.refresh_s),
            name_claim: self.name_claim,
            role_claim: self.role_claim,
            roles,
        })
    }
}

/// Whoever can change what comes from there can make tokens: so only https, but for an address of this machine.
fn checked_url(problems: &mut ConfigProblems, text: String) -> Option<KeySource> {
    let url = reqwest::Url::parse(&text).ok();
    let host = url.as_ref().and_then(reqwest::Url::host_str).unwrap_or_default().trim_matches(['[', ']']);
    let here = host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
    let safe = url.as_ref().is_some_and(|url| {
        let held = !url.username().is_empty() || url.password().is_some();
        !held && !host.is_empty() && (url.scheme() == "https" || url.scheme() == "http" && here)
    });
    if !safe {
        let message = "it must be an https address without a user or password; http only on this machine";
        problems.add("access.jwt.jwks_url", message);
        return None;
    }
    Some(KeySource::Url(text))
}

/// What this machine alone can reach may be open to everybody on it; for any other address somebody must be known.
pub(super) fn guarded(
    problems: &mut ConfigProblems,
    access: &AccessConfig,
    listens: &[(&'static str, Option<SocketAddr>)],
) {
    for (key, address) in listens {
        if access.is_open() && address.is_some_and(|address| !address.ip().is_loopback()) {
            problems.add(
                *key,
                "others than this machine reach it, and [access] knows nobody: declare principals or an issuer of tokens \
                 (docs/operations/access.md), or listen on a loopback address such as 127.0.0.1",
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{CLUSTER, read};
    use super::*;

    const HASH: &str = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";

    fn problems(text: &str) -> Vec<String> {
        let problems = read(&format!("{text}\n{CLUSTER}")).expect_err("it was accepted");
        problems.list().iter().map(|problem| problem.key.clone()).collect()
    }

    #[test]
    fn a_principal_has_a_name_a_role_and_the_hash_of_a_token() {
        let text = format!(
            "[[access.principal]]\nname = \"mira\"\nrole = \"operator\"\ntoken_sha256 = \"{HASH}\"\n\
             [[access.principal]]\nname = \"w1\"\nrole = \"worker\"\ntoken_sha256 = \"{}\"\nshards = [\"chat-pg-01\"]\n{CLUSTER}",
            HASH.replace('9', "A")
        );
        let access = read(&text).expect("good").access;
        assert!(!access.is_open());
        assert_eq!(access.tokens[0].hash, crate::api::access::hash("test"));
        assert!(access.tokens[1].principal.serves(&ShardId::new("chat-pg-01").expect("a name")));
        assert!(read(CLUSTER).expect("good").access.is_open());
    }

    #[test]
    fn tokens_may_stand_in_a_file_of_their_own() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("tokens");
        let text = format!(
            "# people\nmira operator {HASH}   # laptop\n\nw1 worker {} a,b\n",
            HASH.replace('9', "a")
        );
        std::fs::write(&file, text).expect("written");
        let section = format!("[access]\ntokens_file = {:?}", file.display().to_string());
        let access = read(&format!("{section}\n{CLUSTER}")).expect("good").access;
        let names: Vec<_> = access.tokens.iter().map(|token| token.principal.name()).collect();
        assert_eq!(names, ["mira", "w1"]);
        std::fs::write(&file, format!("mira operator\nolaf root {HASH}\nw1 worker {HASH}\n"))
            .expect("written");
        let told = read(&format!("{section}\n{CLUSTER}")).expect_err("refused").to_string();
        for part in ["line 1", "line 2", "\"root\" is no role", "line 3", "shards"] {
            assert!(told.contains(part), "{part} is not in {told}");
        }
    }

    #[test]
    fn every_mistake_about_principals_is_told_at_once() {
        let one = |name: &str, role: &str, hash: &str, more: &str| {
            format!(
                "[[access.principal]]\nname = {name:?}\nrole = {role:?}\ntoken_sha256 = {hash:?}\n{more}\n"
            )
        };
        let text = [
            one("", "viewer", HASH, ""),
            one("a", "root", HASH, ""),
            one("b", "viewer", "hunter2", ""),
            one("c", "worker", HASH, ""),
            one("d", "viewer", HASH, "shards = [\"x\"]"),
            one("e", "worker", HASH, "shards = [\"x y\"]"),
            one("f", "viewer", HASH, ""),
            one("g", "viewer", HASH, ""),
            one("f", "admin", &HASH.replace('9', "a"), ""),
        ];
        assert_eq!(
            problems(&text.concat()),
            [
                "access.principal[0].name",
                "access.principal[1].role",
                "access.principal[2].token_sha256",
                "access.principal[3].shards",
                "access.principal[4].shards",
                "access.principal[5].shards",
                "access.principal",
                "access.principal",
            ]
        );
        let told = read(&format!("{}\n{CLUSTER}", one("b", "viewer", "hunter2", ""))).expect_err("refused");
        assert!(!told.to_string().contains("hunter2"), "a token by mistake is shown: {told}");
    }

    #[test]
    fn a_rule_for_approvals_needs_people_who_are_known() {
        let one =
            format!("[[access.principal]]\nname = \"m\"\nrole = \"approver\"\ntoken_sha256 = \"{HASH}\"\n");
        for rule in ApprovalRule::ALL {
            let text = format!("[access]\napproval = {:?}\n{one}{CLUSTER}", rule.as_str());
            assert_eq!(read(&text).expect("good").access.approval, rule);
        }
        assert_eq!(problems("[access]\napproval = \"required\""), ["access.approval"]);
        assert_eq!(problems(&format!("[access]\napproval = \"four-eyes\"\n{one}")), ["access.approval"]);
    }

    #[test]
    fn an_issuer_has_keys_and_they_come_from_a_safe_place() {
        let jwt =
            |more: &str| format!("[access.jwt]\nissuer = \"https://id\"\naudience = \"shardlift\"\n{more}");
        let good = "jwks_url = \"https://id.example/keys\"\nrole_claim = \"realm.roles\"\nroles = { boss = \"admin\" }";
        let access = read(&format!("{}\n{CLUSTER}", jwt(good))).expect("good").access;
        let config = access.jwt.expect("an issuer");
        assert_eq!(config.keys, KeySource::Url("https://id.example/keys".into()));
        assert_eq!((config.roles["boss"], config.refresh), (Role::Admin, Duration::from_secs(300)));
        for url in ["http://127.0.0.1:1/keys", "http://[::1]:1/keys", "http://localhost/keys"] {
            assert!(read(&format!("{}\n{CLUSTER}", jwt(&format!("jwks_url = {url:?}")))).is_ok(), "{url}");
        }
        for url in ["http://id.example/keys", "https://u:p@id.example/keys", "file:///keys", "keys"] {
            assert_eq!(problems(&jwt(&format!("jwks_url = {url:?}"))), ["access.jwt.jwks_url"], "{url}");
        }
        assert_eq!(problems(&jwt("")), ["access.jwt"]);
        assert_eq!(problems(&jwt("jwks_file = \"a\"\njwks_url = \"https://b\"")), ["access.jwt"]);
        let wrong = "jwks_file = \"a\"\nrefresh_s = 1\nroles = { boss = \"root\" }";
        assert_eq!(problems(&jwt(wrong)), ["access.jwt.refresh_s", "access.jwt.roles.boss"]);
    }
}
