"""Image processors of transformers and timm's settings are honoured to the pixel, or refused."""

import json
import shutil
import warnings

import keras
import numpy as np
import pytest
from PIL import Image

import keras_vit
from keras_vit.checkpoints.configs import Description
from keras_vit.checkpoints.errors import CheckpointError
from keras_vit.checkpoints.pictures.read import CLASSES, add_timm, add_transformers
from keras_vit.checkpoints.pictures.write import (
    preprocessor_to_timm,
    processor_for_transformers,
)
from keras_vit.preprocessing import load_image
from tests.checkpoints.helpers import GOLDEN
from tests.helpers import PHOTOS, once, once_but, tiny_vit, to_numpy

FOLDER = GOLDEN.parent / "processors"
MADE = json.loads((FOLDER / "cases.json").read_text())
CASES = MADE["cases"]
EXPECTED = np.load(FOLDER / "expected.npz")
TIMM = {
    "input_size": [3, 24, 16],
    "mean": [0.4, 0.5, 0.6],
    "std": [0.2, 0.3, 0.4],
    "crop_pct": 0.9,
}


def described(config, model_type="vit"):
    found = Description()
    add_transformers(found, config, model_type)
    return found


def preprocessor(config, model_type="vit"):
    found = described(config, model_type)
    if found.refused is not None:
        raise found.refused
    return found.preprocessor


def timm_preprocessor(**fields):
    found = Description()
    add_timm(found, fields)
    if found.refused is not None:
        raise found.refused
    return found.preprocessor


def pixels_beside(ours, theirs, layer):
    """The largest difference, in levels 0..255."""
    return (np.abs(to_numpy(ours) - theirs) * np.array(layer.std) * 255).max()


# PIL prepares NumPy's pictures, a backend only tensors. Elsewhere: every kind of filter,
# resize and crop, and pictures without the 1/255.
EVERYWHERE = ("vit_raw", "deit_old", "siglip", "clip_wide", "convnext")


@pytest.mark.parametrize("name", once_but(list(CASES), *EVERYWHERE))
def test_equals_the_processor_of_transformers(name):
    case = CASES[name]
    layer = preprocessor(case["config"], case["model_type"])
    whole = name.startswith("default")
    for i in range(2 if whole else 4):
        pixels, theirs = EXPECTED[f"picture{i + 2 * whole}"], EXPECTED[f"{name}/{i}"]
        theirs = theirs.astype("float32")
        step = MADE["step"] if whole else 1
        ours = to_numpy(layer(pixels))[::step, ::step]
        assert ours.shape == theirs.shape
        # what is stored has 16 bits
        assert pixels_beside(ours, theirs, layer) < 0.3 * max(1, np.abs(theirs).max() / 255)
        if not whole:  # and tensors give what NumPy's pictures give
            ours = layer(keras.ops.convert_to_tensor(pixels))
            assert pixels_beside(ours, theirs, layer) < 2.4


@once
def test_the_reference_crops_odd_remainders_and_every_class_is_in_it():
    """What the cases are chosen for: without such pictures both rules would pass."""
    layer = preprocessor(CASES["clip"]["config"], "clip")
    other = layer.from_config({**layer.get_config(), "convention": "timm"})
    starts = [
        [x._resized(*EXPECTED[f"picture{i}"].shape[:2]) for i in range(4)] for x in (layer, other)
    ]
    assert any(ours != theirs for ours, theirs in zip(*starts, strict=True))
    assert {case["class"] for case in CASES.values()} == {f"{name}Pil" for name in CLASSES}


def test_rescaling_is_folded_into_the_normalisation_and_written_back():
    unit = {"do_rescale": False, "image_mean": [127.5] * 3, "image_std": [127.5] * 3}
    pixels = np.stack([np.arange(256)] * 3, -1).astype("uint8").reshape(16, 16, 3)
    layer = preprocessor({"image_processor_type": "ViTImageProcessor", "size": 16, **unit})
    expected = pixels / 127.5 - 1
    np.testing.assert_allclose(to_numpy(layer(pixels)), expected, atol=1e-6)
    again = preprocessor(processor_for_transformers(layer))
    np.testing.assert_allclose(to_numpy(again(pixels)), expected, atol=1e-6)


