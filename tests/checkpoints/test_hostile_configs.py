"""Configurations that somebody wrote wrong, or to do harm: one error that names where they are."""

import inspect
import json
import shutil
import zipfile

import keras
import numpy as np
import pytest

import keras_vit
from keras_vit.checkpoints.checks import check_arguments
from keras_vit.checkpoints.errors import CheckpointError
from keras_vit.checkpoints.families import builders
from keras_vit.layers.initializers import Initial, no_initialization
from tests.checkpoints.fuzz import peak_memory
from tests.checkpoints.helpers import GOLDEN
from tests.helpers import once, tiny_cait, tiny_hybrid, tiny_swin, tiny_vit

pytestmark = once  # what is read stays the same on every backend


def with_json(folder, file, change):
    """Changes the object in a JSON file of a folder."""
    fields = json.loads((folder / file).read_text())
    change(fields)
    (folder / file).write_text(json.dumps(fields))


def put(place, value):
    """A change that sets a field, `a/b` being field b of a."""

    def change(fields):
        *parts, last = place.split("/")
        for part in parts:
            fields = fields[part]
        fields[last] = value

    return change


# What no tensor of a source tells, nor its configuration.
OF_NO_TENSOR = {"hybrid/timm_resnet": {"num_heads": 4, "stem_groups": 4}}
NAN, INF = float("nan"), float("inf")
CASES = [
    ("checkpoints/hf_vit", "image_size", "32"),
    ("checkpoints/hf_vit", "image_size", [32]),
    ("checkpoints/hf_vit", "image_size", 32.0),
    ("checkpoints/hf_vit", "image_size", 0),
    ("checkpoints/hf_vit", "image_size", True),
    ("checkpoints/hf_vit", "image_size", 10**6),
    ("checkpoints/hf_vit", "layer_norm_eps", -1),
    ("checkpoints/hf_vit", "layer_norm_eps", 0),
    ("checkpoints/hf_vit", "layer_norm_eps", NAN),
    ("checkpoints/hf_vit", "layer_norm_eps", "1e-6"),
    ("checkpoints/hf_vit", "num_attention_heads", 0),
    ("checkpoints/hf_vit", "num_attention_heads", -4),
    ("checkpoints/hf_vit", "num_attention_heads", 4.0),
    ("checkpoints/hf_vit", "hidden_dropout_prob", 1),
    ("checkpoints/hf_vit", "hidden_dropout_prob", NAN),
    ("checkpoints/hf_vit", "qkv_bias", "yes"),
    ("checkpoints/hf_vit", "num_hidden_layers", 3),
    ("checkpoints/hf_vit", "hidden_act", ["gelu"]),
    ("checkpoints/hf_vit", "architectures", 7),
    ("checkpoints/hf_vit", "id2label", {"0": "a", "1": "b", "2": "c", "3": "d", "5": "e"}),
    ("checkpoints/hf_vit", "id2label", {"00": "a", "0": "b", "1": "c", "2": "d", "3": "e"}),
    ("checkpoints/hf_vit", "id2label", {str(i): i for i in range(5)}),
    ("checkpoints/hf_vit", "id2label", {str(i): f"LABEL_{i}" for i in range(7)}),
    ("checkpoints/hf_vit", "id2label", ["a"]),
    ("checkpoints/timm_vit", "model_args/depth", 3),
    ("checkpoints/timm_vit", "model_args/embed_dim", 64),
    ("checkpoints/timm_vit", "model_args/in_chans", 1),
    ("checkpoints/timm_vit", "model_args/patch_size", 4),
    ("checkpoints/timm_vit", "model_args/num_classes", 6),
    ("checkpoints/timm_vit", "model_args/reg_tokens", 4),
    ("checkpoints/timm_vit", "model_args/qkv_bias", False),
    ("checkpoints/timm_vit", "model_args/img_size", ["24", "16"]),
    ("checkpoints/timm_vit", "model_args/num_heads", "4"),
    ("checkpoints/timm_vit", "model_args", []),
    ("checkpoints/timm_vit", "pretrained_cfg/input_size", 3),
    ("checkpoints/timm_vit", "pretrained_cfg/mean", [0.5, NAN, 0.5]),
    ("checkpoints/timm_vit", "pretrained_cfg/std", [0.5, 0, 0.5]),
    ("checkpoints/timm_vit", "pretrained_cfg/std", [INF] * 3),
    ("checkpoints/timm_vit", "pretrained_cfg/crop_pct", -1),
    ("checkpoints/timm_vit", "label_names", 7),
    ("swin/timm_swin", "num_classes", 77),
    ("swin/timm_swin", "model_args/window_size", 0),
    ("swin/timm_swin", "model_args/depths", [2, 3]),
    ("swin/hf_swin", "image_size", [32]),
    ("swin/hf_swin", "hidden_dropout_prob", -0.5),
    ("swin/hf_swin", "depths", [1, 1, 1]),
    ("pyramids/hf_v1", "image_size", 0),
    ("pyramids/hf_v1", "layer_norm_eps", -1e-6),
    ("pyramids/hf_v1", "num_attention_heads", [1, 2, 0, 8]),
    ("pyramids/hf_v1", "hidden_sizes", [8, 8, 8, 8]),
    ("pyramids/timm_v2", "num_classes", 77),
    ("pyramids/timm_v2", "model_args/depths", [1, 1, 1, 2]),
    ("pyramids/timm_v2", "model_args/embed_dims", [1, 1, 1, 2]),
    ("pyramids/timm_v2", "pretrained_cfg/input_size", [3, 0, 0]),
    ("cait/timm", "num_classes", 77),
    ("cait/timm", "model_args/depth", 7),
    ("cait/timm", "model_args/img_size", 0),
    ("hybrid/timm_resnet", "num_classes", 77),
    ("hybrid/timm_resnet", "model_args/depth", 7),
    ("hybrid/timm_resnet", "model_args/embed_dim", 7),
]


