"""What every test may use."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import pytest


@pytest.fixture(autouse=True)
def seed():
    keras.utils.set_random_seed(0)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture
def no_initialization(monkeypatch):
    """Kernels are zeros: billions of random numbers are not what a count is about."""
    zeros = keras.initializers.Zeros()
    for kind in (keras.initializers.TruncatedNormal, keras.initializers.VarianceScaling):
        monkeypatch.setattr(kind, "__call__", lambda self, shape, dtype=None: zeros(shape, dtype))
