//! Where the ONNX models come from: the test data of the onnx package and the fixtures of the repository.

use std::path::PathBuf;

use serde::Deserialize;

use crate::conformance::context::Context;
use crate::conformance::files::files;
use crate::error::{Error, Result};
use crate::workspace;

/// What `wheel_models.py` prints.
#[derive(Deserialize)]
pub(crate) struct WheelModels {
    /// Every model in the onnx wheel.
    pub(crate) models: Vec<PathBuf>,
    /// The whole networks among them.
    pub(crate) light: Vec<PathBuf>,
}

impl WheelModels {
    /// Asks the onnx package for its models.
    ///
    /// # Errors
    ///
    /// If the script fails or a list is empty.
    pub(crate) fn find(context: &Context) -> Result<Self> {
        let found: Self = workspace::json(&mut context.script("onnx/wheel_models.py"))?;
        if found.models.is_empty() || found.light.is_empty() {
            return Err(Error::NothingToCheck { what: "the models in the test data of the onnx package" });
        }
        Ok(found)
    }
}

/// The small networks of the repository's tests.
///
/// # Errors
///
/// If there are none.
pub(super) fn tiny_models() -> Result<Vec<PathBuf>> {
    let folder = workspace::root().join("tests/fixtures/models");
    let models = files(&folder, |name| name.starts_with("tiny_") && name.ends_with(".onnx"))?;
    if models.is_empty() {
        Err(Error::NothingToCheck { what: "tests/fixtures/models/tiny_*.onnx" })
    } else {
        Ok(models)
    }
}
