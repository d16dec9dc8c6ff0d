"""What the command `keras-vit` prints, and how it ends."""

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

import keras_vit
from keras_vit import cli
from tests.helpers import tiny_vit


def run(*arguments):
    return CliRunner().invoke(cli.app, list(map(str, arguments)))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A small model that names seven classes."""
    preprocessor = keras_vit.Preprocessor((24, 16), "squash", 1.0)
    names = ["ant", "bee", "cat", "dog", "eel", "fox", "gnu"]
    model = tiny_vit(num_classes=7, preprocessor=preprocessor, class_names=names)
    return keras_vit.save_pretrained(model, tmp_path_factory.mktemp("cli") / "model", "hf")


@pytest.fixture
def photo(tmp_path):
    path = tmp_path / "photo.jpg"
    pixels = np.random.default_rng(0).integers(0, 256, (50, 60, 3)).astype("uint8")
    Image.fromarray(pixels).save(path)
    return path


def test_list_shows_what_the_pattern_asks_for():
    everything = run("list").output
    assert "deit3_base_patch16_224.fb_in1k" in everything
    found = run("list", "vit_base*augreg2*")
    assert found.exit_code == 0
    assert "vit_base_patch16_224.augreg2_in21k_ft_in1k" in found.output
    assert "deit3" not in found.output
    nothing = run("list", "resnet50")
    assert nothing.exit_code == 2
    assert "error: No checkpoint is named like 'resnet50'" in nothing.stderr


def test_show_has_all_that_the_catalogue_knows():
    found = run("show", "deit_tiny_patch16_224.fb_in1k")
    assert found.exit_code == 0
    for line in ("licence        apache-2.0", "accuracy       72.19", "crop_fraction  0.9"):
        assert line in found.output
    unknown = run("show", "deit_tiny_patch16")
    assert unknown.exit_code == 2
    assert "Near: deit_tiny_patch16_224.fb_in1k" in unknown.stderr


def test_predict_prints_the_top_five(folder, photo):
    found = run("predict", photo, "--model", folder)
    assert found.exit_code == 0
    first, *lines = found.output.splitlines()
    assert first == str(photo) and len(lines) == 5
    shares = [float(line.split()[0]) for line in lines]
    assert shares == sorted(shares, reverse=True)
    assert len(run("predict", photo, "--model", folder, "--top", 2).output.splitlines()) == 3


def test_predict_goes_on_past_a_broken_picture_and_names_it(folder, photo, tmp_path):
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(photo.read_bytes()[:100])
    found = run("predict", broken, photo, "--model", folder)
    assert found.exit_code == 1
    assert "error:" in found.stderr and "broken.jpg" in found.stderr
    assert str(photo) in found.stdout


def test_predict_says_what_is_wrong_with_the_model(photo, tmp_path):
    for model, message in [
        ("vit_base_patch16_224.augreg_in22k", "such as vit_base_patch16_224"),
        (photo, "is no checkpoint that can be read"),
    ]:
        found = run("predict", photo, "--model", model)
        assert found.exit_code == 2
        assert found.stderr.startswith("error: ") and message in found.stderr
