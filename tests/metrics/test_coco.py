"""CocoAveragePrecision beside pycocotools, on COCO's own files and on drawn ones."""

import contextlib
import io
import json
from types import SimpleNamespace

import numpy as np
import pytest

import keras_vit
from keras_vit.metrics.coco import NAMES
from tests.helpers import PHOTOS, once

pytest.importorskip("faster_coco_eval")
pytestmark = once  # NumPy, on every backend

FILE = PHOTOS.parent / "annotations" / "instances_val2017.json"
real = pytest.mark.skipif(not FILE.exists(), reason="needs tiny_coco")


def drawn(rng, pictures=20, categories=(3, 7, 90)):
    """Annotations of drawn pictures: objects of three sizes, a tenth of them crowds."""
    images = [{"id": 10 * i, "width": 400, "height": 300} for i in range(pictures)]
    objects = []
    for image in images[1:]:  # one picture has no objects
        for _ in range(rng.integers(1, 9)):
            side = rng.choice([20, 60, 150])
            width, height = rng.uniform(0.5, 1.0, 2) * side
            box = [*(rng.uniform(0, 0.5, 2) * (400, 300)), width, height]
            objects.append(
                {
                    "id": len(objects) + 1,
                    "image_id": image["id"],
                    "category_id": int(rng.choice(categories)),
                    "bbox": [float(x) for x in box],
                    "area": float(width * height * 0.8),
                    "iscrowd": int(rng.random() < 0.1),
                }
            )
    kinds = [{"id": number, "name": str(number)} for number in categories]
    return {"images": images, "annotations": objects, "categories": kinds}


def detections(rng, truth, noise=0.1, more=5):
    """Per picture: (boxes x0 y0 x1 y1, scores, labels): moved objects, twice some, and others."""
    found = {}
    known = [x["id"] for x in truth["categories"]]
    for image in truth["images"]:
        boxes, labels = [], []
        for item in truth["annotations"]:
            if item["image_id"] != image["id"]:
                continue
            for _ in range(rng.integers(0, 3)):
                x, y, w, h = np.array(item["bbox"]) * rng.normal(1, noise, 4)
                boxes.append([x, y, x + w, y + h])
                right = rng.random() < 0.8
                labels.append(item["category_id"] if right else int(rng.choice(known)))
        for _ in range(more):
            x, y, w, h = rng.uniform(1, 100, 4)
            boxes.append([x, y, x + w, y + h])
            labels.append(int(rng.choice(known)))
        # Few different scores, so that there are ties.
        scores = np.round(rng.random(len(boxes)), 1)
        found[image["id"]] = np.array(boxes), scores, np.array(labels)
    return found


