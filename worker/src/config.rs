//! The worker's settings. Text is checked here once; everywhere else a setting has its type.

mod backup;
mod health;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use shardlift_domain::ids::{ClusterName, ShardId, WorkerId};
use shardlift_domain::spec::Engine;
use shardlift_proto::bearer::Bearer;
use shardlift_runtime::config::{ConfigProblems, Secret, load, read_secret};
use shardlift_runtime::route::Route;
use shardlift_runtime::telemetry::{Settings, Written};
use shardlift_runtime::tls::{Dial, WrittenDial};
use tonic::transport::Uri;

use crate::token::Token;

pub use backup::{BackupConfig, S3Config, StoreConfig};
pub use health::HealthConfig;

/// The settings, all valid.
#[derive(Debug, Clone)]
pub struct Config {
    /// Name of this worker; unique among all workers.
    pub name: WorkerId,
    /// Coordinators to try, as `http://host:port` or `https://host:port`; whichever answers says who leads.
    pub coordinators: Route<String>,
    /// What it shows coordinators that ask who it is.
    pub token: Token,
    /// How coordinators are dialled over TLS.
    pub tls: Dial,
    /// Tasks at once, 1 to 256.
    pub slots: u32,
    /// Where metrics and health are shown, if at all.
    pub metrics_listen: Option<SocketAddr>,
    /// Logs and traces.
    pub telemetry: Settings,
    /// Where backups go.
    pub backup: BackupConfig,
    /// When a shard counts as ill.
    pub health: HealthConfig,
    /// The shards that it serves.
    pub shards: Vec<ShardConfig>,
}

/// One shard that the worker serves.
#[derive(Debug, Clone)]
pub struct ShardConfig {
    /// Which.
    pub id: ShardId,
    /// Of which cluster.
    pub cluster: ClusterName,
    /// Of which engine.
    pub engine: Engine,
    /// How to reach it.
    pub dsn: Secret,
}

#[derive(Deserialize)]
struct File {
    name: String,
    coordinators: Vec<String>,
    token: Option<Secret>,
    token_file: Option<PathBuf>,
    tls: Option<WrittenDial>,
    #[serde(default = "four")]
    slots: u32,
    metrics_listen: Option<String>,
    #[serde(default)]
    telemetry: Written,
    #[serde(default)]
    backup: backup::Written,
    #[serde(default)]
    health: health::Written,
    #[serde(default, rename = "shard")]
    shards: Vec<FileShard>,
}

#[derive(Deserialize)]
struct FileShard {
    id: String,
    cluster: String,
    engine: String,
    dsn: Option<Secret>,
    dsn_file: Option<PathBuf>,
}

fn four() -> u32 {
    4
}

impl Config {
    /// Reads the file and the environment; tells every mistake at once.
    pub fn load(path: &Path) -> Result<Self, ConfigProblems> {
        load::<File>(Some(path), "SHARDLIFT", &[])?.check()
    }
}

/// Takes a value, or notes the problem and goes on, so that all problems are told.
fn keep<T, E: std::fmt::Display>(problems: &mut ConfigProblems, key: &str, value: Result<T, E>) -> Option<T> {
    value.map_err(|error| problems.add(key, error.to_string())).ok()
}

impl File {
    fn check(self) -> Result<Config, ConfigProblems> {
        let mut problems = ConfigProblems::default();
        let name = keep(&mut problems, "name", WorkerId::new(&self.name));
        // Who says how TLS goes means that it is used.
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        let tls = self.tls.map(|written| written.check(&mut problems)).unwrap_or_default();
        let coordinators: Vec<_> =
            self.coordinators.iter().filter_map(|text| coordinator(&mut problems, scheme, text)).collect();
        if self.coordinators.is_empty() {
            problems.add("coordinators", "name at least one, such as \"127.0.0.1:7400\"");
        }
        let token = token(&mut problems, self.token.as_ref(), self.token_file, &coordinators);
        if !(1..=256).contains(&self.slots) {
            problems.add("slots", format!("{} is not between 1 and 256", self.slots));
        }
        let metrics_listen = self
            .metrics_listen
            .and_then(|text| keep(&mut problems, "metrics_listen", text.parse::<SocketAddr>()));
        let telemetry = self.telemetry.check(&mut problems);
        let backup = self.backup.check(&mut problems);
        let health = self.health.check(&mut problems);
        if self.shards.is_empty() {
            problems.add("shard", "a worker serves at least one shard: add a [[shard]]");
        }
        let shards: Vec<_> = self.shards.into_iter().filter_map(|shard| shard.check(&mut problems)).collect();
        let mut seen = BTreeSet::new();
        for shard in &shards {
            if !seen.insert(&shard.id) {
                problems.add("shard.id", format!("{} is there twice", shard.id));
            }
        }
        match name.zip(Route::new(coordinators)).zip(backup) {
            Some(((name, coordinators), backup)) if problems.list().is_empty() => Ok(Config {
                name,
                coordinators,
                token,
                tls,
                slots: self.slots,
                metrics_listen,
                telemetry,
                backup,
                health,
                shards,
            }),
            _ => Err(problems),
        }
    }
}

