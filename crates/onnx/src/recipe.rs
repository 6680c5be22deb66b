//! What a quantized ONNX model may look like, and which operators onnxruntime's CPU provider then runs on integers.
//!
//! The table was established by loading each operator between dequantize and quantize nodes and looking at the graph
//! the runtime saves after optimization; it has an integer operator for each of them too. Operators it would run in
//! float are kept out: they would only lose accuracy. Writing the nodes is the back-end's work.

use crate::frontend::FRONTEND;
use quantize_ir::op::behaviour::{clip_limits, keeps_range};
use quantize_ir::op::{Binary, GlobalPool, ResizeMode, Unary};
use quantize_ir::shape::resolve_axis;
use quantize_ir::{
    Blocks, Graph, Grids, KeepReason, Node, NodeId, Op, OperandRole, Origin, QuantType, Recipe, Support, Ties, ValueId,
    out_of_reach,
};

/// How a model says that a node computes on integers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Form {
    /// The float operator between dequantize and quantize nodes; runtimes make an integer kernel of the whole.
    #[default]
    Qdq,
    /// Operators on integers (`QLinearConv` and the like), as onnxruntime has them.
    QOperator,
}

/// Codes of activations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ActivationCodes {
    /// 0..=255: what x86 and most other processors run fastest.
    #[default]
    U8,
    /// -128..=127.
    I8,
    /// 0..=65535; onnxruntime's CPU provider has no integer kernels for them.
    U16,
    /// -32767..=32767, always symmetric; onnxruntime's CPU provider has no integer kernels for them.
    I16,
}

impl ActivationCodes {
    /// Bits of one code.
    pub fn bits(self) -> u32 {
        match self {
            Self::U8 | Self::I8 => 8,
            Self::U16 | Self::I16 => 16,
        }
    }

    fn qtype(self) -> QuantType {
        match self {
            Self::U8 => QuantType::U8,
            Self::I8 => QuantType::I8,
            Self::U16 => QuantType::U16,
            Self::I16 => QuantType::I16Narrow,
        }
    }
}

/// Weights that share a scale and a zero point: so many in a row along the axis that a matrix product sums over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum GroupSize {
    /// 16
    G16,
    /// 32
    #[default]
    G32,
    /// 64
    G64,
    /// 128
    G128,
    /// 256
    G256,
}

impl GroupSize {
    /// All that onnxruntime's `MatMulNBits` has.
    pub const ALL: [Self; 5] = [Self::G16, Self::G32, Self::G64, Self::G128, Self::G256];

    /// Number of weights.
    pub const fn weights(self) -> usize {
        match self {
            Self::G16 => 16,
            Self::G32 => 32,
            Self::G64 => 64,
            Self::G128 => 128,
            Self::G256 => 256,
        }
    }
}

/// Codes of weights.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WeightCodes {
    /// -127 to 127, in nodes that compute on integers.
    #[default]
    I8,
    /// -64 to 64 likewise, which no kernel that adds products in pairs of 16 bits saturates on.
    I7,
    /// 0 to 15 in groups with a scale and a zero point each; only weights of matrix products become codes, and nothing
    /// computes on integers.
    U4(GroupSize),
}

/// Whether the runtime moves codes with the kernel of `op` that moves reals.
pub(crate) fn moves_codes(op: &Op) -> bool {
    match op {
        Op::MaxPool(_)
        | Op::Identity
        | Op::Reshape(_)
        | Op::Transpose(_)
        | Op::Flatten(_)
        | Op::Squeeze
        | Op::Unsqueeze
        | Op::Slice
        | Op::Split(_)
        | Op::Gather(_)
        | Op::DepthToSpace(_)
        | Op::Expand
        | Op::Tile => true,
        Op::Resize(resize) => matches!(resize.mode, ResizeMode::Nearest(_)),
        _ => false,
    }
}

