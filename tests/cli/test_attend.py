"""What `keras-vit attend` draws and prints, and what it refuses before it works."""

import json

import numpy as np
import pytest
from PIL import Image

import keras_vit
from keras_vit.cli.attend import attend
from tests.cli import helpers
from tests.helpers import backends, once, tiny_swin, tiny_vit

pytestmark = once  # what it calls has tests on every backend

NAMES = ["ant, emmet", "bee", "cat", "Big dog", "eel", "fox, big fox", "fox"]


@pytest.fixture(scope="module")
def model():
    preprocessor = keras_vit.Preprocessor((24, 16), "squash", 1.0)
    return tiny_vit(num_classes=7, depth=3, preprocessor=preprocessor, class_names=NAMES)


@pytest.fixture(scope="module")
def folder(model, tmp_path_factory):
    return str(keras_vit.save_pretrained(model, tmp_path_factory.mktemp("cli") / "model", "keras"))


def run(*arguments):
    found = helpers.run("attend", *arguments)
    assert found.exit_code == 0, found.output
    return found.stdout


@backends("tensorflow", "torch")  # numbers of any backend become JSON
@pytest.mark.parametrize("kind", ["heads", "mean", "rollout", "attribution", "grad-cam"])
def test_numbers_are_those_of_the_picture(kind, model, folder, photo, tmp_path):
    out = tmp_path / f"{kind}.png"
    options = ["--model", folder, "--kind", kind, "-o", out, "--dpi", 50, "--json"]
    found = json.loads(run(photo, *options))
    assert Image.open(out).width == 337  # 6.75 inches
    pixels = model.preprocess_images([photo])
    ((name, probability),) = model.predict_images([photo], top=1)[0]
    assert found["class"] == name == NAMES[found["index"]]
    assert found["probability"] == pytest.approx(probability, abs=1e-5)
    expected = {
        "rollout": keras_vit.attention_rollout,
        "attribution": keras_vit.attention_attribution,
        "grad-cam": keras_vit.grad_cam,
    }
    if kind in expected:
        title = "rollout" if kind == "rollout" else f"for {name.split(',')[0]}"
        if kind != "rollout":
            title += f", {100 * probability:.0f}\N{NO-BREAK SPACE}%"
        maps = {title: expected[kind](model, pixels)[0]}
    else:
        assert found["layer"] == "block02" and found["reader"] == "the class token"
        scores = keras_vit.attention_maps(model, pixels, ["block02"], grid=True)["block02"][0, :, 0]
        maps = {"mean": scores.mean(0)}
        if kind == "heads":
            maps |= {"head 0": scores[0], "head 1": scores[1]}
    assert set(found["maps"]) == set(maps)
    for name, x in maps.items():
        np.testing.assert_allclose(found["maps"][name], x, atol=1e-6)


def test_layer_head_and_class(model, folder, photo, tmp_path):
    pixels = model.preprocess_images([photo])
    options = [photo, "--model", folder, "--json"]
    found = json.loads(run(*options, "--layer", 1, "--head", 1))
    scores = keras_vit.attention_maps(model, pixels, ["block01"], grid=True)["block01"][0, :, 0]
    assert found["layer"] == "block01" and list(found["maps"]) == ["head 1", "mean"]
    np.testing.assert_allclose(found["maps"]["head 1"], scores[1], atol=1e-6)
    for given in ("0", "ant, emmet", "Emmet"):
        chosen = ["--class", "cat", "--class", given]
        found = json.loads(run(*options, "--kind", "attribution", *chosen))["maps"]
        assert [title.split(",")[0] for title in found] == ["for cat", "for ant"]
        expected = keras_vit.attention_attribution(model, pixels, classes=0)[0]
        np.testing.assert_allclose(list(found.values())[1], expected, atol=1e-6)
    found = json.loads(run(*options, "--kind", "grad-cam", "--layer", "norm", "--class", "bee"))
    assert found["layer"] == "norm"
    out = tmp_path / "mean.svg"
    assert run(*options[:-1], "--kind", "mean", "-o", out) == f"{out}\n"
    assert out.read_text().startswith("<?xml")


