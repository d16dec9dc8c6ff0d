"""What is written is what the other libraries write, and reads back to the same model."""

import json

import keras
import numpy as np
import pytest
from PIL import Image

import keras_vit
from tests.checkpoints.helpers import CASES, GOLDEN, arguments, tensors
from tests.helpers import compile_model, images, once, once_but, randomize, run, tiny_vit, to_numpy

TIMM = [case for case in CASES if case.startswith("timm")]
HF = [
    "hf_vit",
    "hf_vit_wide",
    "hf_vit_model",
    "hf_deit",
    "hf_deit_teacher",
    "hf_deit_model",
    "hf_dinov2",
    "hf_dinov2_swiglu",
    "hf_dinov2_classifier",
    "hf_dinov2_registers",
    "hf_siglip",
    "hf_siglip_remainder",
    "hf_clip",
]


# What is written are NumPy's arrays. Elsewhere: that they come out of the weights as they went in.
@pytest.mark.parametrize("case", once_but(TIMM + HF, "hf_siglip"))
def test_gives_back_the_file_of_the_library_itself(case, tmp_path):
    model = keras_vit.from_pretrained(GOLDEN / case, **arguments(case))
    format = case.split("_")[0]
    folder = keras_vit.save_pretrained(model, tmp_path / "out", format=format)
    ours, theirs = tensors(folder), tensors(GOLDEN / case)
    assert set(ours) == set(theirs)
    for name, value in theirs.items():
        assert ours[name].shape == value.shape, name
        if case == "hf_dinov2_registers" and name in (
            "embeddings.cls_token",
            "embeddings.position_embeddings",
        ):
            continue  # the class token's position is now part of the token
        if "mask_token" not in name:  # which nothing here uses
            np.testing.assert_array_equal(ours[name], value, err_msg=name)
    again = keras_vit.from_pretrained(folder, **arguments(case))
    pixels = np.load(GOLDEN / case / "expected.npz")["images"]
    np.testing.assert_allclose(run(again, pixels), run(model, pixels), atol=1e-6)
    config, original = (
        json.loads((x / "config.json").read_text()) for x in (folder, GOLDEN / case)
    )
    for key in set(config) & set(original) - {"architecture", "model_args", "pretrained_cfg"}:
        assert config[key] == original[key], key
    if model.preprocessor is not None:
        assert again.preprocessor.get_config() | {"name": ""} == (
            model.preprocessor.get_config() | {"name": ""}
        )
    assert again.class_names == model.class_names


