"""Figures show what the numbers say, where it belongs, and change nothing around them."""

import io
import subprocess
import sys

import matplotlib
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from PIL import Image

import keras_vit
from keras_vit.interpret.images import as_images, shown_pixels
from keras_vit.interpret.pictures import query_maps
from tests.helpers import (
    backends,
    images,
    once,
    randomize,
    tiny_cait,
    tiny_hybrid,
    tiny_swin,
    tiny_vit,
    to_numpy,
)

PREPROCESSOR = keras_vit.Preprocessor((24, 16), "squash", 1.0, mean=(0.2, 0.4, 0.6))
pytestmark = once  # figures of numbers that other tests compare on every backend
everywhere = backends("tensorflow", "jax", "torch")  # pixels and scores that come from a backend
NAMES = ["ant", "bee, honey bee", "cat", "dog"]


def panels(figure):
    """The axes that show images, and those of the colours."""
    shown = [ax for ax in figure.axes if ax.get_images()]
    return shown, [ax for ax in figure.axes if not ax.get_images()]


@everywhere
def test_attention_of_every_head_lies_on_the_image():
    model = tiny_vit(preprocessor=PREPROCESSOR, class_names=NAMES, num_registers=1)
    randomize(model)
    pixels = images(batch=2)
    figure = keras_vit.plot_attention(model, pixels, layer="block00", width=5)
    shown, (bar,) = panels(figure)
    best = [model.predict(pixels, verbose=0).argmax(1)[i] for i in range(2)]
    words = [NAMES[k].split(",")[0] for k in best]
    titles = [ax.get_title() for ax in shown]
    assert [t.split(",")[0] for t in (titles[0], titles[4])] == words
    assert titles[1:4] == titles[5:] == ["head 0", "head 1", "mean"]
    assert bar.get_ylabel() == "attention" and "block00: what the class token" in _texts(figure)

    scores = keras_vit.attention_maps(model, pixels, ["block00"], grid=True)["block00"]
    overlay = shown[6].get_images()[1]
    np.testing.assert_allclose(overlay.get_array(), scores[1, 1, 0], atol=1e-6)
    extents = {tuple(image.get_extent()) for ax in shown for image in ax.get_images()}
    assert extents == {(0, 16, 24, 0)}  # map and image, edge on edge
    seen = shown[4].get_images()[0].get_array()
    expected = pixels[1] * np.array(PREPROCESSOR.std) + PREPROCESSOR.mean
    np.testing.assert_allclose(seen, np.clip(expected, 0, 1), atol=1e-6)

    file = io.BytesIO()
    figure.savefig(file, dpi=100)
    width, height = Image.open(file).size
    assert width == 500 and abs(height - 100 * figure.get_figheight()) < 1


def _texts(figure):
    return " ".join(text.get_text() for text in figure.texts)


def test_colours_are_those_of_the_bar_and_panels_stay_on_the_page():
    model = tiny_vit(width=16, num_heads=8)
    for batch, heads in ((1, None), (3, [0, 3])):
        figure = keras_vit.plot_attention(model, images(batch=batch), heads=heads, width=3.25)
        shown, (bar,) = panels(figure)
        assert len(shown) == batch * (2 + (8 if heads is None else 2))
        limits = {ax.get_images()[1].get_clim() for ax in shown if len(ax.get_images()) > 1}
        (limit,) = limits
        assert limit[0] == 0 and limit == bar.get_ylim()
        renderer = FigureCanvasAgg(figure).get_renderer()
        for ax in figure.axes:
            box = ax.get_tightbbox(renderer)
            assert box.x0 >= -1 and box.y0 >= -1
            assert box.x1 <= figure.bbox.x1 + 1 and box.y1 <= figure.bbox.y1 + 1


def test_a_patch_that_reads_is_framed():
    model = tiny_vit()
    figure = keras_vit.plot_attention(model, images(batch=1), query=(2, 1), heads=[])
    (first, second), _ = panels(figure)
    (frame,) = first.patches
    assert frame.get_bbox().bounds == (8, 16, 8, 8) and not second.patches
    maps, reader = query_maps(model, images(batch=1), "block01", (2, 1))
    scores = keras_vit.attention_maps(model, images(batch=1), ["block01"], grid=True)["block01"]
    np.testing.assert_array_equal(maps, scores[:, :, -1])
    assert reader == "the patch in row 2, column 1"


