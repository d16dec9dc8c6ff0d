"""What a model has learned about places and about pixels.

Letters: h x w grid of patches, p x q patch size, C channels, D width.
"""

import numpy as np
from keras import ops

from keras_vit.layers import AddPositionEmbedding, PatchEmbedding, sincos_grid
from keras_vit.layers.validation import check_count


def position_similarity(model, layer=None):
    """How alike the embeddings of two places are, by the cosine of their angle: (h, w, h, w).

    Args:
        model: model with position embeddings of a grid.
        layer: str, the layer that adds them; by default the first (PVT has one in every stage).

    Returns:
        float32 NumPy array (h, w, h, w), -1 to 1: `x[i, j]` is the map of place (i, j), with 1 at
        (i, j) itself. h x w is the grid that the embeddings are kept for.

    Raises:
        ValueError: for a model without such embeddings, such as Swin, whose windows have biases.

    Example:
        >>> keras_vit.position_similarity(keras_vit.ViTBase()).shape
        (14, 14, 14, 14)

    Source: Dosovitskiy et al. 2021 (arXiv:2010.11929), figure 7, centre.
    """
    found = {x.name: x for x in model.layers if isinstance(x, AddPositionEmbedding)}
    if not found or (layer is not None and layer not in found):
        raise ValueError(
            "Position embeddings of a grid are in layers of the kind AddPositionEmbedding: "
            f"{', '.join(found) or 'this model has none'}. Received: {model.name}, layer={layer!r}"
        )
    embedding = found[layer or next(iter(found))]
    if embedding.kind == "sincos":
        grid = sincos_grid(embedding.grid_size, embedding.width)
    else:
        grid = embedding.grid
    grid = ops.convert_to_numpy(grid).astype("float32")  # (h, w, D)
    unit = grid / np.linalg.norm(grid, axis=-1, keepdims=True)
    return np.einsum("ijd,kld->ijkl", unit, unit)


def patch_filters(model, components=28):
    """Principal components of the filters with which the first layer sees pixels: (n, p, q, C).

    Args:
        model: model whose first layer with weights embeds patches or is a convolution.
        components: int, n, how many components, those first along which filters differ most.

    Returns:
        float32 NumPy array (n, p, q, C) of unit vectors, each with its largest number positive,
        since a component has no sign.

    Raises:
        ValueError: for another first layer, or more components than there are.

    Example:
        >>> keras_vit.patch_filters(keras_vit.ViTBase()).shape
        (28, 16, 16, 3)

    Source: Dosovitskiy et al. 2021 (arXiv:2010.11929), figure 7, left.
    """
    check_count(components, "components")
    first = next(layer for layer in model.layers if layer.weights)
    kernel = getattr(getattr(first, "projection", first), "kernel", None)
    if isinstance(first, PatchEmbedding):
        kernel = ops.reshape(kernel, (*first.patch_size, -1, first.width))
    if kernel is None or len(kernel.shape) != 4:
        raise ValueError(
            "Filters are those of a first layer that embeds patches or is a convolution. "
            f"Received: {model.name}, which begins with {first.name}"
        )
    kernel = ops.convert_to_numpy(kernel).astype("float32")  # (p, q, C, D)
    filters = kernel.reshape(-1, kernel.shape[-1]).T  # (D, p*q*C)
    if components > min(filters.shape):
        raise ValueError(
            f"components must be at most {min(filters.shape)}: there are {filters.shape[0]} "
            f"filters of {filters.shape[1]} numbers. Received: components={components}"
        )
    _, _, vectors = np.linalg.svd(filters - filters.mean(axis=0), full_matrices=False)
    vectors = vectors[:components]
    largest = np.take_along_axis(vectors, np.abs(vectors).argmax(axis=1)[:, None], axis=1)
    return (vectors * np.sign(largest)).reshape(components, *kernel.shape[:-1])
