"""What a teacher is worth: the recipe `cifar10_deit` with its teacher and without.

    python -m benchmarks.distillation npz:cifar10.npz

First `cifar10_teacher` is trained, a CNN. Then the same student, from the same seeds, on the same
images with the same augmentation and rates, for as many steps: "distilled", its class head from the
labels and its distillation head from the teacher, and "alone", the mean of both heads from the
labels. All train by `python -m training`, one run after the other; what counts are the test images
after the last epoch.
"""

import argparse
import statistics
import tempfile
from pathlib import Path

from benchmarks.common import print_rows, results_path, write_rows
from benchmarks.learning import KEY, measure


def main():
    arguments = _arguments()
    path = results_path("distillation", arguments.out)
    source = f"data.source={arguments.source}"
    rows = []

    def add(training, seed, name, overrides, run_dir):
        rows.append(measure(training, seed, name, [source, *overrides], run_dir))
        write_rows(path, rows[-1:], KEY)
        print_rows(rows[-1:], ("training", "seed", "test_accuracy", "cpu_s"))

    with tempfile.TemporaryDirectory() as folder:
        teacher = Path(folder) / "teacher"
        add("teacher", 0, "cifar10_teacher", [], teacher)
        for seed in range(arguments.seeds):
            for training, taught_by in (("distilled", teacher), ("alone", "")):
                overrides = [f"distill.teacher={taught_by}"]
                run_dir = Path(folder) / f"{training}-{seed}"
                add(training, seed, "cifar10_deit", overrides, run_dir)
    for training in ("distilled", "alone"):
        found = [row["test_accuracy"] for row in rows if row["training"] == training]
        print(f"{training}: {statistics.mean(found):.2f} % on average")


def _arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", help="as data.source, such as npz:cifar10.npz")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", help="CSV file, by default results/distillation_<hardware>.csv")
    return parser.parse_args()


if __name__ == "__main__":
    main()
