//! Runs cargo on the workspace, and knows where it puts what it builds.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::Failure;

/// The workspace and its target directory.
#[derive(Debug)]
pub(crate) struct Cargo {
    root: PathBuf,
    target: PathBuf,
}

impl Cargo {
    /// Finds both from where this program itself lies and was built.
    pub(crate) fn find() -> Result<Self, Failure> {
        let tools =
            std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
        let root =
            Path::new(&tools).parent().ok_or("the workspace is the root of the file system")?.to_owned();
        // TARGET/debug/xtask: right whatever way cargo was told its target directory.
        let executable = std::env::current_exe().map_err(|error| format!("where am I? {error}"))?;
        let profile = executable.parent().filter(|dir| dir.ends_with("debug"));
        let target = profile.and_then(Path::parent).map_or_else(|| root.join("target"), Path::to_owned);
        Ok(Self { root, target })
    }

    /// The directory of the workspace's `Cargo.toml`.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Where the programs are: `debug` or `release`.
    pub(crate) fn bin_dir(&self, profile: &str) -> PathBuf {
        self.target.join(profile)
    }

    /// `cargo ARGS` in the workspace, as if this program had not been run by cargo: the variables that `cargo run` sets
    /// would make build scripts that watch them run again.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut command = Command::new(cargo);
        command.args(args).current_dir(&self.root).env("CARGO_TARGET_DIR", &self.target);
        let ours =
            |key: &str| ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_"].iter().any(|p| key.starts_with(p));
        for (key, _) in std::env::vars_os() {
            if key.to_str().is_some_and(ours) {
                command.env_remove(key);
            }
        }
        command
    }

    /// Runs `cargo ARGS`; its output goes to the terminal.
    pub(crate) fn run(&self, args: &[&str]) -> Result<(), Failure> {
        match self.command(args).status() {
            Ok(status) if status.success() => Ok(()),
            Ok(_) => Err(format!("cargo {} failed", args.join(" "))),
            Err(error) => Err(format!("cannot run cargo: {error}")),
        }
    }
}
