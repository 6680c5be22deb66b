"""Runs a command and tells its peak resident memory, which the operating system counts.

JSON: {"status": exit code, "peak_mb": in units of 10^6 bytes, "seconds": wall time, "stderr": text}.
"""

import argparse
import json
import resource
import subprocess
import time


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("command", nargs=argparse.REMAINDER)
    args = parser.parse_args()

    start = time.monotonic()
    done = subprocess.run(args.command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024 / 1e6
    seconds = time.monotonic() - start
    print(json.dumps({"status": done.returncode, "peak_mb": peak, "seconds": seconds, "stderr": done.stderr}))


if __name__ == "__main__":
    main()
