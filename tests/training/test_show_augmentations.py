"""The picture of the README shows every augmentation, and shows it as it is now."""

import dataclasses
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFont

from tests.helpers import backends
from tests.training import box_scenes, scenes
from training import show_augmentations as show
from training.augment.randaugment import OPERATIONS
from training.recipe.kinds import ONLY
from training.recipe.schema import AugmentTable
from training.results import overlays

# The same on every backend.
pytestmark = backends("tensorflow")

ROOT = Path(__file__).parents[2]
PICTURE = ROOT / "docs" / "augmentations.webp"
# What a picture of one image cannot show.
NOT_DRAWN = {"probability", "repeats"}
# Keys of segmentation, whose pictures are those of its recipe.
NOT_DRAWN |= {
    name.removeprefix("augment.")
    for name, kinds in ONLY.items()
    if name.startswith("augment.") and "classification" not in kinds
}


@pytest.fixture(scope="module")
def rows():
    return show.rows(*(Path(photo).read_bytes() for photo in show.sample_photos()))


def cells(rows):
    return [cell for row in rows for line in row.lines for cell in line]


def test_every_key_and_every_operation_has_a_picture(rows):
    keys = {field.name for field in dataclasses.fields(AugmentTable)}
    assert {key for row in rows for key in row.keys} == keys - NOT_DRAWN
    pictures = {label: np.asarray(image, "float32") for label, image in cells(rows)}
    for name in OPERATIONS:
        for level in (15, 30):
            changed = not np.array_equal(pictures[f"{name}, {level}"], pictures["evaluation"])
            assert changed == (name != "identity"), name
    for key in keys - NOT_DRAWN - {"crop_ratio", "randaugment"}:
        of_key = [x for label, x in pictures.items() if label.startswith(key)]
        assert of_key and not any(np.array_equal(x, pictures["evaluation"]) for x in of_key), key


def test_no_label_runs_into_the_next(rows):
    font = ImageFont.load_default(13)
    for label, _ in cells(rows):
        assert font.getlength(label) <= show.SIZE + show.GAP / 2, label


def test_the_picture_is_what_would_be_drawn(rows):
    assert PICTURE.stat().st_size < 250_000
    advice = "python -m training.show_augmentations -o docs/augmentations.webp draws it anew"
    drawn, kept = show.draw(rows), Image.open(PICTURE).convert("RGB")
    assert kept.size == drawn.size, advice
    # It is compressed, which leaves the means of 16 x 16 pixels nearly as they are.
    drawn, kept = (np.asarray(picture.reduce(16), "float32") for picture in (drawn, kept))
    assert np.abs(drawn - kept).max() < 12, advice


def test_a_recipe_of_ones_own(tmp_path, monkeypatch, capsys):
    photos, out = show.sample_photos(), tmp_path / "new" / "mine.png"
    monkeypatch.setattr("sys.argv", ["show", *photos, "--recipe", "digits", "-o", str(out)])
    show.main()
    assert Image.open(out).size == Image.open(PICTURE).size
    assert str(out) in capsys.readouterr().out
    monkeypatch.setattr("sys.argv", ["show", photos[0]])
    with pytest.raises(SystemExit):
        show.main()
    assert "two photographs. Received: 1" in capsys.readouterr().err


def test_a_broken_photo_is_one_line(tmp_path, monkeypatch, capsys):
    (tmp_path / "a\x1b[2J.jpg").write_text("no picture")
    os.mkfifo(tmp_path / "pipe.jpg")
    for name in ("a\x1b[2J.jpg", "pipe.jpg", "none.jpg"):
        photos = [show.sample_photos()[0], str(tmp_path / name)]
        monkeypatch.setattr("sys.argv", ["show", *photos, "-o", str(tmp_path / "out.png")])
        assert show.main() == 2
        said = capsys.readouterr().err
        assert said.startswith("error: ") and said.count("\n") == 1 and "\x1b" not in said
        assert name.replace("\x1b", "\\x1b") in said
    assert not (tmp_path / "out.png").exists()


def test_a_recipe_for_segmentation_draws_its_masks(tmp_path, monkeypatch, capsys):
    """Each colour of the sheet's legend is drawn over the pixels of its class."""
    source = scenes.write_folder(tmp_path / "scenes")
    recipe, out = tmp_path / "scenes.toml", tmp_path / "masks.png"
    recipe.write_text(scenes.RECIPE.format(source=source))
    monkeypatch.setattr("sys.argv", ["show", str(recipe), "-o", str(out)])
    assert show.main() == 0
    assert "4 training pictures, each in 3 draws" in capsys.readouterr().out
    pixels = np.asarray(Image.open(out).convert("RGB")).reshape(-1, 3)
    for label, color in enumerate(overlays.colors(3)):
        shade = 60 * label + 60  # of the pictures of this class
        mixed = shade + overlays.OPACITY * (color.astype(float) - shade)
        assert (np.abs(pixels - mixed).max(axis=-1) < 30).sum() > 500, label
    monkeypatch.setattr("sys.argv", ["show", "digits", "-o", str(out)])
    assert show.main() == 2
    assert "One argument is a recipe for segmentation" in capsys.readouterr().err


def test_an_overlay_leaves_ignored_pixels_as_they_are():
    labels = np.array([[0, 1, 255, 7]])
    image = np.full((1, 4, 1), 100, "uint8")
    drawn = overlays.overlay(image, labels, 2)
    np.testing.assert_array_equal(drawn[0, 2:], 100)
    np.testing.assert_array_equal(drawn[0, 0], [117, 40, 40])  # VOC's first colour: 128, 0, 0
    np.testing.assert_array_equal(overlays.colors(4)[3], [0, 0, 128])


def test_a_recipe_for_detection_draws_its_boxes(tmp_path, monkeypatch, capsys):
    """Each box has the colour of its class, in the picture and in every draw."""
    source = box_scenes.write_coco(tmp_path / "scenes")
    recipe, out = tmp_path / "boxes.toml", tmp_path / "boxes.png"
    recipe.write_text(box_scenes.RECIPE.format(source=source))
    monkeypatch.setattr("sys.argv", ["show", str(recipe), "-o", str(out)])
    assert show.main() == 0
    assert "4 training pictures, each in 3 draws" in capsys.readouterr().out
    pixels = np.asarray(Image.open(out).convert("RGB")).reshape(-1, 3).astype(int)
    shown = {item[4] for index in range(12) for item in box_scenes.objects(index)}
    assert shown == {0, 1, 2}
    for color in overlays.colors(3):
        assert (np.abs(pixels - color).max(axis=-1) < 8).sum() > 40, color
