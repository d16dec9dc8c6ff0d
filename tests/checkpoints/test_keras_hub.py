"""keras-hub's presets: what they say, their pictures, what is refused.

test_golden.py and test_swin.py hold the numbers.
"""

import contextlib
import json
import shutil
import warnings

import h5py
import keras
import numpy as np
import pytest

import keras_vit
from keras_vit.checkpoints.configs import Description
from keras_vit.checkpoints.errors import CheckpointError
from keras_vit.checkpoints.pictures.keras_hub import add_converter
from tests.checkpoints.helpers import GOLDEN
from tests.helpers import once, once_but, run, to_numpy

FOLDERS = {
    "vit": GOLDEN / "kh_vit",
    "gap": GOLDEN / "kh_vit_gap",
    "deit": GOLDEN / "kh_deit",
    "swin": GOLDEN.parent / "swin/kh_swin",
}
PICTURES = np.load(GOLDEN.parent / "processors" / "keras_hub.npz")
CONVERTERS = [key.partition("/")[0] for key in PICTURES if key.endswith("/config")]


def changed(folder, tmp_path, file, *keys, value):
    """A copy of a preset with another value in one of its files; None takes the key away."""
    folder = shutil.copytree(folder, tmp_path / "preset")
    content = json.loads((folder / file).read_text())
    place = content
    for key in keys[:-1]:
        place = place[key]
    place[keys[-1]] = value
    (folder / file).write_text(json.dumps(content))
    return folder


@once
def test_presets_say_what_they_are():
    model = keras_vit.from_pretrained(FOLDERS["vit"])
    config = model.get_config()
    expected = {
        "width": 16, "depth": 2, "num_heads": 4, "mlp_dim": 32, "num_classes": 5,
        "image_size": (24, 16), "patch_size": (8, 8), "representation_size": 12,
        "norm_epsilon": 1e-3, "mlp": "gelu", "dropout_rate": 0.1, "attention_dropout_rate": 0.0,
        "pooling": "token", "position_embedding": "learned",
    }  # fmt: skip
    assert {key: config[key] for key in expected} == expected
    assert model.load_report.unread == ["dropout (task.json)"]  # of the head, in training alone
    assert not model.load_report.dropped and not model.load_report.fresh
    config = keras_vit.from_pretrained(FOLDERS["gap"], preprocessor=None).get_config()
    assert config["pooling"] == "gap" and not config["class_token"] and not config["patch_bias"]
    config = keras_vit.from_pretrained(FOLDERS["deit"]).get_config()
    assert config["distillation_token"] and config["distillation_head"] is False
    config = keras_vit.from_pretrained(FOLDERS["swin"], preprocessor=None).get_config()
    assert config["window_size"] == 4 and config["drop_path_rate"] == 0.2
    assert config["image_size"] == (32, 64) and config["norm_epsilon"] == 1e-5


@once
def test_a_backbone_alone_gives_features(tmp_path):
    folder = shutil.copytree(FOLDERS["deit"], tmp_path / "preset")
    (folder / "task.json").unlink()
    (folder / "task.weights.h5").unlink()
    expected = np.load(FOLDERS["deit"] / "expected.npz")
    model = keras_vit.from_pretrained(folder)
    assert model.get_config()["num_classes"] is None
    np.testing.assert_allclose(run(model, expected["images"]), expected["pre_logits"], atol=2e-5)


@once
def test_the_file_within_a_preset_is_the_preset():
    expected = np.load(FOLDERS["vit"] / "expected.npz")
    model = keras_vit.from_pretrained(FOLDERS["vit"] / "model.weights.h5")
    np.testing.assert_allclose(run(model, expected["images"]), expected["logits"], atol=2e-5)
    standing = type(model).from_config(model.get_config())
    keras_vit.load_weights(standing, FOLDERS["vit"])
    np.testing.assert_allclose(run(standing, expected["images"]), expected["logits"], atol=2e-5)


