"""Tiny DETRs, padded batches, and the golden numbers of the loss."""

from pathlib import Path

import keras
import numpy as np

import keras_vit
from tests.helpers import tiny_vit

GOLDEN = Path(__file__).parents[2] / "golden" / "detr_loss.npz"


def tiny_detr(backbone=None, **arguments):
    """A DETR of 5 classes and 7 queries, without dropout, on a ViT for images of 24 x 16."""
    given = {
        "num_classes": 5,
        "num_queries": 7,
        "width": 16,
        "encoder_depth": 1,
        "decoder_depth": 2,
        "num_heads": 2,
        "mlp_dim": 24,
        "dropout_rate": 0.0,
        "attention_dropout_rate": 0.0,
    }
    return keras_vit.DETR(tiny_vit() if backbone is None else backbone, **{**given, **arguments})


def batch(size=(24, 16), count=(3, 0, 1), objects=3, classes=5, seed=0):
    """({"images", "valid"}, {"boxes", "labels", "count"}); the second picture is padded."""
    rng = np.random.default_rng(seed)
    images = rng.normal(size=(len(count), *size, 3)).astype("float32")
    valid = np.ones(images.shape[:3], bool)
    valid[1, size[0] // 2 :] = False
    valid[1, :, 3 * size[1] // 4 :] = False
    images[~valid] = 0
    shape = (len(count), objects, 2)
    boxes = np.concatenate([rng.uniform(0.3, 0.7, shape), rng.uniform(0.1, 0.5, shape)], -1)
    labels = rng.integers(0, classes, shape[:2])
    padding = np.arange(objects)[None] >= np.array(count)[:, None]
    boxes[padding], labels[padding] = 0, 0
    targets = {
        "boxes": boxes.astype("float32"),
        "labels": labels.astype("int32"),
        "count": np.array(count, "int32"),
    }
    return {"images": images, "valid": valid}, targets


def gradients(function, *arrays):
    """(value, gradients) of a function from tensors to a scalar, on any backend."""
    backend = keras.backend.backend()
    if backend == "jax":
        import jax

        def pure(*arrays):
            with keras.StatelessScope():  # metrics keep no traced values
                return function(*arrays)

        value, found = jax.value_and_grad(pure, argnums=tuple(range(len(arrays))))(*arrays)
    elif backend == "torch":
        import torch

        tensors = [torch.tensor(x, requires_grad=True) for x in arrays]
        value = function(*tensors)
        value.backward()
        found, value = [x.grad for x in tensors], value.detach()
    else:
        import tensorflow as tf

        tensors = [tf.Variable(x) for x in arrays]
        with tf.GradientTape() as tape:
            value = function(*tensors)
        found = tape.gradient(value, tensors)
    return np.asarray(value), [np.asarray(x) for x in found]
