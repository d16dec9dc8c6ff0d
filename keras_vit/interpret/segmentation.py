"""Figures of class maps over pictures.

Letters: H x W size of a picture, K classes.
"""

import numpy as np

from keras_vit.interpret.drawing import add_axes, new_figure, style
from keras_vit.layers.validation import check_rate
from keras_vit.losses.segmentation import IGNORED
from keras_vit.picture_files import load_image
from keras_vit.tasks.setr.palettes import PALETTES, palette_of

WIDTH, LEGEND, ROW = 4.0, 1.5, 0.16  # inches: the picture, the legend beside it, a row of that
MOST_ROWS = 20


def plot_segmentation(picture, class_map, class_names=None, palette=None, opacity=0.6):
    """Draws a class map over its picture, with a legend of the classes and their shares.

    Args:
        picture: path, bytes of a file, PIL image, or array of pixels 0..255, (H, W, 3).
        class_map: int array (H, W), as `model.segment` returns it; 255, if it is no class, is left
            without a colour.
        class_names: list of K str; by default those of the data set that `palette` names, or
            numbers.
        palette: "ade20k", "cityscapes" or "camvid", a uint8 array (K, 3) of colours, or None for
            that of the data set with the same names, or colours of rising hue.
        opacity: float in [0, 1), of the colours.

    Returns:
        `matplotlib.figure.Figure`.

    Raises:
        ValueError: if the class map has another size than the picture, or the palette is unknown or
            has no colour for a class.
        ImportError: without matplotlib.

    Example:
        >>> (class_map,) = model.segment(["street.jpg"])
        >>> keras_vit.plot_segmentation("street.jpg", class_map, model.class_names)
    """
    check_rate(opacity, "opacity")
    pixels, class_map = load_image(picture), np.asarray(class_map)
    if class_map.shape != pixels.shape[:2]:
        raise ValueError(
            "class_map must have the size of the picture. "
            f"Received: shape={class_map.shape}, a picture of {pixels.shape[:2]}"
        )
    shares = class_shares(class_map)
    names, colors = _names_and_colors(shares, class_names, palette)
    height = WIDTH * pixels.shape[0] / pixels.shape[1]
    shown = list(shares.items())[:MOST_ROWS]
    figure = new_figure(WIDTH + LEGEND, max(height, ROW * (len(shown) + 1)))
    with style():
        ax = add_axes(figure, 0, 0, WIDTH, height)
        ax.imshow(colored(pixels, class_map, colors, opacity))
        ax.set_axis_off()
        legend = add_axes(figure, WIDTH, 0, LEGEND, ROW * (len(shown) + 1))
        legend.set_xlim(0, LEGEND / ROW)
        legend.set_ylim(len(shown) + 1, 0)
        legend.set_axis_off()
        for row, (index, share) in enumerate(shown):
            square = {"color": colors[index] / 255, "marker": "s", "markersize": 6}
            legend.plot(1, row + 0.7, **square)
            text = f"{names[index]}, {_percent(share)}"
            legend.text(1.8, row + 0.7, text, verticalalignment="center", parse_math=False)
    return figure


def class_shares(class_map):
    """dict of class index to its share of the pixels, the largest first; 255 counts as a class."""
    indices, counts = np.unique(class_map, return_counts=True)
    order = np.argsort(-counts, kind="stable")
    return {int(indices[i]): float(counts[i] / np.size(class_map)) for i in order}


def colored(pixels, class_map, colors, opacity):
    """The picture uint8 (H, W, 3) with the colour of each pixel's class laid over its grey."""
    grey = pixels.mean(axis=-1, keepdims=True)
    known = (class_map < len(colors))[..., None]
    color = colors[np.where(known[..., 0], class_map, 0)].astype("float32")
    mixed = np.where(known, (1 - opacity) * grey + opacity * color, grey)
    return np.round(mixed).astype("uint8")


def _names_and_colors(shares, class_names, palette):
    """(names by index, uint8 array (K, 3)) for the classes of a map."""
    if class_names is None or len(class_names) <= IGNORED:
        shares.pop(IGNORED, None)
    most = max(shares, default=0) + 1
    if isinstance(palette, str):
        if palette not in PALETTES:
            raise ValueError(
                f"palette must be one of {', '.join(map(repr, PALETTES))}, an array of colours, or "
                f"None. Received: palette={palette!r}"
            )
        found = PALETTES[palette]
    else:
        # A map does not say how many classes there are, so it is of no data set by itself.
        colors = None if palette is None else np.asarray(palette, "uint8")
        count = most if colors is None else len(colors)
        names = class_names or [str(index) for index in range(count)]
        found = palette_of(len(names), list(names))
        found = found if colors is None else found._replace(colors=colors)
    names = class_names or found.names
    if min(len(names), len(found.colors)) < most:
        raise ValueError(
            "There must be a name and a colour for every class of the map. Received: "
            f"{len(names)} names, {len(found.colors)} colours, class {most - 1}"
        )
    return names, found.colors


def _percent(share):
    return f"{100 * share:.1f} %"
