"""Pictures with the classes of their pixels drawn over them.

Letters: N pictures, H x W size of a picture, K classes.
"""

import numpy as np
from matplotlib.figure import Figure

from .figures import INK, MUTED, class_name

OPACITY = 0.6
HEIGHT = 2.0  # inches of a picture
LEGEND = 24  # most classes in a legend


def colors(num_classes):
    """A colour for each class, uint8 (K, 3), with those of Pascal VOC's palette."""
    index = np.arange(1, num_classes + 1)
    found = np.zeros((num_classes, 3), "uint8")
    for shift in range(8):
        for channel in range(3):
            found[:, channel] |= ((index >> channel & 1) << 7 - shift).astype("uint8")
        index = index >> 3
    return found


def overlay(image, labels, num_classes):
    """Draws labels over a picture; pixels that are ignored stay as they are.

    Args:
        image: (H, W, C), pixels 0..255.
        labels: integer array (H, W); values outside 0..K-1 are ignored.
        num_classes: int, K.

    Returns:
        uint8 (H, W, 3).
    """
    image = np.broadcast_to(np.asarray(image, "float32"), (*labels.shape, 3))
    known = (labels >= 0) & (labels < num_classes)
    over = colors(num_classes)[np.where(known, labels, 0)]
    mixed = image + OPACITY * known[..., None] * (over - image)
    return np.clip(np.round(mixed), 0, 255).astype("uint8")


def sheet(rows, headings, title, num_classes, path, class_names=None):
    """Draws rows of pictures below each other, with a legend of the classes that occur.

    Args:
        rows: list of (text, list of uint8 pictures (H, W, 3), integer array of classes shown).
        headings: list of str, above the columns.
        title: str.
        num_classes: int, K.
        path: `Path` of the PNG to write.
        class_names: list of str, or None.
    """
    shown = np.unique(np.concatenate([np.asarray(row[2]) for row in rows]))
    shown = shown[shown < num_classes][:LEGEND]
    height = 1.2 + (HEIGHT + 0.25) * len(rows) + 0.22 * -(-len(shown) // 6)
    figure = Figure(figsize=(11, height), layout="constrained")
    figure.suptitle(title, x=0.01, ha="left", color=INK, fontsize=14, fontweight="bold")
    cells = figure.subplots(len(rows), len(headings), squeeze=False)
    for line, (text, pictures, _) in zip(cells, rows, strict=True):
        for axes, picture in zip(line, pictures, strict=True):
            axes.imshow(picture, interpolation="nearest")
            axes.axis("off")
        line[0].set_title(text, loc="left", color=MUTED, fontsize=9)
    for axes, heading in zip(cells[0], headings, strict=True):
        axes.set_title(heading, loc="right", color=INK, fontsize=10)
    patches = [figure.add_artist(_patch(color)) for color in colors(num_classes)[shown] / 255]
    names = [class_name(class_names, label, 22) for label in shown]
    figure.legend(patches, names, loc="outside lower left", ncols=6, frameon=False, fontsize=9)
    figure.savefig(path, dpi=110)


def _patch(color):
    from matplotlib.patches import Rectangle

    return Rectangle((0, 0), 0, 0, color=color)
