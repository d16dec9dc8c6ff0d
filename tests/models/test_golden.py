"""The numbers of timm's vision_transformer, from one set of random weights."""

import json
from pathlib import Path

import keras
import numpy as np
import pytest

import keras_vit
from tests.golden import timm_names
from tests.helpers import to_numpy

FILES = sorted((Path(__file__).parent.parent / "golden").glob("vit_*.npz"))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_equals_timm_after_every_block(file):
    golden = np.load(file)
    model = keras_vit.VisionTransformer(**json.loads(str(golden["config"])))
    timm_names.load(model, golden)
    images = golden["images"]

    names = [f"block{i:02d}" for i in range(3)] + ["norm"]
    for name, tokens in model.features(images, names).items():
        np.testing.assert_allclose(to_numpy(tokens), golden[name], atol=1e-4, err_msg=name)
    pooled = keras.Model(model.input, model.get_layer("pool").output)(images)
    np.testing.assert_allclose(to_numpy(pooled), golden["pre_logits"], atol=1e-4)
    np.testing.assert_allclose(to_numpy(model(images)), golden["logits"], atol=1e-4)
    np.testing.assert_allclose(model.predict(images, verbose=0), golden["logits"], atol=1e-4)


def test_there_are_golden_files():
    assert len(FILES) == 6
