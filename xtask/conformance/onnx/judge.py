"""Compares a quantized classifier in ONNX Runtime with the stored outputs of its fp32 model.

One thread, default optimisations. Takes the folder that prepare_images.py filled.

Of a model that ends in a softmax, scores are the logarithms of its probabilities less their mean, which are its logits
but for a constant.

JSON: {"sqnr": mean over images of 10 log10(sum y^2 / sum (y - yq)^2) in dB, "ratios": these, "agreement":
percent of images with the fp32 model's class, "top1": percent, "kl": mean over images of the Kullback-Leibler
divergence of softmax(yq) from softmax(y), in nats}.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import onnxruntime as ort


def scores(outputs: np.ndarray, probabilities: bool) -> np.ndarray:
    y = outputs.reshape(len(outputs), -1).astype(np.float64)
    if not probabilities:
        return y
    y = np.log(np.maximum(y, 1e-30))
    return y - y.mean(1, keepdims=True)


def log_softmax(y: np.ndarray) -> np.ndarray:
    y = y - y.max(1, keepdims=True)
    return y - np.log(np.exp(y).sum(1, keepdims=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("--data", type=Path, required=True, help="folder of prepare_images.py")
    parser.add_argument("--logits", type=Path, required=True, help="where the outputs go (.npy)")
    parser.add_argument("--reference", type=Path, help="outputs of the fp32 model [default: logits.npy of the folder]")
    parser.add_argument("--probabilities", action="store_true", help="the model ends in a softmax")
    args = parser.parse_args()

    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    runtime = ort.InferenceSession(str(args.model), options, providers=["CPUExecutionProvider"])
    name = runtime.get_inputs()[0].name

    x = np.load(args.data / "x.npy", mmap_mode="r")
    y, labels = np.load(args.reference or args.data / "logits.npy"), np.load(args.data / "labels.npy")
    yq = np.concatenate([runtime.run(None, {name: np.array(x[k : k + 1])})[0] for k in range(len(x))])
    np.save(args.logits, yq)

    y, yq = scores(y, args.probabilities), scores(yq, args.probabilities)
    noise, signal = ((y - yq) ** 2).sum(1), (y**2).sum(1)
    p, q = log_softmax(y), log_softmax(yq)
    ratios = 10 * np.log10(signal / np.maximum(noise, 1e-30))
    figures = {
        "sqnr": float(np.mean(ratios)),
        "ratios": ratios.tolist(),
        "agreement": 100 * float(np.mean(y.argmax(1) == yq.argmax(1))),
        "top1": 100 * float(np.mean(yq.argmax(1) == labels)),
        "kl": float(np.mean((np.exp(p) * (p - q)).sum(1))),
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
