"""Preprocesses photos with Pillow as TensorFlow's image classifiers take them.

RGB; short side to 256, bilinear; centre crop 224 x 224; pixel / 127.5 - 1; NHWC. Stores `x.npy` (float32) and
`labels.npy` (int64), whose classes count from --first-class, and leaves them alone if both are there.

JSON: {"images": count}.
"""

import argparse
import csv
import json
from pathlib import Path

import numpy as np
from PIL import Image

SHORT, CROP = 256, 224


def preprocess(path: Path) -> np.ndarray:
    image = Image.open(path).convert("RGB")
    factor = SHORT / min(image.size)
    width, height = (round(side * factor) for side in image.size)
    left, top = (width - CROP) // 2, (height - CROP) // 2
    image = image.resize((width, height), Image.Resampling.BILINEAR).crop((left, top, left + CROP, top + CROP))
    return np.asarray(image, np.float32) / np.float32(127.5) - np.float32(1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=Path, required=True, help="folder with labels.csv (file,class)")
    parser.add_argument("--out", type=Path, required=True, help="folder for the arrays")
    parser.add_argument("--first-class", type=int, default=0, help="number of the first class")
    args = parser.parse_args()

    args.out.mkdir(parents=True, exist_ok=True)
    files = {name: args.out / f"{name}.npy" for name in ("x", "labels")}
    if not all(path.is_file() for path in files.values()):
        with open(args.images / "labels.csv", newline="") as table:
            rows = [(row["file"], int(row["class"])) for row in csv.DictReader(table)]
        np.save(files["x"], np.stack([preprocess(args.images / name) for name, _ in rows]))
        np.save(files["labels"], np.array([label + args.first_class for _, label in rows], np.int64))
    print(json.dumps({"images": len(np.load(files["labels"]))}))


if __name__ == "__main__":
    main()
