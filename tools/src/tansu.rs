//! `tansu`, a broker that speaks Kafka's protocol, built from the crate registry: for the long run alone, since that takes a
//! quarter of an hour. It is a tool of the tests: never shipped.

use std::path::PathBuf;
use std::process::Stdio;

use crate::cargo::Cargo;
use crate::{Failure, mongod};

const VERSION: &str = "0.6.0";

/// `$SHARDLIFT_TANSU`, or that of our cache, built if it is not there. A build that was broken off goes on where it was; of two
/// at once one waits for the other, by cargo's own locks.
pub(crate) fn prepare(cargo: &Cargo) -> Result<PathBuf, Failure> {
    if let Some(given) = std::env::var_os("SHARDLIFT_TANSU").map(PathBuf::from) {
        let missing = || format!("SHARDLIFT_TANSU names {}, which is not there", given.display());
        return given.is_file().then(|| given.clone()).ok_or_else(missing);
    }
    let cache = mongod::cache_dir()?;
    let home = cache.join(format!("tansu-{VERSION}"));
    let tansu = home.join("bin").join("tansu");
    if tansu.is_file() {
        return Ok(tansu);
    }
    let target = cache.join(format!(".tansu-{VERSION}-build"));
    std::fs::create_dir_all(&cache).map_err(|error| format!("cannot make {}: {error}", cache.display()))?;
    eprintln!(
        "building tansu {VERSION} from the crate registry into {} (once, a quarter of an hour)",
        home.display()
    );
    let mut command = cargo.command(&["install", "tansu", "--version", VERSION, "--locked", "--root"]);
    // SQLite keeps what it is given over a restart; its other engines would be built for nothing.
    command.arg(&home).args(["--no-default-features", "--features", "dynostore,libsql"]);
    // Settings of this workspace are none of its business.
    command.env("CARGO_TARGET_DIR", &target).current_dir(&cache).stdin(Stdio::null());
    let status = command.status().map_err(|error| format!("cannot run cargo: {error}"))?;
    if !status.success() {
        return Err(format!("tansu {VERSION} could not be built ({status}); cargo's own messages are above"));
    }
    // Some gigabytes. Another run may be at it as well.
    let _ = std::fs::remove_dir_all(&target);
    Ok(tansu)
}
