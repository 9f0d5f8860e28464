//! Compiles the protos without a system `protoc`, and keeps their descriptors for reflection.

use std::{env, error::Error, fs, path::PathBuf};

#[allow(clippy::disallowed_methods, reason = "cargo tells a build script by the environment where to write")]
fn main() -> Result<(), Box<dyn Error>> {
    let files = ["common", "fleet", "migration", "cluster", "rehearsal", "unique"]
        .map(|name| format!("shardlift/v1/{name}.proto"));
    println!("cargo::rerun-if-changed=shardlift");
    let descriptors = protox::compile(&files, ["."])?;
    let bytes = protox::prost_reflect::prost::Message::encode_to_vec(&descriptors);
    fs::write(PathBuf::from(env::var("OUT_DIR")?).join("shardlift.bin"), bytes)?;
    tonic_prost_build::configure().compile_fds(descriptors)?;
    Ok(())
}
