"""The Swin Transformer: every argument acts, windows are those of its papers, errors explain."""

import numpy as np
import pytest
from keras import ops

import keras_vit
from keras_vit.layers.position_bias import CONVENTIONS
from keras_vit.models.swin import stage_windows
from tests.helpers import images, once, randomize, tiny_swin, to_numpy

PIXELS = images((32, 32))
ONE_STAGE = {"depths": (2,), "num_heads": (2,)}  # graphs of more take long to make


@once  # an argument is read when the graph is made
@pytest.mark.parametrize(
    "arguments",
    [
        {"version": 2},
        {"window_size": 2},
        {"convention": "timm", "image_size": (32, 44)},
        {"norm_epsilon": 0.1},
        {"mlp": "quick_gelu"},
    ],
    ids=str,
)
def test_each_argument_acts(arguments):
    size = {"image_size": arguments.get("image_size", 32)}
    changed, plain = tiny_swin(**ONE_STAGE, **arguments), tiny_swin(**ONE_STAGE, **size)
    for model in (changed, plain):
        randomize(model)
    values = {weight.path: weight for weight in plain.weights}
    for weight in changed.weights:
        if weight.path in values and weight.shape == values[weight.path].shape:
            weight.assign(ops.copy(values[weight.path]))
    pixels = images(plain.input.shape[1:3])
    assert np.abs(to_numpy(changed(pixels)) - to_numpy(plain(pixels))).max() > 1e-3


def test_the_pyramid_and_named_features():
    model = tiny_swin(version=2, image_size=(44, 36))  # maps 11 x 9, then 6 x 5
    pixels = images((44, 36))
    pyramid = model.pyramid(pixels)
    assert {name: x.shape for name, x in pyramid.items()} == {
        "stage0": (3, 11, 9, 8),
        "stage1": (3, 6, 5, 16),
    }
    grids = model.feature_model(["patch_norm", "stage0_block01", "norm"], grid=True).output
    assert [x.shape[1:] for x in grids.values()] == [(11, 9, 8), (11, 9, 8), (6, 5, 16)]
    (found,) = model.features(pixels, ["stage0_block01"], grid=True).values()
    np.testing.assert_array_equal(to_numpy(found), to_numpy(pyramid["stage0"]))
    assert list(model.feature_model().output) == [
        f"stage{s}_block{i:02d}" for s in range(2) for i in range(2)
    ]
    symbolic = tiny_swin(image_size=None).pyramid_model()
    assert symbolic.output["stage1"].shape == (None, None, None, 16)
    with pytest.raises(ValueError, match="stages of falling resolution.*Received: vit"):
        keras_vit.ViTTiny(depth=1, image_size=32, dtype="bfloat16").pyramid(PIXELS)


def test_attention_maps_are_of_windows():
    model = tiny_swin()
    randomize(model)
    maps = keras_vit.attention_maps(model, PIXELS)
    assert maps["stage0_block01"].shape == (3, 4, 2, 16, 16)
    assert maps["stage1_block01"].shape == (3, 1, 4, 16, 16)
    for scores in maps.values():
        np.testing.assert_allclose(scores.sum(-1), 1, atol=1e-5)
    assert (maps["stage0_block01"] < 1e-30).any()  # kept apart
    assert (maps["stage1_block01"] > 1e-30).all()  # one window covers the map: nothing shifts


@once
def test_windows_shrink_to_small_maps():
    base = {"depths": (2, 2, 2), "patch_size": 4, "window_size": 4}
    for size, authors, timm in [
        ((64, 64), [(4, 4)] * 3, [(4, 4)] * 3),
        ((32, 32), [(4, 4), (4, 4), (2, 2)], [(4, 4), (4, 4), (2, 2)]),
        ((24, 40), [(4, 4), (3, 3), (2, 2)], [(4, 4), (3, 4), (2, 3)]),
        (None, [(4, 4)] * 3, [(4, 4)] * 3),
    ]:
        torchvision = [(4, 4)] * 3  # never
        for convention, expected in zip(CONVENTIONS, (authors, timm, torchvision), strict=True):
            found = stage_windows({**base, "image_size": size, "convention": convention})
            assert found == expected


def test_any_size_model_equals_the_fixed_one():
    """Where no map is smaller than its window; the last of 32 x 32 is just as large."""
    arguments = {"depths": (1, 2), "num_heads": (2, 2)}
    model = tiny_swin(image_size=None, **arguments)
    randomize(model)
    for size in [(32, 32), (44, 36)]:
        fixed = tiny_swin(image_size=size, **arguments)
        for ours, theirs in zip(model.weights, fixed.weights, strict=True):
            theirs.assign(ops.copy(ours))
        expected = to_numpy(fixed(images(size)))
        np.testing.assert_allclose(model.predict(images(size), verbose=0), expected, atol=1e-5)


@once
def test_drop_path_grows_from_the_first_block_to_the_last():
    model = tiny_swin(drop_path_rate=0.3)
    names = [f"stage{s}_block{i:02d}" for s in range(2) for i in range(2)]
    rates = [model.get_layer(name).drop_path1.rate for name in names]
    np.testing.assert_allclose(rates, [0, 0.1, 0.2, 0.3])


@once
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"image_size": 34}, "multiple of patch_size. Received: image_size=34, patch_size=\\(4, 4"),
        ({"depths": (2, 0)}, "depths must be an integer >= 1. Received: depths=0"),
        ({"depths": 2}, "depths must be a tuple with one number per stage. Received: depths=2"),
        ({"num_heads": (2,)}, "one number for each stage.*depths=\\(2, 2\\), num_heads=\\(2,\\)"),
        ({"num_heads": (3, 4)}, "multiple of num_heads. Received: width=8, num_heads=3"),
        (
            {"window_size": (4, 4, 4)},
            "window_size must be an integer, or a tuple with one for each stage.*2 sta",
        ),
        ({"window_size": 0}, "window_size must be an integer >= 1"),
        ({"version": 3}, "version must be one of 1, 2. Received: version=3"),
        ({"convention": "hf"}, "convention must be one of 'authors', 'timm'"),
        ({"pretrained_window_size": 4}, "applies to version 2 only.*version=1"),
        ({"drop_path_rate": 1.0}, "drop_path_rate must be a number in"),
        ({"class_names": ["cat"]}, "one name for each class. Received: 1 names, num_classes=4"),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "",
)
def test_bad_arguments_are_explained(arguments, message):
    with pytest.raises(ValueError, match=message):
        tiny_swin(**arguments)


def test_bad_images_are_explained():
    model = tiny_swin()
    for shape, message in [
        ((1, 33, 32, 3), "multiples of patch_size.*Received: image size=\\(33, 32\\)"),
        ((1, 36, 32, 3), "keras_vit.resize.*Received: shape=\\(1, 36, 32, 3\\)"),
    ]:
        for call in (model, model.predict, model.features, model.pyramid):
            with pytest.raises(ValueError, match=message):
                call(np.zeros(shape, "float32"))
