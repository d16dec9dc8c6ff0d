"""Loading is strict: everything is accounted for, or nothing has changed and the error says why."""

import hashlib
import json
import shutil

import keras
import numpy as np
import pytest

import keras_vit
from keras_vit.checkpoints import sources
from keras_vit.checkpoints.errors import CheckpointError
from keras_vit.checkpoints.patches import resample_patches
from keras_vit.checkpoints.readers.open import open_file
from keras_vit.checkpoints.vit import fields
from keras_vit.checkpoints.writing import write_safetensors
from tests.checkpoints.helpers import GOLDEN
from tests.helpers import images, once, randomize, run, tiny_vit, to_numpy

TIMM = GOLDEN / "timm_vit"


@pytest.fixture
def folder(tmp_path):
    """A copy of a timm folder, to be changed."""
    return shutil.copytree(TIMM, tmp_path / "timm_vit")


def change(folder, function, config=None):
    """Rewrites the tensors, and fields of the configuration, of a folder."""
    reader = open_file(folder / "model.safetensors")
    arrays = {name: reader.read(name).copy() for name in reader.tensors}
    reader.close()
    arrays = function(arrays) or arrays
    write_safetensors(folder / "model.safetensors", arrays, {})
    if config:
        fields = json.loads((folder / "config.json").read_text())
        config(fields)
        (folder / "config.json").write_text(json.dumps(fields))


def values(model):
    return {weight.path: to_numpy(weight) for weight in model.weights}


def assert_same(before, after, but=()):
    for path, value in before.items():
        if path not in but:
            np.testing.assert_array_equal(after[path], value, err_msg=path)


@once
def test_the_configuration_is_read(folder):
    model = keras_vit.from_pretrained(folder)
    assert model.class_names[:2] == ["tench", "goldfish"]
    assert model.preprocessor.crop_fraction == 0.9
    assert model.preprocessor.image_size == (24, 16)
    config = model.get_config()
    assert config["norm_epsilon"] == 1e-6 and config["position_resample"] == "timm"
    clip = keras_vit.from_pretrained(GOLDEN / "timm_clip_quickgelu").get_config()
    assert clip["norm_epsilon"] == 1e-5 and clip["mlp"] == "quick_gelu" and clip["pre_norm"]
    vit = keras_vit.from_pretrained(GOLDEN / "hf_vit").get_config()
    assert vit["norm_epsilon"] == 1e-12 and vit["position_resample"] == "hf"
    report = model.load_report
    assert len(report.used) == len(model.weights) - 1  # pos_embed fills two
    assert "cls_token" in str(report) and "fill 33 weights" in report.summary()


def test_a_new_head_is_said_to_be_new(folder, capsys):
    whole = keras_vit.from_pretrained(folder)
    assert "initialised anew" not in capsys.readouterr().out
    model = keras_vit.from_pretrained(folder, num_classes=3)
    out = capsys.readouterr().out
    assert "initialised anew: head/dense/bias, head/dense/kernel (num_classes=3)" in out
    report = model.load_report
    assert set(report.fresh) == {"head/dense/kernel", "head/dense/bias"}
    assert set(report.dropped) == {"head.weight", "head.bias"}
    assert model.class_names is None
    kernel = values(model)["head/dense/kernel"]
    assert 0.01 < kernel.std() < 0.03  # its own initial values, not zeros
    assert_same(values(model), values(whole), but=report.fresh)
    features = keras_vit.from_pretrained(folder, num_classes=None)
    assert features.load_report.fresh == {}
    assert features(images()).shape == (3, 32)
    again = keras_vit.from_pretrained(GOLDEN / "vt_pre_logits_published/model.npz", num_classes=2)
    assert {"pre_logits/kernel", "head/kernel"} <= set(again.load_report.dropped)  # as the paper


# Of each way to resample one, beforehand and at call time.
@pytest.mark.parametrize("case", ["timm_vit", "hf_vit", "vt_token_published/model.npz"])
def test_positions_are_resampled_in_the_source_s_way(case):
    model = keras_vit.from_pretrained(GOLDEN / case)
    larger = keras_vit.from_pretrained(GOLDEN / case, image_size=(48, 32))
    assert larger.load_report.resampled == ["position_embedding/grid"]
    resized = keras_vit.resize(model, (48, 32))
    ours, theirs = values(larger), values(resized)
    for path, value in theirs.items():
        np.testing.assert_allclose(ours[path], value, atol=1e-6, err_msg=path)
    if larger.preprocessor is not None:
        assert larger.preprocessor.image_size == (48, 32)
    anysize = keras_vit.from_pretrained(GOLDEN / case, image_size=None)
    pixels = images((48, 32))
    np.testing.assert_allclose(run(anysize, pixels), run(larger, pixels), atol=1e-4)


