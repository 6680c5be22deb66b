"""Preprocesses labelled photos with Pillow and runs the fp32 model on them.

Preprocessing: RGB or BGR; short side to 256 and centre crop 224 x 224, or straight to 224 x 224, bicubic;
(pixel - mean) * scale; NCHW. Stores `x.npy` (float32), `logits.npy` (float32) and `labels.npy` (int64) and leaves them
alone if all are there.

JSON: {"images": count, "top1": percent of the fp32 model}.
"""

import argparse
import csv
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime as ort
from PIL import Image

SHORT, CROP = 256, 224


@dataclass
class Preprocessing:
    """How a photo becomes an input; by default as EfficientNet-Lite0 has it."""

    mean: tuple[float, ...] = (127.0,)
    scale: float = 1 / 128
    bgr: bool = False
    stretch: bool = False

    def __call__(self, path: Path) -> np.ndarray:
        image = Image.open(path).convert("RGB")
        if self.stretch:
            image = image.resize((CROP, CROP), Image.Resampling.BICUBIC)
        else:
            width, height = image.size
            factor = SHORT / min(width, height)
            size = (round(width * factor), round(height * factor))
            image = image.resize(size, Image.Resampling.BICUBIC)
            left, top = (size[0] - CROP) // 2, (size[1] - CROP) // 2
            image = image.crop((left, top, left + CROP, top + CROP))
        pixels = np.asarray(image, np.float32)[:, :, :: -1 if self.bgr else 1]
        x = (pixels - np.array(self.mean, np.float32)) * np.float32(self.scale)
        return np.ascontiguousarray(x.transpose(2, 0, 1))


def run(model: Path, x: np.ndarray) -> np.ndarray:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    runtime = ort.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    name = runtime.get_inputs()[0].name
    return np.concatenate([runtime.run(None, {name: x[k : k + 1]})[0] for k in range(len(x))])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--images", type=Path, required=True, help="folder with labels.csv (file,class)")
    parser.add_argument("--out", type=Path, required=True, help="folder for the arrays")
    parser.add_argument("--limit", type=int, help="photos at most, evenly spread [default: all]")
    parser.add_argument("--mean", type=float, nargs="+", default=[127.0])
    parser.add_argument("--scale", type=float, default=1 / 128)
    parser.add_argument("--bgr", action="store_true")
    parser.add_argument("--stretch", action="store_true", help="to 224 x 224, without a crop")
    args = parser.parse_args()

    args.out.mkdir(parents=True, exist_ok=True)
    files = {name: args.out / f"{name}.npy" for name in ("x", "logits", "labels")}
    if not all(path.is_file() for path in files.values()):
        with open(args.images / "labels.csv", newline="") as table:
            rows = [(row["file"], int(row["class"])) for row in csv.DictReader(table)]
        rows = rows[:: max(1, len(rows) // (args.limit or len(rows)))][: args.limit]
        preprocess = Preprocessing(tuple(args.mean), args.scale, args.bgr, args.stretch)
        x = np.stack([preprocess(args.images / name) for name, _ in rows])
        np.save(files["x"], x)
        np.save(files["logits"], run(args.model, x))
        np.save(files["labels"], np.array([label for _, label in rows], np.int64))
    logits, labels = np.load(files["logits"]), np.load(files["labels"])
    top1 = 100 * float(np.mean(logits.argmax(1) == labels))
    print(json.dumps({"images": len(labels), "top1": top1}))


if __name__ == "__main__":
    main()
