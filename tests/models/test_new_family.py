"""A family that is registered here does all that a family does, and nothing else knows of it."""

import functools

import keras
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import keras_vit
from keras_vit.models import registry
from keras_vit.models.registry import register_family
from tests.helpers import images, randomize, run, tiny, to_numpy
from tests.models.contract import check_contract
from tests.models.toy.model import ToyTransformer
from training.recipe import read, smoke

make = functools.partial(tiny, "toy")


@pytest.fixture(autouse=True)
def toy():
    """Registers the family and a variant, for a test alone."""
    family = register_family(
        "toy",
        "Toy",
        ToyTransformer,
        tiny=dict(image_size=(24, 16), patch_size=8, width=16, depth=2, num_heads=2),
        smoke=dict(patch_size=2, width=16, depth=1, num_heads=2),
        checkpoints="tests.models.toy",
        paper_top1={"ToyTiny": 12.5},
    )

    @family.variant
    def ToyTiny(*, width=24, depth=1, name="toy_tiny", **kwargs):
        """Toy-Ti, the only one."""

    yield family
    del registry.FAMILIES["toy"]


@pytest.mark.parametrize(
    "arguments",
    [
        {"remat": True, "frozen_layers": ["block00/norm1"]},
        {"image_size": None, "num_classes": None, "include_preprocessing": True},
    ],
    ids=["remat", "any size, features"],
)
def test_it_keeps_the_contract(arguments, tmp_path):
    check_contract(make, arguments, tmp_path)


@pytest.mark.parametrize("format", ["timm", "keras"])
def test_checkpoints_go_both_ways(format, tmp_path):
    model = make(num_classes=4)
    randomize(model)
    keras_vit.save_pretrained(model, tmp_path / "toy", format)
    source = tmp_path / "toy" / ("model.keras" if format == "keras" else "")
    loaded = keras_vit.from_pretrained(source)
    assert type(loaded) is ToyTransformer
    expected = run(model, images())
    np.testing.assert_allclose(run(loaded, images()), expected, atol=1e-6)
    assert not loaded.load_report.dropped

    standing = make(num_classes=7)
    before = to_numpy(standing.get_layer("head").dense.kernel)
    keras_vit.load_weights(standing, source, skip=["head"])
    np.testing.assert_array_equal(to_numpy(standing.get_layer("head").dense.kernel), before)
    found = to_numpy(standing.get_layer("block01").mlp.fc1.kernel)
    np.testing.assert_array_equal(found, to_numpy(model.get_layer("block01").mlp.fc1.kernel))
    with pytest.raises(ValueError, match="holds a ToyTransformer"):
        keras_vit.load_weights(tiny("vit"), source)


def test_a_tensor_too_many_is_refused(tmp_path):
    model = make()
    keras_vit.save_pretrained(model, tmp_path / "toy", "timm")
    arrays = load_file(tmp_path / "toy" / "model.safetensors")
    save_file({**arrays, "blocks.0.gate": arrays["blocks.0.norm1.weight"]}, tmp_path / "more")
    (tmp_path / "more").rename(tmp_path / "toy" / "model.safetensors")
    with pytest.raises(ValueError, match="blocks.0.gate"):
        keras_vit.from_pretrained(tmp_path / "toy")


def test_it_is_listed_with_what_it_costs(toy):
    (row,) = keras_vit.list_models("toy")
    model = toy.variants["ToyTiny"]()
    cost = keras_vit.complexity(model)
    assert row[:4] == ("ToyTiny", "Toy", "224", model.count_params())
    assert row[4:] == (f"{cost.macs / 1e9:.2f}", "12.5", "")
    assert model.name == "toy_tiny" and model.get_config()["width"] == 24
    # patches, queries to values and output, scores twice, MLP of the width, head
    n, d = 14 * 14, 24
    macs = n * 16 * 16 * 3 * d + n * (4 * d * d + 2 * d * d) + 2 * n * n * d + d * 1000
    assert cost.macs == macs


def test_its_attention_is_shown():
    model = make()
    randomize(model)
    maps = keras_vit.attention_maps(model, images())
    assert [x.shape for x in maps.values()] == [(3, 2, 6, 6)] * 2
    np.testing.assert_allclose(maps["block01"].sum(-1), 1, atol=1e-5)
    expected = keras.Model(model.input, model.get_layer("block00").output)(images())
    block = model.get_layer("block01")
    found = to_numpy(block.attention_scores(expected))
    np.testing.assert_allclose(maps["block01"], found, atol=1e-6)
    assert keras_vit.attention_rollout(model, images()).shape == (3, 3, 2)
    assert keras_vit.attention_maps(model, images(), grid=True)["block00"].shape == (3, 2, 6, 3, 2)
    assert model.features(images(), grid=True)["block01"].shape == (3, 3, 2, 16)


def test_it_is_exported(tmp_path, in_this_process):
    model = make()
    randomize(model)
    format = {"tensorflow": "saved_model", "jax": "saved_model", "torch": "onnx"}
    format = format[keras.backend.backend()]
    path = tmp_path / ("toy.onnx" if format == "onnx" else "toy")
    report = keras_vit.export(model, path, format)
    assert report.max_difference < 1e-4


def test_a_recipe_trains_it(tmp_path):
    recipe = tmp_path / "toy.toml"
    recipe.write_text(
        '[model]\nvariant = "ToyTiny"\nnum_classes = 10\nimage_size = 8\nnum_channels = 1\n'
        'patch_size = 2\n[data]\nsource = "digits"\n[optimizer]\nlearning_rate = 1e-3\n'
        "warmup_steps = 2\n[train]\nepochs = 2\nbatch_size = 64\n"
    )
    plan = read(recipe, smoke.overrides(recipe, tmp_path))
    assert plan.model.family is ToyTransformer
    assert plan.model.arguments["width"] == 16 and plan.model.arguments["patch_size"] == 2
