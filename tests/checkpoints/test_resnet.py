"""ResNets of torchvision, timm and transformers: their numbers, both ways."""

import json
import shutil
from pathlib import Path

import keras
import numpy as np
import pytest

import keras_vit
from keras_vit.checkpoints.resnet import names
from keras_vit.checkpoints.resnet.read import facts
from keras_vit.checkpoints.writing import arrays_of, values_of
from tests.checkpoints import everywhere
from tests.checkpoints.helpers import tensors
from tests.helpers import compile_model, once, once_but, run, tiny, to_numpy

GOLDEN = Path(__file__).parent.parent / "golden" / "resnet"
CASES = sorted(path.name for path in GOLDEN.iterdir())
FOLDERS = [case for case in CASES if case != "torchvision"]


def source(case):
    """The folder where a configuration says what the model is, else the file of weights."""
    return GOLDEN / case / ("resnet.pth" if case == "torchvision" else "")


def inputs(case):
    pixels = np.load(GOLDEN / case / "expected.npz")["pixels"]
    return (pixels / 127.5 - 1).astype("float32")


def loaded(case, **arguments):
    return keras_vit.from_pretrained(source(case), **{"image_size": (70, 45), **arguments})


def outputs(model, case):
    """Every stage and the logits, in one run."""
    maps = model.pyramid_model().output
    return run(keras.Model(model.input, {**maps, "logits": model.output}), inputs(case))


@pytest.mark.parametrize("case", once_but(CASES, *everywhere.RESNET))
def test_equals_the_library_that_wrote_it(case):
    expected = np.load(GOLDEN / case / "expected.npz")
    model = loaded(case)
    assert not model.load_report.fresh
    assert all(name.endswith("num_batches_tracked") for name in model.load_report.dropped)
    found = outputs(model, case)
    assert set(found) == {x for x in expected if x.startswith("stage")} | {"logits"}
    for name, value in found.items():
        np.testing.assert_allclose(value, expected[name], atol=2e-5, err_msg=name)


# What training changes on each backend: moments of a batch, and the statistics.
@pytest.mark.parametrize("remat", once_but({"plain": False, "remat": True}, "plain"))
def test_trains_as_torchvision_does(remat):
    expected = np.load(GOLDEN / "torchvision" / "expected.npz")
    model = loaded("torchvision", remat=remat)
    logits = to_numpy(model(inputs("torchvision"), training=True))
    np.testing.assert_allclose(logits, expected["train_logits"], atol=2e-5)
    found = arrays_of(values_of(model), names.TORCHVISION, facts(model.get_config()))
    moving = {x.removeprefix("moving/"): expected[x] for x in expected if x.startswith("moving/")}
    assert moving
    for name, value in moving.items():
        np.testing.assert_allclose(found[name], value, atol=2e-5, err_msg=name)


def test_the_last_stage_can_be_dilated():
    expected = np.load(GOLDEN / "torchvision" / "expected.npz")
    found = outputs(loaded("torchvision", dilation=True, image_size=None), "torchvision")
    for name in ("stage3", "logits"):
        np.testing.assert_allclose(found[name], expected[f"dilated_{name}"], atol=2e-5)


def test_a_frozen_batch_norm_is_that_of_inference_and_stays(tmp_path):
    expected = np.load(GOLDEN / "torchvision" / "expected.npz")
    model = loaded("torchvision", batch_norm="frozen")
    model.trainable = True  # which does not reach it
    logits = to_numpy(model(inputs("torchvision"), training=True))
    np.testing.assert_allclose(logits, expected["logits"], atol=2e-5)
    norms = [x for x in model.weights if "norm" in x.path]
    assert len(norms) == 4 * 23 and not any(x.trainable for x in norms)
    before = [to_numpy(x) for x in norms]
    compile_model(model, "sgd")
    model.fit(inputs("torchvision"), np.zeros((2, 5)), verbose=0)
    for weight, value in zip(norms, before, strict=True):
        np.testing.assert_array_equal(to_numpy(weight), value)
    assert model.get_config()["frozen_layers"] == []

    # files of either kind are those of the other
    model.save(tmp_path / "model.keras")
    learning = keras_vit.from_pretrained(tmp_path / "model.keras", batch_norm="learning")
    assert sum("norm" in x.path for x in learning.trainable_weights) == 2 * 23
    expected, images = run(model, inputs("torchvision")), inputs("torchvision")
    np.testing.assert_allclose(run(learning, images), expected, atol=1e-5)


