//! Runs `shardlift apply` in this terminal.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;
use shardlift_harness::installation::Installation;
use shardlift_harness::programs;
use shardlift_harness::sandbox::Sandbox;
use tokio::process::Command;
use tokio::time::sleep;

/// Exit code of the command line when the coordinator cannot be reached.
const NOT_REACHABLE: i32 = 6;
const PAUSE: Duration = Duration::from_millis(500);

/// A copy of the example library: the repository's `migrations` also holds the coordinator's own bookkeeping, which is
/// no spec. The copy is the demo's, and a person may change it.
pub(crate) struct Library {
    sandbox: Sandbox,
}

impl Library {
    pub(crate) fn copy(migrations: &Path) -> Result<Self> {
        let sandbox = Sandbox::new("library")?;
        for kind in ["schema", "data"] {
            let (from, to) = (migrations.join(kind), sandbox.path().join("migrations").join(kind));
            copy_directory(&from, &to).with_context(|| {
                format!("cannot copy {}: start the demo in the repository's directory", from.display())
            })?;
        }
        Ok(Self { sandbox })
    }

    fn path(&self) -> PathBuf {
        self.sandbox.path().join("migrations")
    }
}

fn copy_directory(from: &Path, to: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let to = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_directory(&entry.path(), &to)?;
        } else {
            std::fs::copy(entry.path(), &to)?;
        }
    }
    Ok(())
}

/// Applies the library. With `keep` a person may kill what they like meanwhile: then this goes on until the library
/// is applied after all, or they press Ctrl-C.
pub(crate) async fn apply_library(library: &Library, installation: &Installation, keep: bool) -> Result<()> {
    loop {
        println!("\n$ shardlift apply {} --yes", library.path().display());
        // The child shares the terminal, so that its bars are seen, and its Ctrl-C.
        let status = Command::new(programs::product("shardlift")?)
            .arg("apply")
            .arg(library.path())
            .arg("--yes")
            .env("SHARDLIFT_COORDINATOR", installation.urls().join(","))
            .kill_on_drop(true)
            .status()
            .await
            .context("cannot run shardlift")?;
        if status.success() {
            println!();
            return Ok(());
        }
        if !keep {
            bail!("shardlift apply ended with {status}");
        }
        if status.code().is_none_or(|code| code == NOT_REACHABLE) {
            println!("\nshardlift apply ended with {status}: applying again once the coordinator is there");
            while installation.cli_json(&["list"]).await.is_err() {
                sleep(PAUSE).await;
            }
        } else {
            println!(
                "\nshardlift apply ended with {status}: see to it (shardlift list, status, resume, retry);"
            );
            println!("the demo goes on when all migrations are completed");
            while !all_completed(installation).await {
                sleep(PAUSE).await;
            }
        }
    }
}

async fn all_completed(installation: &Installation) -> bool {
    let Ok(list) = installation.cli_json(&["list"]).await else { return false };
    let migrations = list["migrations"].as_array().map(Vec::as_slice).unwrap_or_default();
    let completed = |migration: &Value| migration["status"] == "completed";
    !migrations.is_empty() && migrations.iter().all(completed)
}
