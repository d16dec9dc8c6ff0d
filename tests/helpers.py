"""Checks that hold for every layer and every model."""

from pathlib import Path

import keras
import numpy as np
import pytest
from keras import ops

import keras_vit

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


def tiny_vit(**arguments):
    """A Vision Transformer of a few thousand parameters on 24 x 16 pixels."""
    small = dict(
        image_size=(24, 16),
        patch_size=8,
        width=16,
        depth=2,
        num_heads=2,
        mlp_dim=32,
        num_classes=4,
    )
    return keras_vit.VisionTransformer(**{**small, **arguments})


def tiny_swin(**arguments):
    """A Swin Transformer of two stages on 32 x 32 pixels: maps 8 x 8 and 4 x 4, windows of 4."""
    small = dict(
        image_size=32,
        width=8,
        depths=(2, 2),
        num_heads=(2, 4),
        window_size=4,
        mlp_ratio=2.0,
        num_classes=4,
    )
    return keras_vit.SwinTransformer(**{**small, **arguments})


def tiny_hybrid(**arguments):
    """A hybrid with a ResNet of two stages on 24 x 16 pixels: maps 6 x 4 and 3 x 2."""
    small = dict(
        image_size=(24, 16),
        stem_depths=(1, 1),
        stem_width=8,
        stem_groups=4,
        width=16,
        depth=1,
        num_heads=2,
        mlp_dim=32,
        num_classes=4,
    )
    return keras_vit.HybridVisionTransformer(**{**small, **arguments})


def tiny_cait(**arguments):
    """A CaiT of a few thousand parameters on 24 x 16 pixels: 3 x 2 patches."""
    small = dict(
        image_size=(24, 16),
        patch_size=8,
        width=16,
        depth=1,
        class_depth=1,
        num_heads=2,
        mlp_dim=32,
        num_classes=4,
    )
    return keras_vit.CaiT(**{**small, **arguments})


def tiny_pvt(version, **arguments):
    """A pyramid of two stages, a few thousand parameters, on 24 x 16 pixels: maps 6 x 4, 3 x 2."""
    small = dict(
        image_size=(24, 16),
        depths=(1, 2),
        widths=(8, 16),
        num_heads=(1, 2),
        mlp_ratios=(2, 2),
        reductions=(2, 1),
        num_classes=4,
    )
    if version == 1:
        small["patch_sizes"] = (4, 2)
        return keras_vit.PyramidVisionTransformer(**{**small, **arguments})
    small.update(patch_sizes=(7, 3), strides=(4, 2))
    return keras_vit.PyramidVisionTransformerV2(**{**small, **arguments})


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
