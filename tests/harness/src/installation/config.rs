//! The configuration files of the programs, as an operator would write them.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::Tls;

/// The kind of database that a shard is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Engine {
    /// PostgreSQL.
    Postgres,
    /// MongoDB.
    Mongodb,
}

impl Engine {
    /// As configuration files and spec files spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Postgres => "postgres",
            Self::Mongodb => "mongodb",
        }
    }
}

/// A shard of the installation.
#[derive(Debug, Clone)]
pub struct Shard {
    /// Such as `chat-pg-01`.
    pub id: String,
    /// Such as `chat`.
    pub cluster: String,
    /// Of the cluster and so of all its shards.
    pub engine: Engine,
    /// What its workers connect to.
    pub dsn: String,
}

/// A worker: which shards it serves, and how.
#[derive(Debug, Clone)]
pub struct WorkerSpec {
    name: String,
    shards: Vec<String>,
    slots: u32,
    coordinator: Option<String>,
    token: Option<String>,
    token_file: Option<PathBuf>,
    dsns: Vec<(String, String)>,
    env: Vec<(String, String)>,
}

impl WorkerSpec {
    /// A worker of these shards with 4 slots.
    pub fn new(name: &str, shards: &[&str]) -> Self {
        let shards = shards.iter().map(|&shard| shard.to_owned()).collect();
        let name = name.to_owned();
        Self {
            name,
            shards,
            slots: 4,
            coordinator: None,
            token: None,
            token_file: None,
            dsns: Vec::new(),
            env: Vec::new(),
        }
    }

    /// How many tasks it runs at once.
    pub fn slots(mut self, slots: u32) -> Self {
        self.slots = slots;
        self
    }

    /// It reaches the coordinator at this URL, for example through a proxy.
    pub fn coordinator(mut self, url: &str) -> Self {
        self.coordinator = Some(url.to_owned());
        self
    }

    /// It shows this token to coordinators.
    pub fn token(mut self, token: &str) -> Self {
        self.token = Some(token.to_owned());
        self
    }

    /// It shows coordinators what stands in this file, when it dials.
    pub fn token_file(mut self, file: &Path) -> Self {
        self.token_file = Some(file.to_owned());
        self
    }

    /// It reaches this shard at another connection string than the description of the shard says: through a proxy, or
    /// wrongly.
    pub fn dsn(mut self, shard: &str, dsn: &str) -> Self {
        self.dsns.push((shard.to_owned(), dsn.to_owned()));
        self
    }

    /// An environment variable of the process.
    pub fn env(mut self, key: &str, value: &str) -> Self {
        self.env.push((key.to_owned(), value.to_owned()));
        self
    }

    /// Failpoints, such as `worker::before_commit=1*panic`.
    pub fn failpoints(self, failpoints: &str) -> Self {
        self.env("FAILPOINTS", failpoints)
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn environment(&self) -> &[(String, String)] {
        &self.env
    }

    pub(super) fn toml(
        &self,
        shards: &[Shard],
        coordinators: &[String],
        tls: Option<&Tls>,
    ) -> Result<String> {
        let own = self.coordinator.clone().map(|one| vec![one]);
        let mut toml = format!(
            "name = {}\ncoordinators = {}\nslots = {}\n",
            text(&self.name),
            list(own.as_deref().unwrap_or(coordinators)),
            self.slots
        );
        if let Some(token) = &self.token {
            toml += &format!("token = {}\n", text(token));
        }
        if let Some(file) = &self.token_file {
            toml += &format!("token_file = {}\n", text(&file.display().to_string()));
        }
        toml += &tls.map(Tls::of_worker).unwrap_or_default();
        for id in &self.shards {
            let shard = shards.iter().find(|shard| shard.id == *id);
            let shard =
                shard.with_context(|| format!("worker {} names the unknown shard {id}", self.name))?;
            let dsn = self.dsns.iter().rfind(|(of, _)| of == id).map_or(&shard.dsn, |(_, dsn)| dsn);
            toml += &format!(
                "\n[[shard]]\nid = {}\ncluster = {}\nengine = {}\ndsn = {}\n",
                text(id),
                text(&shard.cluster),
                text(shard.engine.as_str()),
                text(dsn)
            );
        }
        Ok(toml)
    }
}

/// Where the coordinators keep their memory.
#[derive(Debug, Clone, Default)]
pub enum Store {
    /// A file in the installation's directory.
    #[default]
    Sqlite,
    /// The PostgreSQL database at this URL.
    Postgres(String),
    /// The MongoDB replica set at this URL.
    Mongodb(String),
}

impl Store {
    fn toml(&self, file: &str) -> String {
        let (kind, key, value) = match self {
            Self::Sqlite => ("sqlite", "path", file),
            Self::Postgres(url) => ("postgres", "url", url.as_str()),
            Self::Mongodb(url) => ("mongodb", "url", url.as_str()),
        };
        format!("[store]\nkind = \"{kind}\"\n{key} = {}\n", text(value))
    }
}

/// How the coordinators agree on a leader.
#[derive(Debug, Clone, Default)]
pub enum Election {
    /// There is one coordinator.
    #[default]
    Standalone,
    /// Through this etcd.
    Etcd {
        /// URLs of its members.
        endpoints: Vec<String>,
        /// How long a dead leader keeps the seat.
        ttl_ms: u64,
    },
}

impl Election {
    fn toml(&self) -> String {
        match self {
            Self::Standalone => "[election]\nkind = \"standalone\"\n".to_owned(),
            Self::Etcd { endpoints, ttl_ms } => {
                format!("[election]\nkind = \"etcd\"\nendpoints = {}\nttl_ms = {ttl_ms}\n", list(endpoints))
            }
        }
    }
}

/// A coordinator's file.
pub(super) struct CoordinatorConfig<'a> {
    pub(super) name: String,
    pub(super) listen: String,
    pub(super) metrics_listen: String,
    /// Left out where there is none: older releases do not know the key.
    pub(super) rest_listen: Option<String>,
    pub(super) store: &'a Store,
    /// The file, if the store is one.
    pub(super) file: String,
    pub(super) election: &'a Election,
    pub(super) lease_ttl_ms: u64,
    pub(super) shards: &'a [Shard],
    /// Further top-level lines and tables, as TOML.
    pub(super) extra: &'a str,
    pub(super) tls: Option<&'a Tls>,
}