/// Choices that do not go together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoSuchModel {
    /// Operators on integers know 8 bits only.
    #[error("operators on integers have no {bits}-bit activations")]
    Activations {
        /// Bits of an activation's code.
        bits: u32,
    },
    /// A matrix product behind a dequantization of 4-bit codes has 8-bit activations in onnxruntime.
    #[error("4-bit weights are read by an operator of their own, not dequantized by a node of the model")]
    DequantizedWeights,
}

/// The rules for one kind of output: codes of weights, 32-bit biases, and activations as asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OnnxRecipe {
    form: Form,
    codes: ActivationCodes,
    symmetric: bool,
    rounded_results: bool,
    weights: WeightCodes,
}

impl OnnxRecipe {
    /// Activations in `codes`, around a zero point in the middle if `symmetric`.
    ///
    /// # Errors
    /// If `form` has no operators on such codes.
    pub fn new(form: Form, codes: ActivationCodes, symmetric: bool) -> Result<Self, NoSuchModel> {
        let bits = codes.bits();
        if form == Form::QOperator && bits != 8 {
            return Err(NoSuchModel::Activations { bits });
        }
        let symmetric = symmetric || codes == ActivationCodes::I16;
        Ok(Self { form, codes, symmetric, ..Self::default() })
    }

    /// The same with other codes of weights.
    ///
    /// # Errors
    /// If the form has no operators on such codes.
    pub fn with_weights(self, weights: WeightCodes) -> Result<Self, NoSuchModel> {
        if self.form == Form::Qdq && matches!(weights, WeightCodes::U4(_)) {
            return Err(NoSuchModel::DequantizedWeights);
        }
        Ok(Self { weights, ..self })
    }

    /// The same, with results of the network rounded to codes like every other value.
    #[must_use]
    pub fn with_rounded_results(self) -> Self {
        Self { rounded_results: true, ..self }
    }

    /// How the model says that a node computes on integers.
    pub fn form(&self) -> Form {
        self.form
    }

    /// Whether onnxruntime's CPU provider computes quantized nodes on integers.
    pub fn runs_on_integers(&self) -> bool {
        self.codes.bits() == 8
    }

    /// Whether only weights become codes.
    pub fn stores_weights_only(&self) -> bool {
        matches!(self.weights, WeightCodes::U4(_))
    }

    /// Whether a bounded activation can have the parameters of the value before it, so that no code is lost on values
    /// it cuts off.
    fn shares_bound(graph: &Graph, node: &Node) -> bool {
        node.input(0).is_some_and(|x| graph.sole_consumer(x).is_some() && graph.producer(x).is_some())
    }

    /// What becomes of an activation that bounds its operand. The saturation of codes can stand for it only where the
    /// lowest code is its lower bound, which no symmetric grid has.
    fn bounded(&self, graph: &Graph, node: &Node) -> Support {
        match (self.symmetric, self.form) {
            (false, _) => Support::Absorbed,
            (true, Form::Qdq) => Support::Joins,
            (true, Form::QOperator) if Self::shares_bound(graph, node) => Support::Joins,
            (true, Form::QOperator) => unsupported("its operand has other readers, so that codes cannot be clipped"),
        }
    }

    fn support_of_real(&self, graph: &Graph, node: &Node) -> Support {
        match &node.op {
            Op::Conv(_) => with_weight(graph, node, Support::Anchor),
            Op::Gemm(gemm) if gemm.alpha == 1.0 && gemm.beta == 1.0 => with_weight(graph, node, Support::Anchor),
            Op::Gemm(_) => unsupported("its factors alpha and beta cannot be folded"),
            Op::MatMul => matrix_product(graph, node),
            Op::Gather(_) if is_table(graph, node) => Support::WeightOnly,
            Op::Binary(Binary::Add | Binary::Mul) | Op::Concat(_) => Support::Joins,
            Op::GlobalPool(GlobalPool::Average) => Support::Joins,
            Op::AveragePool(pool) if pool.window.dilations.iter().all(|d| *d == 1) => Support::Joins,
            Op::Unary(Unary::LeakyRelu { .. } | Unary::Sigmoid) => Support::Joins,
            Op::MaxPool(_) | Op::Identity if node.output(1).is_some() => unsupported("its second result is used"),
            op if moves_codes(op) => Support::Carries,
            Op::Unary(Unary::Relu) => self.bounded(graph, node),
            Op::Clip if clip_limits(graph, node).is_some_and(|(lo, hi)| lo <= 0.0 && hi > 0.0) => {
                self.bounded(graph, node)
            }
            _ => Support::Keep(KeepReason::NoIntegerKernel),
        }
    }
}

