//! Compiles the schema of ONNX with a second compiler, for a reader that shares no code with ours.

use std::error::Error;
use std::path::Path;

fn main() -> Result<(), Box<dyn Error>> {
    let schemas = Path::new("../proto");
    let schema = schemas.join("onnx.proto");
    println!("cargo:rerun-if-changed={}", schema.display());
    println!("cargo:rerun-if-changed=build.rs");
    protobuf_codegen::Codegen::new().pure().include(schemas).input(schema).cargo_out_dir("second").run()?;
    Ok(())
}
