"""Tiny MAEs, and the golden files with the numbers of the sources."""

from pathlib import Path

import numpy as np

import keras_vit
from tests.helpers import tiny_vit

GOLDEN = Path(__file__).parents[2] / "golden" / "mae"
CASES = sorted(folder.name for folder in GOLDEN.iterdir())
# What the authors' file does not say.
UNSAID = {"num_heads": 4, "decoder_heads": 3, "mask_ratio": 0.6}


def source(case):
    return GOLDEN / case / "mae.pth" if case == "authors" else GOLDEN / case


def golden(case, **arguments):
    """(model, expected numbers) of a folder of golden files."""
    said = UNSAID if case == "authors" else {}
    model = keras_vit.from_pretrained(source(case), **{"preprocessor": None, **said, **arguments})
    return model, np.load(GOLDEN / case / "expected.npz")


def tiny_mae(encoder=None, **arguments):
    """An MAE for images of 24 x 16 pixels, with 6 patches, of which 2 stay."""
    encoder = tiny_vit(num_classes=None) if encoder is None else encoder
    small = {"decoder_width": 8, "decoder_depth": 1, "decoder_heads": 2, "mask_ratio": 0.6}
    return keras_vit.MAE(encoder, **{**small, **arguments})