@pytest.mark.parametrize("case", once_but(FOLDERS, "hf"))
def test_gives_back_the_file_of_the_library_itself(case, tmp_path):
    """Every tensor and what the configurations share; and it is read as what was written."""
    model = loaded(case)
    folder = keras_vit.save_pretrained(model, tmp_path / "out", format=case.split("_")[0])
    ours, theirs = tensors(folder), tensors(GOLDEN / case)
    assert set(theirs) - set(ours) == set(model.load_report.dropped) and set(ours) < set(theirs)
    for name, value in ours.items():
        np.testing.assert_array_equal(value, theirs[name], err_msg=name)
    config, original = (
        json.loads((x / "config.json").read_text()) for x in (folder, GOLDEN / case)
    )
    for key in set(config) & set(original) - {"model_args", "pretrained_cfg"}:
        assert config[key] == original[key], key
    if case == "timm":
        for key in ("layers", "channels", "output_stride", "in_chans"):
            assert config["model_args"][key] == original["model_args"][key]
    again = keras_vit.from_pretrained(folder, image_size=(70, 45))
    configs = [{**x.get_config(), "name": "", "preprocessor": None} for x in (model, again)]
    assert configs[0] == configs[1]


@once
def test_what_the_files_are():
    config = loaded("torchvision", image_size=224).get_config()
    assert config["widths"] == (8, 16, 32, 64) and config["depths"] == (1, 2, 1, 2)
    assert config["block"] == "bottleneck" and config["stem_width"] == 64
    assert config["batch_norm"] == "learning" and config["dilation"] is False
    config = loaded("timm").get_config()
    assert config["dilation"] is True and config["block"] == "basic"
    assert config["class_names"][0] == "tench"
    config = loaded("hf").get_config()
    assert (config["widths"], config["stem_width"]) == ((16, 16, 24), 8)


@once
def test_a_new_head_other_channels_and_a_standing_model():
    model = loaded("hf", num_classes=3)
    assert set(model.load_report.fresh) == {"head/dense/kernel", "head/dense/bias"}
    grey = loaded("hf", num_channels=1)
    assert grey.load_report.adapted
    kernels = [to_numpy(x.get_layer("stem").conv.kernel) for x in (model, grey)]
    np.testing.assert_allclose(kernels[1][:, :, 0], kernels[0].sum(axis=2), atol=1e-6)
    dilated = keras_vit.ResNet(**{**loaded("torchvision").get_config(), "dilation": True})
    report = keras_vit.load_weights(dilated, source("torchvision"))
    assert not report.fresh
    with pytest.raises(ValueError, match="holds a ResNet. Received: model=Vis"):
        keras_vit.load_weights(tiny("vit"), source("torchvision"))
    with pytest.raises(ValueError, match="conv1.weight does not fit stem/conv/kernel"):
        keras_vit.load_weights(tiny("resnet"), source("torchvision"))


@once
@pytest.mark.parametrize(
    ("case", "changes", "message"),
    [
        ("hf", {"depths": [2, 2, 2]}, "contradict.*depths=\\(1, 2, 1\\).*\\(2, 2, 2\\)"),
        ("hf", {"layer_type": "basic"}, "contradict.*block='bottleneck'.*Received: block='basic'"),
        ("hf", {"downsample_in_bottleneck": True}, "downsample_in_bottleneck cannot be.*True"),
        ("hf", {"downsample_in_first_stage": True}, "downsample_in_first_stage cannot be.*True"),
        ("hf", {"hidden_act": "gelu"}, "hidden_act cannot be honoured.*'gelu'"),
        ("hf", {"model_type": "regnet"}, "transformers' 'resnet'.*Received: model_type='regnet'"),
        ("timm", {"architecture": "resnet50d"}, "timm's resnet.*Received: .*resnet50d"),
        ("timm", {"global_pool": "max", "model_args": {}}, "global_pool.*'max'"),
        ("timm", {"model_args": {"output_stride": 8}}, "output_stride cannot be honoured.*8"),
        ("timm", {"model_args": {"stem_type": "deep"}}, "Received: stem_type='deep'"),
        ("timm", {"model_args": {"layers": [3, 4, 6, 3]}}, "contradict.*depths=\\(1, 2, 1, 2\\)"),
    ],
)
def test_what_a_configuration_says_is_held_against_the_tensors(case, changes, message, tmp_path):
    shutil.copy(GOLDEN / case / "model.safetensors", tmp_path)
    config = json.loads((GOLDEN / case / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, **changes}))
    with pytest.raises(ValueError, match=message):
        keras_vit.from_pretrained(tmp_path)


@once
@pytest.mark.parametrize(
    ("case", "arguments", "format", "message"),
    [
        ("timm", {}, "hf", "ResNetFor.*dilation=False. Received: dilation=True"),
        ("hf", {}, "timm", "stem_width=64. Received: stem_width=8"),
        ("torchvision", {"include_preprocessing": True}, "hf", "include_preprocessing=True"),
    ],
)
def test_what_the_other_library_has_not_is_refused(case, arguments, format, message, tmp_path):
    model = loaded(case, **arguments)
    with pytest.raises(ValueError, match=message):
        keras_vit.save_pretrained(model, tmp_path / "out", format)
    assert list(tmp_path.iterdir()) == []
