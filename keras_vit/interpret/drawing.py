"""Parts of figures, placed in inches; matplotlib without a screen and without global settings."""

import numpy as np

STYLE = {"font.size": 8, "axes.titlesize": 8, "axes.labelsize": 8, "axes.titlepad": 3}
GREY = {"cmap": "gray", "vmin": 0, "vmax": 1, "interpolation": "nearest"}
OVERLAY = {"cmap": "inferno", "alpha": 0.65, "interpolation": "bilinear"}


def new_figure(width, height):
    """An empty figure of so many inches."""
    try:
        from matplotlib.figure import Figure  # without pyplot, which needs a screen or a notebook
    except ImportError as error:
        raise ImportError("Pictures need matplotlib: pip install 'keras_vit[pictures]'") from error
    return Figure((width, height), dpi=200)


def style():
    """A context in which type has 8 points; what was set before comes back."""
    import matplotlib

    return matplotlib.rc_context(STYLE)


def add_axes(figure, left, top, width, height):
    """Axes in inches from the top left corner of the figure."""
    across, tall = figure.get_size_inches()
    return figure.add_axes(
        (left / across, 1 - (top + height) / tall, width / across, height / tall)
    )


def show(ax, pixels, x=None, largest=1):
    """Draws an image (H, W, C) of 0..1 or, with a map (h, w), the image in grey and the map on it.

    The map covers the image from edge to edge, each value in the middle of its patch.

    Returns:
        What was drawn last.
    """
    whole = (0, pixels.shape[1], pixels.shape[0], 0)
    if x is None:
        return ax.imshow(pixels.squeeze(), extent=whole, **GREY)
    ax.imshow(pixels.mean(axis=-1), extent=whole, **GREY)
    return ax.imshow(x, extent=whole, vmin=0, vmax=largest, **OVERLAY)


def outline(ax, place, grid, size):
    """A frame around the patch (row, column) of a grid (h, w) on an image (H, W)."""
    from matplotlib.patches import Rectangle

    (row, column), p, q = place, size[0] / grid[0], size[1] / grid[1]
    frame = {"fill": False, "edgecolor": "red", "linewidth": 1.2}
    ax.add_patch(Rectangle((column * q, row * p), q, p, **frame))


def mosaic(tiles):
    """Tiles (rows, columns, h, w, ...) as one picture, with gaps of nan, and how wide a gap is."""
    rows, columns, h, w, *rest = tiles.shape
    gap = max(1, round(min(h, w) / 8))
    space = np.full((rows, h + gap, columns, w + gap, *rest), np.nan, "float32")
    space[:, :h, :, :w] = np.moveaxis(tiles, 2, 1)
    picture = space.reshape(rows * (h + gap), columns * (w + gap), *rest)
    return picture[:-gap, :-gap], gap
