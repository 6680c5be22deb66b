"""Compares a quantized model in ONNX Runtime with its fp32 model on gray pictures of its input's size.

Each picture is run by itself, its pixel values as they are. One thread, default optimisations.

JSON: {"cosines": {output: [cosine of the fp32 and the quantized values for each picture, ...], ...},
"sqnr_db": {output: mean over the pictures of 10 log10(signal / noise), ...}}.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import onnxruntime as ort
from PIL import Image


def session(model: Path) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    return ort.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    a, b = a.ravel().astype(np.float64), b.ravel().astype(np.float64)
    return float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)))


def sqnr_db(a: np.ndarray, b: np.ndarray) -> float:
    a, b = a.astype(np.float64), b.astype(np.float64)
    return float(10 * np.log10(np.sum(a * a) / max(np.sum((a - b) ** 2), 1e-30)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("fp32", type=Path)
    parser.add_argument("int8", type=Path)
    parser.add_argument("--images", type=Path, required=True, help="folder of PNG files")
    args = parser.parse_args()

    exact, quantized = session(args.fp32), session(args.int8)
    name = exact.get_inputs()[0].name
    outputs = [output.name for output in exact.get_outputs()]
    cosines: dict[str, list[float]] = {output: [] for output in outputs}
    ratios: dict[str, list[float]] = {output: [] for output in outputs}
    for path in sorted(args.images.glob("*.png")):
        feed = {name: np.asarray(Image.open(path), np.float32)[None, None]}
        for output, a, b in zip(outputs, exact.run(outputs, feed), quantized.run(outputs, feed)):
            cosines[output].append(cosine(a, b))
            ratios[output].append(sqnr_db(a, b))
    means = {output: float(np.mean(each)) for output, each in ratios.items()}
    print(json.dumps({"cosines": cosines, "sqnr_db": means}))


if __name__ == "__main__":
    main()
