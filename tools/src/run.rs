//! demo, bench, servers: prepare the machine, build, and become the program.

use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use crate::cargo::Cargo;
use crate::machine::{self, For};
use crate::{Failure, help};

/// The programs that the product consists of.
const PRODUCT: [&str; 6] =
    ["--package", "shardlift-coordinator", "--package", "shardlift-worker", "--package", "shardlift-client"];
const HARNESS: [&str; 2] = ["--package", "shardlift-harness"];
const BENCHES: [&str; 2] = ["--package", "shardlift-benches"];

pub(crate) fn demo(args: &[&str]) -> Result<ExitCode, Failure> {
    become_program("debug", &[&PRODUCT[..], &HARNESS].concat(), "shardlift-demo", args)
}

pub(crate) fn bench(args: &[&str]) -> Result<ExitCode, Failure> {
    become_program("release", &[&PRODUCT[..], &BENCHES].concat(), "shardlift-bench", args)
}

pub(crate) fn servers(args: &[&str]) -> Result<ExitCode, Failure> {
    if !args.is_empty() {
        help::of("servers")?;
        return Ok(ExitCode::from(2));
    }
    become_program("debug", &HARNESS, "shardlift-servers", args)
}

/// Returns only when it fails: the program takes the place of this process, so that its exit code and Ctrl-C are its
/// own affair.
fn become_program(
    profile: &str,
    packages: &[&str],
    program: &str,
    args: &[&str],
) -> Result<ExitCode, Failure> {
    let cargo = Cargo::find()?;
    let mongod = machine::prepare(For::Servers)?;
    let release: &[&str] = if profile == "release" { &["--release"] } else { &[] };
    cargo.run(&[&["build", "--bins"], release, packages].concat())?;
    let bin_dir = cargo.bin_dir(profile);
    let mut command = Command::new(bin_dir.join(program));
    command
        .args(args)
        .current_dir(cargo.root())
        .env("SHARDLIFT_BIN_DIR", &bin_dir)
        .env("RUST_BACKTRACE", "0");
    if let Some(mongod) = mongod {
        command.env("SHARDLIFT_MONGOD", mongod);
    }
    Err(format!("cannot run {}: {}", bin_dir.join(program).display(), command.exec()))
}
