"""Swin Transformers of timm, transformers and their authors give those libraries' numbers."""

import json
import shutil
from pathlib import Path

import keras
import numpy as np
import pytest

import keras_vit
from keras_vit.checkpoints.errors import CheckpointError
from keras_vit.checkpoints.readers.open import open_file
from keras_vit.checkpoints.swin import read as swin
from keras_vit.checkpoints.writing import write_safetensors
from tests.checkpoints import everywhere
from tests.checkpoints.helpers import tensors
from tests.helpers import images, once, once_but, randomize, run, tiny_swin, tiny_vit, to_numpy

GOLDEN = Path(__file__).parent.parent / "golden" / "swin"
CASES = sorted(path.parent.name for path in GOLDEN.glob("*/expected.npz"))
RUNS = {
    case + suffix: (case, suffix)
    for case in CASES
    for suffix in ("", "_other", "_small", "_window")
    if f"images{suffix}" in np.load(GOLDEN / case / "expected.npz")
}


def source(case):
    """The folder where a configuration says what the model is, else the file of weights."""
    folder = GOLDEN / case
    return folder if (folder / "config.json").is_file() else folder / "swin.pth"


def assert_same_weights(model, other):
    values = {weight.path: weight for weight in other.weights if "seed" not in weight.path}
    assert {weight.path for weight in model.weights if "seed" not in weight.path} == set(values)
    for weight in model.weights:
        if weight.path in values:
            found, expected = to_numpy(weight), to_numpy(values[weight.path])
            np.testing.assert_array_equal(found, expected, err_msg=weight.path)


@pytest.mark.parametrize(("case", "suffix"), once_but(RUNS, *map("".join, everywhere.SWIN)))
def test_every_stage_equals_the_library_s(case, suffix):
    """At its own size; at one that windows do not divide; with windows that had to change."""
    expected = dict(np.load(GOLDEN / case / "expected.npz"))
    pixels = expected[f"images{suffix}"].astype("float32")
    arguments = {"image_size": pixels.shape[1:3]} if suffix else {}
    if suffix == "_window":
        arguments["window_size"] = 6
    model = keras_vit.from_pretrained(source(case), **arguments)
    assert not model.load_report.fresh and not model.load_report.unread
    shrunk = suffix in ("_small", "_window") and not case.startswith("tv")  # whose never do
    assert bool(model.load_report.resampled) == shrunk
    names = {**model._pyramid, "pre_logits": "pool", "logits": "head"}
    names = {name: layer for name, layer in names.items() if name + suffix in expected}
    outputs = {name: model.get_layer(layer).output for name, layer in names.items()}
    found = run(keras.Model(model.input, outputs), pixels)
    assert set(found) >= {"stage0", "stage1"} and len(found) >= 3
    for name, value in found.items():
        np.testing.assert_allclose(value, expected[name + suffix], atol=1e-4, err_msg=name)


@once
def test_what_configurations_and_tensors_say():
    config = keras_vit.from_pretrained(GOLDEN / "timm_swin").get_config()
    assert config["convention"] == "timm" and config["class_names"][0] == "tench"
    assert config["image_size"] == (32, 32) and config["window_size"] == 4
    assert config["preprocessor"]["config"]["crop_fraction"] == 0.9
    config = keras_vit.from_pretrained(GOLDEN / "timm_swinv2_pretrained").get_config()
    assert config["version"] == 2 and config["pretrained_window_size"] == (3, 2)
    config = keras_vit.from_pretrained(GOLDEN / "hf_swin_model").get_config()
    assert config["convention"] == "authors" and config["mlp"] == "gelu_tanh"
    assert config["num_classes"] is None
    # a bare file: windows by the tables or their index, and the usual size
    for case in ("ms_swin", "ms_swinv2"):
        config = keras_vit.from_pretrained(source(case)).get_config()
        assert config["window_size"] == 4 and config["image_size"] == (32, 32)
    report = keras_vit.from_pretrained(source("ms_swinv2")).load_report
    assert "computed from the window's size" in report.dropped.values()


