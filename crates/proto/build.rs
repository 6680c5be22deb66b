//! Compiles the schemas of the top-level `proto` folder to Rust, without `protoc`.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::{env, fs};

use prost::Message;

/// Schemas to compile; each becomes one module named after its package.
const SCHEMAS: [&str; 1] = ["onnx.proto"];

fn main() -> Result<(), Box<dyn Error>> {
    let manifest = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?);
    let schema_folder = manifest.join("../../proto");
    announce_inputs(&schema_folder);

    let descriptors = protox::compile(SCHEMAS, [&schema_folder])?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out.join("descriptors.bin"), descriptors.encode_to_vec())?;

    let mut config = prost_build::Config::new();
    config.btree_map(["."]);
    config.compile_fds(descriptors)?;
    Ok(())
}

fn announce_inputs(schema_folder: &Path) {
    for schema in SCHEMAS {
        println!("cargo:rerun-if-changed={}", schema_folder.join(schema).display());
    }
    println!("cargo:rerun-if-changed=build.rs");
}
