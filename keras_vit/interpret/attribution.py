"""Attribution to a class: `attention_attribution` and `grad_cam`.

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
    """Computes the relevance of each patch to a class, from attention and its gradient.

    In each block, the scores are multiplied by the gradient of the class logit with respect to
    them, negative values are set to zero, and the result A is averaged over the heads. Starting
    from R = I, each block updates R to R + A R. The result is the row of R that the head reads, as
    in `attention_rollout`, minus the initial identity.

    Args:
        model: model with a head, of one of this library's families, in which all patches attend to
            each other.
        images: array or tensor (B, H, W, C), the model's input.
        classes: int, list of int with one class per image, or None for the most probable class of
            each image.
        layers: list of block names; by default every block. All must have the same tokens.

    Returns:
        float32 NumPy array (B, h, w), not negative. Values are comparable only within a map.

    Raises:
        ValueError: if the model has no head, a class does not exist, or the model has windows or
            reduced maps of keys (Swin, PVT); use `grad_cam` for these.

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
    if pools:  # the query of the pooling is not a token, so the identity stays
        return to_patches(model, images, tokens, weighted[pooling][:, 0])
    n = tokens.shape[-1]
    weights = readout(model, images, n)
    return to_patches(model, images, tokens - np.eye(n, dtype="float32"), weights)


def grad_cam(model, images, classes=None, layer=None):
    """Computes Grad-CAM, the relevance of each position of a layer's feature map to a class.

    The channels of the feature map are weighted by the gradient of the class logit with respect to
    them, averaged over the map, and summed. Negative values are set to zero. It works for every
    family.

    Args:
        model: model with a head, of one of this library's families.
        images: array or tensor (B, H, W, C), the model's input.
        classes: int, list of int with one class per image, or None for the most probable class of
            each image.
        layer: str, name of a layer that outputs tokens or a feature map, such as "block05" or
            "stage2_block05"; by default the last one whose patches the head or a class token
            reads.

    Returns:
        float32 NumPy array (B, h, w), not negative, where h x w is the grid of the layer. Values
        are comparable only within a map.

    Raises:
        ValueError: if the model has no head, a class or layer does not exist, or the output of the
            layer has no grid.

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
    model.feature_model([layer], grid=True)  # raises if the layer has no grid
    outputs = model.features(images, [layer])[layer]
    values = {layer: ops.convert_to_numpy(ops.cast(outputs, "float32"))}
    gradients = class_gradients(model, images, values, classes)
    shape = images.shape
    maps, gradients = (_channels(model, layer, x[layer], shape) for x in (values, gradients))
    weights = gradients.mean(axis=(2, 3), keepdims=True)  # (B, D, 1, 1)
    return np.maximum((weights * maps).sum(axis=1), 0)  # (B, h, w)


def _last_patches(model):
    """The last layer whose patch tokens have an effect on the logits.

    If the head reads only the class token, the patch tokens after the last block have none: the
    class token last reads the patches in that block, from the output of the layer before it.
    """
    names = [x.name for x in model.layers]
    pooling = model.get_layer(pooling_name(model))
    if getattr(pooling, "reads_patches", True):  # GlobalAveragePooling2D reads them too
        return names[names.index(pooling.name) - 1]
    blocks = [x for x in model.layers if isinstance(x, Block)]
    class_blocks = [x for x in blocks if x.queries == "class_token"]
    last = class_blocks[0] if class_blocks else blocks[-1]
    return names[names.index(last.name) - 1]


def _channels(model, layer, x, images_shape):
    """Converts tokens (B, P + N, D) or a map (B, h, w, D) to one map per channel, (B, D, h, w)."""
    x = np.moveaxis(x, -1, 1)
    return x if x.ndim == 4 else tokens_to_grid(model, layer, x, images_shape)
