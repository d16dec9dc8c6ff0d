"""`position_similarity` and `patch_filters`: position embeddings and first filters of a model.

Letters: h x w grid of patches, p x q patch size, C channels, D width.
"""

import numpy as np
from keras import ops

from keras_vit.layers import AddPositionEmbedding, PatchEmbedding, sincos_grid
from keras_vit.layers.validation import check_count


def position_similarity(model, layer=None):
    """Computes the cosine similarity of the position embeddings of each pair of patches.

    Args:
        model: model with position embeddings.
        layer: str, name of the `AddPositionEmbedding` layer; by default the first (PVT has one per
            stage).

    Returns:
        float32 NumPy array (h, w, h, w), -1 to 1, where h x w is the grid of the embeddings.
        `x[i, j]` is the map of the patch in row i, column j, and is 1 at (i, j).

    Raises:
        ValueError: if the model has no position embeddings, such as Swin, or no such layer.

    Example:
        >>> keras_vit.position_similarity(keras_vit.ViTBase()).shape
        (14, 14, 14, 14)

    Source: Dosovitskiy et al. 2021 (arXiv:2010.11929), figure 7, centre.
    """
    found = {x.name: x for x in model.layers if isinstance(x, AddPositionEmbedding)}
    if not found or (layer is not None and layer not in found):
        raise ValueError(
            "layer must be the name of an AddPositionEmbedding layer: "
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
    """Computes the principal components of the filters of the first layer.

    Args:
        model: model whose first layer with weights is a patch embedding or a convolution.
        components: int, n, number of components, in order of decreasing variance.

    Returns:
        float32 NumPy array (n, p, q, C) of unit vectors. The sign of a component is arbitrary; its
        value with the largest magnitude is positive.

    Raises:
        ValueError: if the first layer is another, or there are fewer than `components`.

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
            "The first layer with weights must be a patch embedding or a convolution. "
            f"Received: {model.name}, whose first layer is {first.name}"
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
