"""keras-vit show."""

import inspect
import json
import shutil

import pytest

import keras_vit
from keras_vit.checkpoints.catalog import catalog
from tests.cli.helpers import run
from tests.helpers import once

pytestmark = once  # nothing is computed: shapes and counts are the same on every backend


def test_show_has_all_that_the_catalogue_knows():
    found = run("show", "deit_tiny_patch16_224.fb_in1k")
    assert found.exit_code == 0
    for line in (
        "licence           apache-2.0",
        "accuracy          72.19",
        "crop_fraction     0.9",
    ):
        assert line in found.output
    unknown = run("show", "deit_tiny_patch16")
    assert unknown.exit_code == 2
    assert "such as deit_tiny_patch16_224.fb_in1k" in unknown.stderr


def test_show_counts_every_layer_of_what_it_builds_without_weights():
    """Of a checkpoint that is more than its variant: no class token, MAP pooling, no head."""
    found = json.loads(run("show", "timm/vit_base_patch16_siglip_224.v2_webli", "--json").stdout)
    assert found["checkpoint"]["licence"] == "apache-2.0"
    assert found["parameters"] == 92_884_224  # as timm counts
    assert [row["layer"] for row in found["layers"]][-2:] == ["norm", "pool"]
    assert found["layers"][-1]["shape"] == [768] and found["num_classes"] is None
    for key in ("parameters", "macs", "activation_bytes"):
        assert sum(row[key] for row in found["layers"]) == found[key] > 0


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("vit_wee_patch16_reg1_gap_256.sbb_in1k", 13_422_568),
        ("vit_xsmall_patch16_clip_224.tinyclip_yfcc15m", 8_277_504),
        ("swin_s3_tiny_224.ms_in1k", 28_328_674),
        ("vit_small_patch14_reg4_dinov2.lvd142m", 22_057_344),
        ("vit_tiny_r_s16_p8_384.augreg_in21k_ft_in1k", 6_355_944),
    ],
)
def test_the_parameters_of_a_checkpoint_are_those_that_timm_counts(name, parameters):
    """Of models that differ from every variant: in size, registers, pooling, windows, head."""
    assert json.loads(run("show", name, "--json").stdout)["parameters"] == parameters


@pytest.mark.parametrize(
    ("variant", "shape"),
    [
        ("DeiTTiny", [2 + 24 * 32, 192]),
        ("SwinTiny", [12, 16, 768]),
        ("SwinV2Tiny", [12, 16, 768]),
        ("PVTTiny", [1 + 12 * 16, 512]),
        ("PVTv2B0", [12, 16, 256]),
        ("RViTTiny16", [1 + 12 * 16, 192]),
        ("CaiTXXSmall24", [24 * 32, 192]),
    ],
)
def test_show_takes_any_size(variant, shape):
    """The last blocks see the map, or the tokens, of that size, whatever the family."""
    found = json.loads(run("show", variant, "--image-size", "384x512", "--json").stdout)
    assert found["image_size"] == [384, 512] and found["checkpoint"] is None
    blocks = [row for row in found["layers"] if "Block" in row["kind"]]
    assert shape in [row["shape"] for row in blocks]
    assert sum(row["macs"] for row in found["layers"]) == found["macs"]


def test_show_prints_a_table(folder):
    found = run("show", folder, "--image-size", "48x32")
    assert found.exit_code == 0 and "crop_fraction     1.0" in found.stdout
    block = next(line for line in found.stdout.splitlines() if line.startswith("block01"))
    assert block.split()[1:6] == ["TransformerBlock", "(B,", "25,", "16)", "2,224"]
    cost = keras_vit.complexity(keras_vit.from_pretrained(folder, image_size=(48, 32)))
    total = next(line for line in found.stdout.splitlines() if line.startswith("total"))
    assert total.split()[1:3] == [f"{cost.parameters:,}", f"{cost.macs:,}"]
    assert f"48 x 32 pixels: {cost.parameters:,} parameters" in found.stdout


def test_a_variant_is_found_in_any_case():
    expected = json.loads(run("show", "ViTTiny", "--json").stdout)
    assert expected["name"] == "ViTTiny" and expected["parameters"] == 5_717_416
    for name in ("vittiny", "vit_tiny", "VIT-Tiny"):
        assert json.loads(run("show", name, "--json").stdout) == expected


def test_a_folder_comes_before_a_name_that_is_known(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("ViTTiny", "deit_tiny_patch16_224.fb_in1k"):
        shutil.copytree(folder, name)
        found = json.loads(run("show", name, "--json").stdout)
        assert found["checkpoint"] is None and found["num_classes"] == 7


def test_every_checkpoint_says_how_it_is_built():
    """What differs from its variant are arguments of it, and none of them is the default."""
    for name, entry in catalog().items():
        defaults = inspect.signature(getattr(keras_vit, entry.variant)).parameters
        for key, value in entry.arguments.items():
            assert defaults[key].default != value, name
        assert not {"num_classes", "image_size"} & set(entry.arguments)


def test_sizes_that_are_none():
    for size in ("big", "0x16", "12x", "25"):
        wrong = run("show", "DeiTTiny", "--image-size", size)
        assert wrong.exit_code == 2 and wrong.stderr.startswith("error: ")
        assert "Received: " in wrong.stderr and wrong.stdout == ""
