"""What the tests of the command share."""

import numpy as np
import pytest
from PIL import Image

import keras_vit
from tests.helpers import tiny_vit


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """A small model that names seven classes."""
    preprocessor = keras_vit.Preprocessor((24, 16), "squash", 1.0)
    names = ["ant", "bee", "cat", "dog", "eel", "fox", "gnu"]
    model = tiny_vit(num_classes=7, preprocessor=preprocessor, class_names=names)
    return keras_vit.save_pretrained(model, tmp_path_factory.mktemp("cli") / "model", "hf")


@pytest.fixture
def photo(tmp_path):
    path = tmp_path / "photo.jpg"
    pixels = np.random.default_rng(0).integers(0, 256, (50, 60, 3)).astype("uint8")
    Image.fromarray(pixels).save(path)
    return path