@pytest.mark.parametrize(
    ("case", "place", "value"), CASES, ids=[f"{c}-{p}-{v}"[:60] for c, p, v in CASES]
)
def test_wrong_values_are_refused(case, place, value, tmp_path):
    folder = shutil.copytree(GOLDEN.parent / case, tmp_path / "source")
    with_json(folder, "config.json", put(place, value))
    with pytest.raises(CheckpointError, match=str(folder)) as caught:
        keras_vit.from_pretrained(folder, **OF_NO_TENSOR.get(case, {}))
    assert len(str(caught.value)) < 2000


def test_the_sources_of_these_cases_are_right(tmp_path):
    """Without this the refusals above would prove nothing."""
    for case in sorted({case for case, _, _ in CASES}):
        keras_vit.from_pretrained(GOLDEN.parent / case, **OF_NO_TENSOR.get(case, {}))


@pytest.mark.parametrize(
    "text",
    [
        '{"model_type": "vit", "model_type": "vit"}',
        "[]",
        "7",
        "null",
        "[" * 10**5,
        '{"a": NaN}',
        "",
    ],
)
def test_what_is_no_configuration_is_refused(text, tmp_path):
    folder = shutil.copytree(GOLDEN / "hf_vit", tmp_path / "source")
    for file in ("config.json", "preprocessor_config.json"):
        before = (folder / file).read_text()
        (folder / file).write_text(text)
        with pytest.raises(CheckpointError, match=str(folder)):
            keras_vit.from_pretrained(folder)
        (folder / file).write_text(before)


MODELS = {"vit": tiny_vit, "swin": tiny_swin, "hybrid": tiny_hybrid, "cait": tiny_cait}


def tiny_pvt(**arguments):
    small = dict(image_size=32, depths=(1,) * 4, widths=(8, 8, 16, 16), num_heads=(1, 1, 2, 2))
    return keras_vit.PyramidVisionTransformer(num_classes=4, **small, **arguments)


MODELS["pvt"] = tiny_pvt


@pytest.fixture(scope="module")
def keras_files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("keras")
    for name, model in MODELS.items():
        model(preprocessor=keras_vit.Preprocessor(32)).save(folder / f"{name}.keras")
    return folder


