"""Checks that hold for every layer and every model."""

from pathlib import Path

import keras
import numpy as np
import pytest
from keras import ops

from keras_vit.models.inputs import build_training
from keras_vit.models.registry import FAMILIES

# Photos, where this machine has them.
PHOTOS = Path(__file__).parents[2] / "shared" / "data" / "tiny_coco" / "val2017"

# Where a test runs by default: with -m "slow or not slow" every test runs on every backend. As a
# decorator, in `pytestmark`, or as a mark of a `pytest.param`; the nearest one counts.
backends = pytest.mark.backends  # on those that it names
once = backends("torch")  # on the one that starts and compiles quickest

# What one backend writes the next one reads: a ring, so that if each agrees with the next, all do.
NEXT = {"tensorflow": "jax", "jax": "torch", "torch": "tensorflow"}


# Of a step of training: what is added to every key alike cancels in the softmax.
WITHOUT_EFFECT = ("key_norm/beta", "logits_projection/bias")


def once_but(cases, *everywhere):
    """Parameters: on every backend those that are named, all of them on the quickest.

    Args:
        cases: dict of name to value, a tuple for several, or names that are the values.
        everywhere: names of the cases that reach what a backend can do differently; say what, in a
            comment.
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


def randomize(model_or_layer, seed=0, scale=0.2):
    """Weights far from an initialisation, so that one that is never used shows."""
    rng = np.random.default_rng(seed)
    for weight in model_or_layer.weights:
        if "seed" not in weight.path:
            weight.assign(to_numpy(weight) + rng.normal(0, scale, weight.shape))


def tiny(family, **arguments):
    """A registered family's model of a few thousand parameters, with 4 classes."""
    found = FAMILIES[family]
    return found.model(**{**found.tiny, "num_classes": 4, **arguments})


def tiny_vit(**arguments):
    """On 24 x 16 pixels, as all but Swin's."""
    return tiny("vit", **arguments)


def tiny_swin(**arguments):
    """On 32 x 32 pixels: maps 8 x 8 and 4 x 4, windows of 4."""
    return tiny("swin", **arguments)


def tiny_hybrid(**arguments):
    """With a ResNet of two stages: maps 6 x 4 and 3 x 2."""
    return tiny("hybrid", **arguments)


def tiny_cait(**arguments):
    """Of one block and one of class attention."""
    return tiny("cait", **arguments)


def tiny_pvt(version, **arguments):
    """A pyramid of two stages: maps 6 x 4, 3 x 2."""
    return tiny("pvt" if version == 1 else "pvt_v2", **arguments)


def images(size=(24, 16), batch=3, channels=3, seed=0):
    return np.random.default_rng(seed).uniform(-1, 1, (batch, *size, channels)).astype("float32")


def run(model, pixels):
    """The outputs, the faster way: JAX compiles the operations of a plain call one by one."""
    if keras.backend.backend() == "jax":
        return keras.tree.map_structure(to_numpy, model.predict(pixels, verbose=0))
    return keras.tree.map_structure(to_numpy, model(pixels))


def compile_model(model, optimizer="adam", loss="mse"):
    """Compiles; on TensorFlow without XLA, whose compilation takes longer than a tiny step."""
    model.compile(optimizer, loss, jit_compile=keras.backend.backend() == "jax")
    build_training(model, outputs=None)  # models of Keras too
