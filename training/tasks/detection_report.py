"""What the report of a run says of a detector.

Letters: N pictures, K classes.
"""

from pathlib import Path

import numpy as np
import tensorflow as tf

from keras_vit.picture_files import load_image

from ..data.examples import Encoded, reader
from ..results import box_figures, figures
from ..results.detections import ERRORS
from ..results.report import table

SHOWN = 4  # best and worst pictures
CLASSES = 100  # most rows of the table of classes


def title_of(result):
    low, high = result.interval
    found = result.numbers_of_coco
    return (
        f"AP {100 * found['AP']:.2f} %, AP50 {100 * found['AP50']:.2f} % ({100 * low:.2f} to "
        f"{100 * high:.2f}) on {result.pictures:,} test pictures"
    )


def rows_of(result):
    """The table of the results."""
    found, (low, high) = result.numbers_of_coco, result.interval
    return [
        ("AP (IoU 0.50 to 0.95)", _percent(found["AP"])),
        ("AP50", _percent(found["AP50"])),
        ("its 95 % interval over pictures", f"{100 * low:.2f} to {100 * high:.2f} % (bootstrap)"),
        ("AP75", _percent(found["AP75"])),
        *(
            (f"AP of {size} objects{said}", _percent(found[f"AP_{size}"]))
            for size, said in (
                ("small", " (below 32 x 32 pixels)"),
                ("medium", ""),
                ("large", " (from 96 x 96 pixels)"),
            )
        ),
        *(
            (f"recall with {most} detections a picture", _percent(found[f"AR{most}"]))
            for most in (1, 10, 100)
        ),
        (
            f"at the score {result.threshold:.2f}, where F1 is highest",
            f"precision {100 * result.precision:.2f} %, recall {100 * result.recall:.2f} %",
        ),
        ("objects", f"{result.objects:,}"),
    ]


def mistakes_of(job, found, result):
    """The section on mistakes: kinds of errors, precision and recall, classes, pictures."""
    folder, names = job.folder, job.splits.class_names
    box_figures.precision_recall(result.curves, folder.recall)
    parts = [
        f"![precision and recall]({folder.recall.name})",
        f"Of the detections with a score of {result.threshold:.2f} or more, at an IoU of 0.5:",
        table(
            [(kind, f"{result.errors[kind]:,}", said) for kind, said in ERRORS.items()],
            ("error", "number", "what it is"),
        ),
        table(
            _classes(result, names),
            ("class", "objects", "AP", "AP50", "AP small", "AP medium", "AP large"),
        ),
    ]
    asked = np.array([len(x.labels) for x in map(found.picture, range(result.pictures))])
    worst = np.lexsort((-asked, result.of_pictures))[:SHOWN]
    best = np.lexsort((-asked, -result.of_pictures))[:SHOWN]
    for chosen, path, title in (
        (worst, folder.worst, "The worst test pictures"),
        (best, folder.predictions, "The best test pictures"),
    ):
        rows = [_row(job, found.picture(i), i, result) for i in chosen]
        headings = ["objects", f"detections from a score of {result.threshold:.2f} on"]
        box_figures.sheet(rows, headings, title, len(result.counts), path, names)
        parts.append(f"![{title.lower()}]({path.name})")
    return parts


def _classes(result, names):
    """Rows of the classes, those with the most objects."""
    order = np.argsort(-result.counts, kind="stable")[:CLASSES]
    keys = ("AP", "AP50", "AP_small", "AP_medium", "AP_large")
    return [
        (
            figures.class_name(names, label, 40),
            f"{result.counts[label]:,}",
            *(_percent(result.by_class[label][key]) for key in keys),
        )
        for label in sorted(order.tolist())
        if result.counts[label]
    ]


def _row(job, picture, index, result):
    """A row of a sheet: the picture with its objects, and with its detections."""
    split = job.splits.test
    pixels = reader(split.images)(tf.constant(int(index))).numpy()
    name = f"picture {index + 1}"
    if isinstance(split.images, Encoded):
        pixels = load_image(pixels, job.recipe.data.upright)
        name = Path(split.images.name(index)).name
    shown = picture.scores >= result.threshold
    return (
        f"{name}: F1 {100 * result.of_pictures[index]:.0f} %",
        [
            (pixels, picture.truth[~picture.crowd], picture.labels[~picture.crowd], None),
            (pixels, picture.boxes[shown], picture.classes[shown], picture.scores[shown]),
        ],
    )


def _percent(share):
    return "-" if np.isnan(share) or share == -1 else f"{100 * share:.2f} %"