def test_who_reads_in_every_family():
    def reader(model, layer, size=(24, 16)):
        maps, name = query_maps(model, images(size, batch=1), layer)
        return maps.shape[2:], name

    assert reader(tiny_vit(), "block00") == ((3, 2), "the class token")
    assert reader(tiny_hybrid(), "block00") == ((3, 2), "the class token")
    assert reader(tiny_cait(), "class_block00") == ((3, 2), "the class token")
    assert reader(tiny_cait(), "block00") == ((3, 2), "the average patch")
    registers = tiny_vit(pooling="gap", num_registers=1)
    assert reader(registers, "block00") == ((3, 2), "the average patch")
    assert reader(tiny_vit(pooling="map"), "pool") == ((3, 2), "the pooling")
    assert reader(tiny_swin(), "stage1_block00", (32, 32)) == ((4, 4), "the average patch")
    pvt = keras_vit.PyramidVisionTransformerV2(
        image_size=None,
        depths=(1, 1),
        widths=(8, 16),
        num_heads=(1, 2),
        mlp_ratios=(2, 2),
        reductions=(2, 1),
        patch_sizes=(3, 3),
        strides=(4, 2),
        num_classes=4,
    )
    assert reader(pvt, "stage0_block00") == ((3, 2), "the average patch")
    figure = keras_vit.plot_attention(pvt, images(batch=1), "stage0_block00", query=(5, 3))
    (frame,) = panels(figure)[0][0].patches
    assert frame.get_bbox().bounds == (12, 20, 4, 4)  # queries on the finer map

    # The mean over the patches, not over the registers.
    maps, _ = query_maps(registers, images(), "block00")
    scores = keras_vit.attention_maps(registers, images(), ["block00"], grid=True)["block00"]
    np.testing.assert_allclose(maps, scores[:, :, 1:].mean(2), atol=1e-6)


def test_maps_side_by_side_have_their_own_scale():
    model = tiny_vit(num_classes=None, image_size=None)
    pixels = images((32, 16), batch=2)
    maps = {"small": np.full((2, 4, 2), 1e-4), "large": np.arange(16.0).reshape(2, 4, 2)}
    shown, (bar,) = panels(keras_vit.plot_maps(model, pixels, maps))
    assert [ax.get_title() for ax in shown[:3]] == ["", "small", "large"]
    assert [ax.get_images()[1].get_array().max() for ax in (shown[1], shown[2], shown[5])] == [
        1
    ] * 3
    assert bar.get_ylim() == (0, 1) and bar.get_ylabel() == "share of the largest"
    said = "each map by its own largest value"
    assert said in _texts(keras_vit.plot_maps(model, pixels, maps))
    one = {"small": maps["small"]}
    assert said in _texts(keras_vit.plot_maps(model, pixels, one))  # of two images
    one = {"small": maps["small"][:1]}
    assert said not in _texts(keras_vit.plot_maps(model, pixels[:1], one))
    for wrong in (np.zeros((3, 4, 2)), np.zeros((4, 2)), -np.ones((2, 4, 2))):
        with pytest.raises(ValueError, match="one map for each image.*'wrong' of shape"):
            keras_vit.plot_maps(model, pixels, {"wrong": wrong})


@everywhere
def test_pictures_are_shown_as_the_model_sees_them(tmp_path):
    photo = np.random.default_rng(0).integers(0, 256, (50, 60, 3)).astype("uint8")
    path = tmp_path / "photo.png"
    Image.fromarray(photo).save(path)
    for arguments in ({}, {"include_preprocessing": True}):
        model = tiny_vit(preprocessor=PREPROCESSOR, **arguments)
        pixels = as_images(model, [path])
        np.testing.assert_array_equal(pixels, to_numpy(model.preprocess_images([photo])))
        seen = shown_pixels(model, pixels)
        expected = Image.fromarray(photo).resize((16, 24), Image.Resampling.BICUBIC)
        np.testing.assert_allclose(seen[0] * 255, np.asarray(expected), atol=1e-3)
    stretched = shown_pixels(tiny_vit(), images() * 3)
    assert stretched.min() == 0 and stretched.max() == 1
    with pytest.raises(ValueError, match="preprocessor=None"):
        keras_vit.plot_attention(tiny_vit(), [path])
    with pytest.raises(ValueError, match="no such picture"):
        keras_vit.plot_attention(model, [tmp_path / "none.png"])
    with pytest.raises(ValueError, match="list of pictures"):
        keras_vit.plot_attention(model, str(path))