impl OnnxRecipe {
    /// What the runtime could do with `node` if its operands were codes, whether or not they are already.
    pub fn kernel(&self, graph: &Graph, node: NodeId) -> Support {
        let Some(node) = graph.node(node) else { return Support::Keep(KeepReason::Unknown) };
        if let Some(reason) = out_of_reach(graph, node) {
            return Support::Keep(reason);
        }
        if self.stores_weights_only() { support_of_weights(graph, node) } else { self.support_of_real(graph, node) }
    }
}

impl Recipe for OnnxRecipe {
    fn support(&self, graph: &Graph, id: NodeId) -> Support {
        match self.kernel(graph, id) {
            Support::Keep(reason @ (KeepReason::Folded | KeepReason::Unknown)) => Support::Keep(reason),
            _ if graph.node(id).is_some_and(|node| is_quantized(graph, node)) => {
                Support::Keep(KeepReason::QuantizedAlready)
            }
            kernel => kernel,
        }
    }

    fn results_stay_real(&self) -> bool {
        !self.rounded_results
    }

    fn ties(&self, graph: &Graph, node: NodeId) -> Ties {
        let Some(node) = graph.node(node) else { return Ties::Free };
        let bounded = matches!(node.op, Op::Unary(Unary::Relu) | Op::Clip);
        if keeps_range(graph, node) {
            Ties::Carried
        } else if bounded && self.symmetric && Self::shares_bound(graph, node) {
            Ties::Joined
        } else {
            Ties::Free
        }
    }

    fn allows_real_result(&self, graph: &Graph, node: NodeId) -> bool {
        graph.node(node).is_some_and(|n| matches!(n.op, Op::Gemm(_) | Op::MatMul))
    }

    fn prefers_real_result(&self, graph: &Graph, node: NodeId) -> bool {
        self.allows_real_result(graph, node)
    }

    fn may_insert_behind(&self, graph: &Graph, value: ValueId) -> bool {
        // The back-end writes it behind the node of the document that computes the value.
        graph.producer(value).is_some_and(|(_, node)| node.origin.source().is_some())
    }

    fn channel_axis(&self, graph: &Graph, node: NodeId, slot: usize) -> Option<usize> {
        let node = graph.node(node)?;
        let OperandRole::Weight { channel_axis: Some(axis) } = node.op.operand_role(slot) else { return None };
        let rank = graph.value(node.input(slot)?).constant.as_ref()?.shape().len();
        let batched = matches!(node.op, Op::MatMul) && rank != 2;
        if batched { None } else { resolve_axis(axis, rank).ok() }
    }

    fn weight_blocks(&self, graph: &Graph, node: NodeId, slot: usize) -> Option<Blocks> {
        let WeightCodes::U4(size) = self.weights else { return None };
        let node = graph.node(node).filter(|_| slot == 1)?;
        Some(Blocks { axis: summed_axis(&node.op)?, size: size.weights() })
    }

    fn grids(&self) -> Grids {
        let (activation, symmetric) = (self.codes.qtype(), self.symmetric);
        let weight = match self.weights {
            WeightCodes::I8 => QuantType::I8Narrow,
            WeightCodes::I7 => QuantType::I8Reduced,
            WeightCodes::U4(_) => QuantType::U4,
        };
        Grids { activation, symmetric, weight, coded_bias: true }
    }

    fn wide_activation_grid(&self) -> Option<(QuantType, bool)> {
        let codes = match self.codes {
            ActivationCodes::U8 => ActivationCodes::U16,
            ActivationCodes::I8 => ActivationCodes::I16,
            ActivationCodes::U16 | ActivationCodes::I16 => return None,
        };
        let wide = Self::new(self.form, codes, self.symmetric).ok()?;
        Some((wide.codes.qtype(), wide.symmetric))
    }
}

