"""Encoders with 4-bit weights: makes one to quantize, quantizes by the runtime's own tool, and judges.

make     writes an encoder and sentences, some to calibrate with and others to judge by. JSON: {}.
theirs   quantizes a model's products with onnxruntime's MatMulNBits quantizer. JSON: {}.
judge    runs models in onnxruntime. JSON: {"sqnr_db": {model: mean ratio over samples}, "products": {model: number
         of MatMulNBits nodes}}, the models by their paths; the ratio is that of the first output.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

SEED = 23
WORDS, WIDTH, HEADS, INNER, LAYERS, LENGTH = 600, 192, 6, 640, 3, 48
SEEN, UNSEEN = 96, 64
# Singular values of trained networks fall with a power of their rank, those of embeddings faster than those of weights;
# a few channels are louder than the rest between the parts of a layer.
EMBEDDING_DECAY, WEIGHT_DECAY = 0.5, 0.25
OUTLIERS, OUTLIER_FACTOR = (7, 101), 4.0


class Encoder:
    """Attention and products with GELU between them, as exporters write them."""

    def __init__(self):
        self.rng = np.random.default_rng(SEED)
        self.nodes, self.initializers = [], []

    def tensor(self, name, values, dtype=np.float32):
        self.initializers.append(numpy_helper.from_array(np.asarray(values, dtype), name))
        return name

    def node(self, op, name, *inputs, **attributes):
        self.nodes.append(helper.make_node(op, inputs, [name], name=name, **attributes))
        return name

    def matrix(self, rows, columns, decay=WEIGHT_DECAY):
        """Random, with singular values that fall with a power of their rank."""
        rank = min(rows, columns)
        left = np.linalg.qr(self.rng.standard_normal((rows, rank)))[0]
        right = np.linalg.qr(self.rng.standard_normal((columns, rank)))[0]
        values = np.arange(1, rank + 1.0) ** -decay
        return (left * (values * np.sqrt(columns / np.sum(values**2)))) @ right.T

    def linear(self, name, x, inputs, outputs):
        product = self.node("MatMul", f"{name}.product", x, self.tensor(f"{name}.weight", self.matrix(inputs, outputs)))
        return self.node("Add", name, product, self.tensor(f"{name}.bias", self.rng.uniform(-0.2, 0.2, outputs)))

    def norm(self, name, x, loudness=1.0):
        gamma = self.rng.uniform(0.6, 1.4, WIDTH)
        gamma[list(OUTLIERS)] *= loudness
        beta = self.tensor(f"{name}.beta", self.rng.uniform(-0.2, 0.2, WIDTH))
        return self.node("LayerNormalization", name, x, self.tensor(f"{name}.gamma", gamma), beta, axis=-1)

    def heads(self, name, x, permutation):
        shape = self.tensor(f"{name}.shape", [1, LENGTH, HEADS, WIDTH // HEADS], np.int64)
        return self.node("Transpose", f"{name}.heads", self.node("Reshape", f"{name}.split", x, shape), perm=permutation)

    def attention(self, name, x):
        query, key, value = (self.linear(f"{name}.{part}", x, WIDTH, WIDTH) for part in ("query", "key", "value"))
        query, value = self.heads(query, query, [0, 2, 1, 3]), self.heads(value, value, [0, 2, 1, 3])
        key = self.heads(key, key, [0, 2, 3, 1])
        scores = self.node("MatMul", f"{name}.scores", query, key)
        scale = self.tensor(f"{name}.scale", (WIDTH / HEADS) ** -0.5)
        weights = self.node("Softmax", f"{name}.weights", self.node("Mul", f"{name}.scaled", scores, scale), axis=-1)
        mixed = self.node("MatMul", f"{name}.mixed", weights, value)
        joined = self.node("Transpose", f"{name}.back", mixed, perm=[0, 2, 1, 3])
        flat = self.node("Reshape", f"{name}.joined", joined, self.tensor(f"{name}.flat", [1, LENGTH, WIDTH], np.int64))
        return self.linear(f"{name}.output", flat, WIDTH, WIDTH)

    def gelu(self, name, x):
        root, one, half = (self.tensor(f"{name}.{k}", v) for k, v in (("root", 2**0.5), ("one", 1.0), ("half", 0.5)))
        erf = self.node("Erf", f"{name}.erf", self.node("Div", f"{name}.div", x, root))
        return self.node("Mul", name, self.node("Mul", f"{name}.x", x, self.node("Add", f"{name}.add", erf, one)), half)

    def layer(self, name, x):
        x = self.node("Add", f"{name}.sum1", x, self.attention(f"{name}.attention", x))
        x = self.norm(f"{name}.norm1", x, OUTLIER_FACTOR)
        inner = self.gelu(f"{name}.gelu", self.linear(f"{name}.up", x, WIDTH, INNER))
        x = self.node("Add", f"{name}.sum2", x, self.linear(f"{name}.down", inner, INNER, WIDTH))
        return self.norm(f"{name}.norm2", x, 1 / OUTLIER_FACTOR)

    def model(self):
        table = np.sqrt(WORDS) * self.matrix(WORDS, WIDTH, EMBEDDING_DECAY) + 0.3 * self.rng.standard_normal(WIDTH)
        x = self.node("Gather", "embedded", self.tensor("words", table), "ids", axis=0)
        x = self.norm("norm0", self.node("Add", "placed", x, self.tensor("places", 0.3 * self.matrix(LENGTH, WIDTH, EMBEDDING_DECAY))))
        for index in range(LAYERS):
            x = self.layer(f"layer{index}", x)
        y = self.node("Identity", "hidden", x)
        inputs = [helper.make_tensor_value_info("ids", TensorProto.INT64, [1, LENGTH])]
        outputs = [helper.make_tensor_value_info(y, TensorProto.FLOAT, [1, LENGTH, WIDTH])]
        graph = helper.make_graph(self.nodes, "encoder", inputs, outputs, self.initializers)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        onnx.checker.check_model(model)
        return model


def sentences(folder, count, seed):
    """Words by their frequency, the most frequent first, each sentence from a part of the vocabulary."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    for k in range(count):
        ranks = rng.zipf(1.3, LENGTH) - 1
        topic = rng.integers(0, WORDS)
        ids = np.where(rng.random(LENGTH) < 0.4, ranks % 50, (topic + ranks * 7) % WORDS)
        np.save(folder / f"{k:03}.npy", ids.astype(np.int64)[None])


