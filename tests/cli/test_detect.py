"""keras-vit detect."""

import json

import numpy as np
import pytest
from PIL import Image

import keras_vit
from tests.cli.helpers import run
from tests.helpers import once, randomize
from tests.tasks.detr.helpers import tiny_detr

pytestmark = once  # what it calls has tests on every backend


@pytest.fixture(scope="module")
def model():
    preprocessor = keras_vit.Preprocessor((24, 40), "fit", 1.0, "bilinear")
    found = tiny_detr(
        preprocessor=preprocessor, class_names=list("abcde"), class_ids=[1, 2, 3, 5, 8]
    )
    randomize(found)
    return found


@pytest.fixture(scope="module")
def file(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("detr") / "model.keras"
    model.save(path)
    return path


def test_json_and_pictures_are_those_of_detect(model, file, photo, tmp_path):
    pytest.importorskip("matplotlib")
    out = tmp_path / "out"
    (tmp_path / "broken.jpg").write_bytes(photo.read_bytes()[:100])
    options = ("--model", file, "-o", out, "--threshold", 0, "--max-detections", 3, "--json")
    found = run("detect", photo, tmp_path / "broken.jpg", *options)
    assert found.exit_code == 1
    assert "1 of 2 pictures could not be read" in found.stderr
    entry, broken = json.loads(found.stdout)
    assert "broken.jpg" in broken["error"] and "objects" not in broken
    assert entry["picture"] == str(out / "photo_objects.png")
    assert Image.open(entry["picture"]).size[0] > 60

    (expected,) = model.detect([photo], threshold=0, max_detections=3)
    assert [x["label"] for x in entry["objects"]] == expected.names
    assert [x["id"] for x in entry["objects"]] == expected.ids
    assert [x["index"] for x in entry["objects"]] == expected.labels.tolist()
    np.testing.assert_allclose([x["score"] for x in entry["objects"]], expected.scores)
    np.testing.assert_allclose([x["box"] for x in entry["objects"]], expected.boxes, atol=0.006)


def test_a_coco_file_has_every_object(model, file, photo, tmp_path):
    number = tmp_path / "000000000139.jpg"
    number.write_bytes(photo.read_bytes())
    target = tmp_path / "found.json"
    options = ("--model", file, "--threshold", 0, "--coco", target)
    found = run("detect", number, *options)
    assert found.exit_code == 0 and "% " in found.output
    content = json.loads(target.read_text())
    assert content["images"] == [{"id": 139, "file_name": number.name, "height": 50, "width": 60}]
    assert content["categories"] == [
        {"id": i, "name": name} for i, name in zip([1, 2, 3, 5, 8], "abcde", strict=True)
    ]
    (expected,) = model.detect([number], threshold=0)
    boxes = np.array([x["bbox"] for x in content["annotations"]])
    boxes[:, 2:] += boxes[:, :2]
    np.testing.assert_allclose(boxes, expected.boxes, atol=0.011)
    assert [x["category_id"] for x in content["annotations"]] == expected.ids
    assert {x["image_id"] for x in content["annotations"]} == {139}
    assert len({x["id"] for x in content["annotations"]}) == 7

    two = run("detect", number, photo, *options)
    assert two.exit_code == 0
    assert [x["id"] for x in json.loads(target.read_text())["images"]] == [1, 2]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "-o FOLDER, --coco FILE, or --json"),
        (["--json", "--size", "800"], "--size must be S,L"),
        (["--json", "--tiles", "two"], "--tiles must be a number or rows x columns"),
        (["--json", "--classes", "cat"], "classes must be names"),
        (["--json", "--threshold", "3"], "threshold must be in 0..1"),
        (["--coco", "none/found.json"], "--coco must be a file in a folder that exists"),
    ],
)
def test_bad_options(options, message, file, photo):
    found = run("detect", photo, "--model", file, *options)
    assert found.exit_code == 2 and message in found.output


def test_a_classifier_detects_nothing_and_pictures_are_not_written_over(folder, file, photo):
    found = run("detect", photo, "--model", folder, "--json")
    assert found.exit_code == 2 and "needs a model for detection" in found.output
    picture = photo.with_name("street_objects.png")
    Image.open(photo).save(picture)
    other = photo.with_name("street.jpg")
    other.write_bytes(photo.read_bytes())
    found = run("detect", other, picture, "--model", file, "-o", photo.parent)
    assert found.exit_code == 2 and "would be written over" in found.output
    found = run("detect", photo, "--model", file, "--coco", photo)
    assert found.exit_code == 2 and "would be written over" in found.output


def test_annotations_and_models_are_not_written_over(file, photo, tmp_path):
    own = tmp_path / "instances_val.json"
    own.write_text(json.dumps({"images": [], "categories": [], "annotations": []}))
    for target in (own, file):
        before = target.read_bytes()
        found = run("detect", photo, "--model", file, "--coco", target)
        assert found.exit_code == 2 and "would be written over" in found.output
        assert target.read_bytes() == before
