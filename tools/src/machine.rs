//! What this machine must have, and whether it has it. Probes are file look-ups: fast when everything is there.

use std::path::{Path, PathBuf};

use crate::{Failure, apt, mongod};

/// For what the machine is needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum For {
    /// Compiling the workspace.
    Build,
    /// Compiling it, and starting real servers.
    Servers,
}

/// Something to have, and the Debian packages that bring it.
struct Need {
    packages: &'static [&'static str],
    present: fn() -> bool,
}

const TO_BUILD: [Need; 4] = [
    Need { packages: &["gcc", "libc6-dev"], present: || on_path("cc").or_else(|| on_path("gcc")).is_some() },
    Need { packages: &["make"], present: || on_path("make").is_some() },
    Need { packages: &["protobuf-compiler"], present: || protoc().is_some() },
    // etcd-client imports the well-known types, which come in a package of their own.
    Need { packages: &["libprotobuf-dev"], present: well_known_protos },
];

const TO_SERVE: [Need; 3] = [
    Need { packages: &["postgresql"], present: postgres },
    Need { packages: &["etcd-server"], present: || on_path("etcd").is_some() },
    Need { packages: &["etcd-client"], present: || on_path("etcdctl").is_some() },
];

/// Where the packages are called otherwise, as in Ubuntu, any `chromedriver` on PATH with its browser will do.
const TO_BROWSE: [Need; 1] =
    [Need { packages: &["chromium", "chromium-driver"], present: || on_path("chromedriver").is_some() }];

/// Debian's package; its programs are called past the wrappers on PATH, which want to be root.
const TO_TELL: [Need; 1] = [Need {
    packages: &["rabbitmq-server"],
    present: || Path::new("/usr/lib/rabbitmq/bin/rabbitmq-server").is_file() && on_path("epmd").is_some(),
}];

/// Installs what is missing. Returns the path of `mongod` when servers are to be started.
pub(crate) fn prepare(purpose: For) -> Result<Option<PathBuf>, Failure> {
    let mut packages = missing(&TO_BUILD);
    if purpose == For::Build {
        apt::install(&packages)?;
        return Ok(None);
    }
    packages.extend(missing(&TO_SERVE));
    let found = mongod::find()?;
    if found.is_none() {
        packages.extend(mongod::packages_to_get_it());
    }
    apt::install(&packages)?;
    let mongod = match found {
        Some(path) => path,
        None => mongod::download()?,
    };
    mongod::check(&mongod)?;
    Ok(Some(mongod))
}

/// A browser with its driver. Unlike everything else one can do without it: see who calls this.
pub(crate) fn prepare_browser() -> Result<(), Failure> {
    apt::install(&missing(&TO_BROWSE))
}

/// A message broker. One can do without it as without a browser.
pub(crate) fn prepare_broker() -> Result<(), Failure> {
    apt::install(&missing(&TO_TELL))
}

fn missing(needs: &[Need]) -> Vec<&'static str> {
    needs.iter().filter(|need| !(need.present)()).flat_map(|need| need.packages).copied().collect()
}

/// A program on PATH.
pub(crate) fn on_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|dir| dir.join(name)).find(|file| file.is_file())
}

fn protoc() -> Option<PathBuf> {
    std::env::var_os("PROTOC").map(PathBuf::from).or_else(|| on_path("protoc"))
}

fn well_known_protos() -> bool {
    let beside = protoc().and_then(|protoc| Some(protoc.parent()?.parent()?.join("include")));
    let given = std::env::var_os("PROTOC_INCLUDE").map(PathBuf::from);
    let usual = PathBuf::from("/usr/include");
    let mut dirs = beside.into_iter().chain(given).chain([usual]);
    dirs.any(|dir| dir.join("google/protobuf/descriptor.proto").is_file())
}

fn postgres() -> bool {
    if let Some(dir) = std::env::var_os("SHARDLIFT_PG_BIN") {
        return has_server(Path::new(&dir));
    }
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let on_path = on_path("postgres").and_then(|program| Some(program.parent()?.to_owned()));
    versions.map(|version| version.path().join("bin")).chain(on_path).any(|dir| has_server(&dir))
}

fn has_server(dir: &Path) -> bool {
    dir.join("postgres").is_file() && dir.join("initdb").is_file()
}
