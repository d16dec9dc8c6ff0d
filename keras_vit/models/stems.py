"""The CNN of a hybrid: BiT's ResNet, or any `keras.Model` that outputs a feature map.

Letters: B batch, H x W image size, C channels, h' x w' map, C' its channels.
"""

import keras
from keras import layers

from keras_vit.layers import BottleneckBlock, StandardizedConv2D
from keras_vit.layers.standardized_convolution import GROUP_NORM_EPSILON


def bit_resnet(layer, x, depths, width, groups, convention, remat):
    """Applies the paper's CNN to images (B, H, W, C) and returns a map (B, h', w', C').

    The first convolution and the pooling divide each side by 4 in all, and every stage but the
    first divides it by 2.

    Args:
        layer: `ImageModel.layer`, which creates the layers.
        x: symbolic tensor of images.
        depths: tuple of int, blocks of each stage, or () for the first convolution and pooling
            alone.
        width: int, channels after the first convolution.
        groups: int, number of groups in every group normalisation.
        convention: "authors" or "timm", whose epsilons the normalisations have.
        remat: bool, whether training recomputes the blocks in the backward pass.

    Source: Kolesnikov et al. 2020 (arXiv:1912.11370), section 2.1, changed as in the authors' code
    for hybrids, google-research/vision_transformer `models_resnet.py`.
    """
    x = layer(StandardizedConv2D, width, 7, 2, convention, name="stem_conv")(x)
    x = layer(
        layers.GroupNormalization, groups, epsilon=GROUP_NORM_EPSILON[convention], name="stem_norm"
    )(x)
    x = layer(layers.ReLU, name="stem_relu")(x)
    # Equal to "same" padding, because a ReLU gives no value below 0; PyTorch's exporter cannot
    # trace "same".
    last = {"data_format": "channels_last"}
    x = layer(layers.ZeroPadding2D, ((0, 1), (0, 1)), name="stem_pad", **last)(x)
    x = layer(layers.MaxPooling2D, 3, 2, "valid", name="stem_pool", **last)(x)  # (B, H/4, W/4, C')
    for s, depth in enumerate(depths):
        for i in range(depth):
            x = layer(
                BottleneckBlock,
                4 * width * 2**s,
                strides=2 if s > 0 and i == 0 else 1,
                groups=groups,
                convention=convention,
                remat=remat,
                name=f"stage{s}_block{i:02d}",
            )(x)  # (B, H/(4*2^s), W/(4*2^s), C')
    return x


def stem_strides(stem, stem_depths, image_size, num_channels):
    """The stride of the CNN, (height, width): image size divided by map size.

    Args:
        stem: `keras.Model`, or None for the paper's ResNet.
        stem_depths: tuple of int, blocks of each stage of that ResNet.
        image_size: (H, W), in pixels, or None for any size.
        num_channels: int, C.

    Raises:
        ValueError: if `stem` does not take such images, outputs no feature map, or its stride is
            not a whole number.
    """
    if stem is None:
        stride = 2 ** (1 + max(len(stem_depths), 1))
        return (stride, stride)
    expected = getattr(stem, "input_shape", ())
    if not isinstance(stem, keras.Model) or len(expected) != 4 or len(stem.output_shape) != 4:
        raise ValueError(
            "stem must be a keras.Model from images (B, H, W, C) to one feature map "
            f"(B, h, w, C'). Received: {stem!r}"
        )
    given = (*(image_size or (None, None)), num_channels)
    if any(a not in (None, b) for a, b in zip(expected[1:], given, strict=True)):
        raise ValueError(
            "stem must take the images of this model: choose an image_size and num_channels that "
            f"fit {expected[1:]}, or a stem for images of any size. Received: {given}"
        )
    size = image_size or (224, 224)
    _, h, w, _ = stem.compute_output_shape((None, *size, num_channels))
    if size[0] % h or size[1] % w:
        raise ValueError(
            "image_size must be a multiple of the size of the map that stem outputs: choose "
            f"another image_size. Received: a map of size {(h, w)} for image_size={size}"
        )
    return (size[0] // h, size[1] // w)


def check_stem_names(model, stem):
    """Raises a `ValueError` if a weight of the stem has the same path as another weight.

    Checkpoint files identify weights by their paths.
    """
    theirs = {weight.path for weight in stem.weights}
    ours = {weight.path for layer in model.layers if layer is not stem for weight in layer.weights}
    if theirs & ours:
        raise ValueError(
            "The layers of stem must have other names than those of this model: rename them. "
            f"Received: two weights each for {sorted(theirs & ours)[:3]}"
        )
