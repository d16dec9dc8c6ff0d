"""Helpers for the tests of exports: cases by format, models, and the comparison of outputs."""

import importlib
from pathlib import Path

import keras
import numpy as np
import pytest

import keras_vit
from keras_vit.export import runtimes
from keras_vit.export.compare import compare, limits_of
from keras_vit.export.formats import FORMATS
from tests.helpers import backends, randomize, tiny, tiny_vit

EXPORT = importlib.import_module("keras_vit.export.export")  # `keras_vit.export` is the function
WRITTEN_HERE = [name for name, x in FORMATS.items() if x.backend == keras.backend.backend()]

NAMES = ["ant", "bee", "cat", "dog", "eel", "fox"]
DATA = Path(__file__).parents[2] / "shared" / "data" / "vit_tiny_imagenet"
# Swin for the image size of the other families.
CHANGED = {"swin": {"image_size": (24, 16), "window_size": 2}}


def where_written(cases, *default):
    """Parameters whose names start with the name of a format.

    The `default` ones run on the backend that writes their format; with another backend the same
    file is written by a separate process. All others are marked slow.
    """
    unknown = set(default) - set(cases)
    assert not unknown, f"no such cases: {unknown}"
    return [
        pytest.param(
            x, marks=backends(FORMATS[x.split()[0]].backend) if x in default else pytest.mark.slow
        )
        for x in cases
    ]


def plain(report):
    """A function that runs an export."""
    return runtimes.RUNTIMES[report.format](str(report.path)).run


def picture_model():
    """A model for pictures of any size, with class names."""
    model = tiny_vit(
        num_classes=len(NAMES), preprocessor=keras_vit.Preprocessor((24, 16)), class_names=NAMES
    )
    randomize(model)
    return model


def build(name):
    """The real ViT-Ti/16 ("real"), or a tiny model ("FAMILY SEED"), both with ImageNet's mean."""
    if name == "real":
        if not DATA.is_dir():
            pytest.skip(f"no weights in {DATA}")
        preprocessor = keras_vit.Preprocessor(224, crop_fraction=224 / 248)
        return keras_vit.from_pretrained(DATA / "model.safetensors", preprocessor=preprocessor)
    family, seed = name.split()
    keras.utils.set_random_seed(int(seed))
    preprocessor = keras_vit.Preprocessor((24, 16))
    model = tiny(family, preprocessor=preprocessor, **CHANGED.get(family, {}))
    randomize(model, int(seed))
    return model


def softmax(x):
    x = np.exp(x - x.max(-1, keepdims=True))
    return (x / x.sum(-1, keepdims=True)).astype("float32")


def judge(expected, actual, precision="float32", inputs="images", format=None):
    """The `Comparison` of logits, or of their probabilities unless `inputs` is "images"."""
    name, as_given = ("logits", np.asarray) if inputs == "images" else ("probabilities", softmax)
    limits = limits_of(precision, inputs, format)
    return compare({name: as_given(expected)}, {name: as_given(actual)}, limits)
