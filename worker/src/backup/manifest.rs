//! What lies in an object store: written last, once, and read before anything is believed.

use serde::{Deserialize, Serialize};
use shardlift_domain::backup::Backup;
use shardlift_domain::fence::Token;
use shardlift_domain::ids::{Checksum, ClusterName, MigrationKey, ShardId};
use shardlift_domain::spec::Engine;
use shardlift_domain::verdict::Saved;

use super::Subject;

/// The form of manifests that this release writes, and the newest that it can read.
pub(crate) const FORM: u32 = 1;

/// One complete backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// Which form it has.
    pub form: u32,
    /// Of which migration.
    pub migration: MigrationKey,
    /// Its content.
    pub checksum: Checksum,
    /// The installation's name for the cluster, for all time.
    pub cluster_uuid: String,
    /// The cluster.
    pub cluster: ClusterName,
    /// The shard.
    pub shard: ShardId,
    /// Its engine.
    pub engine: Engine,
    /// When it was begun, RFC 3339.
    pub began: String,
    /// When it was whole, RFC 3339.
    pub ended: String,
    /// Which hand-out made it; names the folder of its files.
    pub token: Token,
    /// What was saved.
    pub subject: Subject,
    /// Files for people and their tools.
    pub beside: Vec<Object>,
    /// The rows.
    pub parts: Vec<Part>,
}

/// One file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Object {
    /// Its path in the folder.
    pub name: String,
    /// Its size.
    pub bytes: u64,
    /// SHA-256 of it.
    pub sha256: String,
}

/// One file of rows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// It, as it lies there: compressed.
    #[serde(flatten)]
    pub object: Object,
    /// Rows or documents in it.
    pub rows: u64,
    /// Bytes of them, before compression.
    pub content_bytes: u64,
    /// SHA-256 of those.
    pub content_sha256: String,
}

impl Manifest {
    /// All its rows.
    pub(crate) fn saved(&self) -> Saved {
        Saved {
            rows: self.parts.iter().map(|part| part.rows).sum(),
            bytes: self.parts.iter().map(|part| part.content_bytes).sum(),
        }
    }

    /// For people.
    pub(crate) fn told(&self, place: String) -> Backup {
        let Saved { rows, bytes } = self.saved();
        Backup {
            engine: self.engine,
            relation: self.subject.relation.clone(),
            began: self.began.clone(),
            ended: self.ended.clone(),
            token: self.token,
            rows,
            bytes,
            stored: self.parts.iter().map(|part| part.object.bytes).sum(),
            parts: u32::try_from(self.parts.len()).unwrap_or(u32::MAX),
            consistency: self.subject.consistency.as_str().to_owned(),
            place,
        }
    }
}
