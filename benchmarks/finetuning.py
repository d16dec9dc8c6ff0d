"""What the recipe `finetune` is worth on some hundred photographs, beside plain `fit`.

    python -m benchmarks.finetuning PHOTOS WEIGHTS

PHOTOS has a folder for each class in its folders train and test; WEIGHTS is what
`keras_vit.from_pretrained` takes. Plain is a new head and ten epochs of `model.fit` with AdamW at a
constant rate of 1e-4, batches of 16, pixels as in evaluation and no augmentation. Its result is
that of the epoch with the best accuracy on the test photographs, which nobody could choose. The
result of the recipe, of the whole model, as a linear probe and with LoRA, is that after the last
epoch. Every training is a process of its own. Its CPU seconds are those from its start to its end;
for `python -m training` they include validation, pictures, report and export.

Each is measured with all photographs and with some of each class, drawn anew by every seed.
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

import numpy as np

from benchmarks.common import (
    ROOT,
    hardware_name,
    load_average,
    peak_memory,
    print_rows,
    results_path,
    versions,
    write_rows,
)

KEY = ("training", "photos", "seed")
PLAIN = "plain fit"
EPOCHS, BATCH, RATE = 10, 16, 1e-4  # of plain fit
RECIPE = {
    "finetune": [],
    "finetune, head alone": ["finetune.train=head", "optimizer.layer_decay=1"],
    "finetune, LoRA": ["finetune.train=lora", "optimizer.layer_decay=1"],
}
SEEDS, FEW = (0, 1, 2), 20


def main():
    arguments = _arguments()
    path = results_path("finetuning", arguments.out)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for few in dict.fromkeys((0, arguments.few)):
            for seed in arguments.seeds:
                for training in arguments.training:
                    photos = _some(arguments.photos, few, seed, Path(folder))
                    rows.append(measure(training, seed, photos, arguments, Path(folder)))
                    write_rows(path, rows[-1:], KEY)
                    print_rows(rows[-1:], ("training", "photos", "seed", "test_accuracy", "cpu_s"))
    for training, photos in dict.fromkeys((row["training"], row["photos"]) for row in rows):
        same = [row for row in rows if (row["training"], row["photos"]) == (training, photos)]
        found = statistics.mean(row["test_accuracy"] for row in same)
        print(f"{training}, {photos} photographs: {found:.2f} % on average")


def measure(training, seed, photos, arguments, folder):
    """The row of one training, in a process of its own."""
    if training == PLAIN:
        settings = {"photos": str(photos), "weights": arguments.weights, "like": arguments.like}
        command = ["benchmarks.finetuning", "--plain", json.dumps({**settings, "seed": seed})]
    else:
        run_dir = folder / f"{training}-{photos.name}-{seed}"
        overrides = [
            *RECIPE[training],
            f"data.source=folder:{photos}",
            f"finetune.source={arguments.weights}",
            f"finetune.like={arguments.like}",
            f"train.seed={seed}",
        ]
        sets = (word for override in overrides for word in ("--set", override))
        command = ["training", "finetune", "--run-dir", str(run_dir), *sets]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [sys.executable, "-m", *command],
        env={**os.environ, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"},
        stdout=subprocess.PIPE,
        check=True,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    found = json.loads(done.stdout.splitlines()[-1]) if training == PLAIN else _of_run(run_dir)
    backend = os.environ.get("KERAS_BACKEND", "tensorflow")
    return {
        "hardware": hardware_name(),
        "training": training,
        "photos": sum(1 for _ in photos.glob("train/*/*")),
        "seed": seed,
        **found,
        "cpu_s": (after.ru_utime + after.ru_stime) - (before.ru_utime + before.ru_stime),
        "load": load_average(),
        "versions": versions("keras", backend),
    }


def plain_fit(photos, weights, like, seed):
    """What somebody writes who has read the first page of the README."""
    import keras

    import keras_vit

    keras.utils.set_random_seed(seed)
    classes = sorted(path.name for path in Path(photos, "train").iterdir())
    model = keras_vit.from_pretrained(weights, like=like or None, num_classes=len(classes))
    model.compile(
        keras.optimizers.AdamW(RATE),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )

    def arrays(part):
        files = [path for name in classes for path in sorted(Path(photos, part, name).iterdir())]
        shown = [model.preprocessor(keras_vit.preprocessing.load_image(path)) for path in files]
        labels = [classes.index(path.parent.name) for path in files]
        return np.stack([keras.ops.convert_to_numpy(x) for x in shown]), np.array(labels)

    images, labels = arrays("train")
    test = arrays("test")
    history = model.fit(
        images, labels, BATCH, EPOCHS, verbose=0, validation_data=test, validation_batch_size=64
    ).history
    best = int(np.argmax(history["val_accuracy"]))
    return {
        "test_accuracy": 100 * history["val_accuracy"][best],
        "test_loss": history["val_loss"][best],
        "first_train_accuracy": 100 * history["accuracy"][0],
        "train_accuracy": 100 * history["accuracy"][-1],
        "epoch": best + 1,
        "epochs": EPOCHS,
        "memory_mb": peak_memory(),
    }


def _of_run(run_dir):
    """The figures of a finished run."""
    result = json.loads((run_dir / "result.json").read_text())
    header, *epochs = (line.split(",") for line in (run_dir / "metrics.csv").read_text().split())
    accuracies = [100 * float(epoch[header.index("accuracy")]) for epoch in epochs]
    return {
        "test_accuracy": 100 * result["test_accuracy"],
        "test_loss": result["test_loss"],
        "first_train_accuracy": accuracies[0],
        "train_accuracy": accuracies[-1],
        "epoch": result["epochs"],
        "epochs": result["epochs"],
        "memory_mb": result["peak_memory_bytes"] / 1e6,
    }


def _some(photos, few, seed, folder):
    """A folder with links to all test photographs and to `few` of each class to learn from."""
    photos = Path(photos).resolve()
    made = folder / (f"{few}-of-each-{seed}" if few else "all")
    for part in ("train", "test"):
        for path in sorted((photos / part).iterdir()):
            files = sorted(path.iterdir())
            if few and part == "train":
                drawn = np.random.default_rng(seed).permutation(len(files))[:few]
                files = [files[i] for i in drawn]
            target = made / part / path.name
            target.mkdir(parents=True, exist_ok=True)
            for file in files:
                if not (target / file.name).exists():
                    (target / file.name).symlink_to(file)
    return made


def _arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("photos", help="folder of train/CLASS and test/CLASS")
    parser.add_argument("weights", help="what keras_vit.from_pretrained takes")
    parser.add_argument("--like", default="", help="a name of the catalogue, as finetune.like")
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS)
    parser.add_argument(
        "--few", type=int, default=FEW, help="photographs of a class, besides all; 0 for all alone"
    )
    known = [PLAIN, *RECIPE]
    parser.add_argument("--training", nargs="+", default=known, choices=known, help="default: all")
    parser.add_argument("--out", help="CSV file, by default results/finetuning_<hardware>.csv")
    return parser.parse_args()


if __name__ == "__main__":
    if sys.argv[1:2] == ["--plain"]:
        print(json.dumps(plain_fit(**json.loads(sys.argv[2]))))
    else:
        main()
