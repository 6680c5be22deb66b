//! Opening a model of any format for inspection, with the rules of its target.

use crate::caffe::{CaffeFiles, CaffeModel, FileOptions, recipe as caffe_recipe};
use crate::error::Error;
use crate::model::Model;
use crate::onnx::{OnnxModel, recipe as onnx_recipe};
use crate::options::TargetOptions;
use quantize_ir::Recipe;
use quantize_onnx::Header;
use std::path::PathBuf;

/// The files of a model.
#[derive(Clone, Debug, PartialEq)]
pub enum ModelFiles {
    /// An ONNX model.
    Onnx(PathBuf),
    /// A Caffe network.
    Caffe(CaffeFiles),
}

/// An inspection.
#[derive(Clone, Debug, PartialEq)]
pub struct InspectOptions {
    /// The model.
    pub model: ModelFiles,
    /// The kind of ONNX model that would be written.
    pub target: TargetOptions,
    /// Names or glob patterns of nodes that would stay as they are.
    pub skip: Vec<String>,
    /// Shapes of inputs by name, for inputs that leave extents open.
    pub shapes: Vec<(String, Vec<usize>)>,
}

/// A model with what its file says and the rules of its target.
pub(super) struct Opened {
    pub(super) model: Model,
    pub(super) format: String,
    pub(super) opsets: Vec<(String, i64)>,
    pub(super) producer: String,
    pub(super) recipe: Box<dyn Recipe>,
    /// Whether the target's runtime has integer kernels for such codes.
    pub(super) has_kernels: bool,
}

impl Opened {
    pub(super) fn open(options: &InspectOptions) -> Result<Self, Error> {
        match &options.model {
            ModelFiles::Onnx(path) => Self::onnx(OnnxModel::open(path)?, &options.target),
            ModelFiles::Caffe(files) => Ok(Self::caffe(CaffeModel::open(files)?)),
        }
    }

    fn onnx(onnx: OnnxModel, target: &TargetOptions) -> Result<Self, Error> {
        let Header { ir_version, opsets, producer, functions } = onnx.document.header()?;
        let recipe = onnx_recipe(target)?;
        let own = if functions == 0 { String::new() } else { format!(", {functions} operators of its own") };
        Ok(Self {
            model: onnx.model,
            format: format!("ONNX, IR version {ir_version}{own}"),
            opsets,
            producer,
            recipe: Box::new(recipe),
            has_kernels: recipe.runs_on_integers(),
        })
    }

    fn caffe(caffe: CaffeModel) -> Self {
        let recipe = Box::new(caffe_recipe(&caffe, &FileOptions::default()));
        let (opsets, producer) = (Vec::new(), String::new());
        Self { model: caffe.model, format: "Caffe".to_owned(), opsets, producer, recipe, has_kernels: true }
    }
}
