"""Lists the models in the test data of the installed onnx package.

JSON: {"models": [path, ...], "light": [path, ...]}; `light` are the whole networks among them.
"""

import argparse
import json
from pathlib import Path

import onnx


def main() -> None:
    argparse.ArgumentParser(description=__doc__).parse_args()
    root = Path(onnx.__file__).parent
    models = sorted(str(path) for path in root.rglob("*.onnx"))
    light = sorted(str(path) for path in root.glob("backend/test/data/light/light_*.onnx"))
    print(json.dumps({"models": models, "light": light}))


if __name__ == "__main__":
    main()
