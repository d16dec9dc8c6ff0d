"""What `import keras_vit` adds to `import keras`.

    python -m benchmarks.import_time

In new processes: first one, then the other; the medians count.
"""

import argparse
import os
import statistics
import subprocess
import sys

from benchmarks.common import (
    BACKENDS,
    ROOT,
    hardware_name,
    installed,
    print_rows,
    results_path,
    versions,
    write_rows,
)

KEY = ("backend",)
# The clock runs inside, so that starting Python does not count.
IMPORT = """
import time
start = time.perf_counter()
import keras
between = time.perf_counter()
import keras_vit
print(between - start, time.perf_counter() - between)
"""


def main():
    arguments = _arguments()
    path = results_path("import_time", arguments.out)
    for backend in filter(installed, BACKENDS):
        rounds = [_seconds(backend) for _ in range(arguments.rounds + 1)][1:]  # 1st fills caches
        keras, ours = map(statistics.median, zip(*rounds, strict=True))
        row = {
            "hardware": hardware_name(),
            "backend": backend,
            "keras_s": keras,
            "keras_vit_s": ours,
            "added": statistics.median(b / a for a, b in rounds),
            "rounds": arguments.rounds,
            "versions": versions("keras", backend),
        }
        write_rows(path, [row], KEY)
        print_rows([row], ("backend", "keras_s", "keras_vit_s", "added"))


def _seconds(backend):
    environment = {**os.environ, "KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3"}
    command = [sys.executable, "-c", IMPORT]
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )
    return tuple(map(float, done.stdout.split()[-2:]))


def _arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", help="CSV file, by default results/import_time_<hardware>.csv")
    return parser.parse_args()


if __name__ == "__main__":
    main()
