"""The pictures of a run: learning curves, and predictions beside what the model looked at.

Letters: N images, H x W image size, C channels, K classes, h x w grid of patches, P prefix tokens.
"""

import csv

import numpy as np
from matplotlib.figure import Figure  # without pyplot: no screen and no global state
from matplotlib.ticker import MaxNLocator

import keras_vit

INK, MUTED, GRID = "#1b1f24", "#6b7280", "#e5e7eb"
TRAIN, VALIDATION, WRONG = "#9aa5b1", "#1f6feb", "#d1242f"
ROWS, PAIRS = 5, 4


def curves(metrics, path):
    """Draws loss and accuracy of every epoch, training and validation.

    Args:
        metrics: `Path` of a `metrics.csv`.
        path: `Path` of the PNG to write.
    """
    with open(metrics, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    epochs = [int(row["epoch"]) for row in rows]
    figure = Figure(figsize=(11, 4.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    for axes, key, title, scale, form in (
        (left, "loss", "Loss", 1, "{:.3f}"),
        (right, "accuracy", "Accuracy", 100, "{:.1f} %"),
    ):
        for prefix, name, color in (
            ("", "training (augmented)", TRAIN),
            ("val_", "validation", VALIDATION),
        ):
            values = [scale * float(row[prefix + key]) for row in rows]
            label = f"{name}, last: {form.format(values[-1])}"
            marker = "o" if len(rows) < 5 else None  # one point is no line
            axes.plot(epochs, values, color=color, lw=1.8, marker=marker, label=label)
        axes.set_title(title, loc="left", color=INK, fontsize=13, fontweight="bold")
        axes.set_xlabel("epoch", color=MUTED)
        axes.legend(frameon=False, labelcolor=INK)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.yaxis.set_major_formatter("{x:g} %" if scale == 100 else "{x:g}")
        axes.tick_params(colors=MUTED, length=0)
        axes.grid(color=GRID, lw=0.8)
        axes.set_axisbelow(True)
        axes.spines[:].set_visible(False)
    figure.savefig(path, dpi=150)


def predictions(model, images, labels, probabilities, path):
    """Draws images with predicted and true label, each beside its attention.

    Wrong ones come first, the most confident in front, in at most half of the places; the others
    are the first right ones.

    Args:
        model: `VisionTransformer` on pixels 0..255.
        images: array (N, H, W, C), pixels 0..255.
        labels: integer array (N,).
        probabilities: float array (N, K).
        path: `Path` of the PNG to write.
    """
    predicted, confidence = probabilities.argmax(-1), probabilities.max(-1)
    right, wrong = (np.flatnonzero((predicted == labels) == is_right) for is_right in (True, False))
    worst_first = wrong[np.argsort(-confidence[wrong], kind="stable")]
    shown = [*worst_first[: ROWS * PAIRS // 2], *right][: ROWS * PAIRS]
    attention, query = attention_of_last_block(model, images[shown].astype("float32"))

    figure = Figure(figsize=(11, 8.9), facecolor="white")
    figure.text(
        0.03,
        0.962,
        f"{len(wrong)} of {len(labels)} test images are wrong",
        color=INK,
        fontsize=14,
        fontweight="bold",
        va="center",
    )
    figure.text(
        0.03,
        0.93,
        f"Wrong ones first, in red. Beside each image: what {query} attends to "
        f"(last block, mean of the heads; bright is much).",
        color=MUTED,
        fontsize=10,
        va="center",
    )
    columns = figure.add_gridspec(
        ROWS, PAIRS, left=0.03, right=0.97, top=0.875, bottom=0.02, wspace=0.14, hspace=0.25
    )
    for place, index, looked_at in zip(np.ndindex(ROWS, PAIRS), shown, attention, strict=False):
        plain, overlaid = columns[place].subgridspec(1, 2, wspace=0.03).subplots()
        is_right = predicted[index] == labels[index]
        _draw(plain, images[index])
        _draw(overlaid, images[index], looked_at)
        truth = "" if is_right else f", is {labels[index]}"
        plain.set_title(
            f"{predicted[index]}{truth}",
            loc="left",
            color=INK if is_right else WRONG,
            fontsize=12,
            fontweight="bold",
            pad=4,
        )
        overlaid.set_title(
            f"{100 * confidence[index]:.1f} %", loc="right", color=MUTED, fontsize=10, pad=4
        )
    figure.savefig(path, dpi=150)


def attention_of_last_block(model, images):
    """What the model's summary of an image reads from where, in its last block.

    Args:
        model: `VisionTransformer`.
        images: float array (N, H, W, C).

    Returns:
        (attention (N, h, w), mean over the heads, each image's largest value 1; the name of what
        attends: "the class token", or "the average patch" of a model without one.)
    """
    last = [layer.name for layer in model.layers if layer.name.startswith("block")][-1]
    scores = keras_vit.attention_maps(model, images, layers=[last])[last].mean(axis=1)
    prefix = model.num_prefix_tokens
    if any(layer.name == "class_token" for layer in model.layers):
        scores, query = scores[:, 0, prefix:], "the class token"  # (N, h*w)
    else:
        scores, query = scores[:, prefix:, prefix:].mean(axis=1), "the average patch"
    scores = scores / scores.max(axis=-1, keepdims=True)
    return scores.reshape(len(images), *model.grid_size), query


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
