//! Compiles the coordinator again when a table of its store is added: the tables are embedded in the program. Takes the
//! pages of the errors (`docs/errors`) into it as well, so that a coordinator can show what its codes mean.

use std::{env, error::Error, fmt::Write, fs, path::PathBuf};

#[allow(
    clippy::disallowed_methods,
    reason = "cargo tells a build script by the environment where to read and write"
)]
fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=../migrations/metadata");
    let folder = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?).join("../docs/errors");
    println!("cargo::rerun-if-changed={}", folder.display());
    let mut pages: Vec<PathBuf> =
        fs::read_dir(&folder)?.map(|entry| Ok(entry?.path())).collect::<std::io::Result<_>>()?;
    pages.sort();
    let mut table = "&[\n".to_owned();
    for page in pages.iter().filter(|page| page.extension().is_some_and(|ending| ending == "md")) {
        let code = page.file_stem().and_then(|name| name.to_str()).unwrap_or_default();
        let path = page.canonicalize()?;
        writeln!(table, "    ({code:?}, include_str!({:?})),", path.display().to_string())?;
    }
    table.push_str("]\n");
    fs::write(PathBuf::from(env::var("OUT_DIR")?).join("error_pages.rs"), table)?;
    Ok(())
}
