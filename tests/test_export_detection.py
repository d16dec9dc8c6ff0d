"""Exports of a DETR: every format, without what only training uses, and from pixels to boxes."""

import json

import numpy as np
import pytest

import keras_vit
from keras_vit.export.formats import FORMATS
from keras_vit.export.samples import noise_pictures
from keras_vit.export.serving import without_heads_for_training
from tests.exports import plain, where_written
from tests.helpers import backends, images, once, randomize, run, tiny
from tests.tasks.detr.helpers import tiny_detr


def picture_model(family="pvt_v2", **arguments):
    preprocessor = keras_vit.Preprocessor((40, 64), "fit", 1.0, "bilinear")
    model = tiny_detr(tiny(family, image_size=None), preprocessor=preprocessor, **arguments)
    randomize(model, scale=0.1)
    return model


@pytest.mark.parametrize("format", where_written(list(FORMATS), "saved_model", "onnx", "torch"))
def test_every_format(format, tmp_path, in_this_process):
    model = tiny_detr(query_groups=2, denoising=True)
    randomize(model)
    report = keras_vit.export(model, tmp_path / f"detr{FORMATS[format].suffix}", format)
    found = plain(report)(images())  # three, although none was exported with three
    expected = run(model, images())
    assert set(found) == {"logits", "boxes"}
    for name, x in expected.items():
        np.testing.assert_allclose(found[name], x, atol=1e-4)


# A map of any size, and whole patches, to which images are padded.
@backends("tensorflow")
@pytest.mark.parametrize("family", ["pvt_v2", "vit"])
def test_pixels_in_objects_out(family, tmp_path, in_this_process):
    model = picture_model(family, class_names=list("abcde"))
    path = tmp_path / "detr"
    report = keras_vit.export(model, path, inputs="pixels")
    serve = plain(report)
    for picture in noise_pictures([(50, 90), (90, 50), (20, 20), (31, 97)], seed=7):
        found = {name: np.asarray(x)[0] for name, x in serve(picture[None]).items()}
        assert set(found) == {"boxes", "labels", "scores"}
        (expected,) = model.detect([picture], threshold=0)
        order = np.argsort(-found["scores"], kind="stable")
        np.testing.assert_allclose(found["scores"][order], expected.scores, atol=2e-3)
        height, width = picture.shape[:2]
        boxes = np.clip(found["boxes"], 0, [width, height, width, height])
        assert np.abs(np.sort(boxes, 0) - np.sort(expected.boxes, 0)).max() < 0.5
        assert sorted(found["labels"]) == sorted(expected.labels)
    assert json.loads((path / "assets.extra/labels.json").read_text()) == list("abcde")


@once
@pytest.mark.parametrize("format", [x for x in FORMATS if x != "saved_model"])
def test_other_formats_take_images_that_are_resized(format, tmp_path):
    path = tmp_path / f"detr{FORMATS[format].suffix}"
    with pytest.raises(ValueError, match="SavedModel only: pass inputs='images'"):
        keras_vit.export(picture_model(), path, format, inputs="pixels")
    with pytest.raises(ValueError, match="inputs='images'"):
        keras_vit.export(picture_model(), tmp_path / "files", inputs="jpeg")


@once
def test_what_only_training_uses_is_left_out():
    model = tiny_detr(query_groups=3, denoising=True)
    smaller = without_heads_for_training(model)
    assert smaller is not model and without_heads_for_training(smaller) is smaller
    gone = {x.path.split("/")[0] for x in model.weights} - {
        x.path.split("/")[0] for x in smaller.weights
    }
    assert gone == {"query_groups", "denoising"}
    x = images()
    for name, value in run(smaller, x).items():
        np.testing.assert_array_equal(value, run(model, x)[name])
