"""Figures for a paper: attention on the image, position embeddings, filters.

They are matplotlib figures that need no display and change no global setting. Sizes are in inches
and the font size is 8 points, so that they fit a page unscaled: `figure.savefig("a.pdf")`.
"""

import math
import textwrap

import numpy as np

from keras_vit.interpret.attention import attention_maps, block_names, query_grid
from keras_vit.interpret.drawing import add_axes, mosaic, new_figure, outline, show, style
from keras_vit.interpret.embeddings import patch_filters, position_similarity
from keras_vit.interpret.images import as_images, class_labels, classifies, shown_pixels
from keras_vit.layers import ClassToken

COLUMN, PAGE = 3.25, 6.75  # inches, widths of a column and of a page with two columns
GAP, CAPTION, BELOW, BAR = 0.06, 0.18, 0.08, 0.8  # inches; BAR is the width of the colour bar


def plot_attention(model, images, layer=None, heads=None, query=None, width=PAGE):
    """Draws the attention of one token in a block: each head, and the mean of all heads.

    Args:
        model: model of one of this library's families.
        images: array (B, H, W, C), the model's input, or a list of pictures, such as paths.
        layer: str, name of a block, such as "block11"; by default the last.
        heads: list of int, indices of the heads to draw, or [] for the mean only; by default all
            heads.
        query: (row, column) of the patch whose attention is drawn; by default the class token, or
            the average over all patches if the block has none. In a block of DETR's decoder an int,
            the number of an object query; by default the average query.
        width: float, width of the figure in inches.

    Returns:
        `matplotlib.figure.Figure` with a group of panels for each image. All share one colour
        scale, from zero to the 98th percentile, because single patches often have very high scores;
        an arrow on the colour bar marks that there are higher values.

    Raises:
        ValueError: if a block, head or patch does not exist, or an item is not a picture.
        ImportError: if matplotlib is missing.

    Example:
        >>> figure = keras_vit.plot_attention(model, ["cat.jpg"], layer="block11")
        >>> figure.savefig("attention.pdf")
    """
    images = as_images(model, images)
    layer = block_names(model)[-1] if layer is None else layer
    maps, reader = query_maps(model, images, layer, query)  # (B, heads, h, w)
    shown = range(maps.shape[1]) if heads is None else heads
    if not set(shown) <= set(range(maps.shape[1])):
        raise ValueError(
            f"heads must be a list of indices from 0 to {maps.shape[1] - 1}. "
            f"Received: heads={heads}"
        )
    columns = {f"head {head}": maps[:, head] for head in shown}
    columns["mean" if maps.shape[1] > 1 else "head 0"] = maps.mean(axis=1)
    caption = f"{layer}: what {reader} attends to"
    largest = np.quantile(np.stack(list(columns.values())), 0.98)
    mark = None
    if query is not None and not isinstance(query, int):
        mark = (query, query_grid(model, layer, images.shape))
    return _overlays(model, images, columns, caption, "attention", largest, width, mark)


def plot_maps(model, images, maps, width=PAGE):
    """Draws maps, such as rollout, attribution and Grad-CAM, on their images side by side.

    Args:
        model: model of one of this library's families.
        images: array (B, H, W, C), the model's input, or a list of pictures, such as paths.
        maps: dict of title to array (B, h, w), not negative.
        width: float, width of the figure in inches.

    Returns:
        `matplotlib.figure.Figure` with a group of panels for each image. Each map has its own
        colour scale, from zero to its largest value; a figure of several maps says so.

    Raises:
        ValueError: if a map has a wrong shape or negative values, or an item is not a picture.
        ImportError: if matplotlib is missing.

    Example:
        >>> images = model.preprocess_images(["cat.jpg"])
        >>> maps = {"rollout": keras_vit.attention_rollout(model, images)}
        >>> keras_vit.plot_maps(model, images, maps).savefig("rollout.png", dpi=300)
    """
    images = as_images(model, images)
    maps = {title: np.asarray(x, "float32") for title, x in maps.items()}
    for title, x in maps.items():
        if x.ndim != 3 or len(x) != len(images) or not np.isfinite(x).all() or x.min() < 0:
            raise ValueError(
                f"maps must be arrays ({len(images)}, h, w), one map for each image, not negative. "
                f"Received: {title!r} of shape {x.shape}"
            )
    scaled = {
        title: x / np.maximum(x.max(axis=(1, 2), keepdims=True), 1e-30) for title, x in maps.items()
    }
    several = len(maps) * len(images) > 1
    caption = "colours: each map by its own largest value" if several else ""
    return _overlays(model, images, scaled, caption, "share of the largest", 1, width)


