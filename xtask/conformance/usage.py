"""Runs a command and tells what it used, which the operating system counts.

JSON: {"status": exit code, "peak_mb": resident memory in units of 10^6 bytes, "seconds": wall time,
"cpu_seconds": user and system time of all threads, "stderr": text}.
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
    seconds = time.monotonic() - start
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    figures = {
        "status": done.returncode,
        "peak_mb": used.ru_maxrss * 1024 / 1e6,
        "seconds": seconds,
        "cpu_seconds": used.ru_utime + used.ru_stime,
        "stderr": done.stderr,
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
