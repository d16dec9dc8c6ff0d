"""The named variants: exact parameter counts, real signatures."""

import inspect
import json
from pathlib import Path

import keras
import numpy as np
import pytest

import keras_vit
from keras_vit import listing
from keras_vit.models.variants import variant

FAMILIES = listing.FAMILIES.values()
ROWS = json.loads((Path(__file__).parent.parent / "golden" / "parameter_counts.json").read_text())


# The larger take seconds to build, and no count depends on the backend.
LARGE = 10_000_000 if keras.backend.backend() != "torch" else float("inf")


@pytest.mark.parametrize(
    "row",
    [
        pytest.param(
            row,
            id=f"{row['variant']} {row['arguments']}",
            marks=[pytest.mark.slow] if row["parameters"] > LARGE else [],
        )
        for row in ROWS
    ],
)
def test_parameter_count(row, no_initialization):
    model = getattr(keras_vit, row["variant"])(**row["arguments"], dtype="bfloat16")
    assert model.count_params() == row["parameters"]
    if not row["arguments"] and keras.backend.backend() == "torch":  # the same on all
        cost = keras_vit.complexity(model)
        kept = (cost.image_size[0], cost.parameters, cost.macs)
        assert listing.costs()[row["variant"]] == kept  # python -m benchmarks.costs
    keras.backend.clear_session()


def test_every_variant_has_a_row_and_a_public_name():
    assert {row["variant"] for row in ROWS} == {x for f in FAMILIES for x in f.VARIANTS}
    for family in FAMILIES:
        for name in family.VARIANTS:
            assert getattr(keras_vit, name) is getattr(family, name)


def test_list_models_says_what_a_variant_costs_and_how_good_it_is():
    rows = {row[0]: row for row in keras_vit.list_models()}
    assert list(rows) == list(listing.costs()) == [x for f in FAMILIES for x in f.VARIANTS]
    swin = ("SwinTiny", "Swin", "224", 28288354, "4.49", "81.4")
    assert rows["SwinTiny"] == (*swin, "swin_tiny_patch4_window7_224.ms_in1k")
    assert [row[0] for row in keras_vit.list_models("swin*base")] == ["SwinBase", "SwinV2Base"]
    assert keras_vit.list_models("no such model") == []


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
