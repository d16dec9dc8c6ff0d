"""Pyramid Vision Transformers of timm, transformers and the authors: their numbers, both ways."""

import json
import shutil
from pathlib import Path

import keras
import numpy as np
import pytest

import keras_vit
from tests.checkpoints import everywhere
from tests.checkpoints.helpers import tensors
from tests.helpers import once, once_but, run, tiny_vit, to_numpy

GOLDEN = Path(__file__).parent.parent / "golden" / "pyramids"
CASES = sorted(path.name for path in GOLDEN.iterdir())


def source(case):
    """The folder where a configuration says what the model is, else the file of weights."""
    if (GOLDEN / case / "config.json").is_file():
        return GOLDEN / case, {}
    (file,) = (GOLDEN / case).glob("*.pth")
    return file, {"num_heads": (1, 2, 2, 4)}  # which no tensor tells


def inputs(pixels):
    return (pixels / 127.5 - 1).astype("float32")


def outputs(model, images):
    """Every stage and the logits, in one run."""
    maps = model.pyramid_model().output
    whole = keras.Model(model.input, {**maps, "logits": model.output})
    return run(whole, images)


@pytest.mark.parametrize("case", once_but(CASES, *everywhere.PYRAMIDS))
def test_equals_the_library_that_wrote_it(case):
    expected = np.load(GOLDEN / case / "expected.npz")
    file, arguments = source(case)
    model = keras_vit.from_pretrained(file, image_size=(64, 64), **arguments)
    assert not model.load_report.fresh and not model.load_report.dropped
    found = outputs(model, inputs(expected["pixels"]))
    for name in ("stage0", "stage1", "stage2", "stage3", "logits"):
        if name in expected:  # a backbone has no logits
            np.testing.assert_allclose(found[name], expected[name], atol=1e-4, err_msg=name)


@pytest.mark.parametrize("case", everywhere.PYRAMIDS_AT_ANY_SIZE)
def test_another_size_at_call_time(case):
    expected = np.load(GOLDEN / case / "expected.npz")
    file, arguments = source(case)
    model = keras_vit.from_pretrained(file, image_size=None, **arguments)
    found = outputs(model, inputs(expected["other_pixels"]))
    np.testing.assert_allclose(found["stage3"], expected["other_stage3"], atol=1e-4)
    np.testing.assert_allclose(found["logits"], expected["other_logits"], atol=1e-4)


def test_positions_of_every_stage_are_resampled_as_the_authors_do():
    expected = np.load(GOLDEN / "authors_v1" / "expected.npz")
    images = inputs(expected["other_pixels"])
    file, arguments = source("authors_v1")
    model = keras_vit.from_pretrained(file, image_size=images.shape[1:3], **arguments)
    grids = [f"stage{s}_position_embedding/grid" for s in range(4)]
    assert model.load_report.resampled == grids
    assert [tuple(model.get_layer(grid[:-5]).grid.shape[:2]) for grid in grids] == [
        (8, 24),
        (4, 12),
        (2, 6),
        (1, 3),
    ]
    logits = run(model, images)
    np.testing.assert_allclose(logits, expected["other_logits"], atol=1e-4)


FOLDERS = [case for case in CASES if not case.startswith("authors")]


# What is written are NumPy's arrays. Elsewhere: that they come out of the weights as they went in.
@pytest.mark.parametrize("case", once_but(FOLDERS, "hf_v2"))
def test_gives_back_the_file_of_the_library_itself(case, tmp_path):
    """Every tensor and what the configurations share; and it is read as what was written."""
    model = keras_vit.from_pretrained(GOLDEN / case)
    folder = keras_vit.save_pretrained(model, tmp_path / "out", format=case.split("_")[0])
    ours, theirs = tensors(folder), tensors(GOLDEN / case)
    assert set(ours) == set(theirs)
    for name, value in theirs.items():
        np.testing.assert_array_equal(ours[name], value, err_msg=name)
    config, original = (
        json.loads((x / "config.json").read_text()) for x in (folder, GOLDEN / case)
    )
    told = {"architecture", "architectures", "model_args", "pretrained_cfg"}
    told |= {"sr_ratios"} if "linear" in case else set()  # which have no effect there
    for key in set(config) & set(original) - told:
        assert config[key] == original[key], key
    again = keras_vit.from_pretrained(folder)
    configs = [{**x.get_config(), "name": "", "preprocessor": None} for x in (model, again)]
    assert configs[0] == configs[1]
    if model.preprocessor is not None:
        assert again.preprocessor.get_config() | {"name": ""} == (
            model.preprocessor.get_config() | {"name": ""}
        )
    for mine, yours in zip(model.weights, again.weights, strict=True):
        np.testing.assert_array_equal(to_numpy(yours), to_numpy(mine))


