"""Compares a quantized classifier in ONNX Runtime with the stored outputs of its fp32 model.

One thread, default optimisations. Takes the folder that prepare_images.py filled.

JSON: {"sqnr": mean over images of 10 log10(sum y^2 / sum (y - yq)^2) in dB, "agreement": percent of
images with the fp32 model's class, "top1": percent}.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import onnxruntime as ort


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("--data", type=Path, required=True, help="folder of prepare_images.py")
    parser.add_argument("--logits", type=Path, required=True, help="where the outputs go (.npy)")
    args = parser.parse_args()

    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    runtime = ort.InferenceSession(str(args.model), options, providers=["CPUExecutionProvider"])
    name = runtime.get_inputs()[0].name

    x = np.load(args.data / "x.npy", mmap_mode="r")
    y, labels = np.load(args.data / "logits.npy"), np.load(args.data / "labels.npy")
    yq = np.concatenate([runtime.run(None, {name: np.array(x[k : k + 1])})[0] for k in range(len(x))])
    np.save(args.logits, yq)

    noise = ((y - yq).astype(np.float64) ** 2).sum(1)
    signal = (y.astype(np.float64) ** 2).sum(1)
    figures = {
        "sqnr": float(np.mean(10 * np.log10(signal / np.maximum(noise, 1e-30)))),
        "agreement": 100 * float(np.mean(y.argmax(1) == yq.argmax(1))),
        "top1": 100 * float(np.mean(yq.argmax(1) == labels)),
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
