"""Loading streams: little more memory than the model itself, and no other library."""

import os
import subprocess
import sys

import keras
import pytest

import keras_vit

LOAD = """
import re, sys
import keras, keras_vit
from keras_vit.checkpoints import load  # imported before the count begins

def resident(kind):
    return int(re.search(rf"{kind}:\\s*(\\d+) kB", open("/proc/self/status").read())[1]) * 1024

keras.ops.zeros(1)
before = resident("VmRSS")
model = keras_vit.from_pretrained(sys.argv[1])
print(*{"tensorflow", "torch", "transformers"} & set(sys.modules), sep=",")
print((resident("VmHWM") - before) / (4 * model.count_params()))
"""


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="needs Linux's /proc")
def test_the_peak_is_hardly_more_than_the_model(tmp_path, no_initialization):
    """ViT-B/16, whose 0.35 GB are enough to tell 1.3 from the 2 of a copy."""
    folder = keras_vit.save_pretrained(keras_vit.ViTBase(), tmp_path / "model", "timm")
    done = subprocess.run([sys.executable, "-c", LOAD, folder], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    libraries, peak = done.stdout.split("\n")[-3:-1]
    assert set(libraries.split(",")) <= {keras.backend.backend(), ""}
    assert float(peak) < 1.3