@once
def test_a_standing_model_takes_the_weights_of_its_own_arithmetic():
    file, _ = source("authors_v2")
    config = keras_vit.from_pretrained(file, num_heads=(1, 2, 2, 4)).get_config()
    build = keras_vit.PyramidVisionTransformerV2
    report = keras_vit.load_weights(build(**{**config, "num_classes": 7}), file, skip=["head"])
    assert set(report.fresh) == {"head/dense/kernel", "head/dense/bias"}
    two_epsilons = build(**config)
    with pytest.raises(ValueError, match="conv_norm_epsilon': 1e-06.*Received.*1e-05"):
        keras_vit.load_weights(two_epsilons, GOLDEN / "hf_v2")
    with pytest.raises(ValueError, match="holds a PyramidVisionTransformer. Received: model=Pyr"):
        keras_vit.load_weights(two_epsilons, GOLDEN / "hf_v1")
    with pytest.raises(ValueError, match="holds a PyramidVisionTransformerV2. Received: model=Vis"):
        keras_vit.load_weights(tiny_vit(), file)
    with pytest.raises(ValueError, match="arguments of PyramidVisionTransformerV2; widths?"):
        keras_vit.from_pretrained(file, width=3)


@once
def test_a_new_head_and_fewer_blocks():
    model = keras_vit.from_pretrained(GOLDEN / "hf_v1", num_classes=3, depths=(1, 1, 1, 1))
    assert set(model.load_report.fresh) == {"head/dense/kernel", "head/dense/bias"}
    assert model.class_names is None and model.preprocessor.image_size == (64, 64)
    dropped = {name.split(".layer")[0] for name in model.load_report.dropped}
    assert any("encoder.block.1.1." in name for name in dropped)
    kernel = to_numpy(model.get_layer("head").dense.kernel)
    assert 0.01 < kernel.std() < 0.03  # drawn, not zeros


@once
@pytest.mark.parametrize(
    ("case", "changes", "message"),
    [
        ("hf_v1", {"strides": [2, 2, 2, 2]}, "do not overlap. Received: strides=\\(2, 2, 2, 2\\)"),
        (
            "hf_v1",
            {"depths": [2, 2, 2, 2]},
            "contradict.*depths=\\(1, 2, 1, 1\\).*\\(2, 2, 2, 2\\)",
        ),
        ("hf_v1", {"image_size": 96}, "position embeddings.*Expected: \\[576, 144.*\\(96, 96\\)"),
        ("hf_v1", {"model_type": "vit"}, "transformers' 'pvt'.*Received: model_type='vit'"),
        ("hf_v2", {"hidden_act": "relu"}, "hidden_act cannot be honoured.*'relu'"),
        ("hf_v2", {"linear_attention": True}, "contradict.*reductions=.*Received: reductions="),
        ("timm_v2", {"architecture": "vit_tiny_patch16_224"}, "timm's pvt_v2_.*Received.*vit_tiny"),
        ("timm_v2", {"global_pool": "max", "model_args": {}}, "global_pool.*'max'"),
        ("timm_v2", {"model_args": {"act_layer": "relu"}}, "Received: act_layer='relu'"),
    ],
)
def test_what_a_configuration_says_is_held_against_the_tensors(case, changes, message, tmp_path):
    shutil.copy(GOLDEN / case / "model.safetensors", tmp_path)
    config = json.loads((GOLDEN / case / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, **changes}))
    with pytest.raises(ValueError, match=message):
        keras_vit.from_pretrained(tmp_path)


@once
def test_heads_and_shapes_that_nothing_tells_are_asked_for():
    file, _ = source("authors_v1")
    with pytest.raises(ValueError, match="pass num_heads=.*widths=\\(8, 8, 12, 16\\)"):
        keras_vit.from_pretrained(file)


@once
@pytest.mark.parametrize(
    ("case", "arguments", "format", "message"),
    [
        ("authors_v2", {}, "hf", "PvtV2For.*conv_norm_epsilon=1e-06. Received.*=1e-05"),
        ("hf_v2", {}, "timm", "conv_norm_epsilon=1e-05. Received: conv_norm_epsilon=1e-06"),
        ("hf_v1", {}, "timm", "timm has no first PVT"),
        (
            "hf_v1",
            {"image_size": (64, 32)},
            "hf",
            "image_size=\\(64, 64\\). Received.*\\(64, 32\\)",
        ),
        ("timm_v2", {"include_preprocessing": True}, "timm", "include_preprocessing=True"),
    ],
)
def test_what_the_other_library_has_not_is_refused(case, arguments, format, message, tmp_path):
    file, heads = source(case)
    model = keras_vit.from_pretrained(file, **heads, **arguments)
    with pytest.raises(ValueError, match=message):
        keras_vit.save_pretrained(model, tmp_path / "out", format)
    assert list(tmp_path.iterdir()) == []
