"""Gradient checkpointing: equal gradients, less memory, on every backend."""

import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import ops

from tests.helpers import compile_model, images, once, tiny_vit, to_numpy

ROOT = Path(__file__).parents[1]


def trained(remat, **arguments):
    """Weights after three steps from one start, seeds included."""
    keras.utils.set_random_seed(7)
    model = tiny_vit(remat=remat, **arguments)
    compile_model(model, keras.optimizers.SGD(0.5))
    model.fit(images(batch=12), np.ones((12, 4)), batch_size=4, verbose=0, shuffle=False)
    return [to_numpy(weight) for weight in model.weights]


@pytest.mark.parametrize(
    "arguments",
    [{}, {"dropout_rate": 0.3, "attention_dropout_rate": 0.3, "drop_path_rate": 0.5}],
    ids=["plain", "with dropout"],
)
def test_training_steps_are_equal(arguments):
    """With dropout this holds only if the recomputation draws the same masks."""
    for plain, remat in zip(trained(False, **arguments), trained(True, **arguments), strict=True):
        np.testing.assert_allclose(remat, plain, atol=1e-5)


def test_inference_is_equal():
    plain, remat = tiny_vit(), tiny_vit(remat=True)
    for ours, theirs in zip(plain.weights, remat.weights, strict=True):
        theirs.assign(ops.copy(ours))
    np.testing.assert_array_equal(to_numpy(remat(images())), to_numpy(plain(images())))


def test_mixed_precision_trains():
    weights = trained(True, dtype="mixed_float16", dropout_rate=0.1)
    assert all(np.isfinite(weight).all() for weight in weights)


# A process of its own, because a peak does not go down again. Activations are by far the most.
PEAK_OF_A_TRAINING_STEP = """
import gc, sys
import numpy as np
import keras, keras_vit
from benchmarks.backends import device_peak
from benchmarks.common import peak_memory

model = keras_vit.VisionTransformer(
    image_size=128, patch_size=8, width=192, depth=8, num_heads=3, mlp_dim=768, num_classes=10,
    remat=sys.argv[1] == "True",
)
model.compile("sgd", "mse")
images = np.zeros((32, 128, 128, 3), "float32")
gc.disable()  # what reference cycles hold until they are collected counts
before = device_peak() or peak_memory()
model.train_on_batch(images, np.zeros((32, 10)))
print((device_peak() or peak_memory()) - before)
"""


@once  # a block recomputes in the same way, and the shapes are those of one model
def test_a_training_step_needs_less_memory():
    def peak(remat):
        command = [sys.executable, "-c", PEAK_OF_A_TRAINING_STEP, str(remat)]
        # Or glibc's malloc keeps freed pieces of many sizes, which hides what PyTorch needs.
        environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "1000000"}
        done = subprocess.run(
            command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True
        )
        return float(done.stdout.split()[-1])

    assert peak(remat=True) < 0.4 * peak(remat=False)