/// It must be good now, and must not go anywhere in plain but within this machine.
fn token(
    problems: &mut ConfigProblems,
    inline: Option<&Secret>,
    file: Option<PathBuf>,
    coordinators: &[String],
) -> Token {
    if inline.is_none() && file.is_none() {
        return Token::None;
    }
    let secret = keep(problems, "token", read_secret("token", inline, file.as_deref()));
    let bearer = secret.and_then(|secret| keep(problems, "token", Bearer::new(secret.expose())));
    let Some(bearer) = bearer else { return Token::None };
    let uris = coordinators.iter().filter_map(|address| address.parse::<Uri>().ok());
    for uri in uris.filter(|uri| !bearer.may_go_to(uri)) {
        let host = uri.authority().map_or("", |authority| authority.as_str());
        let why = format!("without [tls] whoever listens to the network on the way to {host} has the token");
        problems.add("coordinators", why);
    }
    file.map_or(Token::Written(bearer), Token::File)
}

/// `host:port`, also with `http://` or `https://` before it; `otherwise`: the scheme of one that has none.
fn coordinator(problems: &mut ConfigProblems, otherwise: &str, text: &str) -> Option<String> {
    let (scheme, rest) = match text.trim().split_once("://") {
        Some((scheme @ ("http" | "https"), rest)) => (scheme, rest),
        _ => (otherwise, text.trim()),
    };
    if scheme == "http" && otherwise == "https" {
        problems.add("coordinators", "an address with http:// does not go together with [tls]");
        return None;
    }
    let uri = format!("{scheme}://{rest}");
    let uri = uri.parse::<Uri>().ok().filter(|uri| uri.path_and_query().is_none_or(|rest| rest == "/"));
    let authority = uri.as_ref().and_then(Uri::authority);
    match authority {
        Some(authority) if authority.as_str().contains('@') => {
            problems.add("coordinators", "an address must not hold a user name or a password");
            None
        }
        Some(authority) if !authority.host().is_empty() && authority.port_u16().is_some() => {
            Some(format!("{scheme}://{authority}"))
        }
        _ => {
            problems.add("coordinators", "an address must look like host:port, such as \"127.0.0.1:7400\"");
            None
        }
    }
}