@once
def test_patches_are_resampled_so_that_resized_patches_give_the_same_tokens(rng):
    """FlexiViT's defining property: exact where patches grow."""
    kernel = rng.normal(size=(4, 6, 3, 5))
    patch = rng.normal(size=(4, 6, 3))
    larger = resample_patches(kernel, (8, 9))
    rows, columns = bilinear(4, 8), bilinear(6, 9)
    resized = np.einsum("ij,kl,jlc->ikc", rows, columns, patch)
    expected = np.einsum("pqc,pqcd->d", patch, kernel)
    np.testing.assert_allclose(np.einsum("pqc,pqcd->d", resized, larger), expected, atol=1e-4)
    np.testing.assert_allclose(resample_patches(kernel, (4, 6)), kernel, atol=1e-5)


def bilinear(old, new):
    """Resizing by hand: where a new pixel's middle lies between the middles of two old ones."""
    matrix = np.zeros((new, old))
    for i in range(new):
        x = min(max((i + 0.5) * old / new - 0.5, 0), old - 1)
        left = min(int(x), old - 2)
        matrix[i, left], matrix[i, left + 1] = 1 - (x - left), x - left
    return matrix


@once
def test_another_patch_size(folder):
    model = keras_vit.from_pretrained(folder, patch_size=16, image_size=(48, 32))
    assert "patch_embedding/projection/kernel" in model.load_report.resampled
    small = keras_vit.from_pretrained(folder)
    constant = np.full((1, 48, 32, 3), 0.3, "float32")
    ours, theirs = (
        to_numpy(
            x.features(constant[:, : 24 * k, : 16 * k], ["patch_embedding"])["patch_embedding"]
        )
        for x, k in ((model, 2), (small, 1))
    )
    np.testing.assert_allclose(ours, theirs, atol=1e-4)


@once
@pytest.mark.parametrize(
    ("function", "message"),
    [
        (
            lambda x: x.pop("blocks.1.mlp.fc1.weight"),
            "without a tensor(.|\n)*block01/mlp/fc1/kernel",
        ),
        (lambda x: x.update(extra=x["norm.bias"]), "1 tensors without a weight(.|\n)*extra"),
        (
            lambda x: x.update({"blocks.1.mlp.fc1.weigth": x.pop("blocks.1.mlp.fc1.weight")}),
            "weigth",
        ),
        (lambda x: x.update({"norm.bias": x["norm.bias"][:-1]}), "norm.bias.*Expected.*32"),
        (
            lambda x: x.update({"norm.bias": x["norm.bias"] * np.nan}),
            "'norm.bias' holds NaN.*32 of 32",
        ),
        (lambda x: x.update({"norm.bias": np.arange(32)}), "floating-point.*int64"),
        (lambda x: x.update({"head.bias": np.float32(np.inf) + x["head.bias"]}), "NaN or infinite"),
        (lambda x: {"a": np.zeros(3, "float32")}, "no Vision Transformer that keras_vit knows"),
    ],
    ids=range(8),
)
def test_what_does_not_fit_changes_nothing(folder, function, message):
    def keep(arrays):
        found = function(arrays)
        return found if isinstance(found, dict) else None

    model = keras_vit.from_pretrained(folder)
    randomize(model, seed=5)
    before = values(model)
    change(folder, keep)
    with pytest.raises(CheckpointError, match=message):
        keras_vit.load_weights(model, folder)
    assert_same(before, values(model))
    with pytest.raises(CheckpointError):
        keras_vit.from_pretrained(folder)


@once
def test_a_standing_model_is_filled(folder):
    source = keras_vit.from_pretrained(folder)
    model = keras_vit.from_pretrained(folder, num_classes=9)
    randomize(model, seed=1)
    before = values(model)
    with pytest.raises(
        CheckpointError, match="head.(weight|bias) does not fit head/dense/(kernel|bias)"
    ):
        keras_vit.load_weights(model, folder)
    assert_same(before, values(model))
    report = keras_vit.load_weights(model, folder, skip=["head"])
    assert set(report.fresh) == {"head/dense/kernel", "head/dense/bias"}
    after = values(model)
    assert_same(values(source), after, but=report.fresh)
    np.testing.assert_array_equal(after["head/dense/kernel"], before["head/dense/kernel"])
    with pytest.raises(
        ValueError, match="skip must be a list of names of layers. Received: 'head'"
    ):
        keras_vit.load_weights(model, folder, skip="head")
    with pytest.raises(ValueError, match="names of layers. Received.*nowhere"):
        keras_vit.load_weights(model, folder, skip=["nowhere"])


