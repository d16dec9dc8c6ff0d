"""Settings and fixtures of all tests."""

import contextlib
import functools
import gc
import importlib
import os
from pathlib import Path

with contextlib.suppress(ImportError):  # installed with PyTorch for CUDA
    importlib.import_module("triton")  # crashes if TensorFlow was imported before

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# On a GPU float32 products would be in TF32, whose 10 bits are too few for the tolerances.
os.environ.setdefault("JAX_DEFAULT_MATMUL_PRECISION", "highest")
os.environ.setdefault("NVIDIA_TF32_OVERRIDE", "0")
# Tests run in parallel with tiny models: PyTorch's threads would wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Compiling tiny models takes longer than running them: compile fast, and once for all processes.
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "true")
if os.environ.get("KERAS_BACKEND") == "jax":
    # Half of the compilation is in what emits fused kernels.
    os.environ.setdefault("XLA_FLAGS", "--xla_cpu_use_fusion_emitters=false")
os.environ.setdefault(
    "JAX_COMPILATION_CACHE_DIR", str(Path(__file__, "../../.pytest_cache/jax").resolve())
)
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")

import keras
import numpy as np
import pytest

import keras_vit
from keras_vit.export import runtimes
from keras_vit.export.formats import FORMATS
from keras_vit.layers import initializers
from tests import exports

# Files whose tests take longest, most of them with processes of their own.
LONGEST = (
    "test_notebooks",
    "test_export",
    "test_kill",
    "test_two_kills",
    "test_distribute",
    "test_memory",
    "test_remat",
    "test_benchmark_gpu",
    "test_saved_0_1",
    "test_one_file_three_backends",
    "test_command",
)


@pytest.hookimpl(tryfirst=True)  # before -m selects
def pytest_collection_modifyitems(items):
    """Runs the longest tests first, so that no process waits for the last test of another.

    Marks a test as slow unless its nearest `backends` mark names the current backend.
    """
    items.sort(key=lambda item: item.path.stem not in LONGEST)
    for item in items:
        mark = item.get_closest_marker("backends")
        if mark is not None and keras.backend.backend() not in mark.args:
            item.add_marker("slow")


@pytest.fixture(scope="session", autouse=True)
def imports_are_no_garbage():
    """Excludes modules from garbage collection, which Keras runs for each layer it quantises."""
    keras.utils.set_random_seed(0)  # imports TensorFlow
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def seed():
    keras.utils.set_random_seed(0)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture
def in_this_process(monkeypatch):
    """Runs exports in this process instead of a separate one, which saves seconds.

    It cannot show that Keras is not needed. test_export.py does, in a separate process, for every
    format on images, and on pictures or the bytes of their files.
    """
    monkeypatch.setattr(exports.EXPORT, "python", lambda *x, doing: runtimes.main(*map(str, x[2:])))


@pytest.fixture(scope="session")
def picture_export(tmp_path_factory):
    """A function from a format to a model with preprocessing and its report, exported once."""

    @functools.cache
    def export(format):
        model = exports.picture_model()
        path = tmp_path_factory.mktemp(format) / f"vit{FORMATS[format].suffix}"
        return model, keras_vit.export(model, path, format, inputs="pixels")

    return export


@pytest.fixture
def no_initialization():
    """Skips the random initialisation, for tests that only count parameters."""
    with initializers.no_initialization():
        yield
