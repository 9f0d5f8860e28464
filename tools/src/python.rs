//! A Python with what scenarios of strangers need: stock gRPC, and a tester of REST APIs. It is a tool of the tests: never
//! shipped.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::{Failure, apt, mongod};

/// What is installed, in these versions.
const PACKAGES: [&str; 3] = ["grpcio==1.85.3", "grpcio-tools==1.85.1", "schemathesis==4.32.5"];
/// Another one whenever the list changes.
const NAME: &str = "python-1";

/// The interpreter, made if it is not there. Two may do this at once: each works in a directory of its own, and the first to
/// rename it wins.
pub(crate) fn prepare() -> Result<PathBuf, Failure> {
    let cache = mongod::cache_dir()?;
    let home = cache.join(NAME);
    let python = interpreter(&home);
    if works(&python) {
        return Ok(python);
    }
    if !quiet(Command::new("python3").args(["-c", "import ensurepip, venv"])) {
        apt::install(&["python3", "python3-venv"])?;
    }
    let work = cache.join(format!(".{NAME}-{}", std::process::id()));
    eprintln!("getting {} from the Python package index into {} (once)", PACKAGES.join(", "), home.display());
    let made = install(&work).and_then(|()| {
        // What is there does not work, or is the work of another run: both may go.
        let _ = std::fs::remove_dir_all(&home);
        std::fs::rename(&work, &home).map_err(|error| format!("cannot make {}: {error}", home.display()))
    });
    if made.is_err() {
        let _ = std::fs::remove_dir_all(&work);
    }
    if works(&python) { Ok(python) } else { Err(made.err().unwrap_or_else(|| "it does not run".to_owned())) }
}

fn install(work: &Path) -> Result<(), Failure> {
    run(Command::new("python3").args(["-m", "venv"]).arg(work))?;
    let options = ["-m", "pip", "install", "--no-input", "--disable-pip-version-check", "--quiet"];
    run(Command::new(interpreter(work)).args(options).args(PACKAGES))
}

/// A virtual environment is run by its interpreter, wherever it was moved to.
fn interpreter(home: &Path) -> PathBuf {
    home.join("bin").join("python")
}

fn works(python: &Path) -> bool {
    python.is_file() && quiet(Command::new(python).args(["-c", "import grpc, grpc_tools, schemathesis"]))
}

fn quiet(command: &mut Command) -> bool {
    let status = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
    status.is_ok_and(|status| status.success())
}

fn run(command: &mut Command) -> Result<(), Failure> {
    match command.stdin(Stdio::null()).status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("{command:?} failed ({status})")),
        Err(error) => Err(format!("cannot run {command:?}: {error}")),
    }
}
