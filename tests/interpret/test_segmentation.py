"""Figures of class maps, and the palettes of data sets."""

import io

import numpy as np
import pytest
from PIL import Image

import keras_vit
from keras_vit.interpret.segmentation import class_shares, colored
from keras_vit.tasks.setr.palettes import PALETTES, palette_of
from tests.helpers import once

pytestmark = once


def drawn(figure):
    """RGB array of a figure."""
    file = io.BytesIO()
    figure.savefig(file, format="png")
    return np.asarray(Image.open(file).convert("RGB"))


def texts(figure):
    return [text.get_text() for ax in figure.axes for text in ax.texts]


def test_palettes_are_those_of_the_data_sets():
    sizes = {name: (len(x.names), x.colors.shape) for name, x in PALETTES.items()}
    assert sizes == {
        "ade20k": (150, (150, 3)),
        "cityscapes": (19, (19, 3)),
        "camvid": (11, (11, 3)),
    }
    assert PALETTES["cityscapes"].names[13] == "car"
    assert PALETTES["cityscapes"].colors[13].tolist() == [0, 0, 142]
    assert PALETTES["ade20k"].names[55] == "case" and PALETTES["ade20k"].names[-1] == "flag"
    assert PALETTES["ade20k"].colors[-1].tolist() == [92, 0, 255]
    assert PALETTES["camvid"].colors[3].tolist() == [128, 64, 128]
    for palette in PALETTES.values():
        assert len(set(palette.names)) == len(palette.names)


def test_a_model_gets_the_palette_of_its_names_or_of_as_many_classes():
    camvid = PALETTES["camvid"]
    assert palette_of(11) is camvid and palette_of(11, camvid.names) is camvid
    other = palette_of(11, list("abcdefghijk"))
    assert other.names == list("abcdefghijk")
    assert len(np.unique(other.colors, axis=0)) == 11
    assert palette_of(3).names == ["0", "1", "2"]


def test_a_figure_shows_the_colours_of_classes_and_their_shares():
    class_map = np.zeros((40, 60), int)
    class_map[:, 30:] = 3
    class_map[:10] = 255
    pixels = np.full((40, 60, 3), 128, "uint8")
    figure = keras_vit.plot_segmentation(pixels, class_map, palette="camvid", opacity=0.99)
    assert texts(figure) == ["road, 37.5 %", "sky, 37.5 %"] or texts(figure) == [
        "sky, 37.5 %",
        "road, 37.5 %",
    ]
    image = drawn(figure)
    height, width = image.shape[0], int(image.shape[1] * 4 / 5.5)
    np.testing.assert_allclose(image[height // 2, width // 4], [128, 128, 128], atol=3)
    np.testing.assert_allclose(image[height // 2, 3 * width // 4], [128, 64, 128], atol=3)


@pytest.mark.parametrize("palette", [None, np.zeros((11, 3), "uint8")])
def test_a_map_without_names_is_of_no_data_set(palette):
    class_map = np.full((4, 5), 10)  # not CamVid's bicyclists, because classes end here
    figure = keras_vit.plot_segmentation(np.zeros((4, 5, 3), "uint8"), class_map, palette=palette)
    assert texts(figure) == ["10, 100.0 %"]


def test_colours_are_laid_over_the_grey_picture():
    pixels = np.zeros((1, 2, 3), "uint8")
    pixels[0, :, 0] = 90  # 30 as grey
    found = colored(pixels, np.array([[0, 255]]), np.array([[200, 0, 100]], "uint8"), 0.5)
    assert found.tolist() == [[[115, 15, 65], [30, 30, 30]]]


def test_shares_are_sorted():
    assert class_shares(np.array([[2, 2, 0, 255]])) == {2: 0.5, 0: 0.25, 255: 0.25}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"class_map": np.zeros((3, 3), int)}, "class_map must have the size of the picture"),
        ({"palette": "voc"}, "palette must be one of 'ade20k'"),
        ({"class_map": np.full((4, 5), 11), "palette": "camvid"}, "a name and a colour for every"),
        ({"class_names": ["a"], "class_map": np.ones((4, 5), int)}, "a name and a colour for"),
        ({"opacity": 1.5}, "opacity must be"),
    ],
)
def test_bad_arguments(arguments, message):
    given = {"class_map": np.zeros((4, 5), int), **arguments}
    with pytest.raises(ValueError, match=message):
        keras_vit.plot_segmentation(np.zeros((4, 5, 3), "uint8"), **given)