@once
@pytest.mark.parametrize(
    ("config", "message"),
    [
        ([1], "must hold an object. Received: list"),
        ({"image_processor_type": "Siglip2ImageProcessor"}, "Received: 'Siglip2ImageProcessor'"),
        ({"image_processor_type": "OurImageProcessor"}, "image_processor_type, one of ViTImage"),
        ({"image_processor_type": 3}, "Received: 3 of a model of type 'vit'"),
        ({"do_resize": False}, "do_resize=False"),
        ({"do_resize": None}, "do_resize=False"),
        ({"do_rescale": "false"}, "true or false. Received: do_rescale='false'"),
        ({"do_normalize": 1}, "true or false. Received: do_normalize=1"),
        ({"resample": 0}, "resample=0"),
        ({"resample": 5}, "resample=5"),
        ({"resample": None}, "resample=None"),
        ({"resample": True}, "resample=True"),
        ({"resample": "bicubic"}, "resample='bicubic'"),
        ({"size": {"shortest_edge": 24}}, "with do_center_crop, or height and width"),
        ({"size": {"shortest_edge": 24, "longest_edge": 30}}, "size={'shortest_edge': 24, 'l"),
        ({"size": {"longest_edge": 24}}, "size={'longest_edge': 24}"),
        ({"size": {"max_height": 24, "max_width": 24}}, "size={'max_height'"),
        ({"size": {"min_pixels": 24, "max_pixels": 24}}, "size={'min_pixels'"),
        ({"size": {"height": 24}}, "size={'height': 24}"),
        ({"size": None}, "size=None"),
        ({"size": 0}, "whole numbers 1..16384 .* size=0"),
        ({"size": -24}, "size=-24"),
        ({"size": 24.0}, "size=24.0"),
        ({"size": "24"}, "size='24'"),
        ({"size": True}, "size=True"),
        ({"size": [24]}, "size=\\[24\\]"),
        ({"size": 10**6}, "size=1000000"),
        ({"size": 24, "do_center_crop": True}, "crop_size=None"),
        ({"size": 24, "do_center_crop": True, "crop_size": 25}, "at most the size.*crop_size=25"),
        (
            {"size": {"shortest_edge": 24}, "do_center_crop": True, "crop_size": [16, 25]},
            "at most the size",
        ),
        ({"do_pad": True, "pad_size": {"height": 300, "width": 300}}, "the output's \\(224, 224"),
        ({"use_square_size": True}, "use_square_size=True"),
        ({"rescale_factor": 0}, "rescale_factor=0"),
        ({"rescale_factor": -1}, "rescale_factor=-1"),
        ({"rescale_factor": float("nan")}, "rescale_factor=nan"),
        ({"rescale_factor": 10**400}, "rescale_factor=1000000"),
        ({"rescale_factor": None}, "rescale_factor=None"),
        ({"image_mean": None}, "image_mean=None"),
        ({"image_mean": ["0.5"] * 3}, "image_mean=\\['0.5'"),
        ({"image_mean": []}, "mean must hold one number per channel"),
        ({"image_mean": [float("nan")] * 3}, "image_mean=\\[nan"),
        ({"image_std": [0.5, 0.5]}, "one number per channel"),
        ({"image_std": [0, 1, 1]}, "std must be above 0"),
        ({"image_std": -1}, "std must be above 0"),
        ({"image_std": float("inf")}, "image_std=inf"),
        ({"image_std": {"r": 1}}, "image_std={'r': 1}"),
        ({"image_processor_type": "SiglipImageProcessor", "size": 24}, "with do_center_crop"),
        ({"image_processor_type": "ConvNextImageProcessor", "size": [24, 24]}, "shortest_edge"),
        ({"image_processor_type": "ConvNextImageProcessor", "crop_pct": 2, "size": 24}, "crop_pct"),
        (
            {"image_processor_type": "ConvNextImageProcessor", "do_center_crop": True},
            "crop_size=None",
        ),
    ],
)
def test_what_cannot_be_honoured_is_named(config, message):
    with pytest.raises(CheckpointError, match=f"preprocessor_config.json(?s:.*){message}"):
        preprocessor(config)


