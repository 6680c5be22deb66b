"""Writes random PNG images of the size of a model's input, as calibration data.

JSON: {"width": W, "height": H, "count": N}.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import onnxruntime as ort
from PIL import Image


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path, help="its first input is N x C x H x W")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--count", type=int, default=12)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()

    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    runtime = ort.InferenceSession(str(args.model), options, providers=["CPUExecutionProvider"])
    _, channels, height, width = runtime.get_inputs()[0].shape
    args.out.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(args.seed)
    for k in range(args.count):
        pixels = rng.integers(0, 256, (height, width, channels), np.uint8)
        Image.fromarray(pixels.squeeze()).save(args.out / f"{k:03}.png")
    print(json.dumps({"width": width, "height": height, "count": args.count}))


if __name__ == "__main__":
    main()
