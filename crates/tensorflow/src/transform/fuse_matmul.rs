//! `fuse_quantized_matmul_and_requantize`: matrix products on codes and the narrowing of their results to a fixed range
//! become one operator, and biases become 32-bit codes where the range of what is multiplied is constant.

use super::Setting;
use super::fused::{
    REQUANTIZE, coded_bias, is_fused_conv, is_read_once, moved_bias, range_position, scalar, top, units,
};
use super::language::Call;
use crate::dtype::DataType;
use crate::error::TensorflowError;
use crate::graph::{GraphDef, GraphIndex};
use crate::node::{NodeDef, Port};
use quantize_document::{Location, Problem};
use std::collections::{BTreeMap, BTreeSet};

/// The product whose result is narrowed.
const PRODUCT: &str = "QuantizedMatMulWithBiasAndRelu";

/// Its inputs: codes, weights, bias, and the ranges of the former two.
const OPERANDS: usize = 7;

/// How codes count that are not symmetric around zero: from the code of the least value.
const MIN_FIRST: &str = "MIN_FIRST";

type Readers = Vec<Vec<(usize, Port)>>;

/// Fuses every such product, then stores biases.
pub(super) fn fuse(
    graph: &GraphDef,
    _: &Call,
    setting: &Setting<'_>,
    problems: &mut Vec<Problem>,
) -> Result<GraphDef, TensorflowError> {
    let index = graph.index()?;
    let readers = index.consumers()?;
    let (mut changed, mut gone) = (BTreeMap::new(), BTreeSet::new());
    for node in graph.nodes().iter().filter(|node| node.op() == "Requantize") {
        let source = node.data_inputs().next().and_then(|input| index.node(input.node));
        let Some(product) = source.filter(|source| source.op() == PRODUCT) else { continue };
        match fused(&index, &readers, setting, node, product)? {
            Ok(fused) => {
                changed.insert(node.name(), fused);
                gone.insert(product.name());
            }
            Err(reason) => problems.push(Problem::of_node(node.name(), format!("not fused: {reason}"))),
        }
    }
    let stays = graph.nodes().iter().filter(|node| !gone.contains(node.name()));
    let nodes = stays.map(|node| changed.remove(node.name()).unwrap_or_else(|| node.clone())).collect();
    with_coded_biases(&graph.with_nodes(nodes))
}

/// The operator in place of a `Requantize` and the product before it, or why there is none.
fn fused(
    index: &GraphIndex<'_>,
    readers: &Readers,
    setting: &Setting<'_>,
    node: &NodeDef,
    product: &NodeDef,
) -> Result<Result<NodeDef, String>, TensorflowError> {
    let own = index.position(product.name()).and_then(|at| readers.get(at)).into_iter().flatten();
    let mut others = own.filter(|(at, _)| index.at(*at).is_none_or(|reader| reader.name() != node.name()));
    if others.next().is_some() || setting.is_end(product.name()) {
        return Ok(Err(format!("`{}` is read elsewhere", product.name())));
    }
    let [_, _, _, min, max] = node.inputs() else { return Ok(Err("it has not five inputs".into())) };
    if scalar(index, min)?.is_none() || scalar(index, max)?.is_none() {
        return Ok(Err("its range is not constant".into()));
    }
    let (data, waits): (Vec<String>, Vec<String>) =
        product.inputs().iter().cloned().partition(|input| !input.starts_with('^'));
    let Some(operands) = data.get(..OPERANDS) else {
        return Ok(Err(format!("`{}` has too few inputs", product.name())));
    };
    let inputs = operands.iter().chain([min, max]).chain(&waits).cloned();
    let mut fused = NodeDef::new(node.name(), format!("{PRODUCT}{REQUANTIZE}")).with_inputs(inputs);
    for name in ["T1", "T2", "transpose_a", "transpose_b", "input_quant_mode"] {
        if let Some(value) = product.attr(name) {
            fused.set_attr(name, value.clone());
        }
    }
    Ok(Ok(fused.with_attr("Tbias", DataType::FLOAT).with_attr("Toutput", DataType::QUINT8)))
}

fn is_fused_product(node: &NodeDef) -> bool {
    node.op().strip_suffix(REQUANTIZE) == Some(PRODUCT)
}

