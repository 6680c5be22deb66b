//! Opening a model of any format for inspection, with the rules of its target.

use crate::caffe::{CaffeModel, FileOptions, recipe as caffe_recipe};
use crate::error::Error;
use crate::model::{Model, ModelFiles};
use crate::onnx::{OnnxModel, recipe as onnx_recipe};
use crate::options::TargetOptions;
use quantize_caffe::xfdnn::XfdnnRecipe;
use quantize_ir::{Node, Recipe};
use quantize_onnx::{Header, OnnxDocument, OnnxRecipe};
use quantize_tensorflow::TensorflowRecipe;
use std::sync::Arc;

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
    pub(super) rules: Rules,
}

/// The rules of a target, with the document they are for.
pub(super) enum Rules {
    Onnx(OnnxRecipe, Arc<OnnxDocument>),
    Caffe(Box<XfdnnRecipe>),
    Tensorflow(TensorflowRecipe),
}

impl Rules {
    pub(super) fn recipe(&self) -> &dyn Recipe {
        match self {
            Self::Onnx(recipe, _) => recipe,
            Self::Caffe(recipe) => recipe.as_ref(),
            Self::Tensorflow(recipe) => recipe,
        }
    }

    /// Whether the target's runtime has integer kernels for such codes.
    pub(super) fn has_kernels(&self) -> bool {
        match self {
            Self::Onnx(recipe, _) => recipe.runs_on_integers(),
            Self::Caffe(_) | Self::Tensorflow(_) => true,
        }
    }

    /// The operator of the document's node that `node` is a part of; `None` where nodes are whole.
    pub(super) fn operator_of_part(&self, node: &Node) -> Option<String> {
        match self {
            Self::Onnx(_, document) if node.origin.source().is_none() => document.operator(node),
            _ => None,
        }
    }
}

impl Opened {
    pub(super) fn open(options: &InspectOptions) -> Result<Self, Error> {
        match &options.model {
            ModelFiles::Onnx(path) => Self::onnx(OnnxModel::open(path)?, &options.target),
            ModelFiles::Caffe(files) => Ok(Self::caffe(CaffeModel::open(files)?)),
            ModelFiles::Tensorflow(files) => Ok(Self::tensorflow(Model::open_tensorflow(files)?)),
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
            rules: Rules::Onnx(recipe, onnx.document),
        })
    }

    fn tensorflow(model: Model) -> Self {
        let (opsets, producer) = (Vec::new(), String::new());
        Self {
            model,
            format: "TensorFlow".to_owned(),
            opsets,
            producer,
            rules: Rules::Tensorflow(TensorflowRecipe::default()),
        }
    }

    fn caffe(caffe: CaffeModel) -> Self {
        let rules = Rules::Caffe(Box::new(caffe_recipe(&caffe, &FileOptions::default())));
        let (opsets, producer) = (Vec::new(), String::new());
        Self { model: caffe.model, format: "Caffe".to_owned(), opsets, producer, rules }
    }
}