def test_what_is_of_the_model_alone_needs_no_picture(folder, tmp_path):
    out = tmp_path / "positions.pdf"
    options = ["--model", folder, "--json"]
    found = json.loads(run(*options, "--kind", "positions", "-o", out))
    assert np.shape(found["similarity"]) == (3, 2, 3, 2) and out.read_bytes()[:4] == b"%PDF"


def test_a_wrong_call_is_one_line_and_exit_code_2(folder, photo, tmp_path):
    found = helpers.run("attend", photo, "--model", folder, "-o", tmp_path / "none" / "out.png")
    assert found.exit_code == 2 and found.stderr.startswith("error: --out must be a file")


def test_what_cannot_be_is_said_before_any_work(photo, tmp_path):
    """The model does not exist: nobody has looked for it."""
    (tmp_path / "folder.png").mkdir()
    for arguments, message in [
        ({"kind": "head"}, "one of heads, .*Received: head$"),
        ({"kind": "rollout", "layer": "3"}, "--layer belongs to --kind heads or mean"),
        ({"kind": "mean", "head": [1]}, "--head belongs to --kind heads"),
        ({"class_": ["cat"]}, "--class belongs to --kind attribution or grad-cam"),
        ({"photo": None}, "--kind heads needs a picture"),
        ({"out": None}, "-o out.png, or ask for --json"),
        ({"out": "out.txt"}, "end with one of .*\\.pdf.*Received: out.txt"),
        ({"out": "out"}, "end with one of"),
        ({"out": str(tmp_path / "none/out.png")}, "a folder that exists.*none/out.png"),
        ({"out": str(tmp_path / "folder.png")}, "must be a file in a folder"),
        ({"photo": "none.jpg"}, "no such picture"),
        ({"photo": str(tmp_path)}, "must be a path"),
    ]:
        defaults = {"photo": photo, "model": "nobody/none", "out": str(tmp_path / "out.png")}
        with pytest.raises(ValueError, match=message):
            attend(**{**defaults, **arguments})
    assert not (tmp_path / "out.png").exists()


def test_what_the_model_has_not_is_explained(folder, photo, tmp_path):
    out = str(tmp_path / "out.png")
    for arguments, message in [
        ({"layer": "3"}, "from 0 to 2, or one of block00, block01, block02. Received: 3"),
        ({"layer": "norm"}, "Received: norm"),
        ({"head": [0, 2]}, "from 0 to 1: block02 has 2 heads. Received: 0, 2"),
        ({"kind": "attribution", "class_": ["7"]}, "index from 0 to 6"),
        ({"kind": "attribution", "class_": ["bees"]}, "near: bee, eel. Received: bees"),
        ({"kind": "attribution", "class_": ["ee"]}, "near: (bee, eel|eel, bee)"),
        ({"kind": "attribution", "class_": ["big"]}, r"; with that word: 3 \(Big dog\), 5 \(fox, "),
        ({"kind": "attribution", "class_": ["FOX"]}, r"; of that name: 5 \(fox, big fox\), 6 \(fo"),
    ]:
        with pytest.raises(ValueError, match=message):
            attend(photo, folder, **arguments, out=out)
    swin = tiny_swin(preprocessor=keras_vit.Preprocessor(32))
    swin = str(keras_vit.save_pretrained(swin, tmp_path / "swin", "keras"))
    with pytest.raises(ValueError, match="Use keras_vit.grad_cam"):
        attend(photo, swin, kind="rollout", out=out)
    attend(photo, swin, kind="grad-cam", out=out)
    headless = tiny_vit(num_classes=None, preprocessor=keras_vit.Preprocessor((24, 16)))
    headless = str(keras_vit.save_pretrained(headless, tmp_path / "headless", "keras"))
    with pytest.raises(ValueError, match="a model with a head"):
        attend(photo, headless, kind="attribution", out=out)