def test_fine_tuned_models_of_both_formats_and_keras_read_back(tmp_path):
    preprocessor = keras_vit.Preprocessor((24, 16), "squash", 1.0)
    model = tiny_vit(class_names=list("abcd"), preprocessor=preprocessor)
    randomize(model)
    compile_model(model, "adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(images(), np.array([0, 1, 2]), verbose=0)
    expected = run(model, images())
    for format in ("hf", "timm", "keras"):
        folder = keras_vit.save_pretrained(model, tmp_path / format, format)
        heads = {"num_heads": 2} if format == "timm" else {}
        again = keras_vit.from_pretrained(folder, **heads)
        np.testing.assert_allclose(run(again, images()), expected, atol=1e-6)
        assert again.class_names == list("abcd")
        assert again.preprocessor.image_size == (24, 16)
        assert again.load_report.fresh == {}


@once
@pytest.mark.parametrize(
    ("arguments", "format", "message"),
    [
        (
            {"qk_norm": True},
            "hf",
            "ViTForImageClassification.*qk_norm=False. Received: qk_norm=True",
        ),
        ({"pooling": "gap"}, "hf", "class_token=True. Received: class_token=False"),
        ({"distillation_token": True, "num_classes": None}, "hf", "DeiTModel.*_head=True"),
        (
            {"distillation_token": True, "distillation_head": False},
            "timm",
            "VisionTransformerDistilled.*distillation_head=False",
        ),
        ({"distillation_token": True, "num_registers": 1}, "timm", "Received: num_registers=1"),
        ({"mlp": "swiglu"}, "hf", "Received: mlp='swiglu'"),
        ({"mlp": "relu"}, "hf", "format='keras' keeps all. Received: mlp='relu'"),
        ({"mlp": "relu"}, "timm", "format='keras' keeps all. Received: mlp='relu'"),
        ({"pooling": "token_gap"}, "timm", "Received: pooling='token_gap'"),
        ({"norm_epsilon": 1e-12}, "timm", "Received: norm_epsilon=1e-12"),
        ({"patch_bias": False}, "timm", "Received: patch_bias=False, pre_norm=False"),
        ({"position_embedding": None}, "timm", "position_embedding=None"),
        ({}, "onnx", "format must be one of 'hf', 'timm', 'keras'"),
    ],
)
def test_what_the_other_library_has_not_is_refused_by_name(arguments, format, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        keras_vit.save_pretrained(tiny_vit(**arguments), tmp_path / "out", format)
    assert list(tmp_path.iterdir()) == []


@once
def test_nothing_is_overwritten(tmp_path):
    (tmp_path / "file").write_text("mine")
    for folder, message in [(tmp_path, "must not exist yet"), (tmp_path / "file/x", "cannot be")]:
        with pytest.raises(ValueError, match=message):
            keras_vit.save_pretrained(tiny_vit(), folder)
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parity
@pytest.mark.parametrize("case", TIMM)
def test_timm_opens_it(case, tmp_path):
    timm = pytest.importorskip("timm")
    import torch

    model = keras_vit.from_pretrained(GOLDEN / case, **arguments(case))
    folder = keras_vit.save_pretrained(model, tmp_path / "out", "timm")
    theirs = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    pixels = np.load(GOLDEN / case / "expected.npz")["images"]
    with torch.no_grad():
        expected = theirs(torch.tensor(pixels.transpose(0, 3, 1, 2))).numpy()
    np.testing.assert_allclose(to_numpy(model(pixels)), expected, atol=1e-4)
    if model.class_names:
        assert list(theirs.pretrained_cfg["label_names"]) == model.class_names


@pytest.mark.parity
@pytest.mark.parametrize("case", HF)
def test_transformers_opens_it(case, tmp_path):
    transformers = pytest.importorskip("transformers")
    import torch

    model = keras_vit.from_pretrained(GOLDEN / case)
    folder = keras_vit.save_pretrained(model, tmp_path / "out", "hf")
    if model.get_config()["num_classes"] is None:
        theirs = transformers.AutoModel.from_pretrained(folder).eval()
    else:
        theirs = transformers.AutoModelForImageClassification.from_pretrained(folder).eval()
        assert list(theirs.config.id2label.values()) == model.class_names
    pixels = np.load(GOLDEN / case / "expected.npz")["images"]
    with torch.no_grad():
        output = theirs(torch.tensor(pixels.transpose(0, 3, 1, 2)))
    expected = output.logits if "logits" in output else output.pooler_output
    np.testing.assert_allclose(to_numpy(model(pixels)), expected.numpy(), atol=1e-4)
    photo = np.random.default_rng(0).integers(0, 256, (50, 60, 3)).astype("uint8")
    processor = transformers.AutoImageProcessor.from_pretrained(folder, use_fast=False)
    prepared = processor(photo, return_tensors="np")["pixel_values"][0].transpose(1, 2, 0)
    difference = np.abs(prepared - to_numpy(model.preprocessor(photo)))
    assert (difference * np.array(model.preprocessor.std)).max() < 2.01 / 255


@pytest.mark.parity
@pytest.mark.parametrize("format", ["hf", "timm"])
def test_read_fine_tuned_written_and_read_elsewhere(format, tmp_path):
    """Somebody's checkpoint with a new head, a step of training, back to its own library."""
    library = pytest.importorskip({"hf": "transformers", "timm": "timm"}[format])
    import torch

    names = ["cat", "dog", "owl"]
    model = keras_vit.from_pretrained(GOLDEN / f"{format}_vit", num_classes=3, class_names=names)
    size = model.input.shape[1:3]
    pixels = images(size)
    untrained = to_numpy(model(pixels))
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(pixels, np.array([0, 1, 2]), epochs=3, verbose=0)
    folder = keras_vit.save_pretrained(model, tmp_path / "out", format)
    if format == "hf":
        theirs = library.AutoModelForImageClassification.from_pretrained(folder).eval()
        labels = [theirs.config.id2label[i] for i in range(3)]
        processor = library.AutoImageProcessor.from_pretrained(folder, use_fast=False)
    else:
        theirs = library.create_model(f"local-dir:{folder}", pretrained=True).eval()
        labels = theirs.pretrained_cfg["label_names"]
        settings = library.data.resolve_model_data_config(theirs)
        transform = library.data.create_transform(**settings, is_training=False)
    assert list(labels) == names

    photo = np.random.default_rng(0).integers(0, 256, (50, 60, 3)).astype("uint8")
    ours = to_numpy(model.preprocessor(photo))
    if format == "hf":
        prepared = processor(photo, return_tensors="np")["pixel_values"][0].transpose(1, 2, 0)
    else:
        prepared = transform(Image.fromarray(photo)).numpy().transpose(1, 2, 0)
    assert (np.abs(prepared - ours) * np.array(model.preprocessor.std)).max() < 2.01 / 255

    with torch.no_grad():
        output = theirs(torch.tensor(pixels.transpose(0, 3, 1, 2)))
    expected = (output.logits if format == "hf" else output).numpy()
    assert np.abs(untrained - expected).max() > 1e-3
    np.testing.assert_allclose(to_numpy(model(pixels)), expected, atol=1e-4)
