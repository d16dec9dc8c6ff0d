"""keras-cv's layers in a tf.data pipeline of a model of ours, as docs/keras_cv.md says."""

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import keras_vit
from tests.helpers import once

TEXT = (Path(__file__).parents[1] / "docs" / "keras_cv.md").read_text(encoding="utf-8")


@once  # keras-cv works in tf.data, on every backend alike
@pytest.mark.filterwarnings("ignore:.shuffle=True. was passed:UserWarning")
def test_the_page_runs(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (tmp_path / "pictures" / name).mkdir(parents=True)
        for i in range(4):
            image = Image.fromarray(rng.integers(0, 256, (70, 80, 3)).astype("uint8"))
            image.save(tmp_path / "pictures" / name / f"{i}.png")
    monkeypatch.chdir(tmp_path)

    (code,) = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    names = {}
    exec(code.replace("epochs=3", "epochs=1"), names)

    assert type(names["model"]) is keras_vit.VisionTransformer
    assert len(names["model"].history.history["loss"]) == 1
    assert np.isfinite(names["model"].history.history["loss"]).all()
    images, labels = map(np.asarray, next(names["training"].as_numpy_iterator()))
    assert images.shape == (8, 64, 64, 3) and images.min() >= 0 and images.max() <= 255
    np.testing.assert_allclose(labels.sum(-1), 1, atol=1e-6)
    assert ((labels > 0.01) & (labels < 0.99)).any()  # two pictures in one
