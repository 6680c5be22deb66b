"""Trains the digit classifier that `quantize demo` embeds, and writes its data sheets.

The network is a small MobileNet-like CNN for 16x16 grey pictures of the digits 0..9. Forward and
backward passes are plain numpy (convolution by im2col). Needed besides: scikit-learn (the data),
pillow (the pictures), onnx (the export) and onnxruntime (the accuracy of what was exported). Batch
normalisation is exported unfolded, with its running statistics: folding it is the quantizer's job.

    python train.py            # writes next to this file; a few minutes on one core

Every random choice comes from one seed. Another BLAS may round differently and so lead to
slightly different weights.
"""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from numpy.lib.stride_tricks import sliding_window_view
from onnx import TensorProto, helper, numpy_helper
from PIL import Image
from sklearn.datasets import load_digits

SEED = 20
SIDE = 16  # pictures are SIDE x SIDE pixels
SCALE = np.float32(1 / 255)  # x = pixel * SCALE
VALIDATION = 400  # the last images of the set, never seen in training
CALIBRATION_PER_CLASS = 10
EPOCHS = 60
BATCH = 32
PEAK_LEARNING_RATE = 4e-3
WEIGHT_DECAY = 1e-3
BN_EPSILON = 1e-5
BN_MOMENTUM = 0.9
FOLDER = Path(__file__).resolve().parent


# A layer has `forward(x, training)`, `backward(dy)` (returns dx and leaves `grads` aligned with
# `params`), and `export(graph, x)` (appends its ONNX node, returns the name of its output).


class Layer:
    """A layer without parameters; the others override what they need."""

    def __init__(self, name):
        self.name = name
        self.params = []
        self.grads = []
        self.decayed = False


