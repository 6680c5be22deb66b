"""Runs a Caffe network in OpenCV and stores what went in and came out.

The inputs are the rows of a file, or random, evenly distributed in -1..1, of the shape that the network's
description states. Every blob that no layer reads is an output.

JSON: {"samples": [{"input": path, "outputs": {name: path}}, ...]}.
"""

import argparse
import json
import re
from pathlib import Path

import cv2
import numpy as np

RANDOM_SAMPLES = 2


def input_shape(deploy: Path) -> list[int]:
    """The dimensions of the only input, in any of the forms that a description may state them."""
    text = re.sub("#.*", "", deploy.read_text())
    legacy = re.findall(r"\binput_dim\s*:\s*(\d+)", text)
    shape = re.search(r"\b(?:input_)?shape\s*:?\s*\{([^}]*)\}", text)
    dims = legacy or re.findall(r"\bdim\s*:\s*(\d+)", shape[1])
    return [int(dim) for dim in dims]


def random_inputs(shape: list[int]) -> list[np.ndarray]:
    generators = [np.random.default_rng(seed) for seed in range(RANDOM_SAMPLES)]
    return [rng.uniform(-1, 1, shape).astype(np.float32) for rng in generators]


def store(path: Path, array: np.ndarray) -> str:
    np.save(path, np.ascontiguousarray(array))
    return str(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("deploy", type=Path)
    parser.add_argument("weights", type=Path)
    parser.add_argument("--input", type=Path, help=".npy file; default: two random samples")
    parser.add_argument("--out", type=Path, required=True, help="folder for the arrays")
    args = parser.parse_args()

    args.out.mkdir(parents=True, exist_ok=True)
    network = cv2.dnn.readNetFromCaffe(str(args.deploy), str(args.weights))
    names = network.getUnconnectedOutLayersNames()
    if args.input is None:
        inputs = random_inputs(input_shape(args.deploy))
    else:
        rows = np.load(args.input)
        inputs = [rows[k : k + 1] for k in range(len(rows))]
    samples = []
    for k, x in enumerate(inputs):
        network.setInput(x)
        outputs = dict(zip(names, network.forward(names)))
        stored = {name: store(args.out / f"y{k}_{j}.npy", y) for j, (name, y) in enumerate(outputs.items())}
        samples.append({"input": store(args.out / f"x{k}.npy", x), "outputs": stored})
    print(json.dumps({"samples": samples}))


if __name__ == "__main__":
    main()
