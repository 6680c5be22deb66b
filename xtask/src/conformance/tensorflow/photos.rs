//! The validation photos as TensorFlow's image classifiers take them.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::conformance::context::Context;
use crate::error::Result;
use crate::workspace;

/// Number of the first class of photos: before it comes the background.
const FIRST_CLASS: &str = "1";

/// Arrays of photos and labels.
pub(super) struct Photos {
    /// The photos, one in each row.
    pub(super) data: PathBuf,
    /// Their classes.
    pub(super) labels: PathBuf,
    /// How many.
    pub(super) count: usize,
}

/// What `prepare_photos.py` prints.
#[derive(Deserialize)]
struct Prepared {
    images: usize,
}

impl Photos {
    /// Preprocesses the validation photos, unless a former run has done so.
    ///
    /// # Errors
    ///
    /// If the script fails.
    pub(super) fn prepare(context: &Context, shared: &Path) -> Result<Self> {
        let folder = context.cache("tensorflow-photos");
        let mut script = context.script("tensorflow/prepare_photos.py");
        script.arg("--images").arg(shared.join("images/val")).arg("--out").arg(&folder);
        let prepared: Prepared = workspace::json(script.args(["--first-class", FIRST_CLASS]))?;
        Ok(Self { data: folder.join("x.npy"), labels: folder.join("labels.npy"), count: prepared.images })
    }
}
