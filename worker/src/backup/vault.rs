//! The object store of a worker: a directory or a bucket. Whatever it says, no key of it is repeated.

use std::path::PathBuf;
use std::sync::Arc;

use object_store::aws::AmazonS3Builder;
use object_store::local::LocalFileSystem;
use object_store::{ObjectStore, path::Path};
use shardlift_domain::ids::{MigrationKey, ShardId};
use shardlift_runtime::config::Secret;

use super::failed;
use super::shelf::{Label, Shelf};
use crate::config::{BackupConfig, S3Config, StoreConfig};
use crate::engine::{EngineError, EngineResult};

/// Longest part of what an object store says that is told.
const LONGEST: usize = 400;

/// The object store of a worker. Nothing is opened before it is needed.
#[derive(Debug, Clone)]
pub struct Vault {
    config: BackupConfig,
}

impl Vault {
    /// With these settings.
    pub fn new(config: BackupConfig) -> Self {
        Self { config }
    }

    /// The place of one shard's backup.
    pub async fn shelf(
        &self,
        cluster_uuid: &str,
        shard: &ShardId,
        migration: &MigrationKey,
    ) -> EngineResult<Shelf> {
        let label = Label {
            cluster_uuid: cluster_uuid.to_owned(),
            shard: shard.clone(),
            migration: migration.clone(),
        };
        let (store, prefix, place, local): (Arc<dyn ObjectStore>, &str, String, Option<PathBuf>) =
            match &self.config.store {
                StoreConfig::Directory(directory) => {
                    let store = Arc::new(directory_store(directory).await?);
                    let place = directory.display().to_string();
                    (store, "", place, Some(directory.clone()))
                }
                StoreConfig::S3(s3) => {
                    let place = format!("s3://{}", s3.bucket);
                    (Arc::new(bucket(s3)?), s3.prefix.as_str(), place, None)
                }
            };
        let root = Path::from(format!("{prefix}/{cluster_uuid}/{migration}/{shard}"));
        let place = format!("{}/{root}", place.trim_end_matches('/'));
        let local = local.map(|directory| directory.join(root.as_ref()));
        let words = Words { keys: self.keys() };
        Ok(Shelf { store, root, place, local, label, words, part_bytes: self.config.part_bytes })
    }

    fn keys(&self) -> Vec<Secret> {
        match &self.config.store {
            StoreConfig::Directory(_) => Vec::new(),
            StoreConfig::S3(s3) => vec![s3.access_key_id.clone(), s3.secret_access_key.clone()],
        }
    }
}

async fn directory_store(directory: &std::path::Path) -> EngineResult<LocalFileSystem> {
    let refused = |why: String| {
        failed(
            format!("the directory {} of backups cannot be used: {why}", directory.display()),
            "let the worker write there, or name another directory under [backup]; then resume",
        )
    };
    tokio::fs::create_dir_all(directory).await.map_err(|error| refused(error.to_string()))?;
    let store = LocalFileSystem::new_with_prefix(directory).map_err(|error| refused(error.to_string()))?;
    // A backup that is told to be whole must outlive a power cut.
    Ok(store.with_fsync(true).with_automatic_cleanup(true))
}

fn bucket(s3: &S3Config) -> EngineResult<impl ObjectStore + use<>> {
    let mut builder = AmazonS3Builder::new()
        .with_bucket_name(&s3.bucket)
        .with_region(&s3.region)
        .with_access_key_id(s3.access_key_id.expose())
        .with_secret_access_key(s3.secret_access_key.expose())
        // One request for each object: every S3-compatible store knows it.
        .with_disable_bulk_delete(true);
    if let Some(endpoint) = &s3.endpoint {
        builder = builder.with_endpoint(endpoint).with_allow_http(endpoint.starts_with("http://"));
    }
    // What it says may hold what it was given.
    builder.build().map_err(|_| {
        failed(
            format!("the bucket {} of backups cannot be used with these settings", s3.bucket),
            "correct [backup.s3] in the worker's configuration and restart it; then resume",
        )
    })
}

/// What an object store says, for people: without its keys, and no longer than needed.
#[derive(Debug, Clone)]
pub(super) struct Words {
    keys: Vec<Secret>,
}

impl Words {
    /// An error as it is told.
    pub(super) fn trouble(&self, doing: &str, place: &str, error: &object_store::Error) -> EngineError {
        failed(
            format!("{doing} at {place}: {}", self.told(&error.to_string())),
            "make room, or mend access to the object store of the worker ([backup] in its configuration); then resume: \
             what is not whole is saved anew, and nothing was changed",
        )
    }

    fn told(&self, text: &str) -> String {
        // A body in XML may quote what was signed.
        let text = text.split('<').next().unwrap_or_default();
        let hidden =
            self.keys.iter().fold(text.to_owned(), |text, key| text.replace(key.expose(), "[redacted]"));
        hidden.lines().next().unwrap_or_default().chars().take(LONGEST).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_store_says_is_told_without_its_keys_and_its_body() {
        let words = Words { keys: vec![Secret::new("AKIDHUNTER"), Secret::new("hunter2")] };
        let said = "403 Forbidden for AKIDHUNTER with hunter2: <Error><StringToSign>x</StringToSign></Error>";
        assert_eq!(words.told(said), "403 Forbidden for [redacted] with [redacted]: ");
        assert_eq!(words.told(&"a".repeat(10_000)).len(), LONGEST);
    }
}
