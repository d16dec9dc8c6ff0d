"""What every test may use."""

import contextlib
import importlib
import os

with contextlib.suppress(ImportError):  # PyTorch for CUDA has it
    importlib.import_module("triton")  # crashes where TensorFlow is in the process already

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import pytest

from keras_vit.layers import initializers


@pytest.fixture(autouse=True)
def seed():
    keras.utils.set_random_seed(0)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture
def no_initialization():
    """Kernels are zeros: billions of random numbers are not what a count is about."""
    with initializers.no_initialization():
        yield