@once
@pytest.mark.parametrize("source", ["keras/vit_tiny", "hf://keras/vit_tiny"])
def test_presets_on_the_hub(source, monkeypatch):
    """Fetched file by file, each once; what a repository has not, it says."""
    huggingface_hub = pytest.importorskip("huggingface_hub")
    fetched = []

    def download(repository, file, revision=None):
        fetched.append(file)
        assert (repository, revision) == ("keras/vit_tiny", None)
        if not (FOLDERS["vit"] / file).is_file():
            raise huggingface_hub.errors.EntryNotFoundError(file)
        return str(FOLDERS["vit"] / file)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    model = keras_vit.from_pretrained(source)
    assert model.get_config()["num_classes"] == 5 and model.preprocessor is not None
    assert len(fetched) == len(set(fetched)) and "task.weights.h5" in fetched


@once
def test_a_new_head_and_another_size_in_one_call():
    model = keras_vit.from_pretrained(FOLDERS["deit"], num_classes=3, image_size=(32, 40))
    assert model.output_shape == (None, 3) and model.preprocessor.image_size == (32, 40)
    assert set(model.load_report.fresh) == {"head/dense/kernel", "head/dense/bias"}
    assert set(model.load_report.dropped) == {"predictions/0", "predictions/1"}


@once
@pytest.mark.parametrize(
    ("case", "file", "keys", "value", "message"),
    [
        ("vit", "config.json", ["config", "num_layers"], 3, "depth=2, as the tensors.*depth=3"),
        ("vit", "config.json", ["config", "num_heads"], 2, "num_heads=4, as the tensors"),
        ("vit", "config.json", ["config", "use_mha_bias"], False, "use_mha_bias cannot be"),
        ("vit", "config.json", ["config", "use_mlp_bias"], False, "use_mlp_bias cannot be"),
        ("vit", "config.json", ["config", "image_shape"], [24], "not as its library writes it"),
        ("vit", "config.json", ["config", "image_shape"], [3, 24, 16], "contradict|do not fit"),
        ("vit", "config.json", ["registered_name"], "keras_hub>DINOV2Backbone", "'DINOV2Backb"),
        ("deit", "config.json", ["registered_name"], "keras_hub>ViTBackbone", "ViTImageClass"),
        ("swin", "config.json", ["registered_name"], "keras_hub>ViTBackbone", "SwinTransformerB"),
        ("vit", "task.json", ["config", "pooling"], "gap", "pooling cannot be honoured.*'gap'"),
        ("gap", "task.json", ["config", "pooling"], "token", "pooling cannot be.*'token'"),
        ("vit", "task.json", ["config", "activation"], "softmax", "activation cannot be honoured"),
        ("vit", "task.json", ["config", "num_classes"], 4, "num_classes=5, as the tensors"),
        ("vit", "task.json", ["registered_name"], "keras_hub>ViTDetector", "a ViTImageClassifier"),
        ("vit", "task.json", ["config", "backbone", "config", "num_heads"], 8, "two backbones"),
        ("swin", "config.json", ["config", "patch_norm"], False, "patch_norm cannot be honoured"),
        ("swin", "config.json", ["config", "data_format"], "channels_first", "data_format cannot"),
        ("swin", "config.json", ["config", "depths"], [2, 3], "depths=\\(2, 2\\), as the tensors"),
    ],
)
def test_what_cannot_be_honoured_is_refused_by_name(case, file, keys, value, message, tmp_path):
    folder = changed(FOLDERS[case], tmp_path, file, *keys, value=value)
    if file == "config.json" and keys[0] == "config":  # the task's own copy of it
        task = json.loads((folder / "task.json").read_text())
        task["config"]["backbone"]["config"][keys[1]] = value
        (folder / "task.json").write_text(json.dumps(task))
    with pytest.raises(CheckpointError, match=message):
        keras_vit.from_pretrained(folder, preprocessor=None)


@once
def test_maps_that_windows_do_not_divide_are_refused(tmp_path):
    """keras-hub masks such maps otherwise than all others."""
    folder = shutil.copytree(FOLDERS["swin"], tmp_path / "preset")
    for file, place in (("config.json", ()), ("task.json", ("config", "backbone"))):
        content = json.loads((folder / file).read_text())
        own = content
        for key in place:
            own = own[key]
        own["config"]["image_shape"] = [40, 64, 3]
        (folder / file).write_text(json.dumps(content))
    with pytest.raises(CheckpointError, match="Windows must divide.*a map of 10 x 16"):
        keras_vit.from_pretrained(folder, preprocessor=None)


