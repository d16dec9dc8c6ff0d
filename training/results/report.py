"""report.md: the results of a run on one page; all numbers were measured in the run."""

import shlex

import numpy as np

from ..terminal import EVALUATE, TRAIN, clock
from .figures import class_name
from .metrics import at_chance

MATRIX = 50  # largest number of classes for a confusion matrix; above, a table of the worst
PAIRS = 10


def write(job, result, tested):
    """Writes the report of a run whose figures are in its folder.

    Args:
        job: `training.loop.run.Job`.
        result: dict, the contents of `result.json`.
        tested: `training.tasks.Tested`.
    """
    folder = job.folder
    parts = [
        f"# {folder.path.name}: {tested.title}",
        table(tested.rows),
        "The test images were used once, after the last epoch.",
        "## Learning",
        f"![learning curves]({folder.curves.name})",
        f"## {tested.heading}",
        *tested.mistakes,
    ]
    if job.notes:
        parts += ["## Settings", "\n".join(f"- {note}" for note in job.notes)]
    parts += ["## Cost", table(_cost(job, result)), "## Going on", _commands(job, result)]
    folder.write_whole(folder.report, "\n\n".join(parts) + "\n")


def chance_in_words(result):
    """A remark on an accuracy that is not clearly better than chance; "" for others.

    Args:
        result: dict; results of earlier versions without `test_chance` give no remark.
    """
    share = result.get("test_chance")
    if share is None or not at_chance(result["test_accuracy"], share, result["test_images"]):
        return ""
    clearly = "clearly " if result["test_accuracy"] > share else ""
    return (
        f", {'not' if clearly else 'no'} {clearly}better than chance: predicting the "
        f"most frequent class gives {100 * share:.2f} %"
    )


def confused(labels, predicted):
    """The most frequent confusions between two classes, the most frequent first.

    Args:
        labels, predicted: integer arrays (N,).

    Returns:
        list of (label, predicted class, images).
    """
    wrong = labels != predicted
    pairs = np.stack([labels[wrong], predicted[wrong]], axis=-1)
    pairs, counts = np.unique(pairs, axis=0, return_counts=True)
    order = np.argsort(-counts, kind="stable")
    return [(*pairs[i].tolist(), int(counts[i])) for i in order]


def rows_of_classification(result, wrong):
    """The table of the results of a classification, of which `wrong` images are wrong."""
    count = result["test_images"]
    rows = [("top-1", f"{100 * result['test_accuracy']:.2f} % ({count - wrong:,} of {count:,})")]
    if result["test_top5"] is not None:
        rows.append(("top-5", f"{100 * result['test_top5']:.2f} %"))
    rows.append(("chance", f"{100 * result['test_chance']:.2f} % (the most frequent class)"))
    rows.append(("loss", f"{result['test_loss']:.4f}"))
    rows.append(("calibration error (ECE, 15 bins)", f"{100 * result['test_ece']:.2f} %"))
    return rows


def mistakes_of_classification(job, labels, predicted):
    """The section on mistakes: the confusions, the figures of images; list of str."""
    folder = job.folder
    found = [*_confusions(job, labels, predicted)]
    found.append(f"![predictions and attention]({folder.predictions.name})")
    if folder.worst.exists():
        found.append(f"![the most confident mistakes]({folder.worst.name})")
    return found


def _confusions(job, labels, predicted):
    names = job.splits.class_names
    if job.folder.confusion.exists():
        return [f"![confusion matrix]({job.folder.confusion.name})"]
    pairs = confused(labels, predicted)[:PAIRS]
    if not pairs:
        return ["No test image is wrong."]
    rows = [
        (class_name(names, label, 40), class_name(names, other, 40), f"{images:,}")
        for label, other, images in pairs
    ]
    return [table(rows, ("label", "predicted as", "images"))]


def _cost(job, result):
    first, last = result["trained_from_epoch"], result["epochs"]
    epochs = f"epochs {first + 1} to {last}" if first < last else "no epoch; all were done before"
    rows = [("training", f"{clock(result['train_seconds'])} for {epochs}")]
    if result["epoch_seconds"] is not None:
        rows.append(("epoch", f"{result['epoch_seconds']:.2f} s with validation (median)"))
        rows.append(("training images", f"{result['images_per_second']:,.0f} per second (median)"))
    rows.append(("updates", f"{result['updates']:,} in {result['steps']:,} steps of the run"))
    rows.append(("peak memory", f"{_mib(result['peak_memory_bytes'])} of the process"))
    if result["peak_device_memory_bytes"] is not None:
        device = _mib(result["peak_device_memory_bytes"])
        rows.append(("peak memory, accelerator", device))
    rows.append(("parameters", f"{result['parameters']:,}"))
    rows.append(("precision", job.recipe.train.precision))
    rows.append(("hardware", result["hardware"]))
    versions = ", ".join(f"{name} {number}" for name, number in result["versions"].items())
    return [*rows, ("versions", versions)]


def _commands(job, result):
    folder = shlex.quote(str(job.folder.path))
    recipe = shlex.quote(str(job.folder.recipe))
    return f"""```sh
# train for more epochs
KERAS_BACKEND={result["backend"]} {TRAIN} {recipe} --run-dir {folder} --resume \\
    --set train.epochs={2 * result["epochs"]}
# the same model on other images
KERAS_BACKEND={result["backend"]} {EVALUATE} {folder} --source folder:PATH
```"""


def table(rows, head=("", "")):
    lines = [head, ["---"] * len(head), *rows]
    cells = ([str(cell).replace("|", "\\|") for cell in line] for line in lines)
    return "\n".join(f"| {' | '.join(line)} |" for line in cells)


def _mib(count):
    return f"{count / 2**20:,.0f} MiB"