def plot_position_similarity(model, layer=None, width=COLUMN):
    """Draws the cosine similarity of the position embeddings: one map for each patch.

    Args:
        model: model with position embeddings.
        layer: str, name of the `AddPositionEmbedding` layer; by default the first.
        width: float, width of the figure in inches.

    Returns:
        `matplotlib.figure.Figure`. For a grid of more than 14 patches per side, only every second
        (third, ...) patch is drawn.

    Raises:
        ValueError: if the model has no position embeddings, or no such layer.
        ImportError: if matplotlib is missing.

    Example:
        >>> keras_vit.plot_position_similarity(model).savefig("positions.pdf")
    """
    cosines = position_similarity(model, layer)
    h, w = cosines.shape[:2]
    step = math.ceil(max(h, w) / 14)
    rows, columns = np.arange(step // 2, h, step), np.arange(step // 2, w, step)
    picture, gap = mosaic(cosines[rows][:, columns])
    across = width - BAR - 0.4
    tall = across * picture.shape[0] / picture.shape[1]
    figure = new_figure(width, tall + 0.4)
    with style():
        ax = add_axes(figure, 0.4, 0.05, across, tall)
        drawn = ax.imshow(picture, cmap="viridis", vmin=-1, vmax=1, interpolation="nearest")
        pitch = (picture.shape[0] + gap) / len(rows), (picture.shape[1] + gap) / len(columns)
        for axis, numbers, each, side in (
            (ax.yaxis, rows, pitch[0], h),
            (ax.xaxis, columns, pitch[1], w),
        ):
            axis.set_ticks(np.arange(len(numbers)) * each + (side - 1) / 2, numbers)
        ax.tick_params(length=0, labelsize=6, pad=1)
        ax.spines[:].set_visible(False)
        ax.set(xlabel="column of the patch", ylabel="row of the patch")
        bar = figure.colorbar(drawn, cax=add_axes(figure, width - BAR + 0.1, 0.05, 0.1, tall))
        bar.set_label("cosine similarity")
    return figure


def plot_filters(model, components=28, width=COLUMN):
    """Draws the principal components of the filters of the first layer, as colours around grey.

    Args:
        model: model whose first layer with weights is a patch embedding or a convolution.
        components: int, number of components.
        width: float, width of the figure in inches.

    Returns:
        `matplotlib.figure.Figure` with seven components per row, the first at the top left. Each
        is scaled by its largest value. Unless there are three channels, their mean is drawn.

    Raises:
        ValueError: if the first layer is another, or there are fewer than `components`.
        ImportError: if matplotlib is missing.

    Example:
        >>> keras_vit.plot_filters(model).savefig("filters.pdf")
    """
    filters = patch_filters(model, components)
    if filters.shape[-1] != 3:
        filters = filters.mean(axis=-1, keepdims=True)
    filters = 0.5 + 0.5 * filters / np.abs(filters).max(axis=(1, 2, 3), keepdims=True)
    columns = min(7, components)
    rows = math.ceil(components / columns)
    tiles = np.full((rows * columns, *filters.shape[1:]), np.nan, "float32")
    tiles[:components] = filters
    picture, _ = mosaic(tiles.reshape(rows, columns, *filters.shape[1:]))
    figure = new_figure(width, width * picture.shape[0] / picture.shape[1])
    ax = add_axes(figure, 0, 0, *figure.get_size_inches())
    ax.axis("off")
    # NaN, in the gaps, is drawn white.
    ax.imshow(np.nan_to_num(picture, nan=1.0).squeeze(), cmap="gray", vmin=0, vmax=1)
    return figure


def query_maps(model, images, layer, query=None):
    """The attention of one token of a block, (B, heads, h, w), and a description of the token."""
    (layer,) = block_names(model, [layer])
    maps = attention_maps(model, images, [layer], grid=True)[layer]  # (B, heads, queries, h, w)
    if model.get_layer(layer).queries == "objects":
        return _of_objects(maps, layer, query)
    h, w = query_grid(model, layer, images.shape)
    if query is None:
        if model.get_layer(layer).queries == "learned":
            return maps[:, :, 0], "the pooling"
        if _class_token_is_first(model, layer):
            return maps[:, :, 0], "the class token"
        return maps[:, :, -h * w :].mean(axis=2), "the average patch"
    row, column = query if isinstance(query, (list, tuple)) else (-1, -1)
    if maps.shape[2] == 1 or not (0 <= row < h and 0 <= column < w):
        raise ValueError(
            f"query must be None, or the row and column of a patch on the grid of {layer}, "
            f"{h} x {w}. Received: query={query}"
        )
    index = maps.shape[2] - h * w + row * w + column  # after the prefix tokens
    return maps[:, :, index], f"the patch in row {row}, column {column}"


def _of_objects(maps, layer, query):
    """`query_maps` of a block whose queries are those of objects: one of them, or their mean."""
    if query is None:
        return maps.mean(axis=2), "the average query"
    if not isinstance(query, int) or not 0 <= query < maps.shape[2]:
        raise ValueError(
            f"query must be None, or the number of a query of {layer}, 0 to {maps.shape[2] - 1}. "
            f"Received: query={query!r}"
        )
    return maps[:, :, query], f"query {query}"


def _class_token_is_first(model, layer):
    prefix = model.token_layout(layer).num_prefix_tokens
    names = [x.name for x in model.layers if isinstance(x, ClassToken)]
    return prefix > 0 and "class_token" in names


def _overlays(model, images, maps, caption, label, largest, width, mark=None):
    """A figure with a group of panels per image: the image, then each map (B, h, w) on it."""
    batch, height, across, _ = images.shape
    pixels = shown_pixels(model, images)
    names = [""] * batch
    if model.num_classes is not None and classifies(model):
        names = class_labels(model, images)
    rows = math.ceil((1 + len(maps)) / 7)  # per image
    columns = math.ceil((1 + len(maps)) / rows)
    side = (width - BAR + GAP) / columns - GAP
    characters = max(int(side * 17), 8)
    titles = {i: [textwrap.fill(x, characters) for x in (names[i], *maps)] for i in range(batch)}
    lines = 1 + max(title.count("\n") for each in titles.values() for title in each)
    tall, title = side * height / across, 0.05 + 0.14 * lines
    above = CAPTION if caption else 0
    figure = new_figure(width, above + batch * rows * (tall + title) + BELOW)
    with style():
        figure.text(0, 1 - 0.02 / figure.get_figheight(), caption, va="top")
        for i in range(batch):
            for place, x in enumerate([None, *maps.values()]):
                row, column = i * rows + place // columns, place % columns
                top = above + title + row * (tall + title)
                ax = add_axes(figure, column * (side + GAP), top, side, tall)
                ax.axis("off")
                ax.set_title(titles[i][place])
                drawn = show(ax, pixels[i], None if x is None else x[i], largest)
                if place == 0 and mark is not None:
                    outline(ax, *mark, (height, across))
        whole = batch * rows * (tall + title) - title
        ax = add_axes(figure, width - BAR + 0.1, above + title, 0.1, min(whole, 2.5))
        clipped = max(x.max() for x in maps.values()) > largest
        extend = {"extend": "max" if clipped else "neither", "extendfrac": 0.06}
        figure.colorbar(drawn, cax=ax, label=label, **extend).solids.set_alpha(1)
    return figure
