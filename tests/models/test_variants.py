"""The named variants: exact parameter counts, real signatures."""

import functools
import inspect
import json
from pathlib import Path

import keras
import numpy as np
import pytest

import keras_vit
from keras_vit import listing
from keras_vit.models.registry import FAMILIES, task_variants, variants
from tests.helpers import once

ROWS = json.loads((Path(__file__).parent.parent / "golden" / "parameter_counts.json").read_text())
# The arguments that say how many blocks there are, and what those are named.
BLOCKS = {
    "depth": "block",
    "class_depth": "class_block",
    "depths": "stage{}_block",
    "stem_depths": "stage{}_block",
}

pytestmark = once  # no count and no signature depends on the backend


@functools.cache  # some variants differ in their depth alone
def cost(family, *arguments):
    """(pixels, parameters, MACs) of a model, and the last two of each of its layers."""
    model = family(**dict(arguments))
    found = keras_vit.complexity(model)
    layers = {row[0]: row[2:4] for row in found.layers}
    return found.image_size[0], model.count_params(), found.macs, layers


def whole(variant, arguments):
    """(pixels, parameters, MACs) of the variant as it is."""
    return cost(getattr(keras_vit, variant), *arguments.items(), ("dtype", "bfloat16"))[:3]


def from_two_blocks(variant, arguments):
    """The same from two blocks of a kind: both grow by the second's for every further one."""
    signature = inspect.signature(getattr(keras_vit, variant))
    asked = {k: x.default for k, x in signature.parameters.items() if k != "weights"} | arguments
    depths = {name: asked[name] for name in BLOCKS if name in asked}
    two = {name: keras.tree.map_structure(lambda n: min(n, 2), n) for name, n in depths.items()}
    shallow = {**asked, **two, "name": None, "dtype": "bfloat16"}
    pixels, parameters, macs, blocks = cost(signature.return_annotation, *shallow.items())
    for name, depth in depths.items():
        for stage, n in enumerate(keras.tree.flatten(depth)):
            if n > 2:
                second = blocks[f"{BLOCKS[name].format(stage)}01"]
                parameters += (n - 2) * second[0]
                macs += (n - 2) * second[1]
    return pixels, parameters, macs


def label(row):
    return f"{row['variant']} {row['arguments']}"


def smallest(family):
    rows = [row for row in ROWS if row["variant"] in family.variants]
    return label(min(rows, key=lambda row: row["parameters"]))


# Whole models keep the counts from two blocks honest: the smallest of a family, and the smallest
# with more than two blocks of a kind where that has them not.
WHOLE = [*map(smallest, FAMILIES.values()), "PVTSmall {}", "PVTv2B2 {}", "R50ViTBase16 {}"]


@pytest.mark.parametrize(
    ("row", "count"),
    [
        *(pytest.param(row, from_two_blocks, id=f"{label(row)}, two blocks") for row in ROWS),
        *(
            pytest.param(
                row,
                whole,
                id=f"{label(row)}, whole",
                marks=[] if label(row) in WHOLE else [pytest.mark.slow],
            )
            for row in ROWS
        ),
    ],
)
def test_parameters_and_macs(row, count, no_initialization):
    pixels, parameters, macs = count(row["variant"], row["arguments"])
    assert parameters == row["parameters"]
    if not row["arguments"]:
        # python -m benchmarks.costs
        assert listing.costs()[row["variant"]] == (pixels, parameters, macs)
    keras.backend.clear_session()


def test_every_variant_has_a_row_and_a_public_name():
    assert {row["variant"] for row in ROWS} == set(variants())
    for name, family in variants().items():
        assert getattr(keras_vit, name) is family.variants[name]


def test_list_models_says_what_a_variant_costs_and_how_good_it_is():
    rows = {row[0]: row for row in keras_vit.list_models()}
    assert list(rows) == list(listing.costs()) == [*variants(), *task_variants()]
    assert rows["SETRPUP"][1:3] == ("SETR", "512") and rows["SETRPUP"][5:] == ("", "")
    swin = ("SwinTiny", "Swin", "224", 28288354, "4.49", "81.4")
    assert rows["SwinTiny"] == (*swin, "swin_tiny_patch4_window7_224.ms_in1k")
    assert [row[0] for row in keras_vit.list_models("swin*base")] == ["SwinBase", "SwinV2Base"]
    assert keras_vit.list_models("no such model") == []


def test_help_shows_the_real_arguments_and_defaults():
    parameters = inspect.signature(keras_vit.ViTSmall).parameters
    family = inspect.signature(keras_vit.VisionTransformer).parameters
    assert list(parameters) == [*family, "weights"]
    assert parameters["width"].default == 384
    assert parameters["image_size"].default == 224
    assert parameters["name"].default == "vit_small"
    assert keras_vit.ViTSmall.__name__ == "ViTSmall"
    assert "image_size: int or (H, W), in pixels" in keras_vit.ViTSmall.__doc__
    assert "width=384" in inspect.getsource(keras_vit.ViTSmall)  # its own row, not the family's


@pytest.mark.parametrize(
    ("variant", "name"),
    [
        ("SwinV2Tiny", "swin_v2_tiny"),
        ("PVTTiny", "pvt_tiny"),
        ("PVTv2B0", "pvt_v2_b0"),
        ("PVTv2B2Linear", "pvt_v2_b2_linear"),
        ("RViTTiny16", "r_vit_tiny16"),
        ("R26ViTSmall32", "r26_vit_small32"),
        ("CaiTSmall24", "cait_small24"),
        ("CaiTXXSmall36", "cait_xxsmall36"),
        ("CaiTMedium48", "cait_medium48"),
    ],
)
def test_names(variant, name):
    assert inspect.signature(getattr(keras_vit, variant)).parameters["name"].default == name


def test_a_default_can_be_overridden():
    model = keras_vit.ViTTiny(depth=1, image_size=32, num_classes=3, name="mine")
    assert model.name == "mine"
    assert model.get_config()["depth"] == 1
    assert model.predict(np.zeros((1, 32, 32, 3)), verbose=0).shape == (1, 3)


def test_a_row_with_an_unknown_argument_is_refused():
    def ViTWrong(*, witdh=3, **kwargs):
        pass

    with pytest.raises(TypeError, match="no argument \\['witdh'\\]"):
        FAMILIES["vit"].variant(ViTWrong)
    with pytest.raises(TypeError, match="witdh"):
        keras_vit.ViTTiny(witdh=3)
