//! Saving what a migration is about to change: all rows into the object store, some of them back to see that they can be
//! restored, then the manifest. Nothing of the shard changes before that.

use shardlift_domain::ids::Checksum;
use shardlift_domain::verdict::Saved;
use shardlift_domain::{ErrorCode, Failure};

use super::{News, Receipts};
use crate::backup::format::RowsDigest;
use crate::backup::manifest::Manifest;
use crate::backup::{Parts, Shelf, damaged, failed, review};
use crate::engine::{DataJob, EngineError, EngineResult, ShardEngine};
use crate::lease::TaskLease;

/// What is told by its own code: it is about the backup already, or about the worker.
const ELSEWHERE: [ErrorCode; 4] =
    [ErrorCode::BackupFailed, ErrorCode::BackupDamaged, ErrorCode::ShardWrongIdentity, ErrorCode::Internal];

/// Makes the backup, unless an earlier hand-out has made it.
pub(super) async fn run(
    lease: &TaskLease,
    engine: &dyn ShardEngine,
    shelf: &Shelf,
    job: &DataJob,
    receipts: Receipts,
) -> EngineResult<Saved> {
    lease.check()?;
    if let Some(manifest) = shelf.manifest().await? {
        return made(engine, shelf, &manifest, &job.spec.checksum).await;
    }
    match write(lease, engine, shelf, job, receipts).await {
        Ok(manifest) => publish(lease, engine, shelf, job, manifest).await,
        Err(error) => {
            // It takes room, perhaps the last of it; what cannot be removed now is removed with the next complete backup.
            if let Err(left) = shelf.discard(lease.token()).await {
                tracing::warn!(place = shelf.place(), why = %left, "parts of a backup that was given up are left");
            }
            Err(told(error))
        }
    }
}

/// What trying again cannot mend is told as what it means here: nothing was saved, and nothing changed.
fn told(error: EngineError) -> EngineError {
    match error {
        EngineError::Row(Failure { code, message, next, .. })
        | EngineError::Failed(Failure { code, message, next, .. })
            if !code.retryable() && !ELSEWHERE.contains(&code) =>
        {
            failed(message, &next)
        }
        error => error,
    }
}

/// An earlier hand-out has made it, and its word was lost: nothing has changed since, for the coordinator still waits for it.
async fn made(
    engine: &dyn ShardEngine,
    shelf: &Shelf,
    manifest: &Manifest,
    checksum: &Checksum,
) -> EngineResult<Saved> {
    if manifest.checksum != *checksum {
        return Err(failed(
            format!("{} holds a backup of another content of this migration", shelf.place()),
            "move it away, or submit the work under another id; then resume",
        ));
    }
    try_sample(engine, shelf, manifest).await?;
    Ok(manifest.saved())
}

async fn write(
    lease: &TaskLease,
    engine: &dyn ShardEngine,
    shelf: &Shelf,
    job: &DataJob,
    receipts: Receipts,
) -> EngineResult<Manifest> {
    let teller = lease.clone();
    let told = move |saved| receipts.try_send((teller.clone(), News::Saved(saved))).is_ok();
    let mut parts = Parts::new(shelf, lease, Box::new(told));
    engine.save(lease, job, &mut parts).await?;
    let manifest = parts.finish(&job.spec).await?;
    fail::fail_point!("backup-before-sample", |_| std::process::abort());
    try_sample(engine, shelf, &manifest).await?;
    Ok(manifest)
}

async fn publish(
    lease: &TaskLease,
    engine: &dyn ShardEngine,
    shelf: &Shelf,
    job: &DataJob,
    manifest: Manifest,
) -> EngineResult<Saved> {
    lease.check()?;
    fail::fail_point!("backup-before-manifest", |_| std::process::abort());
    if !shelf.publish(&manifest).await? {
        let Some(first) = shelf.manifest().await? else {
            return Err(failed(
                format!("the manifest at {} came and went while it was written", shelf.place()),
                "look who else writes there; then resume",
            ));
        };
        // Its own: the answer to the first attempt was lost on the way.
        if first.token != manifest.token {
            // A hand-out that was thought dead was first. Nothing had changed when it wrote its manifest: that is the backup.
            shelf.discard(lease.token()).await?;
            return made(engine, shelf, &first, &job.spec.checksum).await;
        }
    }
    fail::fail_point!("backup-after-manifest", |_| std::process::abort());
    // Whoever else wrote parts can never be named by a manifest any more.
    if let Err(left) = shelf.keep_only(manifest.token).await {
        tracing::warn!(place = shelf.place(), why = %left, "parts of earlier hand-outs are left");
    }
    Ok(manifest.saved())
}

/// Restores some parts in the shard, reads them back, and leaves nothing there.
async fn try_sample(engine: &dyn ShardEngine, shelf: &Shelf, manifest: &Manifest) -> EngineResult<()> {
    for index in review::sample(manifest.parts.len()) {
        let rows = review::rows(shelf, manifest, index).await?;
        let name = &manifest.parts[index].object.name;
        let wrong = |what: String| damaged(shelf.place(), format!("{name} {what}"));
        let saved = manifest.subject.format.split(&rows).map_err(|torn| wrong(torn.to_string()))?;
        let (saved, count) = (RowsDigest::of(saved.iter().copied()), saved.len() as u64);
        if count != manifest.parts[index].rows {
            return Err(wrong(format!("has {count} rows instead of {}", manifest.parts[index].rows)));
        }
        let restored = engine.try_out(&manifest.subject, &rows).await;
        let restored = restored.map_err(|error| refused(error, name))?;
        if restored != saved {
            let RowsDigest { rows: back, .. } = restored;
            return Err(wrong(format!(
                "was restored, and of {count} rows {back} came back, or not as they were"
            )));
        }
    }
    Ok(())
}