@once
@pytest.mark.parametrize(
    ("architecture", "window", "pretrained", "pixels"),
    [
        ("swin_tiny_patch4_window7_224", 7, None, 224),
        ("swin_large_patch4_window12_384", 12, None, 384),
        ("swinv2_small_window16_256", 16, None, 256),
        ("swinv2_base_window12to24_192to384", 24, (12, 12, 12, 6), 384),
        ("swin_s3_base_224", None, None, 224),
    ],
)
def test_timm_s_names_tell_windows(architecture, window, pretrained, pixels):
    cfg = {"input_size": [3, pixels, pixels]}
    found = swin.describe({"architecture": architecture, "pretrained_cfg": cfg}).arguments
    assert found.get("window_size") == window
    assert found.get("pretrained_window_size") == pretrained
    assert found["image_size"] == (pixels, pixels)


@once
def test_windows_of_each_stage_s_own_are_those_of_the_tables(tmp_path):
    """As in timm's swin_s3_*, whose names and configurations are silent on them."""
    model = tiny_swin(window_size=(2, 4), convention="timm")
    randomize(model)
    folder = keras_vit.save_pretrained(model, tmp_path / "x", format="timm")
    config = json.loads((folder / "config.json").read_text())
    del config["model_args"]["window_size"]
    config["architecture"] = "swin_s3_tiny_224"
    (folder / "config.json").write_text(json.dumps(config))
    again = keras_vit.from_pretrained(folder)
    assert again.get_config()["window_size"] == (2, 4) and not again.load_report.resampled
    assert_same_weights(again, model)


@once
def test_windows_of_each_stage_s_own_are_read_as_they_are_written(tmp_path):
    model = tiny_swin(window_size=(2, 4), convention="timm")
    folder = keras_vit.save_pretrained(model, tmp_path / "x", format="timm")
    assert keras_vit.from_pretrained(folder).get_config()["window_size"] == (2, 4)


@once
def test_low_rank_updates_are_written_within_the_matrices(tmp_path):
    model = tiny_swin()
    randomize(model)
    folder = keras_vit.save_pretrained(model, tmp_path / "before", format="hf")
    layer = model.get_layer("stage0_block00").mlp.fc1
    layer.enable_lora(2)
    layer.lora_kernel_b.assign(np.ones(layer.lora_kernel_b.shape))
    after = keras_vit.save_pretrained(model, tmp_path / "after", format="hf")
    before, after = tensors(folder), tensors(after)
    assert set(after) == set(before)
    changed = {name for name in before if not np.array_equal(after[name], before[name])}
    (name,) = changed
    np.testing.assert_allclose(after[name], to_numpy(layer.kernel).T, atol=1e-6)


@once
def test_windows_for_another_number_of_stages_are_the_caller_s_mistake():
    with pytest.raises(ValueError, match="one for each of the 2 stages. Received") as found:
        keras_vit.from_pretrained(GOLDEN / "timm_swin", window_size=(4, 4, 4))
    assert not isinstance(found.value, CheckpointError)


@once
def test_a_new_head_and_another_size_in_one_call():
    model = keras_vit.from_pretrained(GOLDEN / "timm_swin", num_classes=3, image_size=(24, 40))
    assert set(model.load_report.fresh) == {"head/dense/kernel", "head/dense/bias"}
    assert model.output_shape == (None, 3)
    assert model.preprocessor.image_size == (24, 40)
    features = keras_vit.from_pretrained(GOLDEN / "timm_swin", num_classes=None)
    assert set(features.load_report.dropped) == {"head.fc.weight", "head.fc.bias"}


