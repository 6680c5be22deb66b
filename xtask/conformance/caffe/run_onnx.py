"""Checks an fp32 model with onnx's full check and runs it in ONNX Runtime without graph optimisations.

JSON: {"samples": [{"input": path, "outputs": {name: path}}, ...]}, one for each input.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path, help="it has one input")
    parser.add_argument("--inputs", type=Path, nargs="+", required=True, help=".npy files")
    parser.add_argument("--out", type=Path, required=True, help="folder for the arrays")
    args = parser.parse_args()

    args.out.mkdir(parents=True, exist_ok=True)
    onnx.checker.check_model(onnx.load(args.model), full_check=True)
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    runtime = ort.InferenceSession(str(args.model), options, providers=["CPUExecutionProvider"])
    (name,) = [i.name for i in runtime.get_inputs()]
    samples = []
    for k, path in enumerate(args.inputs):
        outputs = {}
        for j, (output, y) in enumerate(zip(runtime.get_outputs(), runtime.run(None, {name: np.load(path)}))):
            outputs[output.name] = str(args.out / f"y{k}_{j}.npy")
            np.save(outputs[output.name], np.ascontiguousarray(y))
        samples.append({"input": str(path), "outputs": outputs})
    print(json.dumps({"samples": samples}))


if __name__ == "__main__":
    main()
