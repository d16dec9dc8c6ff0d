"""Helpers for the tests of all rooms: marks for backends, tiny models, images."""

import math
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import ops

from keras_vit.models.inputs import build_training
from keras_vit.models.registry import FAMILIES

# Photographs, if this machine has them.
PHOTOS = Path(__file__).parents[2] / "shared" / "data" / "tiny_coco" / "val2017"

# The backends on which a test runs by default; with -m "slow or not slow" every test runs on all.
# Use it as a decorator, in `pytestmark`, or as a mark of a `pytest.param`; the nearest mark counts.
backends = pytest.mark.backends  # on the named backends
once = backends("torch")  # on the backend that starts and compiles fastest

# Files of each backend are read by the next one: a ring, so that if neighbours agree, all agree.
NEXT = {"tensorflow": "jax", "jax": "torch", "torch": "tensorflow"}


# Weights without an effect: a constant that is added to all keys cancels in the softmax.
WITHOUT_EFFECT = ("key_norm/beta", "logits_projection/bias")


def once_but(cases, *everywhere):
    """Parameters that run on the fastest backend, and the named ones on every backend.

    Args:
        cases: dict of name to value, a tuple for several values, or names that are the values.
        everywhere: names of the cases in which backends can differ; explain it in a comment.

    Returns:
        list of `pytest.param`.
    """
    values = cases if isinstance(cases, dict) else {name: name for name in cases}
    unknown = set(everywhere) - set(values)
    assert not unknown, f"no such cases: {unknown}"
    return [
        pytest.param(
            *(value if isinstance(value, tuple) else (value,)),
            id=name,
            marks=[] if name in everywhere else [once],
        )
        for name, value in values.items()
    ]


def to_numpy(x):
    return np.asarray(ops.convert_to_numpy(x), "float32")


def weighted_sum(y):
    """A number that each value of `y` moves by another amount."""
    return (y * ops.cast(np.linspace(-1, 1, math.prod(y.shape)).reshape(y.shape), y.dtype)).sum()


def randomize(model_or_layer, seed=0, scale=0.2):
    """Adds noise to all weights, so that a weight that is not used is detected."""
    rng = np.random.default_rng(seed)
    for weight in model_or_layer.weights:
        if "seed" not in weight.path:
            weight.assign(to_numpy(weight) + rng.normal(0, scale, weight.shape))


def tiny(family, **arguments):
    """A model of a registered family with a few thousand parameters and 4 classes."""
    found = FAMILIES[family]
    return found.model(**{**found.tiny, "num_classes": 4, **arguments})


def tiny_vit(**arguments):
    """A ViT for images of 24 x 16 pixels, like all tiny models except Swin's."""
    return tiny("vit", **arguments)


def tiny_swin(**arguments):
    """A Swin for images of 32 x 32 pixels: maps of 8 x 8 and 4 x 4, windows of 4."""
    return tiny("swin", **arguments)


def tiny_hybrid(**arguments):
    """A hybrid with a ResNet of two stages: maps of 6 x 4 and 3 x 2."""
    return tiny("hybrid", **arguments)


def tiny_cait(**arguments):
    """A CaiT with one block and one class attention block."""
    return tiny("cait", **arguments)


def tiny_pvt(version, **arguments):
    """A PVT with two stages: maps of 6 x 4 and 3 x 2."""
    return tiny("pvt" if version == 1 else "pvt_v2", **arguments)


def images(size=(24, 16), batch=3, channels=3, seed=0):
    return np.random.default_rng(seed).uniform(-1, 1, (batch, *size, channels)).astype("float32")


def run(model, pixels):
    """The outputs of a model, by `predict` on JAX, which compiles the ops of a call one by one."""
    if keras.backend.backend() == "jax":
        return keras.tree.map_structure(to_numpy, model.predict(pixels, verbose=0))
    return keras.tree.map_structure(to_numpy, model(pixels))


def compile_model(model, optimizer="adam", loss="mse"):
    """Compiles a model, on TensorFlow without XLA, which takes longer to compile than to run."""
    model.compile(optimizer, loss, jit_compile=keras.backend.backend() == "jax")
    build_training(model, outputs=None)  # for plain Keras models too
