"""Quantizes EfficientNet-Lite0 with onnxruntime's own tool, on photos prepared as `quantize` prepares them.

Preprocessing: RGB; short side to 256, bicubic; centre crop 224 x 224; (pixel - 127) / 128; NCHW. Everything runs on one
thread; the form is that of `quantize onnx`: QDQ, uint8 activations, int8 weights with a scale for each channel.
"""

import argparse
from pathlib import Path

import numpy as np
import onnxruntime as ort
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization import calibrate
from PIL import Image

SHORT, CROP, MEAN, SCALE = 256, 224, 127.0, 1 / 128


def preprocess(path: Path) -> np.ndarray:
    image = Image.open(path).convert("RGB")
    width, height = image.size
    factor = SHORT / min(width, height)
    size = (round(width * factor), round(height * factor))
    image = image.resize(size, Image.Resampling.BICUBIC)
    left, top = (size[0] - CROP) // 2, (size[1] - CROP) // 2
    pixels = np.asarray(image.crop((left, top, left + CROP, top + CROP)), np.float32)
    return ((pixels - np.float32(MEAN)) * np.float32(SCALE)).transpose(2, 0, 1)[np.newaxis]


class Photos(CalibrationDataReader):
    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self.paths = iter(sorted(folder.glob("*.jpg")))

    def get_next(self) -> dict | None:
        path = next(self.paths, None)
        return None if path is None else {self.name: preprocess(path)}


def single_threaded(calibrater: calibrate.CalibraterBase) -> None:
    chosen = ort.SessionOptions()
    chosen.intra_op_num_threads = 1
    chosen.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    path, providers = calibrater.augmented_model_path, calibrater.execution_providers
    calibrater.infer_session = ort.InferenceSession(path, sess_options=chosen, providers=providers)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("--calib", type=Path, required=True)
    parser.add_argument("--method", choices=[method.name for method in CalibrationMethod], required=True)
    parser.add_argument("--output", type=Path, required=True)
    args = parser.parse_args()

    calibrate.CalibraterBase.create_inference_session = single_threaded
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    name = ort.InferenceSession(str(args.model), options, providers=["CPUExecutionProvider"]).get_inputs()[0].name
    quantize_static(
        args.model,
        args.output,
        Photos(name, args.calib),
        quant_format=QuantFormat.QDQ,
        per_channel=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        calibrate_method=CalibrationMethod[args.method],
    )


if __name__ == "__main__":
    main()
