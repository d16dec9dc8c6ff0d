"""`detect`: boxes in the pixels of each picture, choices, tiles, and what is refused."""

import types

import numpy as np
import pytest

import keras_vit
from keras_vit.tasks.detr.detections import Detections, decode
from keras_vit.tasks.detr.tiles import View, cut, merged
from tests.helpers import once, randomize, to_numpy
from tests.tasks.detr.helpers import tiny_detr

pytestmark = once
NAMES = list("abcde")


@pytest.fixture(scope="module")
def model():
    model = tiny_detr(
        preprocessor=keras_vit.Preprocessor((16, 40), "fit", 1.0, "bilinear"),
        class_names=NAMES,
        class_ids=[10, 20, 30, 40, 50],
    )
    randomize(model)
    return model


def picture(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3)).astype("uint8")


def test_decode_by_hand():
    logits = np.log(np.array([[[0.1, 0.2, 0.7], [0.6, 0.3, 0.1]]], "float32"))
    boxes = np.array([[[0.5, 0.5, 0.5, 1], [0.25, 0.5, 0.5, 0.2]]], "float32")
    (found,) = decode({"logits": logits, "boxes": boxes}, [(100, 200)])
    np.testing.assert_allclose(found.scores, [0.6, 0.2], rtol=1e-6)
    assert found.labels.tolist() == [0, 1]  # never "no object"
    np.testing.assert_allclose(found.boxes, [[0, 40, 100, 60], [50, 0, 150, 100]], rtol=1e-6)


def test_all_queries_are_those_of_the_model(model):
    """One picture that fills whole patches, so that nothing is padded."""
    pixels = picture(24, 16)
    (found,) = model.detect([pixels], threshold=0)
    x = to_numpy(model.preprocessor(pixels))[None]
    (expected,) = decode(model(x), [(24, 16)])
    assert len(found) == 7 and (np.diff(found.scores) <= 0).all()
    np.testing.assert_allclose(found.scores, expected.scores, atol=1e-5)
    np.testing.assert_allclose(found.boxes, np.clip(expected.boxes, 0, [16, 24, 16, 24]), atol=1e-3)
    assert found.names == [NAMES[i] for i in found.labels]
    assert found.ids == [10 * (i + 1) for i in found.labels]


def test_pictures_of_different_sizes_in_one_batch(model):
    pictures = [picture(24, 16), picture(30, 60, 1), picture(80, 48, 2)]
    together = model.detect(pictures, threshold=0, batch_size=3)
    for pixels, found in zip(pictures, together, strict=True):
        height, width = pixels.shape[:2]
        assert len(found) == 7 and found.boxes.min() >= 0
        assert (found.boxes <= [width, height, width, height]).all()
    assert together[1].boxes[:, 2].max() > 32  # in its own pixels, not those of the image
    two = model.detect(pictures, threshold=0, batch_size=2)
    assert [len(x) for x in two] == [7, 7, 7]
    assert model.detect([], threshold=0) == []
    padded = model.preprocess_images(pictures)
    assert padded["images"].shape == (3, 32, 32, 3)  # 26 and 32, in whole patches of 8
    assert padded["valid"].sum((1, 2)).tolist() == [24 * 16, 16 * 32, 26 * 16]
    assert (padded["images"][~padded["valid"]] == 0).all()


def test_choices(model):
    pixels = picture(24, 16)
    (every,) = model.detect([pixels], threshold=0)
    cut_off = float(every.scores[3])
    (some,) = model.detect([pixels], threshold=cut_off)
    assert len(some) == 4 and some.scores.min() >= cut_off
    (two,) = model.detect([pixels], threshold=0, max_detections=2)
    np.testing.assert_array_equal(two.scores, every.scores[:2])
    label = int(every.labels[0])
    for classes in ([NAMES[label]], [label]):
        (one,) = model.detect([pixels], threshold=0, classes=classes)
        assert one.labels.tolist() == [label] * int((every.labels == label).sum())
    (larger,) = model.detect([pixels], threshold=0, size=(48, 64))
    assert not np.allclose(larger.scores, every.scores)


