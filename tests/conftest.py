"""What every test may use."""

import importlib.util
import os

if importlib.util.find_spec("triton"):
    import torch as _  # a build for CUDA crashes where TensorFlow was loaded before its Triton

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
