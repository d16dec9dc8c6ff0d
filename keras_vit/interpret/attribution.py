"""Attribution to a class: gradient-weighted rollout, and Grad-CAM on tokens.

Letters: B batch, N tokens, D width, h x w grid of patches.
"""

import numpy as np
from keras import ops

from keras_vit.interpret.attention import attention_maps, tokens_to_grid
from keras_vit.interpret.gradients import check_classes, class_gradients
from keras_vit.interpret.rollout import (
    accumulate,
    is_pooling,
    pooling_name,
    readout,
    rollout_names,
    to_patches,
)
from keras_vit.layers import Block


def attention_attribution(model, images, classes=None, layers=None):
    """Attribution to a class by attention and its gradient through all blocks: (B, h, w).

    In every block the scores are weighted by the gradient of the class's logit with respect to
    them; what is negative is left out, and the mean over the heads is how tokens contributed there.
    From R = I on, R becomes R + A R in every block. The row of what the head reads is returned, as
    in `attention_rollout`, without the identity that R began with.

    Args:
        model: model with a head, of one of this library's families in which all patches attend to
            each other.
        images: array (B, H, W, C), as the model takes them.
        classes: int, a list of one for each image, or None for each image's most probable class.
        layers: list of block names; by default every block. All must have the same tokens.

    Returns:
        float32 NumPy array (B, h, w), not negative; only proportions within a map mean something.

    Raises:
        ValueError: for a model without head, a class that there is not, or a model with windows or
            smaller maps of keys (Swin, PVT), for which `grad_cam` is.

    Example:
        >>> keras_vit.attention_attribution(model, images, classes=207).shape
        (8, 14, 14)

    Source: Chefer, Gur and Wolf 2021 (arXiv:2103.15679), equations 5 and 6.
    """
    names = rollout_names(model, images, layers)
    classes = check_classes(model, images, classes)
    pooling = pooling_name(model)
    pools = [pooling] if is_pooling(model, pooling) else []
    maps = attention_maps(model, images, [*names, *pools])
    gradients = class_gradients(model, images, maps, classes, scores=True)
    weighted = {x: np.maximum(maps[x] * gradients[x], 0).mean(axis=1) for x in maps}

    tokens = accumulate([weighted[name] for name in names], lambda before, read: before + read)
    if pools:  # the pooling's query is no token: what it reads of them, themselves included
        return to_patches(model, images, tokens, weighted[pooling][:, 0])
    n = tokens.shape[-1]
    weights = readout(model, images, n)
    return to_patches(model, images, tokens - np.eye(n, dtype="float32"), weights)


def grad_cam(model, images, classes=None, layer=None):
    """Grad-CAM: attribution to a class in the feature map of a layer, (B, h, w), for every family.

    The channels of the map are summed, each weighted by the mean over the map of the gradient of
    the class's logit with respect to it; what is negative is left out.

    Args:
        model: model with a head, of one of this library's families.
        images: array (B, H, W, C), as the model takes them.
        classes: int, a list of one for each image, or None for each image's most probable class.
        layer: str, a layer that gives tokens or a feature map, such as "block05" or
            "stage2_block05"; by default the last one whose patches the head or a class token
            reads.

    Returns:
        float32 NumPy array (B, h, w), h x w the grid of that layer, not negative; only proportions
        within a map mean something.

    Raises:
        ValueError: for a model without head, a class or layer that there is not, or a layer whose
            output has no grid.

    Example:
        >>> keras_vit.grad_cam(keras_vit.SwinTiny(), images).shape
        (8, 7, 7)

    Source: Selvaraju et al. 2017 (arXiv:1610.02391), equations 1 and 2.
    """
    classes = check_classes(model, images, classes)
    names = [x.name for x in model.layers]
    layer = _last_patches(model) if layer is None else layer
    if layer not in names[1:]:
        raise ValueError(f"layer must be one of {', '.join(names[1:])}. Received: {layer!r}")
    model.feature_model([layer], grid=True)  # raises where it has none
    outputs = model.features(images, [layer])[layer]
    values = {layer: ops.convert_to_numpy(ops.cast(outputs, "float32"))}
    gradients = class_gradients(model, images, values, classes)
    shape = images.shape
    maps, gradients = (_channels(model, layer, x[layer], shape) for x in (values, gradients))
    weights = gradients.mean(axis=(2, 3), keepdims=True)  # (B, D, 1, 1)
    return np.maximum((weights * maps).sum(axis=1), 0)  # (B, h, w)


def _last_patches(model):
    """The last layer whose patches something reads that leads to the logits.

    Where the head reads the class token, the last block changes the patches for nobody; what that
    token reads of them is the output of the layer before.
    """
    names = [x.name for x in model.layers]
    pooling = model.get_layer(pooling_name(model))
    if getattr(pooling, "reads_patches", True):  # Keras's own pooling reads them too
        return names[names.index(pooling.name) - 1]
    blocks = [x for x in model.layers if isinstance(x, Block)]
    class_blocks = [x for x in blocks if x.queries == "class_token"]
    last = class_blocks[0] if class_blocks else blocks[-1]
    return names[names.index(last.name) - 1]


def _channels(model, layer, x, images_shape):
    """Tokens (B, P + N, D) or a map (B, h, w, D) as maps of every channel, (B, D, h, w)."""
    x = np.moveaxis(x, -1, 1)
    return x if x.ndim == 4 else tokens_to_grid(model, layer, x, images_shape)