def test_padding_of_a_model_that_takes_pixels_is_zero_after_the_normalisation():
    backbone = keras_vit.models.registry.FAMILIES["vit"]
    backbone = backbone.model(**{**backbone.tiny, "include_preprocessing": True})
    model = tiny_detr(backbone)
    padded = model.preprocess_images([picture(24, 16), picture(16, 24)])
    outside = padded["images"][~padded["valid"]]
    np.testing.assert_allclose(outside, 127.5)  # the mean of a model without preprocessor
    assert padded["images"].max() > 200


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"threshold": 2}, "threshold must be in 0..1"),
        ({"batch_size": 0}, "batch_size must be an integer"),
        ({"max_detections": 0}, "max_detections must be an integer"),
        ({"classes": "a"}, "classes must be a list"),
        ({"classes": ["z"]}, "classes must be names.*Received: 'z'"),
        ({"classes": [5]}, "labels from 0 to 4. Received: 5"),
        ({"size": (50, 20)}, "shorter side and the most"),
        ({"tiles": 0}, "tiles must be a positive integer"),
    ],
)
def test_bad_arguments_are_explained(model, arguments, message):
    with pytest.raises(ValueError, match=message):
        model.detect([], **arguments)
    with pytest.raises(ValueError, match="There is no such picture"):
        model.detect(["none.jpg"])


def test_tiles_cover_the_picture_and_overlap():
    assert cut((100, 200), None) == cut((100, 200), (1, 1)) == [View(0, 0, (100, 200))]
    whole, *tiles = cut((101, 203), (2, 3))
    covered = np.zeros((101, 203), int)
    for view in tiles:
        assert view.of(covered).shape == view.size
        view.of(covered)[:] += 1
    assert len(tiles) == 6 and covered.min() == 1 and covered.max() == 4
    assert covered[50].max() >= 2


def detections(boxes, scores, labels):
    return Detections(np.array(boxes, "float32"), np.array(scores, "float32"), np.array(labels))


def test_merging_drops_what_is_cut_off_and_what_is_there_twice():
    whole, left, right = cut((100, 200), (1, 2))
    found = merged(
        [
            (whole, detections([[80, 10, 120, 50]], [0.6], [1])),
            (left, detections([[80, 10, 112, 50], [5, 5, 30, 30]], [0.9, 0.8], [1, 2])),
            (right, detections([[89, 10, 121, 51], [6, 5, 30, 31]], [0.7, 0.5], [1, 2])),
        ],
        (100, 200),
    )
    # the left tile's first box ends at its inner edge; the right one's begins near its own
    assert found.scores.tolist() == pytest.approx([0.8, 0.6])
    assert found.labels.tolist() == [2, 1]
    of_others = merged([(whole, detections([[0, 0, 9, 9]] * 2, [0.6, 0.5], [1, 2]))], (100, 200))
    assert len(of_others) == 2  # other classes are not merged


def test_tiles_find_what_only_a_closer_look_shows(model, monkeypatch):
    """A detector that sees one box, in the middle of whatever it looks at."""

    def predict(self, x):
        logits = np.full((len(x["images"]), 1, 6), -9.0)
        logits[..., 2] = 9
        return {"logits": logits, "boxes": np.full((len(x["images"]), 1, 4), [0.5, 0.5, 0.2, 0.2])}

    monkeypatch.setattr(model, "predict_on_batch", types.MethodType(predict, model))
    (found,) = model.detect([picture(100, 200)], tiles=(1, 2), batch_size=2)
    assert len(found) == 3
    middles = sorted((found.boxes[:, 0] + found.boxes[:, 2]) / 2)
    np.testing.assert_allclose(middles, [56, 100, 144], atol=0.6)