/// Biases of fused products as 32-bit codes, where the range of what they multiply is constant. A bias that others read
/// stays real.
fn with_coded_biases(graph: &GraphDef) -> Result<GraphDef, TensorflowError> {
    let index = graph.index()?;
    let readers = index.consumers()?;
    let mut biases = BTreeMap::new();
    let mut nodes = graph.nodes().to_vec();
    for node in nodes.iter_mut().filter(|node| is_fused_product(node)) {
        if node.dtype("Tbias")? != Some(DataType::FLOAT) {
            continue;
        }
        let Some(bias) = node.data_inputs().nth(2).and_then(|input| index.node(input.node)) else { continue };
        if bias.op() != "Const" || !is_read_once(&index, &readers, bias.name()) {
            continue;
        }
        if let Some(coded) = coded(&index, node, bias)? {
            biases.insert(bias.name(), coded);
            node.set_attr("Tbias", DataType::QINT32);
        }
    }
    for node in &mut nodes {
        if let Some(coded) = biases.remove(node.name()) {
            *node = coded;
        }
    }
    Ok(graph.with_nodes(nodes))
}

/// The bias of a product as 32-bit codes, if the range of what it multiplies is constant.
fn coded(index: &GraphIndex<'_>, product: &NodeDef, bias: &NodeDef) -> Result<Option<NodeDef>, TensorflowError> {
    let Some(source) = product.data_inputs().next().and_then(|input| index.node(input.node)) else { return Ok(None) };
    let at = match source.op() {
        "QuantizeV2" => 1,
        _ if is_fused_product(source) => OPERANDS,
        _ if is_fused_conv(source) => range_position(source.op()),
        _ => return Ok(None),
    };
    let [Some(min), Some(max)] = [at, at + 1].map(|at| source.inputs().get(at)) else { return Ok(None) };
    let (Some(min), Some(max)) = (scalar(index, min)?, scalar(index, max)?) else { return Ok(None) };
    let counts_from_least =
        source.op() == "QuantizeV2" && product.text("input_quant_mode")?.is_none_or(|mode| mode == MIN_FIRST);
    if !counts_from_least {
        let Some(units) = units(index, product, min.abs().max(max.abs()), top(product.dtype("T1")?))? else {
            return Ok(None);
        };
        return coded_bias(bias, &units).map(Some);
    }
    if !(max > min && (max - min).is_finite()) || product.bool("transpose_b")?.unwrap_or(false) {
        return Ok(None);
    }
    let Some(units) = units(index, product, max - min, top(product.dtype("T1")?))? else { return Ok(None) };
    let Some(sums) = column_sums(index, product)? else { return Ok(None) };
    let least = f64::from(top(product.dtype("T1")?)) * f64::from(min) / (f64::from(max) - f64::from(min));
    moved_bias(bias, &units, &sums.iter().map(|sum| *sum as f64 * least).collect::<Vec<f64>>()).map(Some)
}

/// The sum of each column of a product's weights, which are codes; `None` if they are no constant matrix.
fn column_sums(index: &GraphIndex<'_>, product: &NodeDef) -> Result<Option<Vec<i64>>, TensorflowError> {
    let Some(weights) = product.data_inputs().nth(1).and_then(|input| index.node(input.node)) else { return Ok(None) };
    let about = |cause: String| TensorflowError::invalid(Location::node(weights.name()), cause);
    let Some(value) = weights.constant_value()? else { return Ok(None) };
    let [_, columns] = value.shape() else { return Ok(None) };
    let codes = value.as_slice::<i8>().map_err(|error| about(error.to_string()))?;
    let mut sums = vec![0i64; *columns];
    for row in codes.chunks_exact((*columns).max(1)) {
        sums.iter_mut().zip(row).for_each(|(sum, code)| *sum += i64::from(*code));
    }
    Ok(Some(sums))
}

#[cfg(test)]
mod tests {
    use crate::dtype::DataType;
    use crate::node::NodeDef;
    use crate::tensor::TensorProto;
    use crate::transform::tests::{floats, names, node, run, setting};
    use quantize_ir::Tensor;

    const REQUEST: &str = "fuse_quantized_matmul_and_requantize";

