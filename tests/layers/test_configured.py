import inspect

import keras
import pytest

from keras_vit import layers
from keras_vit.layers.configured import ConfiguredLayer, constructor_arguments
from tests.helpers import once

pytestmark = once


class Scaled(ConfiguredLayer):
    def __init__(self, factor, sides=(1, 2), *, kind="plain", **kwargs):
        super().__init__(**kwargs)
        self.factor = factor


class Fixed(Scaled):
    """A subclass that chooses an argument of its parent's."""

    def __init__(self, offset=0, **kwargs):
        super().__init__(factor=3, **kwargs)


def test_defaults_and_keyword_arguments_are_recorded():
    found = constructor_arguments(Scaled, (2,), {"name": "a", "kind": "other"})
    assert found == {"factor": 2, "sides": (1, 2), "kind": "other", "name": "a"}
    assert constructor_arguments(Scaled, (), {}) == {}
    with pytest.raises(TypeError, match="factor"):
        Scaled()


def test_the_configuration_rebuilds_the_layer():
    policy = keras.dtype_policies.DTypePolicy("mixed_bfloat16")  # Keras itself records no object
    layer = Fixed(1, kind="other", dtype=policy, trainable=False)
    config = layer.get_config()
    assert (config["offset"], config["kind"], config["trainable"]) == (1, "other", False)
    twin = Fixed.from_config(config)
    assert twin.factor == 3 and twin.get_config() == config
    assert twin.dtype_policy.name == "mixed_bfloat16"


def test_later_changes_are_in_the_configuration():
    layer = Scaled(2)
    layer.trainable = False
    assert layer.get_config()["trainable"] is False


def test_every_public_layer_lists_all_its_arguments():
    for cls in {x for x in vars(layers).values() if inspect.isclass(x)}:
        assert issubclass(cls, ConfiguredLayer)
        assert "get_config" not in vars(cls)