def make(args):
    args.out.mkdir(parents=True, exist_ok=True)
    onnx.save(Encoder().model(), args.out / "encoder.onnx")
    sentences(args.out / "seen", SEEN, 1)
    sentences(args.out / "unseen", UNSEEN, 2)
    return {}


def theirs(args):
    from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

    tool = MatMulNBitsQuantizer(onnx.load(args.model), block_size=args.group, is_symmetric=not args.asymmetric)
    tool.process()
    tool.model.save_model_to_file(str(args.out), use_external_data_format=False)
    return {}


def session(model):
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    return ort.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])


def samples(folder):
    for path in sorted(folder.iterdir()):
        yield np.load(path) if path.suffix == ".npy" else np.asarray(Image.open(path), np.float32)[None, None]


def judge(args):
    exact = session(args.fp32)
    name, output = exact.get_inputs()[0].name, exact.get_outputs()[0].name
    fed = [{name: sample} for sample in samples(args.data)]
    expected = [exact.run([output], feed)[0].astype(np.float64) for feed in fed]

    def ratio(model):
        runtime = session(model)
        noise = [np.sum((runtime.run([output], feed)[0] - y) ** 2) for feed, y in zip(fed, expected)]
        return float(np.mean([10 * np.log10(np.sum(y**2) / n) for n, y in zip(noise, expected)]))

    def products(model):
        return sum(node.op_type == "MatMulNBits" for node in onnx.load(model).graph.node)

    models = [str(model) for model in args.models]
    return {"sqnr_db": {m: ratio(m) for m in models}, "products": {m: products(m) for m in models}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    command = commands.add_parser("make")
    command.add_argument("--out", type=Path, required=True)
    command.set_defaults(run=make)
    command = commands.add_parser("theirs")
    command.add_argument("model", type=Path)
    command.add_argument("--out", type=Path, required=True)
    command.add_argument("--group", type=int, required=True)
    command.add_argument("--asymmetric", action="store_true")
    command.set_defaults(run=theirs)
    command = commands.add_parser("judge")
    command.add_argument("fp32", type=Path)
    command.add_argument("models", type=Path, nargs="+")
    command.add_argument("--data", type=Path, required=True, help="folder of arrays, or of gray PNG files")
    command.set_defaults(run=judge)
    args = parser.parse_args()
    print(json.dumps(args.run(args)))


if __name__ == "__main__":
    main()
