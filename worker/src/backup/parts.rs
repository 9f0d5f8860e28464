//! Writing the rows of a backup: compressed, in parts that end between two rows, one in memory at a time.
//!
//! The decompressed parts one after another are what the database's own tools read: the first has what stands before all
//! rows, the last what stands after them.

use std::io::Write;
use std::time::Duration;

use async_trait::async_trait;
use sha2::{Digest, Sha256};
use shardlift_domain::spec::Spec;
use shardlift_domain::verdict::Saved;
use tokio::time::Instant;

use super::format::hex;
use super::manifest::{FORM, Manifest, Object, Part};
use super::shelf::Shelf;
use super::{Beside, Saving, Subject, failed};
use crate::engine::EngineResult;
use crate::lease::TaskLease;

/// Fast, and small enough: rows of text shrink to a third.
const LEVEL: i32 = 3;
/// How often it is told how far a backup is.
const TELL_EVERY: Duration = Duration::from_millis(250);

/// Where it is said how far a backup is; `false`: nobody takes it now.
pub type Told = Box<dyn Fn(Saved) -> bool + Send + Sync>;

/// A backup that is being written by one hand-out.
pub struct Parts<'a> {
    shelf: &'a Shelf,
    lease: &'a TaskLease,
    told: Told,
    next_word: Instant,
    began: String,
    subject: Option<Subject>,
    beside: Vec<Object>,
    done: Vec<Part>,
    open: Option<Open>,
    saved: Saved,
}

/// The part that is in memory.
struct Open {
    encoder: zstd::stream::write::Encoder<'static, Vec<u8>>,
    content: Sha256,
    rows: u64,
    bytes: u64,
}

impl<'a> Parts<'a> {
    /// Nothing is written yet.
    pub fn new(shelf: &'a Shelf, lease: &'a TaskLease, told: Told) -> Self {
        Self {
            shelf,
            lease,
            told,
            next_word: Instant::now(),
            began: now(),
            subject: None,
            beside: Vec::new(),
            done: Vec::new(),
            open: None,
            saved: Saved::default(),
        }
    }

    /// Writes the last part; answers what makes it a backup once it is published.
    pub async fn finish(mut self, spec: &Spec) -> EngineResult<Manifest> {
        let Some(subject) = self.subject.take() else {
            return Err(failed("nothing was said of what is to be saved", "report this as a defect"));
        };
        self.close(&subject, subject.format.tail()).await?;
        let label = self.shelf.label().clone();
        Ok(Manifest {
            form: FORM,
            migration: label.migration,
            checksum: spec.checksum.clone(),
            cluster_uuid: label.cluster_uuid,
            cluster: spec.cluster.clone(),
            shard: label.shard,
            engine: spec.engine,
            began: self.began,
            ended: now(),
            token: self.lease.token(),
            subject,
            beside: self.beside,
            parts: self.done,
        })
    }

    async fn put(&self, name: String, bytes: Vec<u8>) -> EngineResult<Object> {
        // What a fenced worker writes harms nobody, but it need not go on.
        self.lease.check()?;
        let object = Object { name, bytes: bytes.len() as u64, sha256: hex(&Sha256::digest(&bytes)) };
        self.shelf.put(self.lease.token(), &object.name, bytes).await?;
        Ok(object)
    }

    async fn close(&mut self, subject: &Subject, tail: &[u8]) -> EngineResult<()> {
        let Some(mut open) = self.open.take() else { return Ok(()) };
        open.encoder.write_all(tail).map_err(unwritable)?;
        let compressed = open.encoder.finish().map_err(unwritable)?;
        fail::fail_point!("backup-before-part", |_| std::process::abort());
        let object = self.put(format!("{}.zst.{:06}", subject.stem, self.done.len() + 1), compressed).await?;
        let content_sha256 = hex(&open.content.finalize());
        self.done.push(Part { object, rows: open.rows, content_bytes: open.bytes, content_sha256 });
        Ok(())
    }

    fn tell(&mut self) {
        let now = Instant::now();
        if now >= self.next_word && (self.told)(self.saved) {
            self.next_word = now + TELL_EVERY;
        }
    }
}

#[async_trait]
impl Saving for Parts<'_> {
    async fn begin(&mut self, subject: Subject, beside: Vec<Beside>) -> EngineResult<()> {
        for file in beside {
            let object = self.put(file.name, file.content).await?;
            self.beside.push(object);
        }
        self.open = Some(Open::new(subject.format.head())?);
        self.subject = Some(subject);
        Ok(())
    }

    async fn rows(&mut self, bytes: &[u8], rows: u64) -> EngineResult<()> {
        let full = self.open.as_ref().is_none_or(|open| open.bytes >= self.shelf.part_bytes() as u64);
        if let Some(subject) = self.subject.clone().filter(|_| full) {
            self.close(&subject, &[]).await?;
            self.open = Some(Open::new(&[])?);
        }
        if let Some(open) = &mut self.open {
            open.add(bytes, rows)?;
        }
        self.saved.rows += rows;
        self.saved.bytes += bytes.len() as u64;
        self.tell();
        Ok(())
    }
}

impl Open {
    fn new(head: &[u8]) -> EngineResult<Self> {
        let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), LEVEL).map_err(unwritable)?;
        encoder.write_all(head).map_err(unwritable)?;
        Ok(Self { encoder, content: Sha256::new(), rows: 0, bytes: 0 })
    }

    fn add(&mut self, bytes: &[u8], rows: u64) -> EngineResult<()> {
        self.encoder.write_all(bytes).map_err(unwritable)?;
        self.content.update(bytes);
        self.rows += rows;
        self.bytes += bytes.len() as u64;
        Ok(())
    }
}

fn unwritable(error: std::io::Error) -> crate::engine::EngineError {
    failed(format!("rows cannot be compressed: {error}"), "report this as a defect, with the worker's log")
}

fn now() -> String {
    shardlift_runtime::clock::now().to_rfc3339_opts(chrono::SecondsFormat::Secs, true)
}
