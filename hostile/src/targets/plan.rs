//! Plan files: reading, and matching with the model they were made for.

use crate::error::{Error, Result, at};
use crate::seeds;
use crate::target::Seed;
use quantize_pipeline::{
    DataOptions, Model, PreparationOptions, PreprocessOptions, QuantizeOptions, Sampling, Silent, TargetOptions,
    check_plan, quantize_onnx,
};
use std::fs;
use std::path::Path;
use std::sync::OnceLock;

/// The model of all plans; relative to the root of the source tree.
const MODEL: &str = "tests/fixtures/models/tiny_classifier.onnx";
const IMAGES: &str = "tests/fixtures/images";

/// The plan of a small model, on all of its nodes and on some.
pub(super) fn files() -> Result<Vec<Seed>> {
    let folder = tempfile::tempdir().map_err(at(Path::new("temporary folder")))?;
    let mut made = Vec::new();
    for (name, skip) in [("whole", Vec::new()), ("without a node", vec!["pointwise".to_owned()])] {
        let path = folder.path().join("plan.json");
        let mut options = QuantizeOptions {
            model: seeds::path(MODEL),
            output: folder.path().join("int8.onnx"),
            data: Some(DataOptions {
                paths: vec![seeds::path(IMAGES)],
                sampling: Sampling { size: Some(2), ..Sampling::default() },
                preparation: PreparationOptions::Pillow(PreprocessOptions::default()),
            }),
            emit_plan: Some(path.clone()),
            threads: 1,
            ..QuantizeOptions::default()
        };
        options.recipe.skip = skip;
        let done = quantize_onnx(&options, &Silent);
        done.map_err(|error| Error::Seed { name: name.to_owned(), cause: error.to_string() })?;
        made.push(Seed::made(name, fs::read(&path).map_err(at(&path))?));
    }
    Ok(made)
}

/// Reads a plan and matches it with its model.
pub(super) fn read(_: &Seed, bytes: Vec<u8>) -> std::result::Result<(), String> {
    static MODELS: OnceLock<std::result::Result<Model, String>> = OnceLock::new();
    let model = MODELS.get_or_init(|| Model::open_onnx(seeds::path(MODEL)).map_err(|error| error.to_string()));
    let model = model.as_ref().map_err(Clone::clone)?;
    check_plan(model, &TargetOptions::default(), Path::new("damaged.json"), &bytes).map_err(|error| error.to_string())
}
