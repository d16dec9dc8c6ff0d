"""What a family's constructor is given is recorded, and documented, argument by argument."""

import inspect
import re

import keras
import pytest

import keras_vit
from keras_vit.models.classifier import ImageClassifier
from keras_vit.models.configured import configured
from tests.helpers import once, tiny_vit

pytestmark = once


@pytest.mark.parametrize(
    "name",
    ["ViTBase", "DeiTSmall", "CaiTSmall24", "PVTSmall", "PVTv2B0", "SwinTiny", "R50ViTBase16"],
)
def test_help_shows_every_argument(name):
    variant = getattr(keras_vit, name)
    documented = re.findall(r"^    (\w+): \S", inspect.getdoc(variant).split("Raises:")[0], re.M)
    assert documented == list(inspect.signature(variant).parameters)


def test_an_argument_without_documentation_is_an_error():
    class Undocumented(ImageClassifier):
        """Nothing.

        Args:
            width: int.

        Raises:
            ValueError: never.
        """

        def __init__(self, *, width, heigth, dtype=None, preprocessor=None, name=None):
            pass

    with pytest.raises(TypeError, match="Args must document.*heigth"):
        configured(Undocumented)


def test_an_unknown_argument_is_explained():
    with pytest.raises(TypeError, match="VisionTransformer: .*unexpected keyword argument 'heads'"):
        tiny_vit(heads=2)


def test_a_class_of_somebody_s_own_keeps_the_configuration():
    class Small(keras_vit.VisionTransformer):
        def __init__(self, **arguments):
            small = {"image_size": 16, "width": 8, "depth": 1, "num_heads": 1, "mlp_dim": 8}
            super().__init__(**{**small, **arguments})

    model = Small(num_classes=3, name="mine")
    assert model.get_config()["width"] == 8 and model.num_classes == 3
    assert Small.from_config(model.get_config()).get_config() == model.get_config()
    assert isinstance(model.dtype_policy, keras.DTypePolicy)