@once
@pytest.mark.parametrize("case", ["timm_swin", "hf_swinv2", "ms_swin"])
def test_a_standing_model_is_filled_or_left_alone(case):
    found = keras_vit.from_pretrained(source(case))
    model = type(found).from_config(found.get_config())
    keras_vit.load_weights(model, source(case))
    assert_same_weights(model, found)
    other = tiny_swin(num_classes=5, num_heads=(1, 2), version=found.get_config()["version"])
    before = [to_numpy(weight) for weight in other.weights]
    with pytest.raises(CheckpointError, match="num_heads"):
        keras_vit.load_weights(other, source(case))
    with pytest.raises(CheckpointError, match="holds a SwinTransformer. Received: model=Vis"):
        keras_vit.load_weights(tiny_vit(), source(case))
    for old, weight in zip(before, other.weights, strict=True):
        np.testing.assert_array_equal(to_numpy(weight), old)


@pytest.mark.parametrize("version", [1, 2])
def test_our_own_files_read_back(version, tmp_path):
    model = tiny_swin(version=version, qkv_bias=version == 1, drop_path_rate=0.1)
    randomize(model)
    model.save(tmp_path / "model.keras")
    model.save_weights(tmp_path / "model.weights.h5")
    again = keras_vit.from_pretrained(tmp_path / "model.keras")
    assert_same_weights(again, model)
    assert again.get_config()["drop_path_rate"] == 0.1
    larger = keras_vit.from_pretrained(tmp_path / "model.keras", window_size=6)
    assert bool(larger.load_report.resampled) == (version == 1)
    fresh = type(model).from_config(model.get_config())
    keras_vit.load_weights(fresh, tmp_path / "model.weights.h5")
    assert_same_weights(fresh, model)


@once
@pytest.mark.parametrize(
    ("case", "change", "message"),
    [
        ("hf_swin", {"layer_norm_eps": 1e-6}, "layer_norm_eps cannot be honoured.*1e-06"),
        ("hf_swin", {"use_absolute_embeddings": True}, "use_absolute_embeddings cannot be"),
        ("hf_swin", {"hidden_act": "relu"}, "hidden_act cannot be honoured"),
        ("hf_swin", {"depths": [2, 3]}, "depths=\\(2, 2\\), as the tensors have it.*\\(2, 3\\)"),
        ("hf_swin", {"num_heads": [4, 4]}, "num_heads=\\(2, 4\\), as the tensors"),
        ("hf_swin", {"model_type": "vit"}, "model_type cannot be honoured"),
        (
            "timm_swin",
            {"architecture": "swinv2_cr_tiny_224"},
            "not a Swin Transformer of version",
        ),
        ("timm_swin", {"model_args": {"global_pool": "max"}}, "global_pool cannot be honoured"),
        ("timm_swin", {"model_args": {"head_dim": 4}}, "model_args.*cannot be.*head_dim=4"),
        ("timm_swin", {"model_args": {"always_partition": True}}, "always_partition cannot"),
    ],
)
def test_what_cannot_be_honoured_is_refused_by_name(case, change, message, tmp_path):
    folder = shutil.copytree(GOLDEN / case, tmp_path / case)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **change}))
    with pytest.raises(CheckpointError, match=message):
        keras_vit.from_pretrained(folder)


@once
def test_tensors_that_are_missing_or_too_many_are_named(tmp_path):
    folder = shutil.copytree(GOLDEN / "timm_swin", tmp_path / "x")
    reader = open_file(folder / "model.safetensors")
    arrays = {name: reader.read(name).copy() for name in reader.tensors}
    reader.close()
    arrays["layers.0.blocks.1.attn.new.weight"] = arrays.pop("layers.0.blocks.1.attn.proj.weight")
    write_safetensors(folder / "model.safetensors", arrays, {})
    message = "stage0_block01/attention/proj/kernel.*layers.0.blocks.1.attn.new.weight"
    with pytest.raises(CheckpointError, match=f"(?s){message}"):
        keras_vit.from_pretrained(folder)
    with pytest.raises(ValueError, match="arguments of SwinTransformer.*Received: qk_norm"):
        keras_vit.from_pretrained(GOLDEN / "timm_swin", qk_norm=True)


FOLDERS = [case for case in CASES if case.startswith(("timm", "hf"))]


