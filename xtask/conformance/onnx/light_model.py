"""Gives a network without weights random ones that behave like trained ones.

The networks of the onnx package's test data have all weights equal. Here each node is run in turn, alone, on a few
photos: weights are normal with a spread of their own for each output channel; the result of a layer is brought to mean
zero and deviation one for each channel, by its normalization if it has one, else by scale and bias; offsets are random.
So about half of what reaches an activation is cut off, photos stay different to the last layer, and channels have
different ranges. The last layer is scaled to scores of deviation 3. A final softmax is left out.

Writes OUT/NAME.onnx, its scores OUT/NAME.npy of some photos, and these as OUT/x.npy and OUT/labels.npy for judge.py.

JSON: {"model": path, "logits": path}.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from onnx import helper, numpy_helper

from prepare_images import Preprocessing, run

CALIBRATED, SPREAD, OFFSET, SCORES = 8, 0.4, 0.3, 3.0
LAYERS = ("Conv", "Gemm")


def photos(folder: Path, count: int) -> list[Path]:
    """As many photos, evenly spread over the folder."""
    files = sorted(path for path in folder.iterdir() if path.suffix == ".jpg")
    return files[:: max(1, len(files) // count)][:count]


class Network:
    def __init__(self, path: Path, seed: int) -> None:
        self.model = onnx.load(path)
        self.graph = self.model.graph
        self.random = np.random.default_rng(seed)
        given = {t.name: numpy_helper.to_array(t) for t in self.graph.initializer}
        self.known = {name: value for name, value in given.items() if value.dtype != np.float32}
        # Shapes of constants whose values are to be chosen, by name.
        self.open: dict[str, tuple[int, ...]] = {n: v.shape for n, v in given.items() if n not in self.known}
        self.nodes = []
        for node in self.graph.node:
            if node.op_type == "ConstantOfShape":
                self.open[node.output[0]] = tuple(int(d) for d in self.known[node.input[0]])
            elif node.op_type == "Unsqueeze" and node.input[0] in self.open:
                shape = list(self.open[node.input[0]])
                for axis in helper.get_node_attr_value(node, "axes"):
                    shape.insert(axis, 1)
                self.open[node.output[0]] = tuple(shape)
            elif node.op_type == "Reshape" and node.input[0] in self.open:
                empty = np.empty(self.open[node.input[0]], np.int8)
                self.open[node.output[0]] = empty.reshape(self.known[node.input[1]]).shape
            else:
                self.nodes.append(node)
        if self.nodes[-1].op_type == "Softmax":
            self.nodes.pop()
        self.readers: dict[str, list[onnx.NodeProto]] = {}
        for node in self.nodes:
            for name in node.input:
                self.readers.setdefault(name, []).append(node)
        (self.input,) = (v for v in self.graph.input if v.name not in given)

    def close(self, name: str, value: np.ndarray) -> None:
        assert value.shape == self.open[name], name
        self.known[name] = value.astype(np.float32)

    def spread(self, shape: tuple[int, ...]) -> np.ndarray:
        return np.exp(self.random.normal(0, SPREAD, shape))

    def alone(self, node: onnx.NodeProto, values: list[dict[str, np.ndarray]]) -> list[np.ndarray]:
        """The first result of a node for each photo."""
        used = [n for n in node.input if n]
        fixed = [numpy_helper.from_array(self.known[n], n) for n in dict.fromkeys(used) if n in self.known]
        fed = [n for n in dict.fromkeys(used) if n not in self.known]
        types = [helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, values[0][n].shape) for n in fed]
        result = helper.make_tensor_value_info(node.output[0], onnx.TensorProto.FLOAT, None)
        graph = helper.make_graph([node], "alone", types, [result], fixed)
        model = helper.make_model(graph, opset_imports=self.model.opset_import, ir_version=8)
        options = ort.SessionOptions()
        options.intra_op_num_threads, options.log_severity_level = 1, 3
        session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        return [session.run([node.output[0]], {n: v[n] for n in fed})[0] for v in values]

    def layer(self, node: onnx.NodeProto, values: list[dict[str, np.ndarray]], last: bool) -> list[np.ndarray]:
        weight = node.input[1]
        shape = self.open[weight]
        outputs_first = node.op_type == "Conv" or any(a.name == "transB" and a.i for a in node.attribute)
        channels = shape[0] if outputs_first else shape[1]
        spread = self.spread((channels,)).reshape([-1] + [1] * (len(shape) - 1) if outputs_first else [1, -1])
        value = self.random.normal(0, np.sqrt(2 * channels / np.prod(shape)), shape) * spread
        self.close(weight, value)
        bias = node.input[2] if len(node.input) > 2 else None
        if bias:
            self.close(bias, np.zeros(self.open[bias]))
        results = self.alone(node, values)
        if not bias:
            return results
        means = np.mean([r.reshape(1, channels, -1).mean((0, 2)) for r in results], 0)
        rest = [r - means.reshape([1, -1] + [1] * (r.ndim - 2)) for r in results]
        scale = (SCORES if last else 1.0) / np.std(rest)
        offsets = self.random.normal(0, OFFSET, channels)
        self.close(weight, self.known[weight] * scale)
        self.close(bias, offsets - scale * means)
        return self.alone(node, values)

    def normalization(self, node: onnx.NodeProto, values: list[dict[str, np.ndarray]]) -> list[np.ndarray]:
        x = np.concatenate([v[node.input[0]] for v in values])
        axes = tuple(a for a in range(x.ndim) if a != 1)
        scale, bias, mean, variance = node.input[1:5]
        self.close(mean, x.mean(axes))
        self.close(variance, x.var(axes))
        self.factor(scale)
        self.offset(bias)
        return self.alone(node, values)

    def factor(self, name: str) -> None:
        # A normalization with a multiplication behind it needs one spread only.
        self.close(name, self.spread(self.open[name]))

    def offset(self, name: str) -> None:
        self.close(name, self.random.normal(0, OFFSET, self.open[name]))

    def fill(self, x: list[np.ndarray]) -> None:
        values = [{self.input.name: image} for image in x]
        left = {name: len(readers) for name, readers in self.readers.items()}
        last = max(i for i, node in enumerate(self.nodes) if node.op_type in LAYERS)
        for i, node in enumerate(self.nodes):
            if node.op_type in LAYERS:
                results = self.layer(node, values, i == last)
            elif node.op_type == "BatchNormalization":
                results = self.normalization(node, values)
            else:
                for name in node.input:
                    if name in self.open and name not in self.known:
                        self.factor(name) if node.op_type == "Mul" else self.offset(name)
                results = self.alone(node, values)
            for value, result in zip(values, results):
                value[node.output[0]] = result
            for name in set(node.input) & set(values[0]):
                left[name] -= sum(n == name for n in node.input)
                if left[name] == 0:
                    for value in values:
                        del value[name]

    def save(self, path: Path) -> None:
        output = helper.make_tensor_value_info(self.nodes[-1].output[0], onnx.TensorProto.FLOAT, None)
        used = {name for node in self.nodes for name in node.input}
        fixed = [numpy_helper.from_array(v, n) for n, v in self.known.items() if n in used]
        graph = helper.make_graph(self.nodes, path.stem, [self.input], [output], fixed)
        model = helper.make_model(graph, opset_imports=self.model.opset_import, ir_version=8)
        onnx.save(model, path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("--calib", type=Path, required=True, help="folder of photos to scale by")
    parser.add_argument("--val", type=Path, required=True, help="folder of photos to judge on")
    parser.add_argument("--count", type=int, default=100, help="photos to judge on")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()

    args.out.mkdir(parents=True, exist_ok=True)
    model = args.out / args.model.name
    logits = model.with_suffix(".npy")
    stored, preprocess = args.out / "x.npy", Preprocessing()
    if not stored.is_file():
        x = np.stack([preprocess(path) for path in photos(args.val, args.count)])
        np.save(args.out / "labels.npy", np.zeros(len(x), np.int64))
        np.save(stored, x)
    if not logits.is_file():
        network = Network(args.model, args.seed)
        network.fill([preprocess(path)[None] for path in photos(args.calib, CALIBRATED)])
        network.save(model)
        np.save(logits, run(model, np.load(stored)))
    print(json.dumps({"model": str(model), "logits": str(logits)}))


if __name__ == "__main__":
    main()