@once
def test_unknown_fields_are_listed_and_missing_files_told(tmp_path):
    folder = changed(FOLDERS["vit"], tmp_path, "config.json", "config", "new_field", value=1)
    assert "new_field" in keras_vit.from_pretrained(folder).load_report.unread
    (folder / "task.weights.h5").unlink()
    with pytest.raises(CheckpointError, match="num_classes=None, as the tensors.*num_classes=5"):
        keras_vit.from_pretrained(folder)


@once
@pytest.mark.parametrize("case", ["deit", "swin"])
def test_a_backbone_that_is_in_both_files_is_read_once(case, tmp_path):
    """keras-hub 0.21 and others wrote it beside the head too, below its own name."""
    folder = shutil.copytree(FOLDERS[case], tmp_path / "preset")
    with (
        h5py.File(folder / "model.weights.h5") as backbone,
        h5py.File(folder / "task.weights.h5", "a") as task,
    ):
        inner = task["layers"].create_group("my_backbone")
        backbone.copy("layers", inner)
        inner.create_group("vars").attrs["name"] = "my_backbone"
    model = keras_vit.from_pretrained(folder, preprocessor=None)
    plain = keras_vit.from_pretrained(FOLDERS[case], preprocessor=None)
    names = {x for sources, _ in plain.load_report.used for x in sources}
    assert len(model.load_report.dropped) == len(names) - 2  # all but the head
    assert {"once more" in reason for reason in model.load_report.dropped.values()} == {True}
    for ours, theirs in zip(model.weights, plain.weights, strict=True):
        np.testing.assert_array_equal(to_numpy(ours), to_numpy(theirs))


@once
def test_arrays_of_one_name_in_both_files_are_refused(tmp_path):
    folder = shutil.copytree(FOLDERS["gap"], tmp_path / "preset")
    shutil.copy(folder / "model.weights.h5", folder / "task.weights.h5")
    with pytest.raises(CheckpointError, match="both hold 'vit_"):
        keras_vit.from_pretrained(folder, preprocessor=None)


def converter(config):
    found = Description()
    add_converter(found, {"config": config})
    if found.refused is not None:
        raise found.refused
    return found.preprocessor


# Kernel, antialiasing and crop by proportion meet in these two; all are sums of products.
@pytest.mark.parametrize("name", once_but(CONVERTERS, "defaults", "deit"))
def test_pictures_are_resized_as_keras_hub_does(name):
    """Pictures of whole bytes too, which Keras's backends round differently or not at all."""
    config = json.loads(str(PICTURES[f"{name}/config"]))
    preprocess = converter(config["config"])
    preprocess = type(preprocess).from_config(preprocess.get_config())
    of_any_size = keras.Sequential([keras.Input((None, None, 3)), preprocess])
    pictures = sum("/" not in key and key.startswith("picture") for key in PICTURES)
    assert pictures == 5
    for i in range(pictures):
        picture, expected = PICTURES[f"picture{i}"], PICTURES[f"{name}/{i}"]
        floats = picture.astype("float32")
        whole = of_any_size.predict(floats[None], verbose=0)[0]
        for found in (preprocess(picture), preprocess(floats), whole):
            levels = np.abs(to_numpy(found) - expected) * np.array(preprocess.std) * 255
            assert levels.max() < 1e-3


@once
def test_mean_and_deviation_of_older_presets():
    """keras-hub 0.21 and before: its ViT's converter did this after scale and offset."""
    config = json.loads(str(PICTURES["defaults/config"]))["config"]
    older = {"scale": 1 / 255, "norm_mean": [0.5, 0.4, 0.3], "norm_std": [0.5, 0.25, 0.2]}
    preprocess = converter({**config, **older, "offset": 0.1})
    np.testing.assert_allclose(preprocess.mean, (0.4, 0.3, 0.2))
    np.testing.assert_allclose(preprocess.std, (0.5, 0.25, 0.2))
    pixels = PICTURES["defaults/1"]  # 0..255, as that has neither
    expected = (pixels / 255 + 0.1 - older["norm_mean"]) / older["norm_std"]
    found = to_numpy(preprocess(PICTURES["picture1"]))
    np.testing.assert_allclose(found, expected, atol=1e-5)


