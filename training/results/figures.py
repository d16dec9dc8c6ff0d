"""The figures of a run: learning curves, confusion matrix, predictions and attention.

Letters: N images, H x W image size, C channels, K classes, h x w grid of patches.
"""

import csv

import numpy as np
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure  # without pyplot: no display and no global state
from matplotlib.ticker import MaxNLocator

from keras_vit.interpret.pictures import query_maps
from keras_vit.layers import Block

INK, MUTED, GRID = "#1b1f24", "#6b7280", "#e5e7eb"
TRAIN, VALIDATION, WRONG = "#9aa5b1", "#1f6feb", "#d1242f"
ROOT_OF_SHARE = "label (shade: root of its share of the row)"
ROWS, PAIRS = 5, 4
NUMBERED = 25  # largest number of classes for which the cells have numbers


def curves(metrics, path, metric="accuracy", title="accuracy"):
    """Draws loss and another metric of every epoch, of training and validation where they have it.

    Args:
        metrics: `Path` of a `metrics.csv`.
        path: `Path` of the PNG to write.
        metric, title: str, name of the metric in that file and in the figure.
    """
    with open(metrics, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    epochs = [int(row["epoch"]) for row in rows]
    figure = Figure(figsize=(11, 4.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    for axes, key, heading, scale, form in (
        (left, "loss", "Loss", 1, "{:.3f}"),
        (right, metric, title[0].upper() + title[1:], 100, "{:.1f} %"),
    ):
        for prefix, name, color in (
            ("", "training (augmented)", TRAIN),
            ("val_", "validation", VALIDATION),
        ):
            if prefix + key not in rows[0]:  # a metric of validation alone
                continue
            values = [scale * float(row[prefix + key]) for row in rows]
            label = f"{name}, last: {form.format(values[-1])}"
            marker = "o" if len(rows) < 5 else None  # one point is no line
            axes.plot(epochs, values, color=color, lw=1.8, marker=marker, label=label)
        axes.set_title(heading, loc="left", color=INK, fontsize=13, fontweight="bold")
        axes.set_xlabel("epoch", color=MUTED)
        axes.legend(frameon=False, labelcolor=INK)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.yaxis.set_major_formatter("{x:g} %" if scale == 100 else "{x:g}")
        axes.tick_params(colors=MUTED, length=0)
        axes.grid(color=GRID, lw=0.8)
        axes.set_axisbelow(True)
        axes.spines[:].set_visible(False)
    figure.savefig(path, dpi=150)


def predictions(model, images, labels, probabilities, path, class_names=None):
    """Draws images with predicted and true label, each beside its attention.

    Wrong predictions come first, the most confident at the front, in at most half of the cells;
    the others are the first correct predictions.

    Args:
        model: `VisionTransformer` on pixels 0..255.
        images: array (N, H, W, C), pixels 0..255.
        labels: integer array (N,).
        probabilities: float array (N, K).
        path: `Path` of the PNG to write.
        class_names: list of str, the names of the labels, or None for their numbers.
    """
    wrong = worst_first(labels, probabilities)
    right = np.flatnonzero(probabilities.argmax(-1) == labels)
    shown = [*wrong[: ROWS * PAIRS // 2], *right][: ROWS * PAIRS]
    title = f"{len(wrong):,} of {len(labels):,} test images are wrong"
    said = "Wrong ones first, in red. "
    _sheet(model, images, labels, probabilities, shown, (title, said), path, class_names)


def worst(model, images, labels, probabilities, path, class_names=None):
    """Draws the most confident wrong predictions, like `predictions`.

    If no prediction is wrong, no figure is written, and an existing one is removed.
    """
    shown = worst_first(labels, probabilities)[: ROWS * PAIRS]
    if not len(shown):
        path.unlink(missing_ok=True)
        return
    title, said = "The most confident mistakes", "The label itself may be wrong. "
    _sheet(model, images, labels, probabilities, shown, (title, said), path, class_names)


def worst_first(labels, probabilities):
    """Indices of the wrong predictions, the most confident first."""
    wrong = np.flatnonzero(probabilities.argmax(-1) != labels)
    return wrong[np.argsort(-probabilities.max(-1)[wrong], kind="stable")]


def confusion(labels, predicted, num_classes, path, class_names=None):
    """Draws the confusion matrix.

    Args:
        labels, predicted: integer arrays (N,).
        num_classes: int, K.
        path: `Path` of the PNG to write.
        class_names: list of str, or None.
    """
    counts = np.bincount(labels * num_classes + predicted, minlength=num_classes**2)
    counts = counts.reshape(num_classes, num_classes)  # (K of the label, K predicted)
    wrong = int((labels != predicted).sum())
    title = f"{wrong:,} of {len(labels):,} test images are wrong\n"
    _matrix(counts, counts, title, path, class_names)


def pixel_confusion(counts, path, class_names=None):
    """Draws a confusion matrix of pixels, with per cent of the label's pixels in its cells.

    Args:
        counts: integer array (K, K), rows are labels.
        path: `Path` of the PNG to write.
        class_names: list of str, or None.
    """
    share = 100 * counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    wrong = 100 * (1 - counts.trace() / max(counts.sum(), 1))
    title = f"{wrong:.1f} % of the labelled pixels are wrong\n"
    label = "label (numbers: per cent of its pixels; shade: root of that)"
    _matrix(counts, np.round(share).astype(int), title, path, class_names, label)


def _matrix(counts, cells, title, path, class_names, label=ROOT_OF_SHARE):
    """Draws a confusion matrix (K, K) with the integers `cells` in its cells."""
    num_classes = len(counts)
    shade = np.sqrt(counts / np.maximum(counts.sum(axis=1, keepdims=True), 1))[..., None]
    is_right = np.eye(num_classes, dtype=bool)[..., None]
    color = np.where(is_right, to_rgb(VALIDATION), to_rgb(WRONG))
    names = [class_name(class_names, label, 18) for label in range(num_classes)]
    margin = 0.9 + 0.09 * max(map(len, names))  # inches
    side = max(num_classes * (0.42 if num_classes <= NUMBERED else 0.26), 3.6)
    figure = Figure(figsize=(margin + side + 0.3, margin + side + 0.9), layout="constrained")
    axes = figure.subplots()
    axes.imshow(1 - shade * (1 - color))
    if num_classes <= NUMBERED:
        for row, column in np.argwhere(cells):
            dark = shade[row, column, 0] > 0.6
            ink = "white" if dark else INK
            axes.text(column, row, cells[row, column], ha="center", va="center", color=ink)
    axes.set_title(
        title,
        loc="left",
        color=INK,
        fontsize=13,
        fontweight="bold",
    )
    axes.xaxis.tick_top()
    axes.xaxis.set_label_position("top")
    long = max(map(len, names)) > 3
    axes.set_xticks(range(num_classes), names, rotation=90 if long else 0)
    axes.set_yticks(range(num_classes), names)
    axes.set_xlabel("predicted", color=MUTED)
    axes.set_ylabel(label, color=MUTED)
    axes.tick_params(colors=INK, length=0)
    axes.set_xticks(np.arange(1, num_classes) - 0.5, minor=True)
    axes.set_yticks(np.arange(1, num_classes) - 0.5, minor=True)
    axes.grid(which="minor", color=GRID, lw=0.6)
    axes.tick_params(which="minor", length=0)
    axes.spines[:].set_color(GRID)
    figure.savefig(path, dpi=150)


def class_name(class_names, label, limit):
    """The label of a class in a figure: its first name, at most `limit` letters of it."""
    if class_names is None or label >= len(class_names):  # a model may have more than the data
        return str(label)
    name = class_names[label].split(",")[0]
    return name if len(name) <= limit else f"{name[: limit - 1]}…"


def _sheet(model, images, labels, probabilities, shown, texts, path, class_names):
    """Draws the images `shown`, a list of indices, each beside its attention."""
    predicted, confidence = probabilities.argmax(-1), probabilities.max(-1)
    if _token_blocks(model):
        attention, query = attention_of_last_block(model, images[shown].astype("float32"))
        legend = f"Beside each image: what {query} attends to (last block, mean of the heads; "
        legend += "bright is high)."
    else:
        attention, legend = [None] * len(shown), ""
    rows = -(-len(shown) // PAIRS)
    named = [*labels[shown], *predicted[shown]]
    short = max(len(class_name(class_names, label, 22)) for label in named) < 5
    row = 1.56 if short else 1.68  # of longer names a wrong image has two lines
    height = 1.1 + row * rows  # inches, as the numbers below
    figure = Figure(figsize=(11, height), facecolor="white")
    for text, below_top, style in (
        (texts[0], 0.34, {"color": INK, "fontsize": 14, "fontweight": "bold"}),
        (
            texts[1] + legend,
            0.62,
            {"color": MUTED, "fontsize": 10},
        ),
    ):
        figure.text(0.03, 1 - below_top / height, text, va="center", **style)
    columns = figure.add_gridspec(
        rows,
        PAIRS,
        left=0.03,
        right=0.97,
        top=1 - 1.11 / height,
        bottom=0.18 / height,
        wspace=0.14,
        hspace=0.25 if short else 0.35,
    )
    for place, index, looked_at in zip(np.ndindex(rows, PAIRS), shown, attention, strict=False):
        plain, overlaid = columns[place].subgridspec(1, 2, wspace=0.03).subplots()
        is_right = predicted[index] == labels[index]
        _draw(plain, images[index])
        if looked_at is None:
            overlaid.axis("off")
        else:
            _draw(overlaid, images[index], looked_at)
        said = class_name(class_names, predicted[index], 22)
        truth = class_name(class_names, labels[index], 22)
        if not is_right:
            said = f"{said}, is {truth}" if short else f"{said}\nis {truth}"
        plain.set_title(
            said,
            loc="left",
            color=INK if is_right else WRONG,
            fontsize=12 if short else 8,
            fontweight="bold",
            pad=4,
        )
        overlaid.set_title(
            f"{100 * confidence[index]:.1f} %",
            loc="right",
            color=MUTED,
            fontsize=10 if short else 8,
            pad=4,
        )
    figure.savefig(path, dpi=150)


def _token_blocks(model):
    """Names of the blocks on tokens."""
    blocks = (layer for layer in model.layers if isinstance(layer, Block))
    return [block.name for block in blocks if block.queries != "places"]


def attention_of_last_block(model, images):
    """The attention of the class token, or of the average patch, in the last block.

    Args:
        model: model with blocks on tokens.
        images: float array (N, H, W, C).

    Returns:
        (attention (N, h, w), mean over the heads, each image's largest value 1; the name of what
        attends: "the class token", or "the average patch" of a model without one.)
    """
    maps, query = query_maps(model, images, _token_blocks(model)[-1])  # (N, heads, h, w)
    maps = maps.mean(axis=1)
    return maps / maps.max(axis=(1, 2), keepdims=True), query


def _draw(axes, image, attention=None):
    height, width, channels = image.shape
    whole = (0, width, height, 0)
    shades = {"cmap": "gray", "vmin": 0, "vmax": 255} if channels == 1 else {}
    picture = image[..., 0] if channels == 1 else image.astype("uint8")
    axes.imshow(picture, extent=whole, interpolation="nearest", **shades)
    if attention is not None:
        axes.imshow(
            attention,
            extent=whole,
            cmap="inferno",
            vmin=0,
            vmax=1,
            alpha=0.7,
            interpolation="bicubic",
        )
    axes.axis("off")