@everywhere
def test_position_similarity():
    model = tiny_vit()
    randomize(model)
    cosines = keras_vit.position_similarity(model)
    assert cosines.shape == (3, 2, 3, 2) and cosines.dtype == np.float32
    grid = to_numpy(model.get_layer("position_embedding").grid)
    a, b = grid[2, 0], grid[1, 1]
    expected = a @ b / np.sqrt((a @ a) * (b @ b))
    np.testing.assert_allclose(cosines[2, 0, 1, 1], expected, atol=1e-6)
    np.testing.assert_allclose(np.einsum("ijij->ij", cosines), 1, atol=1e-6)
    figure = keras_vit.plot_position_similarity(model)
    (ax,), (bar,) = panels(figure)
    picture = ax.get_images()[0].get_array()
    assert picture.shape == (3 * 3 + 2, 2 * 2 + 1) and bar.get_ylabel() == "cosine similarity"
    np.testing.assert_array_equal(picture[8:, 3:], cosines[2, 1])
    assert [t.get_text() for t in ax.get_yticklabels()] == ["0", "1", "2"]

    fixed = tiny_vit(position_embedding="sincos", image_size=(160, 128), patch_size=8)
    cosines = keras_vit.position_similarity(fixed)
    np.testing.assert_allclose(cosines[3, 4, 5, 4], cosines[10, 1, 8, 1], atol=1e-5)
    (ax,), _ = panels(keras_vit.plot_position_similarity(fixed))
    assert [t.get_text() for t in ax.get_yticklabels()][:3] == ["1", "3", "5"]  # every second
    with pytest.raises(ValueError, match="this model has none.*swin"):
        keras_vit.position_similarity(tiny_swin(name="swin"))
    with pytest.raises(ValueError, match="position_embedding. Received.*layer='norm'"):
        keras_vit.position_similarity(model, "norm")


def test_filters_are_principal_components():
    model = tiny_vit(width=32)
    kernel = to_numpy(model.get_layer("patch_embedding").projection.kernel)  # (192, 32)
    filters = keras_vit.patch_filters(model, 5)
    assert filters.shape == (5, 8, 8, 3) and filters.dtype == np.float32
    flat = filters.reshape(5, -1)
    np.testing.assert_allclose(flat @ flat.T, np.eye(5), atol=1e-5)
    assert (flat.max(1) == np.abs(flat).max(1)).all()
    covariance = np.cov(kernel)
    variances = np.einsum("ni,ij,nj->n", flat, covariance, flat)
    np.testing.assert_allclose(variances, np.linalg.eigvalsh(covariance)[::-1][:5], rtol=1e-4)
    (ax,), _ = panels(keras_vit.plot_filters(model, 9))
    assert ax.get_images()[0].get_array().shape == (2 * 8 + 1, 7 * 8 + 6, 3)

    assert keras_vit.patch_filters(tiny_hybrid(), 8).shape == (8, 7, 7, 3)
    (ax,), _ = panels(keras_vit.plot_filters(tiny_vit(num_channels=1), 3))
    assert ax.get_images()[0].get_array().ndim == 2
    with pytest.raises(ValueError, match="at most 32: .* 32 filters of 192 numbers"):
        keras_vit.patch_filters(model, 33)


def test_bad_input_is_explained():
    for arguments, message in [
        ({"layer": "block9"}, "block00, block01. Received: \\['block9'\\]"),
        ({"heads": [2]}, "from 0 to 1. Received: heads=\\[2\\]"),
        (
            {"query": (3, 0)},
            "None, or the row and.* grid of block01, 3 x 2. Received: query=\\(3, 0\\)",
        ),
    ]:
        with pytest.raises(ValueError, match=message):
            keras_vit.plot_attention(tiny_vit(), images(), **arguments)


def test_nothing_around_changes():
    before = dict(matplotlib.rcParams)
    keras_vit.plot_attention(tiny_vit(), images(batch=1)).savefig(io.BytesIO())
    assert dict(matplotlib.rcParams) == before


def test_without_matplotlib_the_extra_is_named():
    code = (
        "import sys; sys.modules['matplotlib'] = sys.modules['matplotlib.figure'] = None;"
        "import keras_vit; keras_vit.plot_filters(keras_vit.ViTTiny(depth=1))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "pip install 'keras-vision-transformers[pictures]'" in run.stderr.splitlines()[-1]
