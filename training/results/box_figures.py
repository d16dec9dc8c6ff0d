"""The figures of a detector: precision and recall, and pictures with their boxes.

Letters: N pictures, n boxes of a picture, H x W size of a picture, K classes.
"""

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from .figures import GRID, INK, MUTED, VALIDATION, class_name
from .overlays import colors

HEIGHT = 2.4  # inches of a picture
THRESHOLDS = (0.5, 0.6, 0.7, 0.8, 0.9)  # of IoU


def precision_recall(curves, path):
    """Draws the precision at every recall, mean over the classes, a line for each IoU.

    Args:
        curves: `keras_vit.metrics.CocoAveragePrecision.curves`.
        path: `Path` of the PNG to write.
    """
    recall, precision = curves
    figure = Figure(figsize=(6.4, 4.6), layout="constrained")
    axes = figure.subplots()
    for threshold, alpha in zip(THRESHOLDS, np.linspace(1, 0.25, len(THRESHOLDS)), strict=True):
        values = precision[threshold]
        label = f"IoU {threshold:g}: {100 * values.mean():.1f} %"
        axes.plot(recall, values, color=VALIDATION, alpha=alpha, lw=1.8, label=label)
    axes.set_title(
        "Precision and recall, mean over the classes",
        loc="left",
        color=INK,
        fontsize=13,
        fontweight="bold",
    )
    axes.set_xlabel("recall", color=MUTED)
    axes.set_ylabel("precision", color=MUTED)
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1.02)
    axes.legend(frameon=False, labelcolor=INK, title="average precision", loc="lower left")
    axes.tick_params(colors=MUTED, length=0)
    axes.grid(color=GRID, lw=0.8)
    axes.set_axisbelow(True)
    axes.spines[:].set_visible(False)
    figure.savefig(path, dpi=150)


def sheet(rows, headings, title, num_classes, path, class_names=None):
    """Draws rows of pictures with boxes below each other.

    Args:
        rows: list of (text, list of (picture (H, W, C), pixels 0..255; boxes (n, 4) as x0, y0, x1,
            y1; integer classes (n,); scores (n,) or None)).
        headings: list of str, above the columns.
        title: str.
        num_classes: int, K.
        path: `Path` of the PNG to write.
        class_names: list of str, or None.
    """
    height = 0.9 + (HEIGHT + 0.3) * len(rows)
    shape = np.mean([cell[0].shape[1] / cell[0].shape[0] for _, line in rows for cell in line])
    width = min(max(len(headings) * HEIGHT * shape + 0.4, 6), 16)
    figure = Figure(figsize=(width, height), layout="constrained")
    figure.suptitle(title, x=0.01, ha="left", color=INK, fontsize=14, fontweight="bold")
    cells = figure.subplots(len(rows), len(headings), squeeze=False)
    palette = colors(num_classes) / 255
    for line, (text, shown) in zip(cells, rows, strict=True):
        for axes, (picture, boxes, classes, scores) in zip(line, shown, strict=True):
            picture = np.clip(np.asarray(picture), 0, 255).astype("uint8")
            picture = np.broadcast_to(picture, (*picture.shape[:2], 3))
            axes.imshow(picture, interpolation="nearest")
            axes.axis("off")
            for i, (box, label) in enumerate(zip(boxes, classes, strict=True)):
                said = class_name(class_names, label, 14)
                said += "" if scores is None else f" {100 * scores[i]:.0f}"
                _box(axes, box, palette[label % num_classes], said)
        line[0].set_title(text, loc="left", color=MUTED, fontsize=9)
    for axes, heading in zip(cells[0], headings, strict=True):
        axes.set_title(heading, loc="right", color=INK, fontsize=10)
    figure.savefig(path, dpi=110)


def _box(axes, box, color, text):
    x0, y0, x1, y1 = (float(x) - 0.5 for x in box)  # pixel i covers i - 0.5 to i + 0.5
    axes.add_patch(Rectangle((x0, y0), x1 - x0, y1 - y0, fill=False, color="black", lw=2.4))
    axes.add_patch(Rectangle((x0, y0), x1 - x0, y1 - y0, fill=False, color=color, lw=1.4))
    dark = float(np.dot(color, (0.3, 0.59, 0.11))) < 0.55
    style = {"facecolor": color, "edgecolor": "none", "pad": 0.6, "alpha": 0.85}
    ink = "white" if dark else "black"
    axes.text(x0, y0, text, fontsize=6.5, color=ink, va="bottom", bbox=style, clip_on=True)