class Conv(Layer):
    """2-D convolution without bias: x [N,C,H,W], weight [O,C/groups,k,k], zero padding k//2."""

    def __init__(self, name, rng, inputs, outputs, kernel, stride=1, groups=1):
        super().__init__(name)
        fan_in = inputs // groups * kernel * kernel
        shape = (outputs, inputs // groups, kernel, kernel)
        self.weight = (rng.standard_normal(shape) * np.sqrt(2 / fan_in)).astype(np.float32)
        self.kernel, self.stride, self.groups, self.pad = kernel, stride, groups, kernel // 2
        self.params = [self.weight]
        self.decayed = True

    def forward(self, x, training):
        n, c, h, w = x.shape
        k, s, p, g = self.kernel, self.stride, self.pad, self.groups
        padded = np.pad(x, ((0, 0), (0, 0), (p, p), (p, p)))
        windows = sliding_window_view(padded, (k, k), axis=(2, 3))[:, :, ::s, ::s]
        rows, columns = windows.shape[2:4]
        # im2col: [N, groups, (C/groups)*k*k, rows*columns]
        patches = windows.transpose(0, 1, 4, 5, 2, 3).reshape(n, g, -1, rows * columns)
        matrix = self.weight.reshape(g, self.weight.shape[0] // g, -1)
        if training:
            self.saved = (patches, padded.shape, x.shape, rows, columns)
        return (matrix @ patches).reshape(n, -1, rows, columns)

    def backward(self, dy):
        patches, padded_shape, (n, c, h, w), rows, columns = self.saved
        k, s, p, g = self.kernel, self.stride, self.pad, self.groups
        dy = dy.reshape(n, g, -1, rows * columns)
        matrix = self.weight.reshape(g, self.weight.shape[0] // g, -1)
        dweight = (dy @ patches.swapaxes(2, 3)).sum(axis=0)
        self.grads = [dweight.reshape(self.weight.shape)]
        # col2im: each tap of the kernel adds its patch row back where it was read.
        dpatches = (matrix.swapaxes(1, 2) @ dy).reshape(n, c, k, k, rows, columns)
        dpadded = np.zeros(padded_shape, np.float32)
        for i in range(k):
            for j in range(k):
                dpadded[:, :, i : i + s * rows : s, j : j + s * columns : s] += dpatches[:, :, i, j]
        return dpadded[:, :, p : p + h, p : p + w]

    def export(self, graph, x):
        weight = graph.initializer(f"{self.name}.weight", self.weight)
        return graph.node(
            "Conv", self.name, [x, weight],
            kernel_shape=[self.kernel] * 2, strides=[self.stride] * 2,
            pads=[self.pad] * 4, group=self.groups,
        )


class BatchNorm(Layer):
    """Batch normalisation over N, H, W with running statistics for inference."""

    def __init__(self, name, rng, channels):
        super().__init__(name)
        # The spread of the initial gains survives training: channels end with different ranges,
        # as they do in large networks, and per-tensor weight scales have to pay for it.
        self.gamma = np.exp(rng.uniform(-1.0, 1.0, channels)).astype(np.float32)
        self.beta = np.zeros(channels, np.float32)
        self.mean = np.zeros(channels, np.float32)
        self.variance = np.ones(channels, np.float32)
        self.params = [self.gamma, self.beta]

    def forward(self, x, training):
        if not training:
            gain = self.gamma / np.sqrt(self.variance + BN_EPSILON)
            return x * per_channel(gain) + per_channel(self.beta - self.mean * gain)
        mean, variance = x.mean(axis=(0, 2, 3)), x.var(axis=(0, 2, 3))
        self.mean += (1 - BN_MOMENTUM) * (mean - self.mean)
        self.variance += (1 - BN_MOMENTUM) * (variance - self.variance)
        inverse = 1 / np.sqrt(variance + BN_EPSILON)
        normalised = (x - per_channel(mean)) * per_channel(inverse)
        self.saved = (normalised, inverse)
        return normalised * per_channel(self.gamma) + per_channel(self.beta)

    def backward(self, dy):
        normalised, inverse = self.saved
        count = dy.size // dy.shape[1]
        dgamma, dbeta = (dy * normalised).sum(axis=(0, 2, 3)), dy.sum(axis=(0, 2, 3))
        self.grads = [dgamma, dbeta]
        centred = dy - per_channel(dbeta / count) - normalised * per_channel(dgamma / count)
        return centred * per_channel(self.gamma * inverse)

    def export(self, graph, x):
        values = {
            "gamma": self.gamma, "beta": self.beta,
            "running_mean": self.mean, "running_var": self.variance,
        }
        inputs = [graph.initializer(f"{self.name}.{key}", value) for key, value in values.items()]
        return graph.node("BatchNormalization", self.name, [x, *inputs], epsilon=BN_EPSILON)


class Clamp(Layer):
    """ReLU (`high` infinite) or ReLU6, exported as Relu or Clip."""

    def __init__(self, name, high=np.inf):
        super().__init__(name)
        self.high = high

    def forward(self, x, training):
        if training:
            self.saved = (x > 0) & (x < self.high)
        return np.clip(x, 0, self.high)

    def backward(self, dy):
        return dy * self.saved

    def export(self, graph, x):
        if np.isinf(self.high):
            return graph.node("Relu", self.name, [x])
        low = graph.initializer(f"{self.name}.min", np.float32(0))
        high = graph.initializer(f"{self.name}.max", np.float32(self.high))
        return graph.node("Clip", self.name, [x, low, high])


class MaxPool(Layer):
    """2x2 maximum with stride 2 (even sides)."""

    def forward(self, x, training):
        n, c, h, w = x.shape
        blocks = x.reshape(n, c, h // 2, 2, w // 2, 2)
        y = blocks.max(axis=(3, 5))
        if training:
            winners = blocks == y[:, :, :, None, :, None]
            # Equal maxima share the gradient.
            self.saved = winners / winners.sum(axis=(3, 5), keepdims=True, dtype=np.float32)
        return y

    def backward(self, dy):
        n, c, h, w = dy.shape
        return (self.saved * dy[:, :, :, None, :, None]).reshape(n, c, 2 * h, 2 * w)

    def export(self, graph, x):
        return graph.node("MaxPool", self.name, [x], kernel_shape=[2, 2], strides=[2, 2])


class Residual(Layer):
    """y = x + body(x)."""

    def __init__(self, name, body):
        super().__init__(name)
        self.body = body

    def forward(self, x, training):
        return x + self.body.forward(x, training)

    def backward(self, dy):
        return dy + self.body.backward(dy)

    def export(self, graph, x):
        return graph.node("Add", self.name, [x, self.body.export(graph, x)])


class GlobalAveragePool(Layer):
    """[N,C,H,W] to [N,C]; exported as GlobalAveragePool and Flatten."""

    def forward(self, x, training):
        self.saved = x.shape
        return x.mean(axis=(2, 3))

    def backward(self, dy):
        height, width = self.saved[2:]
        return np.broadcast_to(dy[:, :, None, None] / np.float32(height * width), self.saved)

    def export(self, graph, x):
        pooled = graph.node("GlobalAveragePool", self.name, [x])
        return graph.node("Flatten", "head.flatten", [pooled], axis=1)


class Dense(Layer):
    """y = x weight^T + bias, weight [outputs, inputs]; exported as Gemm with transB = 1."""

    def __init__(self, name, rng, inputs, outputs):
        super().__init__(name)
        self.weight = (rng.standard_normal((outputs, inputs)) / np.sqrt(inputs)).astype(np.float32)
        self.bias = np.zeros(outputs, np.float32)
        self.params = [self.weight, self.bias]
        self.decayed = True

    def forward(self, x, training):
        self.saved = x
        return x @ self.weight.T + self.bias

    def backward(self, dy):
        self.grads = [dy.T @ self.saved, dy.sum(axis=0)]
        return dy @ self.weight

    def export(self, graph, x):
        weight = graph.initializer(f"{self.name}.weight", self.weight)
        bias = graph.initializer(f"{self.name}.bias", self.bias)
        return graph.node("Gemm", self.name, [x, weight, bias], output="logits", transB=1)


class Sequence(Layer):
    """Layers one after the other."""

    def __init__(self, *layers):
        super().__init__("")
        self.layers = layers

    def forward(self, x, training):
        for layer in self.layers:
            x = layer.forward(x, training)
        return x

    def backward(self, dy):
        for layer in reversed(self.layers):
            dy = layer.backward(dy)
        return dy

    def export(self, graph, x):
        for layer in self.layers:
            x = layer.export(graph, x)
        return x

    def leaves(self):
        """The layers that hold parameters, residual bodies included."""
        for layer in self.layers:
            yield from layer.body.leaves() if isinstance(layer, Residual) else [layer]


def per_channel(values):
    return values[:, None, None]


def build_network(rng):
    return Sequence(
        Conv("stem.conv", rng, 1, 16, kernel=3),
        BatchNorm("stem.bn", rng, 16),
        Clamp("stem.relu6", high=6.0),
        MaxPool("stem.pool"),
        Conv("block1.depthwise", rng, 16, 16, kernel=3, groups=16),
        BatchNorm("block1.depthwise_bn", rng, 16),
        Clamp("block1.relu"),
        Conv("block1.pointwise", rng, 16, 32, kernel=1),
        BatchNorm("block1.pointwise_bn", rng, 32),
        Residual(
            "block2.add",
            Sequence(
                Conv("block2.depthwise", rng, 32, 32, kernel=3, groups=32),
                BatchNorm("block2.depthwise_bn", rng, 32),
                Clamp("block2.relu"),
                Conv("block2.pointwise", rng, 32, 32, kernel=1),
                BatchNorm("block2.pointwise_bn", rng, 32),
            ),
        ),
        Conv("block3.conv", rng, 32, 48, kernel=3, stride=2),
        BatchNorm("block3.bn", rng, 48),
        Clamp("block3.relu"),
        GlobalAveragePool("head.pool"),
        Dense("head.fc", rng, 48, 10),
    )


class Adam:
    """Adam with decoupled weight decay on convolution and dense weights."""

    def __init__(self, network):
        self.layers = [layer for layer in network.leaves() if layer.params]
        self.moments = [[(np.zeros_like(p), np.zeros_like(p)) for p in l.params] for l in self.layers]
        self.steps = 0

    def step(self, rate):
        self.steps += 1
        correction = np.sqrt(1 - 0.999**self.steps) / (1 - 0.9**self.steps)
        for layer, moments in zip(self.layers, self.moments):
            for parameter, grad, (first, second) in zip(layer.params, layer.grads, moments):
                first += 0.1 * (grad - first)
                second += 0.001 * (grad * grad - second)
                if layer.decayed and parameter.ndim > 1:
                    parameter *= 1 - rate * WEIGHT_DECAY
                parameter -= (rate * correction * first / (np.sqrt(second) + 1e-8)).astype(np.float32)


def softmax_cross_entropy_gradient(logits, labels):
    """Mean loss of the batch and its gradient with respect to the logits."""
    shifted = logits - logits.max(axis=1, keepdims=True)
    probabilities = np.exp(shifted)
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    picked = np.arange(len(labels)), labels
    loss = -np.log(probabilities[picked] + 1e-12).mean()
    probabilities[picked] -= 1
    return loss, probabilities / np.float32(len(labels))


def shifted_copies(pictures, rng):
    """Augmentation: each picture moves by -1, 0 or 1 pixel in both directions."""
    padded = np.pad(pictures, ((0, 0), (1, 1), (1, 1)))
    offsets = rng.integers(0, 3, (len(pictures), 2))
    return np.stack([p[y : y + SIDE, x : x + SIDE] for p, (y, x) in zip(padded, offsets)])


def train(pictures, labels, rng):
    network = build_network(rng)
    optimizer = Adam(network)
    batches = len(pictures) // BATCH
    for epoch in range(EPOCHS):
        order = rng.permutation(len(pictures))
        total = 0.0
        for batch in range(batches):
            chosen = order[batch * BATCH : (batch + 1) * BATCH]
            x = to_tensor(shifted_copies(pictures[chosen], rng))
            loss, gradient = softmax_cross_entropy_gradient(network.forward(x, True), labels[chosen])
            network.backward(gradient)
            progress = (epoch + batch / batches) / EPOCHS
            optimizer.step(PEAK_LEARNING_RATE * 0.5 * (1 + np.cos(np.pi * progress)))
            total += loss
        if epoch % 5 == 4:
            print(f"epoch {epoch + 1:3}: training loss {total / batches:.4f}", flush=True)
    return network


def to_tensor(pictures):
    """Pictures [N,H,W] uint8 to the network's input [N,1,H,W] float32."""
    return pictures[:, None].astype(np.float32) * SCALE


def load_pictures():
    """The data set as 16x16 grey pictures [1797,16,16] uint8 (ink is white), and its labels."""
    digits = load_digits()
    grey = np.round(digits.images * (255 / 16)).astype(np.uint8)
    size, filter = (SIDE, SIDE), Image.Resampling.BICUBIC
    pictures = np.stack([np.asarray(Image.fromarray(g).resize(size, filter)) for g in grey])
    return pictures, digits.target.astype(np.int64)


def balanced_choice(labels, per_class, rng):
    """Indices of `per_class` images of each class, in random order."""
    chosen = [rng.choice(np.flatnonzero(labels == c), per_class, replace=False) for c in range(10)]
    return rng.permutation(np.concatenate(chosen))


def write_sheet(path, pictures, columns):
    """Tiles the pictures row by row into one grey PNG."""
    rows = len(pictures) // columns
    tiles = pictures.reshape(rows, columns, SIDE, SIDE).transpose(0, 2, 1, 3)
    Image.fromarray(tiles.reshape(rows * SIDE, columns * SIDE)).save(path, optimize=True)


def read_sheet(path):
    """The tiles of a sheet, [N,16,16] uint8, row by row."""
    sheet = np.asarray(Image.open(path))
    rows, columns = sheet.shape[0] // SIDE, sheet.shape[1] // SIDE
    tiles = sheet.reshape(rows, SIDE, columns, SIDE).transpose(0, 2, 1, 3)
    return tiles.reshape(-1, SIDE, SIDE)


class GraphBuilder:
    """Collects nodes and initializers; a node's output is named after the node."""

    def __init__(self):
        self.nodes = []
        self.initializers = []

    def initializer(self, name, value):
        self.initializers.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def node(self, op_type, name, inputs, output=None, **attributes):
        output = output or f"{name}.out"
        self.nodes.append(helper.make_node(op_type, inputs, [output], name=name, **attributes))
        return output


def export_onnx(network, path):
    graph = GraphBuilder()
    output = network.export(graph, "input")
    picture = helper.make_tensor_value_info("input", TensorProto.FLOAT, ["N", 1, SIDE, SIDE])
    logits = helper.make_tensor_value_info(output, TensorProto.FLOAT, ["N", 10])
    model = helper.make_model(
        helper.make_graph(graph.nodes, "digits", [picture], [logits], graph.initializers),
        producer_name="train.py",
        opset_imports=[helper.make_opsetid("", 13)],
        ir_version=8,
    )
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)


def accuracy(path, pictures, labels):
    """Top-1 accuracy of the exported model in ONNX Runtime."""
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (logits,) = session.run(None, {"input": to_tensor(pictures)})
    return (logits.argmax(axis=1) == labels).mean()


README = """# The example of `quantize demo`

A classifier of handwritten digits with its calibration and validation pictures, small enough to
live in the binary.

| file | content |
|---|---|
| `digits.onnx` | the fp32 network (opset 13): `input` float32 [N, 1, 16, 16], `logits` float32 [N, 10]; {parameters} parameters |
| `digits.prototxt`, `digits.caffemodel` | the same network in Caffe's format: `data` [1, 1, 16, 16], logits `head/fc`, probabilities `prob` |
| `digits.pb` | the same network as a frozen TensorFlow graph: `input` [N, 16, 16, 1], `logits` [N, 10] |
| `calib.png` | {calibration} training pictures, ten of each digit: a sheet of 10 x 10 tiles of 16 x 16 pixels, 8-bit grey |
| `val.png` | {validation} validation pictures, none used in training: a sheet of 20 x 20 such tiles |
| `val_labels.txt` | the {validation} digits of `val.png`, row by row, one a line |
| `train.py` | makes all of the above but the Caffe files and the TensorFlow graph, and this file |

Preprocessing: x = pixel / 255 (mean 0, scale 1/255), one grey channel, ink is white.

Measured in ONNX Runtime on the PNG sheets, fp32: validation top-1 {validation_accuracy:.2%}
({correct} of {validation}); calibration sheet {calibration_accuracy:.2%}.

## The network

Conv, BatchNormalization, Clip 0..6, MaxPool; depthwise Conv, BatchNormalization, Relu, pointwise
Conv, BatchNormalization; the same once more around a residual Add; Conv with stride 2,
BatchNormalization, Relu; GlobalAveragePool, Flatten, Gemm. Batch normalisation is not folded.

## How it was made

`python train.py` with numpy, scikit-learn, pillow, onnx and onnxruntime. The 1797 images of 8 x 8
pixels with values 0..16 are scaled to 0..255 and enlarged to 16 x 16 (bicubic). The last {validation}
images in the order of the set are the validation set, the first {training} the training set; the
sheet `calib.png` is drawn from the latter. {epochs} epochs of Adam with a cosine schedule, shifts by at
most one pixel as augmentation; the weights are those after the last epoch, so the validation set
chose nothing.

`cargo xtask demo-caffe` makes the Caffe files from `digits.onnx`, with the same numbers: a
BatchNormalization is a BatchNorm and a Scale layer, Clip 0..6 is ReLU6, the depthwise convolutions
have as many groups as channels, and a Softmax follows the logits.

`cargo xtask demo-tensorflow` makes the TensorFlow graph from it, channels last: a BatchNormalization is a
FusedBatchNormV3, Clip 0..6 is Relu6, the convolution with stride 2 reads what a Pad made, and the pooling is a Mean.

## Origin of the data

E. Alpaydin and C. Kaynak, "Optical Recognition of Handwritten Digits", UCI Machine Learning
Repository, 1998, <https://doi.org/10.24432/C50P49>, licence CC BY 4.0; the copy is the one that
scikit-learn ships (`sklearn.datasets.load_digits`). Changes: values rescaled, images enlarged and
tiled into sheets.
"""


def main():
    rng = np.random.default_rng(SEED)
    pictures, labels = load_pictures()
    training = len(pictures) - VALIDATION
    network = train(pictures[:training], labels[:training], rng)
    model = FOLDER / "digits.onnx"
    export_onnx(network, model)

    calibration = balanced_choice(labels[:training], CALIBRATION_PER_CLASS, rng)
    write_sheet(FOLDER / "calib.png", pictures[calibration], columns=10)
    write_sheet(FOLDER / "val.png", pictures[training:], columns=20)
    (FOLDER / "val_labels.txt").write_text("".join(f"{label}\n" for label in labels[training:]))

    validation_accuracy = accuracy(model, read_sheet(FOLDER / "val.png"), labels[training:])
    readme = README.format(
        parameters=sum(p.size for layer in network.leaves() for p in layer.params),
        calibration=len(calibration),
        validation=VALIDATION,
        training=training,
        epochs=EPOCHS,
        validation_accuracy=validation_accuracy,
        correct=round(validation_accuracy * VALIDATION),
        calibration_accuracy=accuracy(model, read_sheet(FOLDER / "calib.png"), labels[calibration]),
    )
    (FOLDER / "README.md").write_text(readme)
    print(f"validation top-1 {validation_accuracy:.4f}")


if __name__ == "__main__":
    main()
