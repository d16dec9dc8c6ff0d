"""Figures of detected objects over pictures.

Letters: H x W size of a picture, n objects.
"""

import colorsys

import numpy as np

from keras_vit.interpret.drawing import add_axes, new_figure, style
from keras_vit.picture_files import load_image

WIDTH = 4.0  # inches
GOLDEN = 0.61803  # hues of following labels are far apart
RELATIVE = 1.5  # boxes in pixels have larger coordinates
NAME_HEIGHT = 8 / 72  # inches of a name with its frame


def plot_detections(picture, detections, class_names=None, scores=True, width=WIDTH):
    """Draws the boxes of detected objects over their picture, with names and scores.

    Args:
        picture: path, bytes of a file, PIL image, or array of pixels 0..255, (H, W, 3).
        detections: what `model.detect` returns for a picture, or a dict with "boxes" (n, 4), x0,
            y0, x1, y1 in pixels, "labels" (n,), and optionally "scores" (n,), such as the truth.
        class_names: list of K str; by default the names in `detections`, or the labels.
        scores: bool, whether to draw the scores too.
        width: float, width of the figure in inches.

    Returns:
        `matplotlib.figure.Figure`. The most certain objects are drawn last.

    Raises:
        ValueError: if the boxes are not (n, 4) in pixels of the picture.
        ImportError: without matplotlib.

    Example:
        >>> (found,) = model.detect(["street.jpg"])
        >>> keras_vit.plot_detections("street.jpg", found).savefig("found.png")
    """
    pixels = load_image(picture)
    get = detections.get if isinstance(detections, dict) else lambda x: getattr(detections, x, None)
    boxes, labels = np.asarray(get("boxes"), "float32"), np.asarray(get("labels"))
    boxes = boxes.reshape(-1, 4) if boxes.size == 0 else boxes
    check_boxes(boxes, len(labels.reshape(-1)), pixels.shape[:2])
    names, certain = class_names or get("names"), get("scores")
    height = width * pixels.shape[0] / pixels.shape[1]
    figure = new_figure(width, height)
    with style():
        ax = add_axes(figure, 0, 0, width, height)
        ax.imshow(pixels)
        ax.set_axis_off()
        ax.set_xlim(-0.5, pixels.shape[1] - 0.5)
        ax.set_ylim(pixels.shape[0] - 0.5, -0.5)
        for i in reversed(range(len(labels))):
            name = str(int(labels[i]))
            if names is not None:
                name = names[i] if class_names is None else names[int(labels[i])]
            if scores and certain is not None:
                name = f"{name} {100 * float(certain[i]):.0f} %"
            # Above its box a name would be cut off at the top of the picture.
            above = boxes[i, 1] >= NAME_HEIGHT * pixels.shape[1] / width
            _draw(ax, boxes[i], name, color_of(int(labels[i])), "bottom" if above else "top")
    return figure


def color_of(label):
    """(r, g, b) in 0..1, the colour of a class."""
    return colorsys.hsv_to_rgb(label * GOLDEN % 1, 0.85, 0.95)


def check_boxes(boxes, count, size):
    """Raises a `ValueError` unless boxes are (count, 4), x0, y0, x1, y1 in pixels of (H, W)."""
    expected = f"boxes must be ({count}, 4), x0, y0, x1, y1 in pixels of the picture"
    if boxes.shape != (count, 4) or not np.isfinite(boxes).all():
        raise ValueError(f"{expected}, without NaN. Received: shape={boxes.shape}")
    if count and np.abs(boxes).max() <= RELATIVE and min(size) > 2 * RELATIVE:
        raise ValueError(
            f"{expected}. These look like shares 0..1 of it: multiply them by its width and "
            f"height. Received: {boxes[0].tolist()} in a picture of {size[1]} x {size[0]}"
        )
    wrong = np.nonzero((boxes[:, 2:] < boxes[:, :2]).any(-1))[0]
    if len(wrong):
        raise ValueError(
            f"{expected}. These look like x, y, width, height, or a centre and a size: convert "
            f"them to corners. Received: {boxes[wrong[0]].tolist()}"
        )


def _draw(ax, box, text, color, anchor):
    from matplotlib.patches import Rectangle

    x, y, right, bottom = (float(side) for side in box)
    frame = {"fill": False, "edgecolor": color, "linewidth": 1.2}
    ax.add_patch(Rectangle((x - 0.5, y - 0.5), right - x, bottom - y, **frame))
    ax.text(
        x,
        y,
        text,
        fontsize=5,
        color="white",
        verticalalignment=anchor,
        parse_math=False,
        clip_on=True,
        bbox={"facecolor": color, "edgecolor": "none", "pad": 0.8},
    )
