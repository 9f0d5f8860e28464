//! The section `[store]`: where the metadata is.

use std::path::PathBuf;

use serde::Deserialize;
use shardlift_runtime::config::{ConfigProblems, Secret, read_secret};

use crate::store::DEFAULT_DATABASE;

/// The kinds of metadata store.
#[derive(Debug, Clone)]
pub enum StoreConfig {
    /// A SQLite file, relative to the working directory. For one coordinator.
    Sqlite {
        /// Which file.
        path: PathBuf,
    },
    /// A PostgreSQL database, in a schema of its own.
    Postgres {
        /// How to reach it.
        url: Secret,
    },
    /// A database of its own in a MongoDB replica set.
    Mongodb {
        /// How to reach the replica set.
        url: Secret,
        /// Name of the database.
        database: String,
    },
}

#[derive(Debug, Deserialize)]
#[serde(default)]
pub(super) struct WrittenStore {
    kind: String,
    path: Option<PathBuf>,
    url: Option<Secret>,
    url_file: Option<PathBuf>,
    database: Option<String>,
}

impl Default for WrittenStore {
    fn default() -> Self {
        Self { kind: "sqlite".to_owned(), path: None, url: None, url_file: None, database: None }
    }
}

impl WrittenStore {
    /// Keys of another kind are refused: nothing is accepted and ignored. The value of a refused section is not used.
    pub(super) fn check(self, problems: &mut ConfigProblems) -> StoreConfig {
        let fallback = StoreConfig::Sqlite { path: "coordinator.db".into() };
        let foreign: &[&str] = match self.kind.as_str() {
            "sqlite" => &["url", "url_file", "database"],
            "postgres" => &["path", "database"],
            "mongodb" => &["path"],
            other => {
                let known = "use \"sqlite\", \"postgres\" or \"mongodb\"";
                problems.add("store.kind", format!("{other:?} is no store; {known}"));
                return fallback;
            }
        };
        for key in self.given().into_iter().filter(|key| foreign.contains(key)) {
            let kind = &self.kind;
            problems.add(format!("store.{key}"), format!("a store of the kind {kind:?} has no such key"));
        }
        if self.kind == "sqlite" {
            let path = self.path.unwrap_or_else(|| "coordinator.db".into());
            if path.as_os_str().is_empty() {
                problems.add("store.path", "it is empty");
            }
            return StoreConfig::Sqlite { path };
        }
        let url = match read_secret("url", self.url.as_ref(), self.url_file.as_deref()) {
            Ok(url) => url,
            Err(error) => {
                problems.add("store.url", error.to_string());
                return fallback;
            }
        };
        if self.kind == "postgres" {
            return StoreConfig::Postgres { url };
        }
        let database = self.database.unwrap_or_else(|| DEFAULT_DATABASE.to_owned());
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
        if database.is_empty() || database.len() > 63 || !database.chars().all(plain) {
            let why = "only letters, digits, '_' and '-' are allowed, 1 to 63 of them";
            problems.add("store.database", format!("{database:?} is no name of a database: {why}"));
        }
        StoreConfig::Mongodb { url, database }
    }

    fn given(&self) -> Vec<&'static str> {
        let keys = [
            ("path", self.path.is_some()),
            ("url", self.url.is_some()),
            ("url_file", self.url_file.is_some()),
            ("database", self.database.is_some()),
        ];
        keys.into_iter().filter(|(_, given)| *given).map(|(key, _)| key).collect()
    }
}
