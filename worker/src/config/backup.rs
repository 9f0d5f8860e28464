//! Where backups go: a directory, or a bucket of an S3-compatible object store.

use std::path::PathBuf;

use serde::Deserialize;
use shardlift_runtime::config::{ConfigProblems, Secret, read_secret};

/// Bytes of rows in one part, before compression: what a worker holds in memory for each backup that it makes.
const PART_BYTES: usize = 16 * 1024 * 1024;
const SMALLEST_PART: usize = 4 * 1024;
const LARGEST_PART: usize = 64 * 1024 * 1024;

/// Where backups go.
#[derive(Debug, Clone)]
pub struct BackupConfig {
    /// The object store.
    pub store: StoreConfig,
    /// Bytes of rows in one part, before compression.
    pub part_bytes: usize,
}

/// An object store.
#[derive(Debug, Clone)]
pub enum StoreConfig {
    /// A directory of this machine; made when it is first needed.
    Directory(PathBuf),
    /// A bucket.
    S3(Box<S3Config>),
}

/// A bucket of an S3-compatible object store.
#[derive(Debug, Clone)]
pub struct S3Config {
    /// Its name.
    pub bucket: String,
    /// Its region.
    pub region: String,
    /// The address of the service, if it is not the one of the region.
    pub endpoint: Option<String>,
    /// What all names begin with.
    pub prefix: String,
    /// Who asks.
    pub access_key_id: Secret,
    /// The proof of it.
    pub secret_access_key: Secret,
}

#[derive(Deserialize, Default)]
pub(super) struct Written {
    directory: Option<PathBuf>,
    part_bytes: Option<usize>,
    s3: Option<WrittenS3>,
}

#[derive(Deserialize)]
struct WrittenS3 {
    bucket: String,
    #[serde(default = "first_region")]
    region: String,
    endpoint: Option<String>,
    #[serde(default)]
    prefix: String,
    access_key_id: Option<Secret>,
    access_key_id_file: Option<PathBuf>,
    secret_access_key: Option<Secret>,
    secret_access_key_file: Option<PathBuf>,
}

fn first_region() -> String {
    "us-east-1".to_owned()
}

impl Default for BackupConfig {
    fn default() -> Self {
        Self { store: StoreConfig::Directory(PathBuf::from("backups")), part_bytes: PART_BYTES }
    }
}

impl Written {
    pub(super) fn check(self, problems: &mut ConfigProblems) -> Option<BackupConfig> {
        let part_bytes = self.part_bytes.unwrap_or(PART_BYTES);
        if !(SMALLEST_PART..=LARGEST_PART).contains(&part_bytes) {
            let bounds = format!("{part_bytes} is not between {SMALLEST_PART} and {LARGEST_PART}");
            problems.add("backup.part_bytes", bounds);
        }
        let store = match (self.directory, self.s3) {
            (Some(_), Some(_)) => {
                problems
                    .add("backup.directory", "both a directory and [backup.s3] are given; keep one of them");
                None
            }
            (_, Some(s3)) => s3.check(problems).map(|s3| StoreConfig::S3(Box::new(s3))),
            (Some(directory), None) => Some(StoreConfig::Directory(directory)),
            (None, None) => Some(BackupConfig::default().store),
        };
        Some(BackupConfig { store: store?, part_bytes })
    }
}

impl WrittenS3 {
    fn check(self, problems: &mut ConfigProblems) -> Option<S3Config> {
        if self.bucket.is_empty() {
            problems.add("backup.s3.bucket", "name the bucket");
        }
        if let Some(endpoint) = &self.endpoint
            && (endpoint.contains('@')
                || !(endpoint.starts_with("https://") || endpoint.starts_with("http://")))
        {
            problems.add(
                "backup.s3.endpoint",
                "write it as https://host:port, without a user name or a password",
            );
        }
        let access_key_id =
            read_secret("access_key_id", self.access_key_id.as_ref(), self.access_key_id_file.as_deref())
                .map_err(|error| problems.add("backup.s3.access_key_id", error.to_string()));
        let secret_access_key = read_secret(
            "secret_access_key",
            self.secret_access_key.as_ref(),
            self.secret_access_key_file.as_deref(),
        )
        .map_err(|error| problems.add("backup.s3.secret_access_key", error.to_string()));
        Some(S3Config {
            bucket: self.bucket,
            region: self.region,
            endpoint: self.endpoint,
            prefix: self.prefix,
            access_key_id: access_key_id.ok()?,
            secret_access_key: secret_access_key.ok()?,
        })
    }
}
