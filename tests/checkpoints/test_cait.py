"""CaiTs of timm and of the authors: their numbers, both ways."""

import json
import shutil
from pathlib import Path

import keras
import numpy as np
import pytest

import keras_vit
from tests.checkpoints import everywhere
from tests.checkpoints.helpers import tensors
from tests.helpers import once, once_but, run, to_numpy

GOLDEN = Path(__file__).parent.parent / "golden" / "cait"
EXPECTED = np.load(GOLDEN / "timm" / "expected.npz")
SOURCES = {"timm": GOLDEN / "timm", "authors": GOLDEN / "authors" / "cait.pth"}


def inputs(pixels):
    return (pixels / 127.5 - 1).astype("float32")


@pytest.mark.parametrize("case", once_but(list(SOURCES), *everywhere.CAIT))
def test_equals_the_library_that_wrote_it(case):
    model = keras_vit.from_pretrained(SOURCES[case])
    assert not model.load_report.fresh and not model.load_report.dropped
    names = ["block00", "block01", "class_block00", "class_block01", "norm"]
    features = model.feature_model(names).output
    whole = keras.Model(model.input, {**features, "logits": model.output})
    found = run(whole, inputs(EXPECTED["pixels"]))
    for name in (*names, "logits"):
        value = found[name][:, :1] if name.startswith("class") else found[name]
        np.testing.assert_allclose(value, EXPECTED[name], atol=1e-4, err_msg=name)
    # a block of the class token leaves the patches as they were
    np.testing.assert_array_equal(found["class_block01"][:, 1:], found["block01"])


@pytest.mark.parametrize("image_size", [(32, 56), None])
def test_another_size(image_size):
    model = keras_vit.from_pretrained(GOLDEN / "timm", image_size=image_size)
    if image_size is not None:
        assert model.load_report.resampled == ["position_embedding/grid"]
    logits = run(model, inputs(EXPECTED["other_pixels"]))
    np.testing.assert_allclose(logits, EXPECTED["other_logits"], atol=1e-4)


@once
def test_gives_back_the_file_of_timm_itself(tmp_path):
    model = keras_vit.from_pretrained(GOLDEN / "timm")
    folder = keras_vit.save_pretrained(model, tmp_path / "out", format="timm")
    ours, theirs = tensors(folder), tensors(GOLDEN / "timm")
    assert set(ours) == set(theirs)
    for name, value in theirs.items():
        np.testing.assert_array_equal(ours[name], value, err_msg=name)
    config, original = (
        json.loads((x / "config.json").read_text()) for x in (folder, GOLDEN / "timm")
    )
    for key in set(config) & set(original) - {"model_args", "pretrained_cfg"}:
        assert config[key] == original[key], key
    for key in set(config["model_args"]) & set(original["model_args"]):
        assert config["model_args"][key] == original["model_args"][key], key
    again = keras_vit.from_pretrained(folder)
    configs = [{**x.get_config(), "name": "", "preprocessor": None} for x in (model, again)]
    assert configs[0] == configs[1]
    for mine, yours in zip(model.weights, again.weights, strict=True):
        np.testing.assert_array_equal(to_numpy(yours), to_numpy(mine))


def test_keras_files_and_standing_models(tmp_path):
    model = keras_vit.from_pretrained(GOLDEN / "timm", num_classes=3, class_depth=1)
    assert set(model.load_report.fresh) == {"head/dense/kernel", "head/dense/bias"}
    assert any("blocks_token_only.1." in name for name in model.load_report.dropped)
    folder = keras_vit.save_pretrained(model, tmp_path / "out", format="keras")
    again = keras_vit.from_pretrained(folder / "model.keras")
    for mine, yours in zip(model.weights, again.weights, strict=True):
        np.testing.assert_array_equal(to_numpy(yours), to_numpy(mine))
    with pytest.raises(ValueError, match="tensors without a weight"):
        keras_vit.load_weights(again, SOURCES["authors"], skip=["head"])
    standing = keras_vit.CaiT(**{**model.get_config(), "class_depth": 2})
    report = keras_vit.load_weights(standing, SOURCES["authors"], skip=["head"])
    assert set(report.fresh) == {"head/dense/kernel", "head/dense/bias"}


@once
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"architecture": "vit_tiny_patch16_224"}, "timm's cait_\\*. Received.*vit_tiny_patch16"),
        ({"model_args": {"global_pool": "avg"}}, "global_pool.*'gap'"),
        ({"model_args": {"img_size": 48}}, "9 position embeddings.*image_size=\\(48, 48\\)"),
    ],
)
def test_what_a_configuration_says_is_held_against_the_tensors(changes, message, tmp_path):
    shutil.copy(GOLDEN / "timm" / "model.safetensors", tmp_path)
    config = json.loads((GOLDEN / "timm" / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, **changes}))
    with pytest.raises(ValueError, match=message):
        keras_vit.from_pretrained(tmp_path)


@once
@pytest.mark.parametrize(
    ("arguments", "format", "message"),
    [
        ({}, "hf", "transformers has no CaiT"),
        ({"mlp": "gelu_tanh"}, "timm", "Expected: mlp='gelu'. Received: mlp='gelu_tanh'"),
        ({"norm_epsilon": 1e-5}, "timm", "Expected: norm_epsilon=1e-06. Received.*1e-05"),
    ],
)
def test_what_the_other_library_has_not_is_refused(arguments, format, message, tmp_path):
    model = keras_vit.from_pretrained(GOLDEN / "timm", **arguments)
    with pytest.raises(ValueError, match=message):
        keras_vit.save_pretrained(model, tmp_path / "out", format)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parity
def test_timm_opens_it(tmp_path):
    timm = pytest.importorskip("timm")
    import torch

    folder = keras_vit.save_pretrained(
        keras_vit.from_pretrained(GOLDEN / "timm"), tmp_path / "out", "timm"
    )
    theirs = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    expected = EXPECTED
    with torch.no_grad():
        logits = theirs(torch.tensor(inputs(expected["pixels"]).transpose(0, 3, 1, 2))).numpy()
    np.testing.assert_allclose(logits, expected["logits"], atol=1e-4)
