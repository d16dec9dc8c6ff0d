"""What a detector learns: the recipe `detr_digits`, plain and with its aids, and eight photographs.

    python -m benchmarks.detection                                  # scenes of digits
    python -m benchmarks.detection --coco COCO --weights WEIGHTS    # and photographs by heart

Every training of scenes is a process of its own, which starts the recipe; its CPU seconds are those
from start to end, with the drawing of the scenes, validation, test, report and export. AP is that
of COCO on the 200 test scenes, whose digits are in no training scene. "aids" has groups of queries
and denoising, which only training uses. "overfit" is a check that the model can learn: eight
training pictures of COCO with at most ten objects each, no augmentation, a DETR of width 128 with
three and three blocks on a frozen ViT-Ti/16 of ImageNet, measured on themselves. COCO has
annotations and train2017; WEIGHTS is what `keras_vit.from_pretrained` takes.
"""

import argparse
import csv
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

KEY = ("training", "seed")
TRAININGS = {
    "plain": [],
    "aids": ["model.query_groups=3", "model.denoising=true"],
}
OVERFIT = "overfit"
PICTURES, OBJECTS, SIZE, STEPS, RATE = 8, 10, 256, 400, 1e-3  # of "overfit"
SHOWN = ("training", "seed", "AP", "AP50", "interval_low", "interval_high", "steps", "cpu_s")


def main():
    arguments = _arguments()
    path = results_path("detection", arguments.out)
    rows = []
    for seed in arguments.seeds:
        for training in arguments.training:
            if training != OVERFIT or seed == arguments.seeds[0] and arguments.coco:
                rows.append(measure(training, seed, arguments))
                write_rows(path, rows[-1:], KEY)
                print_rows(rows[-1:], SHOWN)
    for training in dict.fromkeys(row["training"] for row in rows):
        found = [row["AP50"] for row in rows if row["training"] == training]
        print(f"{training}: AP50 {statistics.mean(found):.2f} %, {len(found)} seeds")


def measure(training, seed, arguments):
    """The row of one training, in a process of its own."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    if training == OVERFIT:
        setting = {"coco": arguments.coco, "weights": arguments.weights, "seed": seed}
        setting["like"] = arguments.like
        found = json.loads(_run("benchmarks.detection", "--overfit", json.dumps(setting)))
    else:
        with tempfile.TemporaryDirectory() as folder:
            run = Path(folder, "run")
            settings = [f"train.seed={seed}", *TRAININGS[training]]
            if arguments.epochs:
                settings.append(f"train.epochs={arguments.epochs}")
            sets = (word for setting in settings for word in ("--set", setting))
            _run("training", "detr_digits", "--run-dir", str(run), *sets)
            result = json.loads((run / "result.json").read_text())
            curve = validation(run / "metrics.csv")
        found = {
            "AP": 100 * result["test_AP"],
            "AP50": 100 * result["test_AP50"],
            "interval_low": 100 * result["test_AP50_interval"][0],
            "interval_high": 100 * result["test_AP50_interval"][1],
            "AP75": 100 * result["test_AP75"],
            "AR100": 100 * result["test_AR100"],
            "steps": result["steps"],
            "curve": curve,
            "memory_mb": result["peak_memory_bytes"] / 1e6,
        }
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return {
        "hardware": hardware_name(),
        "training": training,
        "seed": seed,
        **found,
        "cpu_s": (after.ru_utime + after.ru_stime) - (before.ru_utime + before.ru_stime),
        "load": load_average(),
        "versions": versions("keras", os.environ.get("KERAS_BACKEND", "tensorflow")),
    }


def validation(path):
    """The AP50 of validation after every epoch, in per cent: one str."""
    with open(path, newline="", encoding="utf-8") as file:
        return " ".join(f"{100 * float(row['val_AP50']):.0f}" for row in csv.DictReader(file))


def _run(*command):
    """The last line that a module prints."""
    done = subprocess.run(
        [sys.executable, "-m", *command],
        env={**os.environ, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"},
        stdout=subprocess.PIPE,
        check=True,
        text=True,
    )
    return (done.stdout.splitlines() or [""])[-1]


def overfit(coco, weights, like, seed, steps=STEPS, rate=RATE):
    """Learns eight photographs by heart, and measures itself on them."""
    import keras
    import numpy as np

    import keras_vit
    from benchmarks.common import peak_memory
    from training.augment.detection import evaluation_example
    from training.data import detection, evaluation_dataset
    from training.data.examples import Split
    from training.recipe.schema import AugmentTable, DataTable
    from training.tasks.detection import measured, padded_for

    keras.utils.set_random_seed(seed)
    data = DataTable(f"coco:{coco}", fit_into=(SIZE, SIZE), pad_to=(SIZE,))
    split, names = detection.read(data, "train2017", "auto")
    counts = split.labels.counts
    chosen = np.flatnonzero((counts > 0) & (counts <= OBJECTS))[:PICTURES]
    split = Split(split.images[chosen], split.labels[chosen])
    encoder = keras_vit.from_pretrained(
        weights, like=like or None, num_classes=None, image_size=SIZE
    )
    for layer in encoder.layers:
        layer.trainable = False
    model = keras_vit.DETR(
        encoder,
        num_classes=len(names),
        num_queries=25,
        width=128,
        encoder_depth=3,
        decoder_depth=3,
        num_heads=8,
        mlp_dim=512,
        dropout_rate=0.0,
        attention_dropout_rate=0.0,
    )
    schedule = keras_vit.optimizers.WarmupSchedule(rate, steps, steps // 10)
    model.compile(keras.optimizers.AdamW(schedule, weight_decay=1e-4, global_clipnorm=0.1))
    batches = padded_for(model, split, data, AugmentTable())
    batch = evaluation_dataset(split, PICTURES, evaluation_example(data), batches=batches)
    model.fit(batch.cache().repeat(), steps_per_epoch=steps, verbose=0)
    result = measured(model, split, data, PICTURES, names).measure()
    found = result.numbers_of_coco
    return {
        "AP": 100 * found["AP"],
        "AP50": 100 * found["AP50"],
        "interval_low": "",
        "interval_high": "",
        "AP75": 100 * found["AP75"],
        "AR100": 100 * found["AR100"],
        "steps": steps,
        "curve": "",
        "memory_mb": peak_memory(),
    }


def _arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--coco", help='folder of annotations and train2017, for "overfit"')
    parser.add_argument("--weights", help="what keras_vit.from_pretrained takes: a ViT-Ti/16")
    parser.add_argument("--like", default="", help="a name of the catalogue, as finetune.like")
    parser.add_argument("--seeds", type=int, nargs="+", default=(0, 1, 2))
    known = [*TRAININGS, OVERFIT]
    parser.add_argument("--training", nargs="+", default=known, choices=known, help="default: all")
    parser.add_argument("--epochs", type=int, help="default: those of the recipe")
    parser.add_argument("--out", help="CSV file, by default results/detection_<hardware>.csv")
    return parser.parse_args()


if __name__ == "__main__":
    if sys.argv[1:2] == ["--overfit"]:
        print(json.dumps(overfit(**json.loads(sys.argv[2]))))
    else:
        main()
