"""Images and predictions of a model, for figures.

Letters: B batch, H x W image size, C channels, K classes.
"""

import numpy as np
from keras import ops

from keras_vit.interpret.attention import check_family, check_size


def as_images(model, images):
    """Converts images (B, H, W, C), or a list of pictures, to an array that the model takes.

    Returns:
        float32 NumPy array (B, H, W, C).
    """
    check_family(model)
    if not hasattr(images, "shape"):
        images = model.preprocess_images(images)
        if isinstance(images, dict):  # of a detector, which pads them
            if not images["valid"].all():
                raise ValueError(
                    "Pictures must have one size, which needs no padding: pass them one by one. "
                    f"Received: sizes that were padded to {images['images'].shape[1:3]}"
                )
            images = images["images"]
    check_size(model, images)
    return ops.convert_to_numpy(ops.cast(images, "float32"))


def shown_pixels(model, images):
    """Undoes the normalisation of images (B, H, W, C), to colours 0..1 for a figure.

    If the normalisation of the model is not known, the range of the values is scaled to 0..1.
    Pixels that the model drops (`drop_remainder`) are removed.
    """
    config = model.get_config()
    if model.drop_remainder:
        h, w = (a - a % p for a, p in zip(images.shape[1:3], model.patch_size, strict=True))
        images = images[:, :h, :w]
    if config["include_preprocessing"]:
        pixels = images / 255
    elif model.preprocessor is not None:
        pixels = images * np.array(model.preprocessor.std) + np.array(model.preprocessor.mean)
    else:
        low, high = images.min(), images.max()
        pixels = (images - low) / max(high - low, 1e-30)
    return np.clip(pixels, 0, 1)


def classifies(model):
    """Whether a model gives one set of logits (B, K) for an image."""
    return not isinstance(model.output, dict) and len(model.output.shape) == 2


def probabilities(model, images):
    """The probabilities that the model predicts: float32 NumPy array (B, K)."""
    logits = ops.cast(model(images, training=False), "float32")
    return ops.convert_to_numpy(ops.softmax(logits))


def class_labels(model, images, classes=None):
    """The class name and probability of each image, such as "tabby, 82 %".

    Args:
        model: model with a head.
        images: array (B, H, W, C).
        classes: list of B class indices; by default the most probable class of each image.

    Returns:
        list of str.
    """
    shares = probabilities(model, images)
    classes = shares.argmax(axis=-1) if classes is None else classes
    labels = []
    for k, row in zip(classes, shares, strict=True):
        name = model.class_names[k].split(",")[0] if model.class_names else f"class {k}"
        labels.append(f"{name}, {100 * row[k]:.0f}\N{NO-BREAK SPACE}%")
    return labels