    fn narrowed(mode: &str, range: [f32; 2]) -> Vec<NodeDef> {
        let codes = Tensor::new([2, 2], vec![127i8, -127, 64, 1]).unwrap();
        let weights = TensorProto::new(DataType::QINT8, &codes).unwrap();
        let inputs = ["q", "w", "b", "q:1", "q:2", "w_min", "w_max", "^x"];
        let product = node("mm", "QuantizedMatMulWithBiasAndRelu", &inputs);
        vec![
            node("x", "Placeholder", &[]),
            floats("min", &[], &range[..1]),
            floats("max", &[], &range[1..]),
            node("q", "QuantizeV2", &["x", "min", "max"]).with_attr("T", DataType::QUINT8).with_attr("mode", mode),
            NodeDef::constant("w", weights),
            floats("w_min", &[], &[-1.0]),
            floats("w_max", &[], &[1.0]),
            floats("b", &[2], &[1.0, -0.5]),
            product.with_attr("T1", DataType::QUINT8).with_attr("input_quant_mode", mode),
            floats("out_min", &[], &[0.0]),
            floats("out_max", &[], &[6.0]),
            node("y", "Requantize", &["mm", "mm:1", "mm:2", "out_min", "out_max"]),
        ]
    }

    fn codes(nodes: Vec<NodeDef>) -> (Vec<i32>, NodeDef) {
        let done = run(nodes, REQUEST, &setting(&["x"], &["y"])).unwrap().graph;
        let index = done.index().unwrap();
        let bias = index.node("b").unwrap().constant_value().unwrap().unwrap().into_vec().unwrap();
        (bias, index.node("y").unwrap().clone())
    }

    #[test]
    fn product_and_narrowing_become_one_operator() {
        let (bias, fused) = codes(narrowed("SCALED", [0.0, 2.0]));
        // A unit is 255 * 127 / (2 * 1) codes.
        assert_eq!(bias, [16192, -8096]);
        assert_eq!(fused.op(), "QuantizedMatMulWithBiasAndReluAndRequantize");
        assert_eq!(fused.inputs(), ["q", "w", "b", "q:1", "q:2", "w_min", "w_max", "out_min", "out_max", "^x"]);
        assert_eq!(fused.dtype("Toutput").unwrap(), Some(DataType::QUINT8));
        assert_eq!(fused.dtype("Tbias").unwrap(), Some(DataType::QINT32));
        assert_eq!(fused.text("input_quant_mode").unwrap().as_deref(), Some("SCALED"));
    }

    #[test]
    fn codes_counted_from_the_least_value_move_the_bias() {
        // A unit is 255 * 127 / 3 codes; the least value is -85 codes of each weight, whose columns add up to 191 and -126.
        let (bias, _) = codes(narrowed("MIN_FIRST", [-1.0, 2.0]));
        assert_eq!(bias, [10795 - 85 * 191, 5312]);
    }

    #[test]
    fn what_cannot_be_fused_says_why() {
        let changed = |name: &str, new: NodeDef| {
            let replace = |node: NodeDef| if node.name() == name { new.clone() } else { node };
            narrowed("SCALED", [0.0, 2.0]).into_iter().map(replace).collect::<Vec<NodeDef>>()
        };
        let measured = node("y", "Requantize", &["mm", "mm:1", "mm:2", "x", "x"]);
        for (nodes, outputs, why) in [
            (changed("y", measured), &["y"][..], "not constant"),
            (changed("y", node("y", "Requantize", &["mm"])), &["y"], "not five inputs"),
            (narrowed("SCALED", [0.0, 2.0]), &["y", "mm"], "is read elsewhere"),
            (changed("mm", node("mm", "QuantizedMatMulWithBiasAndRelu", &["q"])), &["y"], "too few inputs"),
        ] {
            let count = nodes.len();
            let done = run(nodes, REQUEST, &setting(&["x"], outputs)).unwrap();
            assert_eq!(names(&done.graph).len(), count);
            assert!(done.problems.iter().any(|problem| problem.message.contains(why)), "{why}: {:?}", done.problems);
        }
    }

    #[test]
    fn a_bias_of_what_has_no_constant_range_stays_real() {
        for nodes in [narrowed("MIN_FIRST", [2.0, 2.0]), narrowed("MIN_FIRST", [f32::NAN, 1.0])] {
            let done = run(nodes, REQUEST, &setting(&["x"], &["y"])).unwrap().graph;
            let index = done.index().unwrap();
            assert_eq!(index.node("y").unwrap().dtype("Tbias").unwrap(), Some(DataType::FLOAT));
            assert_eq!(crate::transform::tests::values(&done, "b"), [1.0, -0.5]);
        }
    }
}
