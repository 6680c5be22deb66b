//! TensorFlow's reference data: where it is, and graphs in a form that can be compared.

use quantize_document::Limits;
use quantize_ir::Tensor;
use quantize_tensorflow::{
    DataType, Encoding, GraphDef, NodeDef, PartialShape, ReadOptions, TensorProto, TensorflowDocument, render,
};
use std::path::{Path, PathBuf};

/// The files below `folder` whose names end in one of these suffixes, in the order of their paths.
///
/// # Panics
/// If a folder cannot be read.
#[must_use]
pub fn files(folder: &Path, suffixes: &[&str]) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    paths.sort();
    let is_wanted = |path: &PathBuf| suffixes.iter().any(|suffix| path.to_string_lossy().ends_with(suffix));
    let (folders, found): (Vec<PathBuf>, Vec<PathBuf>) = paths.into_iter().partition(|path| path.is_dir());
    found.into_iter().filter(is_wanted).chain(folders.iter().flat_map(|folder| files(folder, suffixes))).collect()
}

/// Opens a graph.
///
/// # Panics
/// If it cannot be read.
#[must_use]
pub fn open(path: &Path) -> TensorflowDocument {
    TensorflowDocument::open(path, &Limits::default(), &ReadOptions::default())
        .unwrap_or_else(|error| panic!("{error}"))
}

/// A graph as a text in which order of attributes and spelling of numbers mean nothing.
///
/// # Panics
/// If it has a field without a name.
#[must_use]
pub fn canonical(graph: &GraphDef) -> String {
    let text = render(graph, Encoding::Text).unwrap_or_else(|error| panic!("{error}"));
    String::from_utf8(text).expect("a text")
}

/// A node as such a text.
///
/// # Panics
/// As for [`canonical`].
#[must_use]
pub fn canonical_node(node: &NodeDef) -> String {
    canonical(&GraphDef::new(vec![node.clone()]))
}

/// Channels and side of the images of [`Network`].
pub const CHANNELS: usize = 8;
/// Side of its images.
pub const SIDE: usize = 8;

/// A graph of TensorFlow under construction, with weights that follow from their places.
#[derive(Default)]
pub struct Network {
    nodes: Vec<NodeDef>,
}

impl Network {
    /// A network that is fed images `[images, 8, 8, 8]` as `input`.
    #[must_use]
    pub fn new() -> Self {
        let side = Some(SIDE as u64);
        let shape = PartialShape::Known(vec![None, side, side, Some(CHANNELS as u64)]);
        let input = NodeDef::new("input", "Placeholder").with_attr("dtype", DataType::FLOAT).with_attr("shape", shape);
        Self { nodes: vec![input] }
    }

    /// A node on real numbers.
    pub fn node(&mut self, name: &str, op: &str, inputs: &[&str]) {
        self.nodes.push(NodeDef::new(name, op).with_inputs(inputs.to_vec()).with_attr("T", DataType::FLOAT));
    }

    /// A constant.
    ///
    /// # Panics
    /// If the elements do not fit the type.
    pub fn constant(&mut self, name: &str, dtype: DataType, tensor: &Tensor) {
        self.nodes.push(NodeDef::constant(name, TensorProto::new(dtype, tensor).expect("elements of the type")));
    }

    /// Weights `NAME/weights` of this shape, of either sign.
    ///
    /// # Panics
    /// Never: there are as many as the shape has.
    fn weights(&mut self, name: &str, shape: &[usize]) -> String {
        let count: usize = shape.iter().product();
        let salt = name.bytes().map(usize::from).sum::<usize>();
        let weight = |at: usize| (((at + salt) * 7919 % 1009) as f32 / 1009.0 - 0.45) * 0.4;
        let tensor =
            Tensor::new(shape, (0..count).map(weight).collect::<Vec<f32>>()).expect("as many as the shape has");
        let name = format!("{name}/weights");
        self.constant(&name, DataType::FLOAT, &tensor);
        name
    }

    /// A convolution with a bias, 3x3 and as large as what it reads.
    pub fn convolution(&mut self, name: &str, from: &str) {
        self.bordered(name, from, "SAME");
    }

    /// The same behind a `Pad` that makes its result as large.
    pub fn padded(&mut self, name: &str, from: &str) {
        let (amounts, pad) = (format!("{name}/paddings"), format!("{name}/pad"));
        let ones = Tensor::new([4, 2], vec![0i32, 0, 1, 1, 1, 1, 0, 0]).expect("four pairs");
        self.constant(&amounts, DataType::INT32, &ones);
        self.node(&pad, "Pad", &[from, &amounts]);
        self.bordered(name, &pad, "VALID");
    }

    fn bordered(&mut self, name: &str, from: &str, padding: &str) {
        let weights = self.weights(name, &[3, 3, CHANNELS, CHANNELS]);
        let conv = format!("{name}/conv");
        self.node(&conv, "Conv2D", &[from, &weights]);
        let last = self.nodes.last_mut().expect("the convolution");
        last.set_attr("strides", vec![1i64; 4]);
        last.set_attr("padding", padding);
        self.biased(name, &conv);
    }

    fn biased(&mut self, name: &str, from: &str) {
        let bias = format!("{name}/bias");
        self.constant(&bias, DataType::FLOAT, &Tensor::vector((0..CHANNELS).map(|c| c as f32 * 0.05).collect()));
        self.node(name, "BiasAdd", &[from, &bias]);
    }

    /// The means of channels, and a matrix product with a bias behind them.
    pub fn head(&mut self, name: &str, from: &str) {
        let (axes, mean) = (format!("{name}/axes"), format!("{name}/mean"));
        self.constant(&axes, DataType::INT32, &Tensor::vector(vec![1i32, 2]));
        self.node(&mean, "Mean", &[from, &axes]);
        self.dense(name, &mean);
    }

    /// A matrix product with a bias.
    pub fn dense(&mut self, name: &str, from: &str) {
        let (weights, product) = (self.weights(name, &[CHANNELS, CHANNELS]), format!("{name}/product"));
        self.node(&product, "MatMul", &[from, &weights]);
        self.biased(name, &product);
    }

    /// The graph.
    #[must_use]
    pub fn graph(&self) -> GraphDef {
        GraphDef::new(self.nodes.clone())
    }

    /// The graph as the bytes of a file.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        self.graph().to_vec()
    }
}

/// Images for a [`Network`], as a `.npy` file.
#[must_use]
pub fn images(count: usize) -> Vec<u8> {
    let elements = count * SIDE * SIDE * CHANNELS;
    let pixel = |at: usize| ((at * 6151 % 4093) as f32 / 4093.0) * 2.0 - 1.0;
    crate::arrays::npy_bytes(&[count, SIDE, SIDE, CHANNELS], &(0..elements).map(pixel).collect::<Vec<f32>>())
}
