"""Counts how many grey pictures a classifier gets right in ONNX Runtime; x = pixel / 255.

JSON: {"images": count, "right": count}.
"""

import argparse
import csv
import json
from pathlib import Path

import numpy as np
import onnxruntime as ort
from PIL import Image


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--labels", type=Path, required=True, help="table with the columns image and label")
    args = parser.parse_args()

    with open(args.labels, newline="") as table:
        rows = [(row["image"], int(row["label"])) for row in csv.DictReader(table)]
    runtime = ort.InferenceSession(str(args.model), providers=["CPUExecutionProvider"])
    name = runtime.get_inputs()[0].name
    right = 0
    for image, label in rows:
        pixels = np.asarray(Image.open(args.images / image).convert("L"), np.float32) / np.float32(255)
        scores = runtime.run(None, {name: pixels[None, None]})[0]
        right += int(scores.argmax() == label)
    print(json.dumps({"images": len(rows), "right": right}))


if __name__ == "__main__":
    main()
