"""Tiny SETRs, and the golden files with the numbers of the sources."""

from pathlib import Path

import numpy as np

import keras_vit
from keras_vit.preprocessing import IMAGENET_MEAN, IMAGENET_STD
from tests.helpers import tiny_vit

GOLDEN = Path(__file__).parents[2] / "golden" / "setr"
CASES = sorted(folder.name for folder in GOLDEN.iterdir())


def golden(case, **arguments):
    """(model, expected numbers) of a folder of golden files."""
    model = keras_vit.from_pretrained(GOLDEN / case / "setr.pth", num_heads=2, **arguments)
    return model, np.load(GOLDEN / case / "expected.npz")


def inputs(pixels):
    """Pixels 0..255, normalised as the sources do."""
    return ((pixels / 255 - IMAGENET_MEAN) / IMAGENET_STD).astype("float32")


def tiny_setr(decoder="pup", encoder=None, **arguments):
    """A SETR for images of 24 x 16 pixels with 5 classes, on a ViT of four blocks."""
    encoder = tiny_vit(depth=4) if encoder is None else encoder
    arguments = {"num_classes": 5, "decoder_width": 8, **arguments}
    return keras_vit.SETR(encoder, decoder, **arguments)


def labels(size=(24, 16), batch=3, classes=5, seed=0):
    """int32 (batch, *size) labels of all classes, and a few ignored pixels."""
    rng = np.random.default_rng(seed)
    found = rng.integers(0, classes, (batch, *size)).astype("int32")
    found[rng.random(found.shape) < 0.1] = 255
    return found
