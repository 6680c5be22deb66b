"""Runs an fp32 model in ONNX Runtime without graph optimisations and stores what went in and came out.

The input is a file with one sample per row, or random numbers for every input of the model. Each
sample is run by itself, as a batch of one. With --outputs, the part of the model that computes these
is stored and run instead.

JSON: {"model": path of the model that was run, "samples": [{"inputs": [path, ...], "outputs":
[path, ...]}, ...]}, in the model's order.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import onnx
import onnx.utils
import onnxruntime as ort

RANDOM_SAMPLES = 2


def session(model: Path) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    return ort.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])


def random_inputs(runtime: ort.InferenceSession, seed: int) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    shapes = [[d if isinstance(d, int) else 1 for d in i.shape] for i in runtime.get_inputs()]
    return [rng.normal(size=shape).astype(np.float32) for shape in shapes]


def part(model: Path, outputs: list[str], folder: Path) -> Path:
    graph = onnx.load(model).graph
    constants = {tensor.name for tensor in graph.initializer}
    inputs = [i.name for i in graph.input if i.name not in constants]
    path = folder / "part.onnx"
    onnx.utils.extract_model(str(model), str(path), inputs, outputs)
    return path


def store(folder: Path, stem: str, arrays: list[np.ndarray]) -> list[str]:
    paths = [folder / f"{stem}_{k}.npy" for k in range(len(arrays))]
    for path, array in zip(paths, arrays):
        np.save(path, np.ascontiguousarray(array))
    return [str(path) for path in paths]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("--out", type=Path, required=True, help="folder for the arrays")
    parser.add_argument("--input", type=Path, help=".npy file; default: two random samples")
    parser.add_argument("--samples", type=int, help="how many of the file; default: all")
    parser.add_argument("--outputs", nargs="+", help="default: all outputs of the model")
    args = parser.parse_args()

    args.out.mkdir(parents=True, exist_ok=True)
    model = args.model if args.outputs is None else part(args.model, args.outputs, args.out)
    runtime = session(model)
    names = [i.name for i in runtime.get_inputs()]
    rows = None if args.input is None else np.load(args.input, mmap_mode="r")
    count = RANDOM_SAMPLES if rows is None else len(rows[: args.samples])
    samples = []
    for k in range(count):
        inputs = random_inputs(runtime, k) if rows is None else [np.array(rows[k : k + 1])]
        outputs = runtime.run(None, dict(zip(names, inputs)))
        stored = {"inputs": store(args.out, f"x{k}", inputs), "outputs": store(args.out, f"y{k}", outputs)}
        samples.append(stored)
    print(json.dumps({"model": str(model), "samples": samples}))


if __name__ == "__main__":
    main()