def pycocotools_of(truth, found):
    """The twelve numbers of pycocotools."""
    coco = pytest.importorskip("pycocotools.coco")
    cocoeval = pytest.importorskip("pycocotools.cocoeval")
    results = [
        {
            "image_id": image_id,
            "category_id": int(label),
            "bbox": [box[0], box[1], box[2] - box[0], box[3] - box[1]],
            "score": float(score),
        }
        for image_id, parts in found.items()
        for box, score, label in zip(*parts, strict=True)
    ]
    with contextlib.redirect_stdout(io.StringIO()):
        ground = coco.COCO()
        ground.dataset = json.loads(json.dumps(truth))
        ground.createIndex()
        evaluation = cocoeval.COCOeval(ground, ground.loadRes(results), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation.stats


def measured(truth, found):
    metric = keras_vit.metrics.CocoAveragePrecision(truth)
    for image_id, parts in found.items():
        metric.update(image_id, *parts)
    return metric


def perfect(truth):
    """The objects themselves as detections, without crowds."""
    found = {}
    for image in truth["images"]:
        own = [x for x in truth["annotations"] if x["image_id"] == image["id"]]
        own = [x for x in own if not x.get("iscrowd")]
        boxes = np.array([x["bbox"] for x in own], "float64").reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        found[image["id"]] = boxes, np.ones(len(own)), [x["category_id"] for x in own]
    return found


def check_equal(truth, found):
    stats = pycocotools_of(truth, found)
    result = measured(truth, found).result()
    assert tuple(result) == NAMES
    np.testing.assert_allclose(list(result.values()), stats, rtol=0, atol=1e-12)
    assert 0.05 < result["AP"] < result["AP50"] < 0.95  # the comparison says something


def test_the_twelve_numbers_are_pycocotools(rng):
    truth = drawn(rng)
    check_equal(truth, detections(rng, truth))


@real
def test_the_twelve_numbers_are_pycocotools_on_cocos_files(rng):
    truth = json.loads(FILE.read_text())
    assert any(item["iscrowd"] for item in truth["annotations"])
    check_equal(truth, detections(rng, truth, noise=0.05))


@real
def test_objects_as_detections_have_an_average_precision_of_one():
    metric = keras_vit.metrics.CocoAveragePrecision(FILE)
    for image_id, parts in perfect(json.loads(FILE.read_text())).items():
        metric.update(image_id, *parts)
    result = metric.result()
    for name in ("AP", "AP50", "AP75", "AP_small", "AP_medium", "AP_large", "AR_large"):
        assert result[name] == pytest.approx(1.0, abs=1e-12), name
    recall, curves = metric.curves()
    assert recall.shape == (101,) and sorted(curves)[0] == 0.5 and len(curves) == 10
    np.testing.assert_allclose(curves[0.95], 1.0)
    values = [x["AP"] for x in metric.by_category().values()]
    assert np.nanmin(values) == pytest.approx(1.0)
    assert np.isnan(values).any()  # most categories do not occur


def test_by_category_and_pictures_without_detections(rng):
    truth = drawn(rng)
    found = detections(rng, truth)
    metric = measured(truth, found)
    by_category = metric.by_category()
    assert list(by_category) == [3, 7, 90]
    for name in ("AP", "AP50", "AP75", "AP_small", "AP_large"):
        mean = np.mean([x[name] for x in by_category.values()])
        assert mean == pytest.approx(metric.result()[name], abs=1e-12), name
    _, curves = metric.curves()
    assert np.mean(curves[0.5]) == pytest.approx(metric.result()["AP50"], abs=1e-12)
    # A picture that is never added is one without detections.
    image_id = next(i for i in found if i and len(found[i][0]) > 6)
    empty = {**found, image_id: (np.zeros((0, 4)), np.zeros(0), np.zeros(0, int))}
    without = {i: x for i, x in found.items() if i != image_id}
    assert measured(truth, empty).result() == measured(truth, without).result()
    assert measured(truth, empty).result() != metric.result()
    assert measured(truth, {}).result()["AP"] == 0
    metric.reset()
    assert metric.result()["AR100"] == 0


def test_annotations_of_ones_own(rng):
    """Without areas, without iscrowd, with an object of the id 0; and what is no such file."""
    truth = drawn(rng)
    plain = json.loads(json.dumps(truth))
    for number, item in enumerate(plain["annotations"]):
        item["area"] = item["bbox"][2] * item["bbox"][3]
        item["iscrowd"] = 0
        item["id"] = number + 1
    found = detections(rng, plain)
    expected = measured(plain, found).result()
    for number, item in enumerate(plain["annotations"]):
        del item["area"], item["iscrowd"]
        item["id"] = number
    assert measured(plain, found).result() == expected
    assert measured(plain, perfect(plain)).result()["AP"] == pytest.approx(1)
    for wrong, said in (
        ({"images": []}, "have the lists images, annotations, categories"),
        ({**truth, "images": []}, "There must be pictures"),
        ([], "Received: a dict with list"),
    ):
        with pytest.raises(ValueError, match=said):
            keras_vit.metrics.CocoAveragePrecision(wrong)


def test_wrong_detections(rng):
    metric = keras_vit.metrics.CocoAveragePrecision(drawn(rng))
    box = np.array([[0.0, 0, 9, 9]])
    metric.update(0, box, [0.5], [3])
    for arguments, said in (
        ((0, box, [0.5], [3]), "added once"),
        ((1, box, [0.5], [3]), "one of the 20 of the annotations"),
        ((10, box * np.nan, [0.5], [3]), "Boxes must be finite"),
        ((10, box, [np.inf], [3]), "Scores must be finite"),
        ((10, box[0], [0.5], [3]), "There must be a box"),
    ):
        with pytest.raises(ValueError, match=said):
            metric.update(*arguments)


@pytest.mark.parametrize(
    ("key", "item", "said"),
    [
        ("images", {"file_name": "a.jpg"}, "'images' must have id"),
        ("annotations", {"image_id": 0, "category_id": 1}, "without bbox"),
        ("annotations", {"image_id": 0, "category_id": 1, "bbox": [1, 2, 3]}, "bbox must be x, y"),
        ("categories", {"name": "cat"}, "'categories' must have id"),
    ],
)
def test_incomplete_annotations(rng, key, item, said):
    truth = drawn(rng)
    with pytest.raises(ValueError, match=said):
        keras_vit.metrics.CocoAveragePrecision({**truth, key: [*truth[key], item]})


def test_a_callback_measures_after_epochs(rng, tmp_path):
    truth = drawn(rng, pictures=3)
    for image in truth["images"]:
        image["file_name"] = f"{image['id']}.png"
    (tmp_path / "truth.json").write_text(json.dumps(truth))
    with pytest.raises(ValueError, match="3 of 3 missing, such as .*0.png"):
        keras_vit.metrics.EvaluateCoco(tmp_path / "truth.json", tmp_path)
    for image in truth["images"]:
        (tmp_path / image["file_name"]).touch()
    found, asked = perfect(truth), []

    def detect(pictures, **how):
        asked.append(how)
        names = ("boxes", "scores", "ids")
        of = [found[int(path.stem)] for path in pictures]
        return [SimpleNamespace(**dict(zip(names, x, strict=True))) for x in of]

    for wrong, said in (({"every": 0}, "every must be"), ({"threshold": 0.5}, "leave threshold")):
        with pytest.raises(ValueError, match=said):
            keras_vit.metrics.EvaluateCoco(tmp_path / "truth.json", tmp_path, **wrong)
    callback = keras_vit.metrics.EvaluateCoco(
        tmp_path / "truth.json", tmp_path, every=2, size=(64, 64)
    )
    model = SimpleNamespace(detect=detect, jax_state_sync=lambda: None)
    callback.set_params({"epochs": 3})
    callback._model = model
    callback.on_train_begin()  # wrong arguments of detect raise before the first epoch
    assert asked.pop() == {"threshold": 0.0, "size": (64, 64)}
    seen = []
    for epoch in range(3):
        logs = {}
        callback.on_epoch_end(epoch, logs)
        seen.append(logs)
    assert [bool(logs) for logs in seen] == [False, True, True]
    assert set(seen[1]) == {f"val_{name}" for name in NAMES}
    assert seen[2]["val_AP"] == pytest.approx(1)
    assert asked[0] == {"threshold": 0.0, "size": (64, 64)}