@once
def test_pictures_in_a_tf_data_pipeline():
    import tensorflow as tf

    preprocess = converter(json.loads(str(PICTURES["defaults/config"]))["config"])
    pictures = [PICTURES[f"picture{i}"] for i in range(5)]
    signature = tf.TensorSpec((None, None, 3), "uint8")
    data = tf.data.Dataset.from_generator(lambda: iter(pictures), output_signature=signature)
    for i, found in enumerate(data.map(preprocess)):
        np.testing.assert_allclose(found.numpy(), PICTURES[f"defaults/{i}"], atol=1e-3)
    assert i == 4


@once
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image_size": None}, "image_size, two numbers of pixels. Received: image_size=None"),
        ({"image_size": [24, 0]}, "image_size, two numbers"),
        ({"pad_to_aspect_ratio": True}, "pad_to_aspect_ratio, false"),
        ({"interpolation": "nearest"}, "interpolation, one of bilinear with antialias=False"),
        ({"interpolation": "bicubic"}, "one of bilinear with antialias=False. Received.*bicubic"),
        ({"interpolation": "lanczos5", "antialias": True}, "one of bilinear, bicubic with"),
        ({"antialias": 1}, "antialias, true or false"),
        ({"scale": [0.1, 0.0, 0.1]}, "scale, numbers above 0"),
        ({"scale": "1/255"}, "scale, numbers"),
        ({"offset": [1, 2]}, "offset, one number, or 3. Received"),
        ({"norm_std": [0.5, 0, 0.5]}, "norm_std, numbers above 0"),
        ({"mean": [0, 0, 0]}, "Expected: image_size, scale.*Received: \\['mean'\\]"),
    ],
    ids=str,
)
def test_converters_that_no_preprocessor_can_be(change, message, tmp_path):
    config = json.loads((FOLDERS["vit"] / "image_converter.json").read_text())
    with pytest.raises(CheckpointError, match=message):
        converter({**config["config"], **change})
    config["config"].update(change)
    folder = shutil.copytree(FOLDERS["vit"], tmp_path / "preset")
    (folder / "image_converter.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match="image_converter.json cannot be honoured; pass"):
        keras_vit.from_pretrained(folder)
    assert keras_vit.from_pretrained(folder, preprocessor=None).preprocessor is None


@once
def test_a_converter_within_the_preprocessor_s_file_is_read(tmp_path):
    """As older presets have it."""
    folder = shutil.copytree(FOLDERS["vit"], tmp_path / "preset")
    own = json.loads((folder / "image_converter.json").read_text())
    (folder / "image_converter.json").unlink()
    with contextlib.suppress(UserWarning), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert keras_vit.from_pretrained(folder).preprocessor is None
    (folder / "preprocessor.json").write_text(json.dumps({"config": {"image_converter": own}}))
    found = keras_vit.from_pretrained(folder).preprocessor
    np.testing.assert_allclose(found.mean, (0.5, 0.4, 0.3))
    np.testing.assert_allclose(found.std, (0.2, 0.3, 0.4))
    assert found.convention == "keras" and not found.antialias and found.resize == "short_side"


@once
def test_other_libraries_get_a_preprocessor_of_their_own(tmp_path):
    model = keras_vit.from_pretrained(FOLDERS["deit"])
    with pytest.raises(CheckpointError, match="resize as PIL does.*Received: convention='keras'"):
        keras_vit.save_pretrained(model, tmp_path / "model", "hf")
    theirs = keras_vit.Preprocessor(24, convention="transformers", resize="squash")
    model = keras_vit.from_pretrained(FOLDERS["deit"], preprocessor=theirs)
    keras_vit.save_pretrained(model, tmp_path / "model", "hf")


@once
@pytest.mark.parametrize(
    "arguments",
    [{"convention": "keras"}, {"antialias": False}, {"convention": "keras", "crop_fraction": 0.9}],
    ids=str,
)
def test_keras_s_way_has_no_crop_fraction_and_others_no_aliasing(arguments):
    with pytest.raises(ValueError, match="crop_fraction=1, and it alone antialias=False. Received"):
        keras_vit.Preprocessor(24, **arguments)