@once
def test_other_arithmetic_is_refused():
    small = dict(
        image_size=24, patch_size=8, width=32, depth=2, num_heads=4, mlp_dim=64, num_classes=5
    )
    for arguments, message in [
        ({}, "norm_epsilon.*1e-12"),
        ({"norm_epsilon": 1e-12, "mlp": "gelu_tanh"}, "'mlp': 'gelu'"),
        ({"norm_epsilon": 1e-12, "num_heads": 8}, "'num_heads': 4"),
    ]:
        model = keras_vit.VisionTransformer(**{**small, **arguments})
        with pytest.raises(CheckpointError, match=message):
            keras_vit.load_weights(model, GOLDEN / "hf_vit")
    keras_vit.load_weights(
        keras_vit.VisionTransformer(**small, norm_epsilon=1e-12), GOLDEN / "hf_vit"
    )


@once
@pytest.mark.parametrize(
    ("case", "field", "value", "message"),
    [
        ("hf_vit", "hidden_act", "relu", "hidden_act cannot be honoured.*'relu'"),
        ("hf_vit", "model_type", "swin", "model_type is not supported.*'swin'"),
        ("hf_vit", "hidden_size", 10**9, "contradict.*width=32.*width=1000000000"),
        ("hf_vit", "image_size", 32, "10 position embeddings"),
        ("hf_vit", "id2label", {"0": "cat"}, "name every class once. Received: 1 names"),
        ("hf_vit", "hidden_size", [1], "contradict"),
        ("hf_vit", "num_attention_heads", 5, "multiple of num_heads"),
        ("timm_vit", "architecture", "vit_base_patch16_rpn_224", "plain Vision Transformer"),
        ("timm_vit", "architecture", "resnet50", "plain Vision Transformer.*'resnet50'"),
        ("timm_vit", "model_args", {"block_fn": "x"}, "cannot be honoured. Received: block_fn='x'"),
        ("timm_vit", "global_pool", "avgmax", "global_pool|contradict|honoured"),
        ("timm_vit", "architecture", 7, "not as its library writes it"),
    ],
)
def test_a_configuration_that_cannot_be_honoured_is_refused(case, field, value, message, tmp_path):
    folder = shutil.copytree(GOLDEN / case, tmp_path / case)
    fields = json.loads((folder / "config.json").read_text())
    if field == "global_pool":
        fields["model_args"].pop(field)
    fields[field] = value
    (folder / "config.json").write_text(json.dumps(fields))
    with pytest.raises(ValueError, match=message):
        keras_vit.from_pretrained(folder)


def test_keras_s_own_files(tmp_path):
    arguments = dict(qk_norm=True, layer_scale=0.1, num_registers=2, pooling="map", mlp="swiglu")
    preprocessor = keras_vit.Preprocessor((24, 16), crop_fraction=0.9)
    model = tiny_vit(**arguments, dropout_rate=0.1, preprocessor=preprocessor)
    randomize(model)
    model.save(tmp_path / "model.keras")
    model.save_weights(tmp_path / "model.weights.h5")
    expected = run(model, images())
    loaded = keras_vit.from_pretrained(tmp_path / "model.keras")
    np.testing.assert_allclose(run(loaded, images()), expected, atol=1e-6)
    other = keras_vit.from_pretrained(tmp_path / "model.keras", num_classes=7, image_size=(48, 32))
    assert set(other.load_report.fresh) == {"head/dense/kernel", "head/dense/bias"}
    config = {**preprocessor.get_config(), "image_size": (48, 32)}
    assert other.preprocessor.get_config() == config
    standing = tiny_vit(**arguments)
    keras_vit.load_weights(standing, tmp_path / "model.weights.h5")
    np.testing.assert_allclose(run(standing, images()), expected, atol=1e-6)
    with pytest.raises(CheckpointError, match="holds weights alone: build the model"):
        keras_vit.from_pretrained(tmp_path / "model.weights.h5")
    keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)]).save(tmp_path / "other.keras")
    with pytest.raises(CheckpointError):
        keras_vit.from_pretrained(tmp_path / "other.keras")


