"""Compares the logits of a quantized classifier with those of its fp32 model, both in ONNX Runtime.

The logits are what the last Softmax reads. One thread, default optimisations. Preprocessing is that of
Caffe: BGR, the whole picture resized to the model's input, bilinear without antialiasing, less the mean.

JSON: {"sqnr_db": 10 log10(sum y^2 / sum (y - yq)^2) over all logits of all images, "agreeing": number of
images with the fp32 model's class, "images": count}.
"""

import argparse
import json
from pathlib import Path

import cv2
import numpy as np
import onnx
import onnxruntime as ort

MEAN_BGR = np.array([104, 117, 123], np.float32)


def preprocess(path: Path, size: tuple[int, int]) -> np.ndarray:
    image = cv2.imread(str(path), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    pixels = cv2.resize(image.astype(np.float32), size, interpolation=cv2.INTER_LINEAR)
    return (pixels - MEAN_BGR).transpose(2, 0, 1)[None]


def with_logits(path: Path) -> tuple[ort.InferenceSession, str]:
    """The model with its logits as another output, and their name."""
    model = onnx.load(path)
    logits = [node.input[0] for node in model.graph.node if node.op_type == "Softmax"][-1]
    model.graph.output.append(onnx.helper.make_tensor_value_info(logits, onnx.TensorProto.FLOAT, None))
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session, logits


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("--fp32", type=Path, required=True)
    parser.add_argument("--images", type=Path, required=True, help="folder of images")
    args = parser.parse_args()

    logits = []
    for path in (args.fp32, args.model):
        runtime, output = with_logits(path)
        data = runtime.get_inputs()[0]
        _, _, height, width = data.shape
        images = sorted(args.images.iterdir())
        rows = [runtime.run([output], {data.name: preprocess(image, (width, height))})[0] for image in images]
        logits.append(np.concatenate(rows).astype(np.float64))
    y, yq = logits
    figures = {
        "sqnr_db": float(10 * np.log10((y**2).sum() / max(((y - yq) ** 2).sum(), 1e-30))),
        "agreeing": int((y.argmax(1) == yq.argmax(1)).sum()),
        "images": len(y),
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
