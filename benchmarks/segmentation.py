"""What the recipe `camvid_setr` reaches, from pre-trained and from random weights, on CamVid.

    python -m benchmarks.segmentation CAMVID WEIGHTS
    python -m benchmarks.segmentation CAMVID WEIGHTS --training overfit

CAMVID has train, trainannot, val, valannot, test and testannot, as in the SegNet tutorial; WEIGHTS
is what `keras_vit.from_pretrained` takes. Every training is a process of its own, which starts the
recipe; its CPU seconds are those from start to end, with validation, test, report and export. The
mean IoU is that of the test pictures at their own size, once in windows that overlap by a third and
once of the whole pictures. "overfit" is a check that the model can learn: five fixed windows, no
augmentation, a decoder of width 64, measured on themselves.
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

KEY = ("training", "seed")
TRAININGS = {
    "pretrained": lambda a: [f"finetune.source={a.weights}", f"finetune.like={a.like}"],
    "random": lambda a: ["finetune.source=", "finetune.head=new", "model.encoder=ViTTiny"],
}
OVERFIT = "overfit"
WINDOWS, SIZE, STEPS, RATE = 5, 256, 150, 2e-4  # of "overfit"
SHOWN = ("training", "seed", "mean_iou", "whole_mean_iou", "pixel_accuracy", "majority", "cpu_s")


def main():
    arguments = _arguments()
    path = results_path("segmentation", arguments.out)
    rows = []
    for seed in arguments.seeds:
        for training in arguments.training:
            if training != OVERFIT or seed == arguments.seeds[0]:
                rows.append(measure(training, seed, arguments))
                write_rows(path, rows[-1:], KEY)
                print_rows(rows[-1:], SHOWN)
    for training in dict.fromkeys(row["training"] for row in rows):
        found = [row["mean_iou"] for row in rows if row["training"] == training]
        print(f"{training}: mean IoU {statistics.mean(found):.2f} %, {len(found)} seeds")


def measure(training, seed, arguments):
    """The row of one training, in processes of its own."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    if training == OVERFIT:
        setting = {"camvid": arguments.camvid, "weights": arguments.weights, "seed": seed}
        setting["like"] = arguments.like
        found = json.loads(_run("benchmarks.segmentation", "--overfit", json.dumps(setting)))
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
    else:
        with tempfile.TemporaryDirectory() as folder:
            run = Path(folder, "run")
            settings = [f"data.source=camvid:{arguments.camvid}", f"train.seed={seed}"]
            settings += TRAININGS[training](arguments)
            if arguments.epochs:
                settings.append(f"train.epochs={arguments.epochs}")
            sets = (word for setting in settings for word in ("--set", setting))
            _run("training", "camvid_setr", "--run-dir", str(run), *sets)
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            result = json.loads((run / "result.json").read_text())
            whole = _run("training.evaluate", str(run), "--window", "whole", "--json")
        found = {
            "mean_iou": 100 * result["test_mean_iou"],
            "interval_low": 100 * result["test_interval"][0],
            "interval_high": 100 * result["test_interval"][1],
            "whole_mean_iou": 100 * json.loads(whole)["mean_iou"],
            "pixel_accuracy": 100 * result["test_pixel_accuracy"],
            "majority": 100 * result["test_majority"],
            "steps": result["steps"],
            "memory_mb": result["peak_memory_bytes"] / 1e6,
        }
    return {
        "hardware": hardware_name(),
        "training": training,
        "seed": seed,
        **found,
        "cpu_s": (after.ru_utime + after.ru_stime) - (before.ru_utime + before.ru_stime),
        "load": load_average(),
        "versions": versions("keras", os.environ.get("KERAS_BACKEND", "tensorflow")),
    }


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


def overfit(camvid, weights, like, seed):
    """Learns five windows by heart, and measures itself on them."""
    import keras
    import numpy as np
    from PIL import Image

    import keras_vit
    from benchmarks.common import peak_memory

    keras.utils.set_random_seed(seed)
    encoder = keras_vit.from_pretrained(weights, like=like or None, image_size=SIZE)
    model = keras_vit.SETR(encoder, "pup", num_classes=11, decoder_width=64)
    optimizer = keras_vit.optimizers.LayerwiseAdamW(
        keras.optimizers.schedules.CosineDecay(RATE, STEPS),
        shares=keras_vit.optimizers.head_shares(model, head_rate=10.0),
        decays=[False] * len(model.trainable_variables),
    )
    model.compile(optimizer, loss=["cross_entropy", "dice"])
    images, labels = [], []
    for path in sorted(Path(camvid, "train").iterdir())[:WINDOWS]:
        picture = np.asarray(Image.open(path).convert("RGB"))
        mask = np.asarray(Image.open(Path(camvid, "trainannot", path.name)))
        top, left = ((side - SIZE) // 2 for side in mask.shape)
        images.append(picture[top : top + SIZE, left : left + SIZE])
        labels.append(mask[top : top + SIZE, left : left + SIZE])
    labels = np.where(np.stack(labels) < 11, labels, 255).astype("int32")
    x = (np.stack(images) / 255 - model.preprocessor.mean) / model.preprocessor.std
    x = x.astype("float32")
    model.fit(x, labels, batch_size=WINDOWS, epochs=STEPS, verbose=0)
    found = model.predict(x, verbose=0).argmax(-1)
    counted = labels != 255
    mean_iou = keras_vit.metrics.MeanIoU(11)
    mean_iou.update_state(labels, keras.ops.one_hot(found, 11))
    majority = np.bincount(labels[counted]).max() / counted.sum()
    return {
        "mean_iou": 100 * float(mean_iou.result()),
        "interval_low": "",
        "interval_high": "",
        "whole_mean_iou": "",
        "pixel_accuracy": 100 * float((found == labels)[counted].mean()),
        "majority": 100 * float(majority / len(np.unique(labels[counted]))),
        "steps": STEPS,
        "memory_mb": peak_memory(),
    }


def _arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "camvid", help="folder of train, trainannot, val, valannot, test, testannot"
    )
    parser.add_argument("weights", help="what keras_vit.from_pretrained takes")
    parser.add_argument("--like", default="", help="a name of the catalogue, as finetune.like")
    parser.add_argument("--seeds", type=int, nargs="+", default=(0, 1, 2))
    known = [*TRAININGS, OVERFIT]
    parser.add_argument("--training", nargs="+", default=known, choices=known, help="default: all")
    parser.add_argument("--epochs", type=int, help="default: those of the recipe")
    parser.add_argument("--out", help="CSV file, by default results/segmentation_<hardware>.csv")
    return parser.parse_args()


if __name__ == "__main__":
    if sys.argv[1:2] == ["--overfit"]:
        print(json.dumps(overfit(**json.loads(sys.argv[2]))))
    else:
        main()