@once
def test_fields_that_the_class_does_not_read_are_reported():
    config = {"size": 24, "do_thumbnail": True, "size_divisor": 32, "do_convert_rgb": None}
    found = described({**config, "data_format": "channels_first", "do_pad": True})
    assert found.refused is None and found.preprocessor.image_size == (24, 24)
    assert found.unread == [
        "do_thumbnail (preprocessor_config.json)",
        "size_divisor (preprocessor_config.json)",
    ]


@once
def test_a_class_is_needed_where_the_model_has_none_of_its_own():
    with pytest.raises(CheckpointError, match="Received: None of a model of type 'dinov2_with"):
        preprocessor({"size": 24}, "dinov2_with_registers")


@once
@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"crop_mode": "border"}, "one of center, squash. Received: crop_mode='border'"),
        ({"interpolation": "random"}, "one of bilinear.*interpolation='random'"),
        ({"interpolation": ["bicubic"]}, "interpolation=\\['bicubic'\\]"),
        ({"input_size": [24, 16]}, "channels, height and width. Received: input_size=\\[24, 16\\]"),
        ({"input_size": [3, 24, 1.5]}, "whole numbers"),
        ({"crop_pct": 1.1}, "in \\(0, 1\\]. Received: crop_fraction=1.1"),
        ({"mean": [0.5, float("nan"), 0.5]}, "mean must hold one number"),
        ({"std": [0.5, 0.5]}, "one number per channel"),
    ],
)
def test_what_cannot_be_honoured_of_timm_is_named(fields, message):
    with pytest.raises(CheckpointError, match=f"pretrained_cfg in config.json(?s:.*){message}"):
        timm_preprocessor(**{**TIMM, **fields})


@once
def test_timm_is_read_as_timm_reads_itself():
    tests = {"test_input_size": [3, 48, 48], "test_crop_pct": 1.0, "fixed_input_size": True}
    layer = timm_preprocessor(**TIMM, **tests)
    assert (layer.image_size, layer.crop_fraction) == ((24, 16), 0.9)
    assert (layer.interpolation, layer.resize, layer.convention) == (
        "bicubic",
        "short_side",
        "timm",
    )
    bare = timm_preprocessor(crop_mode="squash", interpolation="", crop_pct=0)
    assert (bare.image_size, bare.crop_fraction, bare.resize) == ((224, 224), 0.875, "squash")
    assert bare.mean == keras_vit.preprocessing.IMAGENET_MEAN
    assert bare.std == keras_vit.preprocessing.IMAGENET_STD
    assert timm_preprocessor(input_size=[3, 24, 16]) is None


