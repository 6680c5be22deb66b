"""The validation pictures of `quantize demo` as its TensorFlow graph takes them.

Grey; pixel / 255; NHWC. Stores `x.npy` (float32) and `labels.npy` (int64).

JSON: {"images": count}.
"""

import argparse
import csv
import json
from pathlib import Path

import numpy as np
from PIL import Image


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("demo", type=Path, help="folder that `quantize demo` wrote")
    parser.add_argument("--out", type=Path, required=True, help="folder for the arrays")
    args = parser.parse_args()

    with open(args.demo / "labels.csv", newline="") as table:
        rows = [(row["image"], int(row["label"])) for row in csv.DictReader(table)]
    pictures = [np.asarray(Image.open(args.demo / "val" / name).convert("L"), np.float32) for name, _ in rows]
    np.save(args.out / "x.npy", np.stack(pictures)[..., None] / np.float32(255))
    np.save(args.out / "labels.npy", np.array([label for _, label in rows], np.int64))
    print(json.dumps({"images": len(rows)}))


if __name__ == "__main__":
    main()
