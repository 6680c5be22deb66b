"""Checks a quantized model with onnx's full check, then loads and runs it in ONNX Runtime.

The input is random, within the range of pixels.

JSON: {"finite": whether all outputs are, "quantized": number of QuantizeLinear nodes in the file,
"ops": {type: count} of the graph that ONNX Runtime runs after its optimisations, "float_convs":
[name in the file, ...] of the convolutions that run in float there, "integer_share": share of the
multiply-accumulates of convolutions and matrix products that run on integers, 0 to 1}. Fails with
a traceback if the model is not valid or does not load.
"""

import argparse
import json
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort

FLOAT_CONVS = ("Conv", "FusedConv", "ConvTranspose")

# Operators that multiply and accumulate: position of the weight, or of the second factor, among the
# inputs, and whether the factors are integers.
PRODUCTS = {
    "Conv": (1, False),
    "FusedConv": (1, False),
    "Gemm": (1, False),
    "FusedGemm": (1, False),
    "MatMul": (1, False),
    "FusedMatMul": (1, False),
    "QLinearConv": (3, True),
    "QLinearMatMul": (3, True),
    "QGemm": (3, True),
    "MatMulIntegerToFloat": (1, True),
    "DynamicQuantizeMatMul": (1, True),
    "ConvInteger": (1, True),
    "MatMulInteger": (1, True),
}


def name_in_file(model: onnx.ModelProto, optimized: onnx.NodeProto) -> str:
    """The convolution of the file that an optimised one comes from.

    A fused one has another name, but writes the output of the activation; one in a blocked layout is
    named after that output. The nearest convolution above the output is it.
    """
    names = {node.name for node in model.graph.node}
    producers = {output: node for node in model.graph.node for output in node.output}
    if optimized.name in names:
        return optimized.name
    blocked = optimized.name.removesuffix("_nchwc")
    node = producers.get(blocked) or producers.get(optimized.output[0])
    while node is not None and node.op_type not in FLOAT_CONVS:
        node = producers.get(node.input[0]) if node.input else None
    return optimized.name if node is None else node.name


def integer_share(model: Path, optimized: Path, feed: dict) -> float:
    """Share of the multiply-accumulates whose factors are integers, in the graph before weights are
    reordered for the processor."""
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath = str(optimized)
    ort.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])

    graph = onnx.load(optimized)
    known = {i.name: tuple(i.dims) for i in graph.graph.initializer}
    products = [node for node in graph.graph.node if node.op_type in PRODUCTS]
    shown = {o.name for o in graph.graph.output}
    wanted = [n for p in products for n in (p.output[0], p.input[PRODUCTS[p.op_type][0]])]
    wanted = list(dict.fromkeys(name for name in wanted if name not in known))
    graph.graph.output.extend(onnx.ValueInfoProto(name=name) for name in wanted if name not in shown)

    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    runtime = ort.InferenceSession(graph.SerializeToString(), options, providers=["CPUExecutionProvider"])
    known |= {name: value.shape for name, value in zip(wanted, runtime.run(wanted, feed))}

    work = {True: 0, False: 0}
    for node in products:
        slot, on_integers = PRODUCTS[node.op_type]
        factor, result = known[node.input[slot]], known[node.output[0]]
        if "Conv" in node.op_type:
            depth = int(np.prod(factor[1:]))
        else:
            transposed = any(a.name == "transB" and a.i for a in node.attribute)
            depth = factor[-1 if transposed else -2]
        work[on_integers] += int(np.prod(result)) * int(depth)
    return work[True] / max(1, sum(work.values()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("--optimized", type=Path, required=True, help="where the optimised graph goes")
    args = parser.parse_args()

    model = onnx.load(args.model)
    onnx.checker.check_model(model, full_check=True)
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.optimized_model_filepath = str(args.optimized)
    runtime = ort.InferenceSession(str(args.model), options, providers=["CPUExecutionProvider"])

    rng = np.random.default_rng(1)
    shapes = {i.name: [d if isinstance(d, int) else 1 for d in i.shape] for i in runtime.get_inputs()}
    feed = {name: rng.uniform(0, 255, shape).astype(np.float32) for name, shape in shapes.items()}
    outputs = runtime.run(None, feed)

    nodes = onnx.load(args.optimized).graph.node
    findings = {
        "finite": all(bool(np.isfinite(output).all()) for output in outputs),
        "quantized": sum(node.op_type == "QuantizeLinear" for node in model.graph.node),
        "ops": dict(sorted(Counter(node.op_type for node in nodes).items())),
        "float_convs": sorted(name_in_file(model, node) for node in nodes if node.op_type in FLOAT_CONVS),
        "integer_share": integer_share(args.model, args.optimized.with_suffix(".portable.onnx"), feed),
    }
    print(json.dumps(findings))


if __name__ == "__main__":
    main()