impl CoordinatorConfig<'_> {
    pub(super) fn toml(&self) -> String {
        let mut toml = format!(
            "name = {}\nlisten = {}\nmetrics_listen = {}\n{}{}\n{}{}\n{}\n[lease]\nttl_ms = {}\n",
            text(&self.name),
            text(&self.listen),
            text(&self.metrics_listen),
            self.rest_listen
                .as_deref()
                .map(|rest| format!("rest_listen = {}\n", text(rest)))
                .unwrap_or_default(),
            self.extra,
            self.tls.map(Tls::of_coordinator).unwrap_or_default(),
            self.store.toml(&self.file),
            self.election.toml(),
            self.lease_ttl_ms
        );
        let mut clusters: Vec<(&str, Engine)> = Vec::new();
        for shard in self.shards {
            if !clusters.iter().any(|(name, _)| *name == shard.cluster) {
                clusters.push((&shard.cluster, shard.engine));
            }
        }
        for (name, engine) in clusters {
            let members = self.shards.iter().filter(|shard| shard.cluster == name);
            let members: Vec<String> = members.map(|shard| text(&shard.id)).collect();
            toml += &format!(
                "\n[[cluster]]\nname = {}\nengine = {}\nshards = [{}]\n",
                text(name),
                text(engine.as_str()),
                members.join(", ")
            );
        }
        toml
    }
}

/// A TOML array of strings.
fn list(values: &[String]) -> String {
    let values: Vec<String> = values.iter().map(|value| text(value)).collect();
    format!("[{}]", values.join(", "))
}

/// A TOML string. JSON's escapes are a subset of TOML's.
pub(super) fn text(value: &str) -> String {
    serde_json::Value::from(value).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shard(id: &str) -> Shard {
        Shard {
            id: id.into(),
            cluster: "chat".into(),
            engine: Engine::Postgres,
            dsn: format!("postgres://{id}"),
        }
    }

    #[test]
    fn a_worker_reaches_a_shard_where_it_is_told_to() {
        let shards = [shard("a"), shard("b")];
        let spec = WorkerSpec::new("w", &["a", "b"]).dsn("b", "postgres://proxy");
        let toml = spec.toml(&shards, &["http://c".to_owned(), "http://d".to_owned()], None).unwrap();
        assert!(toml.contains("coordinators = [\"http://c\", \"http://d\"]"), "{toml}");
        assert!(
            toml.contains("dsn = \"postgres://a\"") && toml.contains("dsn = \"postgres://proxy\""),
            "{toml}"
        );
        assert!(!toml.contains("postgres://b"), "{toml}");
    }

    #[test]
    fn a_worker_of_an_unknown_shard_is_a_mistake_of_the_test() {
        let error = WorkerSpec::new("w", &["z"]).toml(&[shard("a")], &[], None).unwrap_err();
        assert!(error.to_string().contains("unknown shard z"), "{error}");
    }

    #[test]
    fn a_cluster_is_listed_once_with_all_its_shards() {
        let shards = [shard("a"), shard("b")];
        let config = CoordinatorConfig {
            name: "c".into(),
            listen: "127.0.0.1:1".into(),
            metrics_listen: "127.0.0.1:2".into(),
            rest_listen: Some("127.0.0.1:3".into()),
            store: &Store::Sqlite,
            file: "c.db".into(),
            election: &Election::Standalone,
            lease_ttl_ms: 5000,
            shards: &shards,
            extra: "",
            tls: None,
        };
        let toml = config.toml();
        assert_eq!(toml.matches("[[cluster]]").count(), 1, "{toml}");
        assert!(toml.contains("rest_listen = \"127.0.0.1:3\"\n"), "{toml}");
        assert!(toml.contains("shards = [\"a\", \"b\"]"), "{toml}");
    }
}
