"""Exports of a SETR: every format, without auxiliary heads, and the sliding window."""

import json

import keras
import numpy as np
import pytest

import keras_vit
from keras_vit.export.compare import compare, limits_of
from keras_vit.export.formats import FORMATS
from keras_vit.export.samples import noise_pictures
from keras_vit.export.serving import without_heads_for_training
from tests.exports import plain, where_written
from tests.helpers import backends, images, once, randomize, run, tiny_vit
from tests.tasks.setr.helpers import tiny_setr


def picture_model(decoder="pup", **arguments):
    encoder = tiny_vit(depth=2, preprocessor=keras_vit.Preprocessor((24, 16)))
    model = tiny_setr(decoder, encoder, **arguments)
    randomize(model)
    return model


# LiteRT could not run einsum with aligned corners; one format of PyTorch.
DEFAULT = ("litert mla", "torch mla")


@pytest.mark.parametrize(
    "case",
    where_written([f"{format} {d}" for format in FORMATS for d in ("pup", "mla")], *DEFAULT),
)
def test_every_format(case, tmp_path, in_this_process):
    format, decoder = case.split()
    model = picture_model(decoder)
    path = tmp_path / f"setr{FORMATS[format].suffix}"
    report = keras_vit.export(model, path, format)
    assert report.top1_agreement == 1 and report.difference < 1e-4 * report.spread
    found = plain(report)(images())  # three, although none was exported with three
    assert set(found) == {"logits"}
    np.testing.assert_allclose(found["logits"], run(model, images()), atol=1e-4)


@backends("tensorflow")
@pytest.mark.parametrize("arguments", [{"short_side": 20, "class_names": list("abcde")}])
def test_the_sliding_window_lives_in_a_saved_model(arguments, tmp_path, in_this_process):
    model = picture_model(**arguments)
    report = keras_vit.export(model, tmp_path / "setr", inputs="pixels")
    assert report.top1_agreement > 0.999 and report.answers > 1000
    serve = plain(report)
    for picture in noise_pictures([(50, 33), (7, 9), (24, 16)], seed=7):
        (expected,) = model.segment([picture])
        found = serve(picture[None])["classes"]
        assert found.dtype == np.int32
        assert (found[0] == expected).mean() > 0.999
    labels = json.loads((tmp_path / "setr/assets.extra/labels.json").read_text())
    assert labels == list("abcde")


@once
def test_the_sliding_window_is_for_a_saved_model_only(tmp_path):
    with pytest.raises(ValueError, match="in a SavedModel only"):
        keras_vit.export(picture_model(), tmp_path / "setr.onnx", inputs="pixels")


@once
def test_exports_have_no_auxiliary_heads():
    model = picture_model(frozen_layers=["auxiliary_head0", "block00"])
    served = without_heads_for_training(model)
    assert not any("auxiliary" in weight.path for weight in served.weights)
    np.testing.assert_array_equal(run(served, images()), run(model, images()))
    assert without_heads_for_training(served) is served
    cnn = keras.Sequential([keras.Input((4, 4, 3)), keras.layers.Flatten()])
    assert without_heads_for_training(cnn) is cnn


@once
def test_classes_of_pixels_are_compared():
    expected, limits = np.arange(10_000) % 7, limits_of("float32", "pixels")
    wrong = expected.copy()
    wrong[:5] += 1
    assert compare({"classes": expected}, {"classes": wrong}, limits).passed
    wrong[:50] += 1
    found = compare({"classes": expected}, {"classes": wrong}, limits)
    assert not found.passed and found.agreement == 0.995