/// Whether a node was read from an operator on integers, turns reals into codes or back, or reads what was codes.
fn is_quantized(graph: &Graph, node: &Node) -> bool {
    let from_codes = |value: ValueId| graph.producer(value).is_some_and(|(_, n)| matches!(n.op, Op::Dequantize(_)));
    matches!(node.op, Op::Quantize(_) | Op::Dequantize(_))
        || matches!(node.origin, Origin::Synthesized { pass: FRONTEND, .. })
        || node.inputs.iter().flatten().any(|value| from_codes(*value))
}

fn unsupported(why: &str) -> Support {
    Support::Keep(KeepReason::Unsupported(why.to_owned()))
}

/// `support`, if the weight is a constant with elements and the bias, if any, is a constant vector.
fn with_weight(graph: &Graph, node: &Node, support: Support) -> Support {
    let shape = |slot| node.input(slot).and_then(|v| graph.value(v).constant.as_ref()).map(|c| c.shape());
    let Some(weight) = shape(1) else { return Support::Keep(KeepReason::ComputedWeight) };
    if weight.len() < 2 || weight.contains(&0) {
        return unsupported("its weight has no output channels");
    }
    if node.input(2).is_some() && shape(2).is_none_or(|bias| bias.len() != 1) {
        return unsupported("its bias is not a constant vector");
    }
    support
}

/// Axis of a matrix of weights that a product sums over.
pub(crate) fn summed_axis(op: &Op) -> Option<usize> {
    match op {
        Op::MatMul => Some(0),
        Op::Gemm(gemm) => Some(usize::from(gemm.trans_b)),
        _ => None,
    }
}

/// What becomes of a node where only weights become codes: `MatMulNBits` multiplies by one matrix.
fn support_of_weights(graph: &Graph, node: &Node) -> Support {
    let constant = |slot: usize| node.input(slot).and_then(|v| graph.value(v).constant.as_ref());
    let matrix = constant(1).is_some_and(|weight| weight.shape().len() == 2);
    match &node.op {
        Op::Conv(_) | Op::ConvTranspose(_) => unsupported("the runtime has no convolution with 4-bit weights"),
        Op::Gather(_) if is_table(graph, node) => unsupported("4-bit weights are those of matrix products"),
        Op::MatMul if constant(1).is_none() && constant(0).is_none() => Support::Keep(KeepReason::ComputedWeight),
        Op::MatMul if !matrix => unsupported("its weight is not one matrix"),
        Op::MatMul => match matrix_product(graph, node) {
            Support::Anchor => Support::WeightOnly,
            other => other,
        },
        Op::Gemm(gemm) if gemm.trans_a => unsupported("its first operand is transposed"),
        Op::Gemm(gemm) if gemm.alpha == 1.0 && gemm.beta == 1.0 => with_weight(graph, node, Support::WeightOnly),
        Op::Gemm(_) => unsupported("its factors alpha and beta cannot be folded"),
        _ => Support::Keep(KeepReason::NoWeightCodes),
    }
}

/// Whether a node looks up entries of a constant table of reals, such as the embeddings of words.
fn is_table(graph: &Graph, node: &Node) -> bool {
    let table = node.input(0).and_then(|v| graph.value(v).constant.as_ref());
    table.is_some_and(|table| table.shape().len() >= 2 && !table.shape().contains(&0))
}

fn matrix_product(graph: &Graph, node: &Node) -> Support {
    let constant = |slot: usize| node.input(slot).and_then(|v| graph.value(v).constant.as_ref());
    match (constant(0), constant(1)) {
        (None, Some(weight)) if weight.shape().len() >= 2 && !weight.shape().contains(&0) => Support::Anchor,
        (None, Some(_)) => unsupported("its weight is not a matrix"),
        (Some(_), _) => unsupported("its first operand is constant"),
        (None, None) => Support::Anchor,
    }
}
