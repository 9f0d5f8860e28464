//! Where the programs are: servers of the machine, product binaries of the build.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

/// A product binary such as `shardlift-worker`: from `$SHARDLIFT_BIN_DIR`, else beside or above this executable (where
/// cargo puts them). They must have been built before: `cargo build --workspace --bins`.
pub fn product(name: &str) -> Result<PathBuf> {
    if let Some(dir) = std::env::var_os("SHARDLIFT_BIN_DIR") {
        let path = PathBuf::from(dir).join(name);
        if path.is_file() {
            return Ok(path);
        }
        bail!(
            "{} is not there (from SHARDLIFT_BIN_DIR); build it with cargo build --workspace --bins",
            path.display()
        );
    }
    let executable = std::env::current_exe().context("cannot tell where this executable is")?;
    // target/debug/NAME, or target/debug/deps/TEST-hash.
    let found = executable.ancestors().skip(1).take(2).map(|dir| dir.join(name)).find(|path| path.is_file());
    found.with_context(|| {
        format!("no {name} near {}; build it with cargo build --workspace --bins", executable.display())
    })
}

/// The directory of the PostgreSQL server programs: `$SHARDLIFT_PG_BIN`, else the newest of the Debian packages, else
/// that of `postgres` on PATH.
pub fn postgres_dir() -> Result<PathBuf> {
    if let Some(dir) = std::env::var_os("SHARDLIFT_PG_BIN") {
        return Ok(PathBuf::from(dir));
    }
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let newest = versions
        .filter(|entry| entry.path().join("bin/postgres").is_file())
        .filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok())
        .max();
    if let Some(version) = newest {
        return Ok(PathBuf::from(format!("/usr/lib/postgresql/{version}/bin")));
    }
    let postgres =
        on_path("postgres").context("no PostgreSQL server here; cargo xtask servers installs one")?;
    Ok(postgres.parent().unwrap_or(Path::new("/")).to_owned())
}

/// The directory of RabbitMQ's own programs, not of the wrappers that Debian puts on PATH: those want to be root.
pub fn rabbitmq_dir() -> Result<PathBuf> {
    let dir = PathBuf::from("/usr/lib/rabbitmq/bin");
    if !dir.join("rabbitmq-server").is_file() {
        bail!(
            "no RabbitMQ here (/usr/lib/rabbitmq); cargo xtask test installs the Debian package rabbitmq-server"
        );
    }
    Ok(dir)
}

/// `mongod`: `$SHARDLIFT_MONGOD`, else PATH, else where `cargo xtask` keeps it.
pub fn mongod() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("SHARDLIFT_MONGOD") {
        return Ok(PathBuf::from(path));
    }
    let cached = cache_dir().map(|dir| dir.join("mongod-6.0.5/mongod")).filter(|path| path.is_file());
    on_path("mongod")
        .or(cached)
        .context("no mongod here; cargo xtask servers gets one, or set SHARDLIFT_MONGOD")
}

/// `tansu`: `$SHARDLIFT_TANSU`, else where `cargo xtask test --long` keeps it.
pub fn tansu() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("SHARDLIFT_TANSU") {
        return Ok(PathBuf::from(path));
    }
    let cached = cache_dir().map(|dir| dir.join("tansu-0.6.0/bin/tansu")).filter(|path| path.is_file());
    cached.context("no tansu here; cargo xtask test --long builds one, or set SHARDLIFT_TANSU")
}

/// A Python with stock gRPC and a tester of REST APIs: `$SHARDLIFT_PYTHON`, else where `cargo xtask` keeps it.
pub fn python() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("SHARDLIFT_PYTHON") {
        return Ok(PathBuf::from(path));
    }
    let cached = cache_dir().map(|dir| dir.join("python-1/bin/python")).filter(|path| path.is_file());
    cached.context("no Python with the packages of the scenarios here; cargo xtask test gets one, or set SHARDLIFT_PYTHON")
}

/// A program on PATH.
pub fn on_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|dir| dir.join(name)).find(|file| file.is_file())
}

/// `${XDG_CACHE_HOME:-$HOME/.cache}/shardlift`.
pub(crate) fn cache_dir() -> Option<PathBuf> {
    let base = std::env::var_os("XDG_CACHE_HOME").filter(|dir| !dir.is_empty()).map(PathBuf::from);
    let base = base.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache")))?;
    Some(base.join("shardlift"))
}

/// Whether this process is root: then PostgreSQL has to be started as another user.
pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}
