//! One migration through a whole installation, and how long its backfill took.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use shardlift_harness::installation::Installation;

/// How often the checkpoints are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// A run that takes longer is broken.
const WITHIN: Duration = Duration::from_secs(600);

/// How far the ranges of a migration are.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Ranges {
    /// How many there are.
    pub(crate) all: i64,
    /// How many were claimed.
    pub(crate) claimed: i64,
    /// How many are done.
    pub(crate) done: i64,
    /// Batches over all of them.
    pub(crate) batches: i64,
    /// Whether a verification has walked over all before-images; `None`: none has begun.
    pub(crate) walked: Option<bool>,
}

/// What one migration took.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Took {
    /// From `apply` to the first committed batch.
    pub(crate) first_batch: Duration,
    /// From the first claim to the last range's end.
    pub(crate) backfill: Duration,
    /// The walk of a verification over all before-images, if the spec asks for one.
    pub(crate) walk: Duration,
}

/// Applies one spec and watches its checkpoints by `look`, which asks the shard.
pub(crate) async fn apply(
    installation: &Installation,
    id: &str,
    spec: &str,
    mut look: impl AsyncFnMut() -> Result<Ranges>,
) -> Result<Took> {
    let folder = write(installation, id, spec)?;
    let began = Instant::now();
    let path = folder.display().to_string();
    let command = ["apply", &path, "--yes", "--no-watch"];
    let applying = installation.cli(&command);
    let walks = spec.contains("verify:");
    let watching = async {
        let (mut claimed, mut first, mut backfill, mut walk) = (None, None, None, None);
        loop {
            let ranges = look().await?;
            if ranges.claimed > 0 {
                claimed.get_or_insert_with(Instant::now);
            }
            if ranges.batches > 0 {
                first.get_or_insert_with(Instant::now);
            }
            if let (Some(claimed), Some(first), true) =
                (claimed, first, ranges.all > 0 && ranges.all == ranges.done)
            {
                let backfill = *backfill.get_or_insert_with(|| claimed.elapsed());
                let walking = ranges.walked.map(|_| *walk.get_or_insert_with(Instant::now));
                if !walks || ranges.walked == Some(true) {
                    let walk = walking.map(|began| began.elapsed()).unwrap_or_default();
                    return Ok(Took { first_batch: first - began, backfill, walk });
                }
            }
            ensure!(began.elapsed() < WITHIN, "{id} did not end: {}", installation.status(id).await?);
            tokio::time::sleep(LOOK_EVERY).await;
        }
    };
    let (applied, took) = tokio::join!(applying, watching);
    let applied = applied?;
    ensure!(applied.code == Some(0), "apply was refused: {}{}", applied.stdout, applied.stderr);
    let took = took?;
    installation.wait_status(id, "completed", WITHIN).await?;
    Ok(took)
}

/// A directory with this one spec.
pub(crate) fn write(installation: &Installation, id: &str, spec: &str) -> Result<PathBuf> {
    let folder = installation.directory().join(id);
    fs::create_dir_all(&folder)?;
    fs::write(folder.join(format!("{id}.yaml")), spec).context("cannot write the spec")?;
    Ok(folder)
}
