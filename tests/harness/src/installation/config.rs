//! The configuration files of the programs, as an operator would write them.

use anyhow::{Context, Result};

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
    dsns: Vec<(String, String)>,
    env: Vec<(String, String)>,
}

impl WorkerSpec {
    /// A worker of these shards with 4 slots.
    pub fn new(name: &str, shards: &[&str]) -> Self {
        let shards = shards.iter().map(|&shard| shard.to_owned()).collect();
        Self { name: name.to_owned(), shards, slots: 4, coordinator: None, dsns: Vec::new(), env: Vec::new() }
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

    pub(super) fn toml(&self, shards: &[Shard], coordinator: &str) -> Result<String> {
        let coordinator = self.coordinator.as_deref().unwrap_or(coordinator);
        let mut toml = format!(
            "name = {}\ncoordinators = [{}]\nslots = {}\n",
            text(&self.name),
            text(coordinator),
            self.slots
        );
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

/// The coordinator's file.
pub(super) struct CoordinatorConfig<'a> {
    pub(super) listen: String,
    pub(super) metrics_listen: String,
    pub(super) store: String,
    pub(super) lease_ttl_ms: u64,
    pub(super) shards: &'a [Shard],
    /// Further top-level lines and tables, as TOML.
    pub(super) extra: &'a str,
}

impl CoordinatorConfig<'_> {
    pub(super) fn toml(&self) -> String {
        let mut toml = format!(
            "name = \"coordinator-1\"\nlisten = {}\nmetrics_listen = {}\n{}\n[store]\nkind = \"sqlite\"\npath = {}\n\n\
             [election]\nkind = \"standalone\"\n\n[lease]\nttl_ms = {}\n",
            text(&self.listen),
            text(&self.metrics_listen),
            self.extra,
            text(&self.store),
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

/// A TOML string. JSON's escapes are a subset of TOML's.
fn text(value: &str) -> String {
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
        let toml = spec.toml(&shards, "http://c").unwrap();
        assert!(toml.contains("coordinators = [\"http://c\"]"), "{toml}");
        assert!(
            toml.contains("dsn = \"postgres://a\"") && toml.contains("dsn = \"postgres://proxy\""),
            "{toml}"
        );
        assert!(!toml.contains("postgres://b"), "{toml}");
    }

    #[test]
    fn a_worker_of_an_unknown_shard_is_a_mistake_of_the_test() {
        let error = WorkerSpec::new("w", &["z"]).toml(&[shard("a")], "http://c").unwrap_err();
        assert!(error.to_string().contains("unknown shard z"), "{error}");
    }

    #[test]
    fn a_cluster_is_listed_once_with_all_its_shards() {
        let shards = [shard("a"), shard("b")];
        let config = CoordinatorConfig {
            listen: "127.0.0.1:1".into(),
            metrics_listen: "127.0.0.1:2".into(),
            store: "c.db".into(),
            lease_ttl_ms: 5000,
            shards: &shards,
            extra: "",
        };
        let toml = config.toml();
        assert_eq!(toml.matches("[[cluster]]").count(), 1, "{toml}");
        assert!(toml.contains("shards = [\"a\", \"b\"]"), "{toml}");
    }
}