impl FileShard {
    fn check(self, problems: &mut ConfigProblems) -> Option<ShardConfig> {
        let engine = match self.engine.as_str() {
            "postgres" => Some(Engine::Postgres),
            "mongodb" => Some(Engine::Mongodb),
            other => {
                problems.add("shard.engine", format!("{other:?} is neither \"postgres\" nor \"mongodb\""));
                None
            }
        };
        let id = keep(problems, "shard.id", ShardId::new(&self.id));
        let cluster = keep(problems, "shard.cluster", ClusterName::new(&self.cluster));
        let dsn =
            keep(problems, "shard.dsn", read_secret("dsn", self.dsn.as_ref(), self.dsn_file.as_deref()));
        Some(ShardConfig { id: id?, cluster: cluster?, engine: engine?, dsn: dsn? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Config, ConfigProblems> {
        let dir = tempfile::tempdir().expect("a temp dir");
        let path = dir.path().join("worker.toml");
        std::fs::write(&path, text).expect("written");
        Config::load(&path)
    }

    #[test]
    fn a_small_file_is_enough() {
        let config = read(
            r#"
            name = "w1"
            coordinators = ["127.0.0.1:7400", "http://[::1]:7401"]
            [[shard]]
            id = "s1"
            cluster = "c"
            engine = "postgres"
            dsn = "postgres://u:hunter2@127.0.0.1/db"
            "#,
        )
        .expect("valid");
        assert_eq!((config.slots, config.shards.len()), (4, 1));
        let mut coordinators = config.coordinators.clone();
        assert_eq!(coordinators.current(), "http://127.0.0.1:7400");
        coordinators.failed(None);
        assert_eq!(coordinators.current(), "http://[::1]:7401");
        assert!(!format!("{config:?}").contains("hunter2"), "a secret was shown");
    }

    const SHARD: &str =
        "[[shard]]\nid = \"s1\"\ncluster = \"c\"\nengine = \"postgres\"\ndsn = \"postgres://h/db\"\n";

    #[test]
    fn an_address_is_dialled_over_tls_if_it_says_so_or_if_there_is_a_section() {
        let first = |text: &str| read(text).map(|config| config.coordinators.current().clone());
        let file = |coordinator: &str, tls: &str| {
            format!("name = \"w1\"\ncoordinators = [{coordinator:?}]\n{tls}{SHARD}")
        };
        assert_eq!(first(&file("https://c:7400", "")).expect("valid"), "https://c:7400");
        assert_eq!(first(&file("c:7400", "[tls]\nserver_name = \"d\"\n")).expect("valid"), "https://c:7400");
        for (coordinator, tls, why) in [
            ("http://c:7400", "[tls]\nserver_name = \"d\"\n", "does not go together with [tls]"),
            ("c:7400", "[tls]\nca = \"/nowhere/ca.pem\"\n", "/nowhere/ca.pem cannot be read"),
            ("c:7400", "[tls]\nkey = \"/nowhere/key.pem\"\n", "both `certificate` and `key`"),
        ] {
            let problems = read(&file(coordinator, tls)).expect_err("it was accepted").to_string();
            assert!(problems.contains(why), "{problems}");
        }
    }

    #[test]
    fn backups_go_to_a_directory_or_to_a_bucket_whose_keys_are_never_shown() {
        let head = "name = \"w1\"\ncoordinators = [\"c:7400\"]\n";
        let shard =
            "[[shard]]\nid = \"s1\"\ncluster = \"c\"\nengine = \"postgres\"\ndsn = \"postgres://h/db\"\n";
        let with = |backup: &str| read(&format!("{head}{backup}{shard}"));
        let bucket =
            "[backup.s3]\nbucket = \"b\"\naccess_key_id = \"AKIDHUNTER\"\nsecret_access_key = \"hunter2\"\n";
        let config = with(bucket).expect("valid");
        assert!(matches!(&config.backup.store, StoreConfig::S3(s3) if s3.region == "us-east-1"));
        let shown = format!("{config:?}").to_lowercase();
        assert!(!shown.contains("hunter"), "a key was shown: {shown}");
        assert!(matches!(with("").expect("valid").backup.store, StoreConfig::Directory(_)));
        let wrong =
            format!("[backup]\ndirectory = \"d\"\npart_bytes = 1\n{}", bucket.replace("AKIDHUNTER", ""));
        let problems = with(&wrong).expect_err("refused").to_string();
        for part in ["keep one", "part_bytes"] {
            assert!(problems.contains(part), "{part} is not told in {problems}");
        }
        let empty = with(&bucket.replace("AKIDHUNTER", "")).expect_err("refused").to_string();
        assert!(empty.contains("access_key_id") && !empty.contains("hunter2"), "{empty}");
    }

    #[test]
    fn a_shard_counts_as_ill_beyond_bounds_that_may_be_set() {
        let with = |health: &str| {
            read(&format!("name = \"w1\"\ncoordinators = [\"c:7400\"]\n[health]\n{health}\n{SHARD}"))
        };
        let bounds = |health: &str| {
            with(health).map(|config| (config.health.max_replica_lag, config.health.min_disk_free))
        };
        let secs = std::time::Duration::from_secs;
        assert_eq!(bounds("").expect("valid"), (Some(secs(60)), 5));
        assert_eq!(
            bounds("max_replica_lag = \"5m\"\nmin_disk_free = 20").expect("valid"),
            (Some(secs(300)), 20)
        );
        assert_eq!(bounds("max_replica_lag = \"never\"\nmin_disk_free = 0").expect("valid"), (None, 0));
        for wrong in ["\"\"", "\"0s\"", "\"2d\"", "\"5\"", "\"25h\"", "\"1é\""] {
            let told = bounds(&format!("max_replica_lag = {wrong}")).expect_err("refused").to_string();
            assert!(told.contains("health.max_replica_lag"), "{wrong}: {told}");
        }
        assert!(bounds("min_disk_free = 91").is_err());
    }

    #[test]
    fn a_token_comes_from_one_place_and_is_not_shown() {
        let dir = tempfile::tempdir().expect("a temp dir");
        let file = dir.path().join("token");
        std::fs::write(&file, "hunter2\n").expect("written");
        let at = |coordinators: &str, lines: &str| {
            read(&format!(
                "name = \"w1\"\ncoordinators = {coordinators}\n{lines}\n[[shard]]\nid = \"s1\"\ncluster = \"c\"\n\
                 engine = \"postgres\"\ndsn = \"postgres://127.0.0.1/db\"\n"
            ))
        };
        let with = |lines: &str| at("[\"127.0.0.1:1\"]", lines);
        let in_file = format!("token_file = {:?}", file.display().to_string());
        for lines in ["token = \"hunter2\"", in_file.as_str()] {
            let told = format!("{:?}", with(lines).expect("valid"));
            assert!(told.contains("token: ") && !told.contains("hunter2"), "{told}");
        }
        let plain = at("[\"127.0.0.1:1\", \"c.example:1\"]", "token = \"x\"");
        let told = plain.expect_err("refused").to_string();
        assert!(
            told.contains("c.example:1") && told.contains("[tls]") && !told.contains("127.0.0.1"),
            "{told}"
        );
        for lines in ["token = \"\"", "token = \"two words\"", &format!("token = \"x\"\n{in_file}")] {
            assert!(with(lines).is_err(), "{lines}");
        }
    }

    #[test]
    fn every_mistake_is_told_at_once() {
        let problems = read(
            r#"
            name = "w 1"
            coordinators = ["127.0.0.1", "ftp://c:7400", "u:hunter2@c:7400", "c:7400/x"]
            slots = 0
            [[shard]]
            id = "s1"
            cluster = "c"
            engine = "oracle"
            "#,
        )
        .expect_err("refused")
        .to_string();
        for part in ["name", "host:port", "password", "slots", "oracle", "dsn_file"] {
            assert!(problems.contains(part), "{part} is not told in {problems}");
        }
        assert!(!problems.contains("hunter2"), "{problems}");
    }
}
