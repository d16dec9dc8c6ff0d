"""Helpers for matplotlib figures with sizes in inches, without a display or global settings."""

import numpy as np

STYLE = {"font.size": 8, "axes.titlesize": 8, "axes.labelsize": 8, "axes.titlepad": 3}
GREY = {"cmap": "gray", "vmin": 0, "vmax": 1, "interpolation": "nearest"}
OVERLAY = {"cmap": "inferno", "alpha": 0.65, "interpolation": "bilinear"}


def new_figure(width, height):
    """Creates an empty figure; width and height are in inches."""
    try:
        from matplotlib.figure import Figure  # without pyplot, which needs a display or a notebook
    except ImportError as error:
        raise ImportError(
            "Figures need matplotlib: pip install 'keras-vision-transformers[pictures]'"
        ) from error
    return Figure((width, height), dpi=200)


def style():
    """Context manager that sets the font size to 8 points."""
    import matplotlib

    return matplotlib.rc_context(STYLE)


def add_axes(figure, left, top, width, height):
    """Adds axes to a figure, with positions in inches from its top left corner."""
    across, tall = figure.get_size_inches()
    return figure.add_axes(
        (left / across, 1 - (top + height) / tall, width / across, height / tall)
    )


def show(ax, pixels, x=None, largest=1):
    """Draws an image, in grey and with a map over it if one is given.

    The map covers the whole image, with each value at the centre of its patch.

    Args:
        ax: matplotlib axes.
        pixels: array (H, W, C), 0..1.
        x: array (h, w), the map, or None.
        largest: float, the value at the end of the colour scale.

    Returns:
        `matplotlib.image.AxesImage`, the map, or the image without one.
    """
    whole = (0, pixels.shape[1], pixels.shape[0], 0)
    if x is None:
        return ax.imshow(pixels.squeeze(), extent=whole, **GREY)
    ax.imshow(pixels.mean(axis=-1), extent=whole, **GREY)
    return ax.imshow(x, extent=whole, vmin=0, vmax=largest, **OVERLAY)


def outline(ax, place, grid, size):
    """Draws a frame around the patch (row, column) of a grid (h, w) on an image (H, W)."""
    from matplotlib.patches import Rectangle

    (row, column), p, q = place, size[0] / grid[0], size[1] / grid[1]
    frame = {"fill": False, "edgecolor": "red", "linewidth": 1.2}
    ax.add_patch(Rectangle((column * q, row * p), q, p, **frame))


def mosaic(tiles):
    """Joins tiles (rows, columns, h, w, ...) to one array with gaps of NaN.

    Returns:
        (array, width of a gap in pixels).
    """
    rows, columns, h, w, *rest = tiles.shape
    gap = max(1, round(min(h, w) / 8))
    space = np.full((rows, h + gap, columns, w + gap, *rest), np.nan, "float32")
    space[:, :h, :, :w] = np.moveaxis(tiles, 2, 1)
    picture = space.reshape(rows * (h + gap), columns * (w + gap), *rest)
    return picture[:-gap, :-gap], gap