@once
@pytest.mark.parametrize(
    "case", ["checkpoints/hf_vit", "checkpoints/timm_vit", "swin/hf_swin", "pyramids/hf_v2"]
)
def test_the_caller_may_say_what_the_file_does_not(case, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(GOLDEN.parent / case, folder)
    if "timm" in case:
        config = json.loads((folder / "config.json").read_text())
        config["pretrained_cfg"]["crop_mode"] = "border"
        (folder / "config.json").write_text(json.dumps(config))
    else:
        (folder / "preprocessor_config.json").write_text('{"image_processor_type": "OurProcessor"}')
    with pytest.raises(CheckpointError, match="pass preprocessor=keras_vit.Preprocessor"):
        keras_vit.from_pretrained(folder)
    model = keras_vit.from_pretrained(folder, preprocessor=None)
    assert model.preprocessor is None
    assert keras_vit.load_weights(model, folder).used  # it has no say in how pictures are prepared


@once
def test_what_transformers_5_keeps_beside_a_tokenizer_is_read(tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(GOLDEN / "hf_clip_both", folder)
    inner = json.loads((folder / "preprocessor_config.json").read_text())
    inner["image_mean"] = [0.1, 0.2, 0.3]
    (folder / "processor_config.json").write_text(json.dumps({"image_processor": inner}))
    assert keras_vit.from_pretrained(folder).preprocessor.mean == (0.1, 0.2, 0.3)


def layers():
    yield timm_preprocessor(**TIMM), "timm", None
    yield timm_preprocessor(**TIMM, crop_mode="squash"), "timm", None
    for name in ("clip", "clip_wide", "deit_old", "vit_unit", "convnext", "siglip", "vit_scale"):
        yield preprocessor(CASES[name]["config"], CASES[name]["model_type"]), "transformers", name


@once
def test_what_is_written_reads_back_to_the_same():
    for layer, convention, name in layers():
        config = {**layer.get_config(), "name": ""}
        if convention == "timm":
            again = timm_preprocessor(**preprocessor_to_timm(layer))
        else:
            again = preprocessor(processor_for_transformers(layer))
        found = {**again.get_config(), "name": ""}
        for key in ("mean", "std"):
            np.testing.assert_allclose(found.pop(key), config.pop(key), rtol=1e-12)
        assert found == config, name


@once
@pytest.mark.parametrize("format", ["hf", "timm"])
def test_saving_for_the_other_library_warns_where_crops_differ(format, tmp_path):
    own, other = ("transformers", "timm") if format == "hf" else ("timm", "transformers")
    cases = [  # convention, resize, share, whether it warns
        (own, "short_side", 0.9, False),
        (other, "short_side", 0.9, True),
        (other, "squash", 1.0, False),
        (other, "squash", 24 / 28, False),  # four pixels are left over
        (other, "squash", 24 / 25, False),  # one is, and half of it is nothing for both
        (other, "squash", 24 / 27, True),  # three are
    ]
    for i, (convention, resize, share, warned) in enumerate(cases):
        layer = keras_vit.Preprocessor(24, resize, share, convention=convention)
        model = tiny_vit(image_size=24, preprocessor=layer)
        with warnings.catch_warnings(record=True) as found:
            warnings.simplefilter("always")
            keras_vit.save_pretrained(model, tmp_path / str(i), format)
        said = [w for w in found if f"convention={own!r}" in str(w.message)]
        assert len(said) == warned
        assert all(w.filename == __file__ for w in said)


@once
def test_what_the_other_library_cannot_express_is_refused():
    pair = keras_vit.Preprocessor((24, 16), crop_fraction=(0.9, 0.5))
    with pytest.raises(CheckpointError, match="one number for both sides.*\\(0.9, 0.5\\)"):
        preprocessor_to_timm(pair)
    with pytest.raises(CheckpointError, match="crop squares of the shorter side"):
        processor_for_transformers(pair)
    for write in (preprocessor_to_timm, processor_for_transformers):
        with pytest.raises(CheckpointError, match="Received: resize=None"):
            write(keras_vit.Preprocessor(24, None))


@once
def test_any_other_content_is_a_preprocessor_or_a_checkpoint_error():
    """Fields of all cases with values of all kinds: 4,000 files, the same each time."""
    rng = np.random.default_rng(0)
    values = [None, True, 0, 1, 3, -1, 24, 224, 10**400, 0.5, float("nan"), float("inf"), 5e-324]
    values += ["", "24", "ViTImageProcessor", [], [24], [24, 16], [0.5] * 3, [None] * 3, {}]
    values += [{"shortest_edge": 24}, {"shortest_edge": "x"}, {"height": 24, "width": None}, [[1]]]
    known = [case["config"] for case in CASES.values()]
    fields = sorted({key for config in known for key in config} | set(CASES["vit_null"]["config"]))
    honoured = 0
    for _ in range(4000):
        config = dict(known[rng.integers(len(known))])
        for _ in range(rng.integers(1, 4)):
            config[fields[rng.integers(len(fields))]] = values[rng.integers(len(values))]
        for found in (described(config), described(config, "clip")):
            assert (found.preprocessor is None) == isinstance(found.refused, CheckpointError)
            honoured += found.refused is None
            for name in ("mean", "std") if found.refused is None else ():
                assert np.isfinite(np.float32(getattr(found.preprocessor, name))).all()
    assert 500 < honoured < 7500


@pytest.mark.parity
@pytest.mark.parametrize("name", [name for name in CASES if name.startswith("default")])
def test_equals_transformers_on_photos(name):
    pytest.importorskip("transformers")
    from tests.golden.make_processors import processor

    if not PHOTOS.is_dir():
        pytest.skip(f"no photos in {PHOTOS}")
    case = CASES[name]
    layer = preprocessor(case["config"], case["model_type"])
    theirs = processor(case["model_type"], case["config"])
    assert theirs.backend == "pil"
    for path in sorted(PHOTOS.glob("*.jpg")):
        photo = load_image(path)
        expected = theirs(Image.fromarray(photo), return_tensors="np")["pixel_values"][0]
        assert pixels_beside(layer(photo), expected.transpose(1, 2, 0), layer) < 0.01, path