@pytest.mark.parametrize("dtype", ["bfloat16", "mixed_bfloat16", "mixed_float16"])
def test_any_precision_is_filled(folder, dtype):
    model = keras_vit.from_pretrained(folder, dtype=dtype)
    whole = keras_vit.from_pretrained(folder)
    expected = run(whole, images())
    difference = np.asarray(run(model, images()), "float32") - expected
    assert np.abs(difference).max() < 0.1 * np.abs(expected).max()


@once
def test_what_the_source_does_not_say_is_asked_for(tmp_path):
    with pytest.raises(CheckpointError, match="pass num_heads=. Received: a width of 32"):
        keras_vit.from_pretrained(GOLDEN / "torch_zip/model.pth", image_size=(24, 16))
    with pytest.raises(
        CheckpointError, match="do not form a square.*image_size=\\(height, width\\)"
    ):
        keras_vit.from_pretrained(GOLDEN / "torch_zip/model.pth", num_heads=4)
    with pytest.raises(ValueError, match="num_classes\\? Received: num_clases"):
        keras_vit.from_pretrained(TIMM, num_clases=3)
    (tmp_path / "empty").mkdir()
    with pytest.raises(CheckpointError, match="A folder must hold one of model.safetensors"):
        keras_vit.from_pretrained(tmp_path / "empty")
    with pytest.raises(CheckpointError, match="such as vit_base_patch16_224"):
        keras_vit.from_pretrained("vit_base_patch16_224.augreg_in22k")


@once
def test_from_the_hub_s_cache_and_by_name_of_the_catalogue(tmp_path, monkeypatch):
    """huggingface_hub's own cache layout, offline: the real download code finds the files."""
    import huggingface_hub.constants as constants

    name = "vit_tiny_patch16_224.augreg_in21k_ft_in1k"
    commit = "0" * 40
    cached = tmp_path / f"models--timm--{name}"
    (cached / "refs").mkdir(parents=True)
    (cached / "refs" / "main").write_text(commit)
    shutil.copytree(TIMM, cached / "snapshots" / commit)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    pixels = images()
    expected = to_numpy(keras_vit.from_pretrained(TIMM)(pixels))
    for source in (name, f"timm/{name}", f"hf://timm/{name}"):
        model = keras_vit.from_pretrained(source)
        np.testing.assert_allclose(to_numpy(model(pixels)), expected, atol=1e-6)
    with pytest.raises(CheckpointError, match="could not be fetched from the hub"):
        keras_vit.from_pretrained("timm/no_such_model")


@once
def test_a_published_file_is_held_against_its_hash(tmp_path, monkeypatch):
    path = shutil.copy(GOLDEN / "torch_deit/checkpoint.pth", tmp_path)
    published = tmp_path / "deit_tiny_patch16_224-a1311bcf.pth"
    shutil.copy(path, published)
    arguments = {"num_heads": 4, "image_size": (24, 16)}
    with pytest.raises(CheckpointError, match="starts with a1311bcf. Received: [0-9a-f]{64}"):
        keras_vit.from_pretrained(published, **arguments)
    start = hashlib.sha256(published.read_bytes()).hexdigest()[:8]
    monkeypatch.setattr(sources, "original_hashes", lambda: {published.name: start})
    keras_vit.from_pretrained(published, **arguments)
    keras_vit.from_pretrained(path, **arguments)  # any other name says nothing


@once
def test_old_configurations_leave_nothing_unread():
    """transformers 4 wrote what concerns the generation of text into every configuration."""
    tower = {
        "_name_or_path": "",
        "bad_words_ids": None,
        "hidden_act": "quick_gelu",
        "hidden_size": 768,
        "image_size": 224,
        "length_penalty": 1.0,
        "patch_size": 16,
        "pruned_heads": {},
        "temperature": 1.0,
        "torch_dtype": None,
    }
    clip = {"model_type": "clip", "architectures": ["CLIPModel"], "vision_config": tower}
    found = fields.describe({**clip, "text_config": {}, "projection_dim": 512})
    assert found.unread == []
    assert found.arguments["mlp"] == "quick_gelu" and found.arguments["pooling"] == "token"
    assert fields.describe({**clip, "vision_config": {**tower, "new": 1}}).unread == ["new"]
    pruned = {**tower, "pruned_heads": {"0": [1]}}
    with pytest.raises(CheckpointError, match="pruned_heads cannot be honoured"):
        fields.describe({**clip, "vision_config": pruned})
