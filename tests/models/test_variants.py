"""The named variants: exact parameter counts, real signatures."""

import inspect
import json
from pathlib import Path

import keras
import numpy as np
import pytest

import keras_vit
from keras_vit.models import pvt, pvt_v2, swin, vit
from keras_vit.models.variants import variant

FAMILIES = (vit, swin, pvt, pvt_v2)
ROWS = json.loads((Path(__file__).parent.parent / "golden" / "parameter_counts.json").read_text())


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row['variant']} {row['arguments']}")
def test_parameter_count(row, no_initialization):
    model = getattr(keras_vit, row["variant"])(**row["arguments"], dtype="bfloat16")
    assert model.count_params() == row["parameters"]
    keras.backend.clear_session()


def test_every_variant_has_a_row_and_a_public_name():
    assert {row["variant"] for row in ROWS} == {x for f in FAMILIES for x in f.VARIANTS}
    for family in FAMILIES:
        for name in family.VARIANTS:
            assert getattr(keras_vit, name) is getattr(family, name)


def test_help_shows_the_real_arguments_and_defaults():
    parameters = inspect.signature(keras_vit.ViTSmall).parameters
    assert list(parameters) == list(inspect.signature(keras_vit.VisionTransformer).parameters)
    assert parameters["width"].default == 384
    assert parameters["image_size"].default == 224
    assert parameters["name"].default == "vit_small"
    assert keras_vit.ViTSmall.__name__ == "ViTSmall"
    assert "image_size: int, (H, W), or None" in keras_vit.ViTSmall.__doc__
    assert inspect.signature(keras_vit.SwinV2Tiny).parameters["name"].default == "swin_v2_tiny"


def test_a_default_can_be_overridden():
    model = keras_vit.ViTTiny(depth=1, image_size=32, num_classes=3, name="mine")
    assert model.name == "mine"
    assert model.get_config()["depth"] == 1
    assert model.predict(np.zeros((1, 32, 32, 3)), verbose=0).shape == (1, 3)


def test_a_row_with_an_unknown_argument_is_refused():
    with pytest.raises(TypeError, match="no argument \\['witdh'\\]"):
        variant(keras_vit.VisionTransformer, "ViTWrong", {"witdh": 3})
    with pytest.raises(TypeError, match="witdh"):
        keras_vit.ViTTiny(witdh=3)