/// A row that the database itself gave, and does not take.
fn refused(error: EngineError, part: &str) -> EngineError {
    match error {
        EngineError::Row(Failure { message, .. }) => failed(
            format!("{part} cannot be restored: {message}"),
            "mend the rows that the database does not take any more, then resume",
        ),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use shardlift_domain::migration::Step;
    use tempfile::TempDir;
    use tokio::sync::mpsc;

    use super::*;
    use crate::backup::Vault;
    use crate::config::{BackupConfig, StoreConfig};
    use crate::engine::Job;
    use crate::engine::testing::{Memory, ROWS_SAVED, file, pulse, task, token};
    use crate::executor::job;

    async fn shelf(home: &TempDir) -> Shelf {
        let store = StoreConfig::Directory(home.path().to_owned());
        let task = task(Step::Backup);
        let vault = Vault::new(BackupConfig { store, part_bytes: 4096 });
        vault.shelf("uuid", &task.shard, &task.migration).await.expect("a directory")
    }

    fn lease(attempt: u32) -> TaskLease {
        pulse(Duration::from_secs(600)).grant(task(Step::Backup), token(attempt))
    }

    fn data(more: &str) -> DataJob {
        match job(&file(more)) {
            Ok(Job::Data(job)) => job,
            _ => panic!("a data spec"),
        }
    }

    async fn saved(shelf: &Shelf, attempt: u32, job: &DataJob) -> EngineResult<Saved> {
        let (receipts, _queue) = mpsc::channel(8);
        run(&lease(attempt), &Memory::new(1, Duration::ZERO), shelf, job, receipts).await
    }

    async fn files(shelf: &Shelf, attempt: u32) -> bool {
        shelf.get(token(attempt), "items.metadata.json").await.expect("the directory is read").is_some()
    }

    #[tokio::test]
    async fn a_backup_is_made_once_and_found_by_later_hand_outs() {
        let home = TempDir::new().expect("a directory");
        let (shelf, job) = (shelf(&home).await, data("backup: table\n"));
        let first = saved(&shelf, 1, &job).await.expect("a backup");
        assert_eq!(first.rows, ROWS_SAVED.unsigned_abs());
        assert_eq!(saved(&shelf, 2, &job).await.expect("the same"), first);
        let manifest = shelf.manifest().await.expect("it is read").expect("it is there");
        assert!(manifest.token == token(1) && manifest.parts.len() > 2, "{manifest:?}");
        assert!(!files(&shelf, 2).await, "nothing was written again");
        let other =
            saved(&shelf, 3, &data("backup: table\nundo: capture\n")).await.expect_err("another content");
        assert_eq!(other.code(), ErrorCode::BackupFailed);
        assert!(shelf.purge().await.expect("removed") > 2);
        assert_eq!(shelf.manifest().await.expect("it is read"), None);
    }

    #[tokio::test]
    async fn whoever_is_late_with_the_manifest_takes_the_first_one_and_leaves_nothing() {
        let home = TempDir::new().expect("a directory");
        let (shelf, job) = (shelf(&home).await, data("backup: table\n"));
        let memory = Memory::new(1, Duration::ZERO);
        let (receipts, _queue) = mpsc::channel(8);
        let late = lease(1);
        let manifest = write(&late, &memory, &shelf, &job, receipts).await.expect("all but the manifest");
        assert!(files(&shelf, 1).await);
        let heir = saved(&shelf, 2, &job).await.expect("a backup");
        assert!(!files(&shelf, 1).await, "what the manifest can never name is removed");
        let told = publish(&late, &memory, &shelf, &job, manifest).await.expect("the heir's");
        assert_eq!(told, heir);
        let there = shelf.manifest().await.expect("it is read").expect("it is there");
        assert_eq!(there.token, token(2));
        let again = publish(&lease(2), &memory, &shelf, &job, there).await.expect("its answer was lost");
        assert!(again == heir && files(&shelf, 2).await, "its own parts are kept");
    }

    #[tokio::test]
    async fn a_part_that_is_spoilt_is_found_and_a_withdrawn_hand_out_writes_no_manifest() {
        let home = TempDir::new().expect("a directory");
        let (shelf, job) = (shelf(&home).await, data("backup: table\n"));
        saved(&shelf, 1, &job).await.expect("a backup");
        let part = "items.bson.zst.000002";
        let mut bytes = shelf.get(token(1), part).await.expect("it is read").expect("it is there");
        bytes[9] ^= 1;
        shelf.put(token(1), part, bytes).await.expect("it is written");
        let found = saved(&shelf, 2, &job).await.expect_err("it is not what was saved");
        assert!(found.code() == ErrorCode::BackupDamaged && found.to_string().contains(part), "{found}");
        shelf.purge().await.expect("removed");
        let (receipts, _queue) = mpsc::channel(8);
        let withdrawn = lease(3);
        withdrawn.withdraw();
        let over = run(&withdrawn, &Memory::new(1, Duration::ZERO), &shelf, &job, receipts).await;
        assert!(matches!(over, Err(EngineError::LeaseLost)), "{over:?}");
        assert_eq!(shelf.manifest().await.expect("it is read"), None);
    }
}
