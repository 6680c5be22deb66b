"""onnxruntime as the benchmark's peer: runs what it is asked to, one request a line, and answers on one line.

A request is JSON: {"feed": {"shape": [...], "data": [...]}} sets the input and answers null; {"time": WORK} runs once
and answers the processor time of one image in seconds; {"outputs": WORK} answers the outputs, each a list of numbers.
WORK is "fp32", "int8", "min_max", "percentile" or "entropy"; the last three calibrate. Everything runs on one thread.
"""

import argparse
import contextlib
import json
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import onnxruntime as ort
from onnxruntime.quantization import calibrate

METHODS = {
    "min_max": calibrate.CalibrationMethod.MinMax,
    "percentile": calibrate.CalibrationMethod.Percentile,
    "entropy": calibrate.CalibrationMethod.Entropy,
}
CALIBRATION_IMAGES = 2


def options() -> ort.SessionOptions:
    chosen = ort.SessionOptions()
    chosen.intra_op_num_threads = 1
    chosen.inter_op_num_threads = 1
    chosen.log_severity_level = 3
    return chosen


def single_threaded(calibrater: calibrate.CalibraterBase) -> None:
    chosen = options()
    chosen.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    path, providers = calibrater.augmented_model_path, calibrater.execution_providers
    calibrater.infer_session = ort.InferenceSession(path, sess_options=chosen, providers=providers)


class Reader(calibrate.CalibrationDataReader):
    def __init__(self, feed: dict, count: int) -> None:
        self.feeds = iter([feed] * count)

    def get_next(self) -> dict | None:
        return next(self.feeds, None)


class Engine:
    def __init__(self, fp32: Path, int8: Path | None, folder: Path) -> None:
        self.fp32, self.folder = fp32, folder
        self.sessions = {"fp32": self.session(fp32)}
        if int8 is not None:
            self.sessions["int8"] = self.session(int8)
        self.calibraters = {}
        self.feed = {}

    def session(self, model: Path) -> ort.InferenceSession:
        return ort.InferenceSession(str(model), options(), providers=["CPUExecutionProvider"])

    def calibrater(self, work: str) -> calibrate.CalibraterBase:
        if work not in self.calibraters:
            augmented = str(self.folder / f"{work}.onnx")
            self.calibraters[work] = calibrate.create_calibrator(
                self.fp32, [], augmented, calibrate_method=METHODS[work]
            )
        return self.calibraters[work]

    def time(self, work: str) -> float:
        if work in METHODS:
            calibrater = self.calibrater(work)
            start = time.process_time()
            calibrater.collect_data(Reader(self.feed, CALIBRATION_IMAGES))
            return (time.process_time() - start) / CALIBRATION_IMAGES
        session = self.sessions[work]
        start = time.process_time()
        session.run(None, self.feed)
        return time.process_time() - start

    def answer(self, request: dict):
        (kind, value), = request.items()
        if kind == "feed":
            name = self.sessions["fp32"].get_inputs()[0].name
            self.feed = {name: np.array(value["data"], np.float32).reshape(value["shape"])}
            return None
        if kind == "time":
            return self.time(value)
        return [output.ravel().tolist() for output in self.sessions[value].run(None, self.feed)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("fp32", type=Path)
    parser.add_argument("int8", type=Path, nargs="?")
    args = parser.parse_args()

    calibrate.CalibraterBase.create_inference_session = single_threaded
    with tempfile.TemporaryDirectory() as folder:
        engine = Engine(args.fp32, args.int8, Path(folder))
        for line in sys.stdin:
            # The calibrators print; answers alone may go to standard output.
            with contextlib.redirect_stdout(None):
                answer = engine.answer(json.loads(line))
            print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
