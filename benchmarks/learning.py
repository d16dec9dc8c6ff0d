"""What a recipe is worth: the same network trained by `cifar10_small` and trained plainly.

    python -m benchmarks.learning npz:cifar10.npz

Plainly is Keras's own AdamW at its constant default rate on images that are mirrored and changed no
further, for as many steps of as many images. Both train by `python -m training`, from the same
seeds, one run after the other; what counts are the test images after the last epoch.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.common import (
    ROOT,
    hardware_name,
    load_average,
    print_rows,
    results_path,
    versions,
    write_rows,
)
from training import data, recipe

KEY = ("training", "seed")
TRAININGS = {
    "cifar10_small": [],
    "plain": [
        "augment.translate=0",
        "augment.zoom=0",
        "optimizer.schedule=constant",
        "optimizer.warmup_steps=0",
        "optimizer.learning_rate=1e-3",
        "optimizer.weight_decay=0.004",
        "optimizer.clip_norm=0",
        "optimizer.ema=0",
        "train.label_smoothing=0",
    ],
}


def main():
    arguments = _arguments()
    path = results_path("learning", arguments.out)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(arguments.seeds):
            for training, changed in TRAININGS.items():
                overrides = [*changed, f"data.source={arguments.source}"]
                run_dir = Path(folder) / f"{training}-{seed}"
                rows.append(measure(training, seed, "cifar10_small", overrides, run_dir))
                write_rows(path, rows[-1:], KEY)
                print_rows(rows[-1:], ("training", "seed", "test_accuracy", "cpu_s"))
    for training in TRAININGS:
        found = [row["test_accuracy"] for row in rows if row["training"] == training]
        print(f"{training}: {statistics.mean(found):.2f} % on average")


def measure(training, seed, name, overrides, run_dir):
    """The row of one run.

    Args:
        training: str, what the row calls it.
        seed: int.
        name: str, the recipe.
        overrides: list of str "table.key=value".
        run_dir: `Path` of the run folder.
    """
    overrides = [*overrides, f"train.seed={seed}"]
    command = [sys.executable, "-m", "training", name, "--run-dir", str(run_dir)]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(
        [*command, *(word for override in overrides for word in ("--set", override))],
        env={**os.environ, "KERAS_BACKEND": "tensorflow", "PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
        check=True,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    plan = recipe.read(run_dir / "recipe.toml")
    images = data.load(plan.data, plan.model.all_arguments()["num_classes"]).train
    result = json.loads((run_dir / "result.json").read_text())
    steps = plan.train.epochs * data.steps_per_epoch(images, plan.train.batch_size)
    return {
        "hardware": hardware_name(),
        "training": training,
        "seed": seed,
        "test_accuracy": 100 * result["test_accuracy"],
        "test_loss": result["test_loss"],
        "test_images": result["test_images"],
        "training_images": len(images.labels),
        "steps": steps,
        "cpu_s": (after.ru_utime + after.ru_stime) - (before.ru_utime + before.ru_stime),
        "load": load_average(),
        "versions": versions("keras", "tensorflow"),
    }


def _arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", help="as data.source, such as npz:cifar10.npz")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", help="CSV file, by default results/learning_<hardware>.csv")
    return parser.parse_args()


if __name__ == "__main__":
    main()