def keras_with(source, path, change):
    """A copy of a `.keras` file whose configuration is another."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(path, "w") as new:
        for name in old.namelist():
            data = old.read(name)
            if name == "config.json":
                config = json.loads(data)
                change(config)
                data = json.dumps(config)
            new.writestr(name, data)
    return path


HUGE = {"class_name": "Dense", "module": "keras.layers", "config": {"units": 10**9}}


@pytest.mark.parametrize("name", MODELS)
def test_a_keras_file_s_arguments_are_held_against_its_weights(name, keras_files, tmp_path):
    """Every argument that sets a size, at once absurd: nothing of that size is made."""
    source, path, before = keras_files / f"{name}.keras", tmp_path / "model.keras", peak_memory()
    with zipfile.ZipFile(source) as archive:
        arguments = json.loads(archive.read("config.json"))["config"]
    tried = 0
    for key, value in arguments.items():
        numbers = value if isinstance(value, list) else [value]
        if not numbers or not all(type(x) in (int, float) for x in numbers):
            continue
        one_too_many = [*numbers, *numbers, numbers[0]]
        for absurd in (10**9, "2", NAN, [10**9] * len(numbers), one_too_many, HUGE):
            if key == "layer_scale" and absurd == 10**9:
                continue  # a number like others
            keras_with(source, path, put(f"config/{key}", absurd))
            with pytest.raises(CheckpointError, match=str(path)):
                keras_vit.from_pretrained(path)
            tried += 1
    assert tried > 40
    for key in ("image_size", "position_grid", "window_size", "representation_size", "reductions"):
        if key in arguments:
            large = [4000] * 4 if key == "reductions" else 8000
            keras_with(source, path, put(f"config/{key}", large))
            with pytest.raises(CheckpointError, match=str(path)):
                keras_vit.from_pretrained(path)
    assert peak_memory() - before < 500 * 2**20


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize(
    "value",
    [None, *(pytest.param(x, marks=pytest.mark.slow) for x in (NAN, "a", [1.5] * 5, {"a": 1}, 1j))],
    ids=str,
)
def test_arguments_of_another_kind_are_one_error(name, value):
    """Also where a file says null, which the table of what arguments may be leaves to the model."""
    model = MODELS[name]()
    kind, config, refused = type(model), model.get_config(), 0
    for key in config:
        try:
            kind(**{**config, key: value})
        except ValueError:
            refused += 1
    assert refused > 10


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        ("config/unknown", 7, "does not know.*'unknown'"),
        ("config/dtype", "float31", "unknown dtype policy. Received: 'float31'"),
        ("config/dtype", None, "unknown dtype policy"),
        ("config/dtype", HUGE, "unknown dtype policy"),
        ("config/dtype/config", {}, "KeyError"),
        ("config/preprocessor/config/dtype", HUGE, "unknown dtype policy"),
        ("config/preprocessor/config/unknown", 7, "unknown"),
        ("config/preprocessor/config/std", [0, 0, 0], "std"),
        ("config/preprocessor/class_name", "Lambda", "must be a keras_vit.Preprocessor"),
        ("config/class_names", ["a"], "class_names"),
        ("config/class_names", [1, 2, 3, 4], "class_names"),
        ("config/frozen_layers", ["nowhere"], "nowhere"),
        ("config/mlp", "rellu", "must be one of"),
        ("config", [], "must hold a"),
        ("registered_name", {"a": 1}, "must hold a"),
    ],
)
def test_a_keras_file_s_other_arguments(place, value, message, keras_files, tmp_path):
    path = keras_with(keras_files / "vit.keras", tmp_path / "model.keras", put(place, value))
    for overrides in ({}, {"num_classes": 7}):
        if place == "config/class_names" and overrides:
            continue  # they go with the head
        with pytest.raises(CheckpointError, match=f"(?s){path}.*{message}"):
            keras_vit.from_pretrained(path, **overrides)


def test_a_stem_is_refused_before_it_is_made(keras_files, tmp_path, monkeypatch):
    stem = {"module": "keras.src.models.functional", "class_name": "Functional", "config": {}}
    path = tmp_path / "model.keras"
    keras_with(keras_files / "hybrid.keras", path, put("config/stem", stem))
    monkeypatch.setattr(keras.saving, "deserialize_keras_object", None)
    with pytest.raises(CheckpointError, match=f"{path} must hold a hybrid without a CNN"):
        keras_vit.from_pretrained(path)


def without(source, path, ending):
    from safetensors.numpy import load_file, save_file

    tensors = load_file(source)
    save_file({k: v for k, v in tensors.items() if not k.endswith(ending)}, path)
    return path


@pytest.mark.parametrize(
    ("case", "ending"),
    [
        ("checkpoints/timm_vit", "mlp.fc2.weight"),
        ("checkpoints/timm_vit", "mlp.fc1.weight"),
        ("checkpoints/hf_vit", "output.dense.weight"),
        ("swin/timm_swin", "mlp.fc1.weight"),
        ("swin/timm_swin", "relative_position_bias_table"),
        ("pyramids/timm_v2", "mlp.fc1.weight"),
        ("pyramids/timm_v2", "patch_embed.proj.weight"),
        ("cait/timm", "mlp.fc2.weight"),
        ("hybrid/timm_resnet", "mlp.fc2.weight"),
        ("hybrid/timm_resnet", "stem.conv.weight"),
    ],
)
def test_a_file_that_lacks_tensors(case, ending, tmp_path):
    path = without(GOLDEN.parent / case / "model.safetensors", tmp_path / "a.safetensors", ending)
    with pytest.raises(CheckpointError, match=str(path)):
        keras_vit.from_pretrained(path, **({} if "swin" in case else {"num_heads": 4}))


@pytest.mark.parametrize("number", [10**9, 10**30, 3, "01"])
def test_block_numbers_make_no_blocks(number, tmp_path):
    from safetensors.numpy import load_file, save_file

    tensors = load_file(GOLDEN / "timm_vit" / "model.safetensors")
    tensors[f"blocks.{number}.norm1.weight"] = np.zeros(32, "float32")
    path = tmp_path / "a.safetensors"
    save_file(tensors, path)
    with pytest.raises(
        CheckpointError, match=f"(?s){path}.*(numbered from 0 without gaps|to block 1)"
    ):
        keras_vit.from_pretrained(path, num_heads=4)


def test_small_blocks_after_a_large_one(tmp_path):
    """The model has every block as large as the first: two thousand times what the file has."""
    from safetensors.numpy import load_file, save_file

    tensors, path = load_file(GOLDEN / "timm_vit" / "model.safetensors"), tmp_path / "a.safetensors"
    large = np.zeros((10**6, 32), "float32")
    for i in range(100):
        tensors[f"blocks.{i}.mlp.fc1.weight"] = large if i == 0 else large[:1]
    save_file(tensors, path)
    with pytest.raises(CheckpointError, match=f"{path}.*must be of one size"):
        keras_vit.from_pretrained(path, num_heads=4)


@pytest.mark.parametrize(
    "overrides",
    [
        {"image_size": 0},
        {"image_size": 24.0},
        {"image_size": "24"},
        {"num_heads": 0},
        {"num_heads": 5},
        {"width": 17},
        {"depth": -1},
        {"num_classes": "a"},
        {"mlp": "rellu"},
        {"unknown": 1},
    ],
    ids=str,
)
def test_a_mistake_of_the_caller_is_not_the_file_s(overrides):
    with pytest.raises((ValueError, TypeError)) as caught:
        keras_vit.from_pretrained(GOLDEN / "timm_vit", **overrides)
    assert not isinstance(caught.value, CheckpointError)


@pytest.mark.parametrize("model", builders(), ids=lambda model: model.__name__)
def test_every_argument_of_every_family_has_its_kind(model):
    """One that is new to a model must be known to the checks, which else expect a text."""
    parameters = inspect.signature(model).parameters
    numbers = {k: p.default for k, p in parameters.items() if k not in ("preprocessor", "stem")}
    if numbers["image_size"] == "auto":  # of a task: what its encoder says, in a file too
        del numbers["image_size"]
    check_arguments(numbers)
    for name, default in numbers.items():
        if isinstance(default, (bool, int, float, tuple)):
            with pytest.raises(ValueError, match=f"{name} must be"):
                check_arguments({name: "7"})


def test_a_model_is_no_larger_than_its_limit():
    initial = Initial("glorot_uniform")
    with no_initialization(100), pytest.raises(ValueError, match=r"shape=\(10, 6\)"):
        initial((10, 5))
        initial((10, 6))
    with no_initialization():
        assert initial((10, 6)).shape == (10, 6)
    assert float(keras.ops.std(initial((10, 6)))) > 0
