//! The place of one shard's backup in an object store.
//!
//! Each hand-out writes into a folder of its own, named by its token, so that none can spoil what another one writes. There
//! is one manifest, and whoever is first to write it has made the backup: the store refuses a second one. So a worker
//! that wakes up late either was first, when nothing had changed yet, or writes for nobody.

use std::path::PathBuf;
use std::sync::Arc;

use futures::TryStreamExt;
use object_store::path::Path;
use object_store::{Error, ObjectStore, ObjectStoreExt, PutMode, PutPayload};
use shardlift_domain::fence::Token;
use shardlift_domain::ids::{MigrationKey, ShardId};

use super::manifest::{FORM, Manifest};
use super::vault::Words;
use super::{damaged, failed};
use crate::engine::EngineResult;

const MANIFEST: &str = "manifest.json";

/// Whose backup it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Label {
    pub(crate) cluster_uuid: String,
    pub(crate) shard: ShardId,
    pub(crate) migration: MigrationKey,
}

/// The place of one shard's backup of one migration.
pub struct Shelf {
    pub(super) store: Arc<dyn ObjectStore>,
    pub(super) root: Path,
    /// As a person finds it.
    pub(super) place: String,
    /// The same as a directory, where it is one.
    pub(super) local: Option<PathBuf>,
    pub(super) label: Label,
    pub(super) words: Words,
    pub(super) part_bytes: usize,
}

impl Shelf {
    /// Where it is, as a person finds it.
    pub(crate) fn place(&self) -> &str {
        &self.place
    }

    /// Whose it is.
    pub(crate) fn label(&self) -> &Label {
        &self.label
    }

    /// Bytes of rows in one part.
    pub(crate) fn part_bytes(&self) -> usize {
        self.part_bytes
    }

    fn folder(&self, token: Token) -> Path {
        Path::from(format!("{}/{}-{}", self.root, token.epoch.0, token.attempt.0))
    }

    fn file(&self, token: Token, name: &str) -> Path {
        Path::from(format!("{}/{name}", self.folder(token)))
    }

    /// Writes one file of a hand-out.
    pub(crate) async fn put(&self, token: Token, name: &str, bytes: Vec<u8>) -> EngineResult<()> {
        let written = self.store.put(&self.file(token, name), PutPayload::from(bytes)).await;
        written.map(drop).map_err(|error| self.words.trouble("writing a backup", &self.place, &error))
    }

    /// Reads one file of a hand-out; `None`: it is not there.
    pub(crate) async fn get(&self, token: Token, name: &str) -> EngineResult<Option<Vec<u8>>> {
        self.read(&self.file(token, name)).await
    }

    async fn read(&self, path: &Path) -> EngineResult<Option<Vec<u8>>> {
        let trouble = |error: Error| self.words.trouble("reading a backup", &self.place, &error);
        match self.store.get(path).await {
            Ok(found) => Ok(Some(found.bytes().await.map_err(trouble)?.to_vec())),
            Err(Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(trouble(error)),
        }
    }

    fn manifest_path(&self) -> Path {
        Path::from(format!("{}/{MANIFEST}", self.root))
    }

    /// The manifest; `None`: there is no complete backup.
    pub(crate) async fn manifest(&self) -> EngineResult<Option<Manifest>> {
        let Some(bytes) = self.read(&self.manifest_path()).await? else { return Ok(None) };
        let manifest: Manifest = serde_json::from_slice(&bytes)
            .map_err(|error| damaged(&self.place, format!("its manifest cannot be read: {error}")))?;
        if manifest.form > FORM {
            return Err(failed(
                format!(
                    "the manifest at {} has form {}, written by a newer release",
                    self.place, manifest.form
                ),
                "upgrade this worker",
            ));
        }
        let of = Label {
            cluster_uuid: manifest.cluster_uuid.clone(),
            shard: manifest.shard.clone(),
            migration: manifest.migration.clone(),
        };
        if of != self.label {
            return Err(damaged(&self.place, "its manifest speaks of another shard or migration"));
        }
        Ok(Some(manifest))
    }

    /// Writes the manifest, which makes the backup. `false`: somebody else was first.
    pub(crate) async fn publish(&self, manifest: &Manifest) -> EngineResult<bool> {
        let text = serde_json::to_vec_pretty(manifest).map_err(|error| {
            failed(format!("a manifest cannot be written: {error}"), "report this as a defect")
        })?;
        let path = self.manifest_path();
        let first = self.store.put_opts(&path, PutPayload::from(text), PutMode::Create.into());
        match first.await {
            Ok(_) => Ok(true),
            Err(Error::AlreadyExists { .. } | Error::Precondition { .. }) => Ok(false),
            Err(error) => Err(self.words.trouble("writing a manifest", &self.place, &error)),
        }
    }

    /// Removes what one hand-out has written.
    pub(crate) async fn discard(&self, token: Token) -> EngineResult<()> {
        self.remove(&self.folder(token), |_| true).await.map(drop)
    }

    /// Removes what other hand-outs have left; only once the manifest is there, so that none of them can be named by it.
    pub(crate) async fn keep_only(&self, token: Token) -> EngineResult<()> {
        let (kept, manifest) = (self.folder(token), self.manifest_path());
        self.remove(&self.root, |path| !path.prefix_matches(&kept) && *path != manifest).await.map(drop)
    }

    /// Removes everything, the manifest first. Answers how many objects there were.
    pub(crate) async fn purge(&self) -> EngineResult<u64> {
        match self.store.delete(&self.manifest_path()).await {
            Ok(()) | Err(Error::NotFound { .. }) => {}
            Err(error) => return Err(self.words.trouble("removing a backup", &self.place, &error)),
        }
        self.remove(&self.root, |_| true).await
    }

    async fn remove(&self, below: &Path, unwanted: impl Fn(&Path) -> bool) -> EngineResult<u64> {
        let trouble = |error: Error| self.words.trouble("removing a backup", &self.place, &error);
        let mut found = self.store.list(Some(below));
        let mut removed = 0;
        while let Some(object) = found.try_next().await.map_err(trouble)? {
            if !unwanted(&object.location) {
                continue;
            }
            match self.store.delete(&object.location).await {
                Ok(()) => removed += 1,
                Err(Error::NotFound { .. }) => {}
                Err(error) => return Err(trouble(error)),
            }
        }
        self.clear_directories(below, &unwanted).await;
        Ok(removed)
    }

    /// What a worker was writing into a directory when it died is no object, but it takes room.
    async fn clear_directories(&self, below: &Path, unwanted: &impl Fn(&Path) -> bool) {
        let Some(local) = &self.local else { return };
        let within =
            below.as_ref().strip_prefix(self.root.as_ref()).unwrap_or_default().trim_start_matches('/');
        let start = local.join(within);
        if unwanted(below) && !within.is_empty() {
            // Only room is at stake, and the next purge takes it.
            let _ = tokio::fs::remove_dir_all(&start).await;
            return;
        }
        let Ok(mut entries) = tokio::fs::read_dir(&start).await else { return };
        while let Ok(Some(entry)) = entries.next_entry().await {
            let name = entry.file_name().to_string_lossy().into_owned();
            if entry.path().is_dir() && unwanted(&Path::from(format!("{below}/{name}"))) {
                let _ = tokio::fs::remove_dir_all(entry.path()).await;
            }
        }
    }
}
