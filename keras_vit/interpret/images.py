"""What a model is shown, and what it says about it.

Letters: B batch, H x W image size, C channels, K classes.
"""

import numpy as np
from keras import ops

from keras_vit.interpret.attention import check_family, check_size


def as_images(model, images):
    """Images as the model takes them (B, H, W, C), given so or as a list of pictures."""
    check_family(model)
    if not hasattr(images, "shape"):
        images = model.preprocess_images(images)
    check_size(model, images)
    return ops.convert_to_numpy(ops.cast(images, "float32"))


def shown_pixels(model, images):
    """What the model sees, as colours 0..1: its normalisation undone, (B, H, W, C).

    Where a model does not say how its images are normalised, they are stretched from the smallest
    to the largest number.
    """
    config = model.get_config()
    if model.drop_remainder:  # what the model does not see is not shown
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


def probabilities(model, images):
    """The model's probabilities (B, K), float32."""
    logits = ops.cast(model(images, training=False), "float32")
    return ops.convert_to_numpy(ops.softmax(logits))


def class_labels(model, images, classes=None):
    """ "name, 82 %" of each image: of its most probable class, or of those asked for."""
    shares = probabilities(model, images)
    classes = shares.argmax(axis=-1) if classes is None else classes
    labels = []
    for k, row in zip(classes, shares, strict=True):
        name = model.class_names[k].split(",")[0] if model.class_names else f"class {k}"
        labels.append(f"{name}, {100 * row[k]:.0f}\N{NO-BREAK SPACE}%")  # not torn apart
    return labels
