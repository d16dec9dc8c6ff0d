"""The numbers of timm's vision_transformer, from one set of random weights."""

import json
from pathlib import Path

import keras
import numpy as np
import pytest

import keras_vit
from tests.golden import timm_names
from tests.helpers import run

FILES = sorted((Path(__file__).parent.parent / "golden").glob("vit_*.npz"))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_equals_timm_after_every_block(file):
    golden = np.load(file)
    model = keras_vit.VisionTransformer(**json.loads(str(golden["config"])))
    timm_names.load(model, golden)
    images = golden["images"]

    names = [f"block{i:02d}" for i in range(3)] + ["norm"]
    outputs = {name: model.get_layer(name).output for name in names}
    outputs |= {"pre_logits": model.get_layer("pool").output, "logits": model.output}
    for name, found in run(keras.Model(model.input, outputs), images).items():
        np.testing.assert_allclose(found, golden[name], atol=1e-4, err_msg=name)
    np.testing.assert_allclose(model.predict(images, verbose=0), golden["logits"], atol=1e-4)


def test_there_are_golden_files():
    assert len(FILES) == 6
