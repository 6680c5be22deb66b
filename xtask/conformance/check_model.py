"""Checks a quantized model with onnx's full check, then loads and runs it in ONNX Runtime.

The input is random, within the range of pixels.

JSON: {"finite": whether all outputs are, "quantized": number of QuantizeLinear nodes in the file,
"ops": {type: count} of the graph that ONNX Runtime runs after its optimisations, "float_convs":
[name in the file, ...] of the convolutions that run in float there}. Fails with a traceback if the
model is not valid or does not load.
"""

import argparse
import json
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort

FLOAT_CONVS = ("Conv", "FusedConv", "ConvTranspose")


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
    }
    print(json.dumps(findings))


if __name__ == "__main__":
    main()