# What is written are NumPy's arrays. Elsewhere: that they come out of the weights as they went in.
@pytest.mark.parametrize("case", once_but(FOLDERS, "hf_swinv2"))
def test_what_is_written_is_the_library_s_own_file(case, tmp_path):
    model = keras_vit.from_pretrained(GOLDEN / case)
    folder = keras_vit.save_pretrained(model, tmp_path / "out", format=case.split("_")[0])
    ours, theirs = tensors(folder), tensors(GOLDEN / case)
    assert set(ours) == set(theirs)
    for name, value in theirs.items():
        assert ours[name].shape == value.shape, name
        np.testing.assert_array_equal(ours[name], value, err_msg=name)
    again = keras_vit.from_pretrained(folder)
    assert_same_weights(again, model)
    ours, theirs = again.get_config(), model.get_config()
    for key in set(ours) - {"name", "preprocessor"}:  # whose names are new
        assert ours[key] == theirs[key], key
    assert (again.preprocessor is None) == (model.preprocessor is None)


@once
def test_a_model_of_one_library_goes_to_the_other_where_both_compute_the_same(tmp_path):
    model = keras_vit.from_pretrained(GOLDEN / "hf_swin")
    folder = keras_vit.save_pretrained(model, tmp_path / "timm", format="timm")
    again, pixels = keras_vit.from_pretrained(folder), images((32, 32))
    assert again.get_config()["convention"] == "timm" and again.class_names == model.class_names
    assert_same_weights(again, model)
    np.testing.assert_allclose(run(again, pixels), run(model, pixels), atol=1e-6)
    padded = keras_vit.resize(model, (44, 60))
    with pytest.raises(CheckpointError, match="convention='timm'. Received: convention='authors'"):
        keras_vit.save_pretrained(padded, tmp_path / "padded", format="timm")
    keras_vit.save_pretrained(padded, tmp_path / "padded", format="hf")


@once
@pytest.mark.parametrize(
    ("arguments", "format", "message"),
    [
        ({"image_size": None}, "hf", "keras_vit.resize the model first"),
        ({"norm_epsilon": 1e-6}, "timm", "norm_epsilon=1e-05. Received: norm_epsilon=1e-06"),
        ({"mlp": "gelu_tanh", "convention": "timm"}, "timm", "Received: mlp='gelu_tanh'"),
        ({"window_size": (4, 2)}, "hf", "window_size='one for all stages'"),
        ({"image_size": 16}, "hf", "maps as large as a window"),
        ({"include_preprocessing": True}, "timm", "include_preprocessing=True"),
    ],
    ids=str,
)
def test_what_the_other_library_has_not_is_refused(arguments, format, message, tmp_path):
    with pytest.raises(CheckpointError, match=message):
        keras_vit.save_pretrained(tiny_swin(**arguments), tmp_path / "out", format)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parity
@pytest.mark.parametrize("case", FOLDERS)
def test_the_library_opens_it(case, tmp_path):
    """Stages with windows of their own too, which timm takes as pairs."""
    library = pytest.importorskip("timm" if case.startswith("timm") else "transformers")
    import torch

    model = keras_vit.from_pretrained(GOLDEN / case)
    if case.startswith("timm"):
        model = keras_vit.resize(model, 48, window_size=(3, 2))
    folder = keras_vit.save_pretrained(model, tmp_path / "out", format=case.split("_")[0])
    pixels = images(model.input.shape[1:3])
    x = torch.tensor(pixels.transpose(0, 3, 1, 2))
    with torch.no_grad():
        if case.startswith("timm"):
            found = library.create_model(f"local-dir:{folder}", pretrained=True).eval()(x)
        else:
            config = json.loads((folder / "config.json").read_text())
            (name,) = config["architectures"]
            found = getattr(library, name).from_pretrained(folder).eval()(x)
            found = found.logits if "logits" in found else found.pooler_output
    np.testing.assert_allclose(to_numpy(model(pixels)), found.numpy(), atol=1e-4)
