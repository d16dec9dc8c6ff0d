"""Figures of reconstructions: what is visible, what is predicted, in the pixels of the picture."""

import numpy as np
import pytest

import keras_vit
from keras_vit.interpret.reconstruction import GREY, panels
from tests.helpers import images, once, tiny_vit
from tests.tasks.mae.helpers import tiny_mae

pytestmark = once


def test_panels_show_the_image_what_is_visible_and_the_reconstruction():
    preprocessor = keras_vit.Preprocessor((24, 16), crop_fraction=1.0)
    model = tiny_mae(tiny_vit(num_classes=None, preprocessor=preprocessor))
    pixels = np.random.default_rng(0).integers(0, 256, (2, 24, 16, 3)).astype("uint8")
    inputs = np.asarray(model.preprocess_images(list(pixels)), "float32")
    found = model.reconstruct(inputs)
    for i, (image, visible, whole) in enumerate(panels(model, inputs, found)):
        np.testing.assert_array_equal(image, pixels[i])
        hidden = np.repeat(np.repeat(found["mask"][i].reshape(3, 2), 8, 0), 8, 1) > 0
        assert (visible[hidden] == GREY).all()
        np.testing.assert_array_equal(visible[~hidden], pixels[i][~hidden])
        np.testing.assert_array_equal(whole[~hidden], pixels[i][~hidden])
        assert (whole[hidden] != pixels[i][hidden]).mean() > 0.9
    figure = keras_vit.plot_reconstruction(model, list(pixels))
    assert [ax.get_title() for ax in figure.axes][:3] == ["image", "visible", "reconstruction"]
    assert len(figure.axes) == 6


def test_values_of_an_unknown_range_and_grey_images():
    model = tiny_mae(tiny_vit(num_classes=None, num_channels=1))
    figure = keras_vit.plot_reconstruction(model, images(channels=1))
    shown = figure.axes[0].images[0].get_array()
    assert shown.min() >= 0 and shown.max() > 200
    with pytest.raises(ValueError, match="MAE or keras_vit.SimMIM.*VisionTransformer"):
        keras_vit.plot_reconstruction(tiny_vit(), images())
