"""Evaluates any model on the images of any source.

Letters: N images, B batch, h x w image size of the model, C channels, K classes.
"""

from pathlib import Path

import keras
import tensorflow as tf

import keras_vit
from keras_vit.models.base import ImageModel
from keras_vit.tasks.reconstruction import ReconstructsImages

from ..augment.transform import evaluation_transform
from ..data.corrupt import without_corrupt
from ..data.decoding import decode
from ..data.examples import reader
from ..recipe.schema import DataTable
from .folder import RunFolder
from .metrics import check_labels, measure


def evaluate(model, split, classes=None, transform=None, batch_size=64, verbose=0):
    """Evaluates a model on images, with a few batches in memory at a time.

    Args:
        model: `keras.Model` from images (B, h, w, C) to logits (B, K).
        split: `Split` of N pictures, encoded or arrays, with labels for
            `training.results.metrics.measure`.
        classes: sorted integer array, the classes that compete; None for all.
        transform: function from a picture (pixels or bytes) to an image for the model; by default
            `transform_of(model)`.
        batch_size: int, B.
        verbose: argument of `keras.Model.predict`.

    Returns:
        `Evaluation`.

    Raises:
        ValueError: if the model has no logit for a label, images have another shape, or a file is
            broken.

    Example:
        >>> test = training.data.load(DataTable("digits"), num_classes=10).test
        >>> print(evaluate(model, test))  # after 12 epochs of the recipe digits
        top-1 87.47 %, top-5 99.72 %, loss 0.6021, calibration error 24.07 % on 359 images of ...
    """
    check_labels(split.labels, model.output.shape[-1] if classes is None else classes)
    read, transform = reader(split.images), transform or transform_of(model)
    images = tf.data.Dataset.range(len(split.images))
    images = images.map(lambda i: transform(read(i)), num_parallel_calls=tf.data.AUTOTUNE)
    images = images.batch(batch_size).prefetch(tf.data.AUTOTUNE)
    try:
        logits = model.predict(images, verbose=verbose)  # (N, K)
    except tf.errors.OpError:
        without_corrupt(split, "test", 0, at_most=0)  # raises, and names the broken picture
        raise
    return measure(logits, split.labels, classes)


def transform_of(model):
    """Returns the transform from a picture of any size to an image for a model.

    Args:
        model: `keras.Model` on images (B, h, w, C).

    Returns:
        A function from a picture (pixels or the bytes of a file) to a float32 image (h, w, C). It
        uses `model.preprocessor`, or, for a model without one that takes pixels 0..255,
        `training.augment.transform.evaluation_transform` with its defaults.

    Raises:
        ValueError: if the preprocessing of the model is not known.
    """
    preprocessor, shape = getattr(model, "preprocessor", None), model.input.shape[1:]
    ours = isinstance(model, ImageModel)
    takes_pixels = model.get_config()["include_preprocessing"] if ours else preprocessor is None
    if preprocessor is None:
        if not takes_pixels or None in shape:
            raise ValueError(
                "The preprocessing of the model must be known: build it with "
                "include_preprocessing=True and a fixed image_size, or with "
                "preprocessor=keras_vit.Preprocessor(...). Received: a model for images of shape "
                f"{shape} without either"
            )
        return evaluation_transform(DataTable(source=""), shape)
    config = {**preprocessor.get_config(), "dtype": "float32"}
    if takes_pixels:
        config |= {"mean": [0.0] * shape[-1], "std": [1 / 255] * shape[-1]}
    preprocess = keras_vit.Preprocessor.from_config(config)

    def transform(image):
        image = decode(image, shape[-1]) if image.dtype == tf.string else image
        image = preprocess(image)
        image = tf.round(image) if takes_pixels else image
        return tf.ensure_shape(image, (*preprocess.image_size, shape[-1]))

    return transform


def load(name):
    """Loads a model by name, with its run folder.

    Args:
        name: a run folder, a .keras file, or a source for `keras_vit.from_pretrained`.

    Returns:
        (`keras.Model` from images to logits (B, K) or, for a segmentation, (B, h, w, K), or a
        masked autoencoder or a detector; `RunFolder` or None).

    Raises:
        ValueError: if the model cannot be loaded, or has no logits.
    """
    folder, path = RunFolder(name), Path(name)
    run = folder if folder.recipe.exists() else None
    if run and not run.checkpoint.exists():
        raise ValueError(
            f"The run must have finished an epoch: continue it with --resume. Received: {name}"
        )
    if run or (path.suffix == ".keras" and path.is_file()):
        try:
            model = keras.models.load_model(run.checkpoint if run else path, compile=False)
        except (OSError, TypeError, ValueError, LookupError) as error:
            raise ValueError(f"The model could not be loaded: {error}. Received: {name}") from error
    else:
        model = keras_vit.from_pretrained(name)
    found = isinstance(model.output, dict) and {"logits", "boxes"} <= set(model.output)
    if found or isinstance(model, ReconstructsImages):
        return model, run
    shape = getattr(model.output, "shape", ())
    if (
        len(shape) not in (2, 4)
        or shape[-1] < 2
        or model.get_config().get("num_classes", 2) is None
    ):
        raise ValueError(
            f"A model must output logits of two classes or more. Received: {name} with outputs "
            f"{shape}, {'features' if len(shape) == 2 and shape[-1] > 1 else 'no logits'}"
        )
    return model, run
