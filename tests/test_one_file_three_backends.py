"""A `.keras` file written on one backend gives the same numbers on another.

`make test` runs this on each backend, which makes a ring: if each agrees with the next, all agree.
"""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

from tests.helpers import NEXT, images, randomize, tiny_vit, to_numpy

ROOT = Path(__file__).parents[1]
READ = """
import sys
import keras, keras_vit, numpy as np

file, pixels, outputs = sys.argv[1:]
model = keras.models.load_model(file)
pixels = np.load(pixels)
features = {k: keras.ops.convert_to_numpy(v) for k, v in model.features(pixels).items()}
logits = model.predict(pixels, verbose=0)
np.savez(outputs, logits=logits, trainable=len(model.trainable_weights), **features)
"""


def test_features_and_logits_agree(tmp_path):
    backend = NEXT[keras.backend.backend()]
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed")
    model = tiny_vit(
        image_size=None,
        num_registers=2,
        qk_norm=True,
        layer_scale=0.1,
        mlp="swiglu",
        drop_path_rate=0.1,
        frozen_layers=["patch_embedding"],
    )
    randomize(model)
    pixels = images((32, 16))
    model.save(tmp_path / "model.keras")
    np.save(tmp_path / "pixels.npy", pixels)

    files = [tmp_path / name for name in ("model.keras", "pixels.npy", "outputs.npz")]
    subprocess.run(
        [sys.executable, "-c", READ, *map(str, files)],
        env={**os.environ, "KERAS_BACKEND": backend},
        cwd=ROOT,
        check=True,
    )
    read = np.load(files[-1])
    expected = {k: to_numpy(v) for k, v in model.features(pixels).items()}
    expected["logits"] = model.predict(pixels, verbose=0)
    assert read["trainable"] == len(model.trainable_weights)
    assert len(expected) == 3
    for name, value in expected.items():
        np.testing.assert_allclose(read[name], value, atol=1e-4, err_msg=name)
