"""Runs a GraphDef in TensorFlow on the rows of an array, one thread, oneDNN on, and compares what comes out.

What the graph logs while it runs (Print) goes to the standard error.

JSON: {"images": rows, "ops": {operator: number of nodes}, "finite": whether all outputs are}; with --reference also
{"largest": largest absolute difference, "sqnr": mean over rows of 10 log10(sum y^2 / sum (y - yq)^2) in dB, "cosine":
mean over rows, "agreement": percent of rows with the reference's class}; with --labels also {"top1": percent}.
"""

import argparse
import json
import os
from collections import Counter
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ["TF_ENABLE_ONEDNN_OPTS"] = "1"

import numpy as np
import tensorflow as tf


def run(graph_def: tf.compat.v1.GraphDef, args: argparse.Namespace, x: np.ndarray) -> np.ndarray:
    with tf.Graph().as_default() as graph:
        tf.import_graph_def(graph_def, name="")
    options = tf.compat.v1.ConfigProto(intra_op_parallelism_threads=1, inter_op_parallelism_threads=1)
    with tf.compat.v1.Session(graph=graph, config=options) as session:
        batches = [x[k : k + args.batch] for k in range(0, len(x), args.batch)]
        rows = [session.run(f"{args.output}:0", {f"{args.input}:0": np.array(batch)}) for batch in batches]
    return np.concatenate([row.reshape(len(batch), -1) for row, batch in zip(rows, batches)])


def against(y: np.ndarray, yq: np.ndarray) -> dict[str, float]:
    y, yq = y.reshape(len(y), -1)[: len(yq)].astype(np.float64), yq.astype(np.float64)
    noise, signal = ((y - yq) ** 2).sum(1), (y**2).sum(1)
    lengths = np.linalg.norm(y, axis=1) * np.linalg.norm(yq, axis=1)
    return {
        "largest": float(np.abs(y - yq).max()),
        "sqnr": float(np.mean(10 * np.log10(signal / np.maximum(noise, 1e-30)))),
        "cosine": float(np.mean((y * yq).sum(1) / np.maximum(lengths, 1e-30))),
        "agreement": 100 * float(np.mean(y.argmax(1) == yq.argmax(1))),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("graph", type=Path)
    parser.add_argument("--input", required=True, help="name of the node that is fed")
    parser.add_argument("--output", required=True, help="name of the node that is wanted")
    parser.add_argument("--data", type=Path, required=True, help="array with an image in each row")
    parser.add_argument("--limit", type=int, help="rows at most, from the first on [default: all]")
    parser.add_argument("--batch", type=int, default=1, help="rows at a time")
    parser.add_argument("--out", type=Path, required=True, help="where the outputs go (.npy)")
    parser.add_argument("--reference", type=Path, help="outputs to compare with (.npy)")
    parser.add_argument("--labels", type=Path, help="the right class of each row (.npy)")
    args = parser.parse_args()

    graph_def = tf.compat.v1.GraphDef.FromString(args.graph.read_bytes())
    x = np.load(args.data, mmap_mode="r")[: args.limit]
    y = run(graph_def, args, x)
    np.save(args.out, y)
    ops = Counter(node.op for node in graph_def.node)
    figures = {"images": len(y), "ops": dict(ops), "finite": bool(np.isfinite(y).all())}
    if args.reference:
        figures |= against(np.load(args.reference), y)
    if args.labels:
        figures["top1"] = 100 * float(np.mean(y.argmax(1) == np.load(args.labels)[: len(y)]))
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
