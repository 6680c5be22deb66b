"""Quantizes a classifier with NNCF's post-training quantization of ONNX models, with full bias correction.

All photos of the calibration folder, preprocessed as EfficientNet-Lite0 has it; batch normalization is folded first. `fast_bias_correction=False` is the
slower, more accurate of NNCF's two corrections; everything else is NNCF's default. Writes the int8 model.

JSON: {"version": of nncf, "seconds": of the quantization}.
"""

import argparse
import contextlib
import json
import sys
import time
from pathlib import Path

import nncf
import onnx
import onnxruntime as ort

sys.path.insert(0, str(Path(__file__).parent.parent / "onnx"))
from prepare_images import Preprocessing  # noqa: E402


def folded(path: Path, output: Path) -> onnx.ModelProto:
    """The model with batch normalization folded by ONNX Runtime, without which it has no integer kernels for it."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath, options.log_severity_level = str(output), 3
    ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return onnx.load(output)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("--calib", type=Path, required=True, help="folder of photos")
    parser.add_argument("--output", type=Path, required=True)
    args = parser.parse_args()

    model = folded(args.model, args.output.with_suffix(".folded.onnx"))
    initializers = {tensor.name for tensor in model.graph.initializer}
    (name,) = (value.name for value in model.graph.input if value.name not in initializers)
    preprocess = Preprocessing()
    photos = sorted(path for path in args.calib.iterdir() if path.suffix == ".jpg")
    data = nncf.Dataset(photos, lambda path: {name: preprocess(path)[None]})
    start = time.monotonic()
    with contextlib.redirect_stdout(sys.stderr):
        quantized = nncf.quantize(model, data, subset_size=len(photos), fast_bias_correction=False)
    seconds = time.monotonic() - start
    onnx.save(quantized, args.output)
    print(json.dumps({"version": nncf.__version__, "seconds": seconds}))


if __name__ == "__main__":
    main()
