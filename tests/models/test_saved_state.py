"""What was done to a model after it was built is there again after saving and loading.

Quantised layers and low-rank updates are in test_adapted.py.
"""

import keras
import pytest

import keras_vit
from keras_vit.layers.block import BaseBlock
from keras_vit.models.frozen import named_layers
from tests.helpers import once, once_but, tiny_vit
from tests.models.reloading import EVERYWHERE, FAMILIES, assert_same, reload, resnet, with_stem


@pytest.mark.parametrize("make", once_but(FAMILIES, EVERYWHERE))
def test_what_is_frozen_stays_frozen(make, tmp_path):
    """Layers, layers within layers, single weights, and what is trained in a frozen block."""
    model = make()
    layers = named_layers(model)
    block, *others = [x for x in model.layers if isinstance(x, BaseBlock)]
    block.trainable = False
    block.norm1.trainable = True
    if others:
        getattr(others[-1], "conv2" if make is resnet else "attention").trainable = False
    head = next(x for x in layers.values() if isinstance(x, keras_vit.layers.ClassificationHead))
    head.dense.bias.trainable = False
    if make is with_stem:
        layers["cnn/bn"].trainable = False
    loaded = reload(model, tmp_path)
    assert_same(model, loaded)
    assert loaded.get_config()["frozen_layers"] == model.get_config()["frozen_layers"]
    assert not head.dense.bias.trainable and head.dense.kernel.trainable
    if make is with_stem:
        assert not named_layers(loaded)["cnn/bn"].trainable


def test_the_fewest_paths():
    model = tiny_vit()
    model.get_layer("block00").trainable = False
    block = model.get_layer("block01")
    block.attention.trainable = False
    block.norm1.gamma.trainable = False
    paths = ["block00", "block01/norm1/gamma", "block01/attention"]
    assert model.get_config()["frozen_layers"] == paths
    same = tiny_vit(frozen_layers=paths)
    flags = [x.trainable for x in same.weights]
    assert flags == [x.trainable for x in model.weights] and True in flags and False in flags
    # A whole model that is frozen stays so, whatever its layers say.
    model.trainable = False
    model.get_layer("head").trainable = True
    assert not model.trainable_weights
    assert not type(model).from_config(model.get_config()).trainable_weights


@pytest.mark.parametrize(
    ("paths", "message"),
    [
        (["block7"], "must hold paths of layers.*similar: block0.*Received: 'block7'"),
        (["block00/attention/qkv/kernle"], "similar: block00/attention/qkv/kernel"),
        ("block00", "must be a list of paths. Received: 'block00'"),
        ([["block00"]], "Received: \\['block00'\\]"),
    ],
)
def test_paths_of_nothing_are_explained(paths, message):
    with pytest.raises(ValueError, match=message):
        tiny_vit(frozen_layers=paths)


@once
def test_labels_and_preprocessor_set_later_are_saved(tmp_path):
    model = tiny_vit()
    names = ["cat", "dog", "car", "tree"]
    model.class_names = tuple(names)
    model.preprocessor = keras_vit.Preprocessor((24, 16), "squash", mean=(0.1, 0.2, 0.3))
    layers = len(model._layers)
    model.preprocessor = keras_vit.Preprocessor((24, 16), "squash", mean=(0.4, 0.5, 0.6))
    assert len(model._layers) == layers  # none is left behind
    clone = type(model).from_config(model.get_config())
    keras_vit.save_pretrained(model, tmp_path / "hf", format="hf")
    written = keras_vit.from_pretrained(tmp_path / "hf")
    for other in (clone, reload(model, tmp_path), written):
        assert other.class_names == names
        assert other.preprocessor.mean == (0.4, 0.5, 0.6)
    model.class_names = model.preprocessor = None
    assert model.get_config()["class_names"] is model.get_config()["preprocessor"] is None


def test_labels_and_preprocessor_are_checked():
    model = tiny_vit(class_names=list("abcd"), preprocessor=keras_vit.Preprocessor((24, 16)))
    weights, before = len(model.weights), model.preprocessor
    built = keras.layers.Dense(2)
    built.build((None, 3))
    with pytest.raises(ValueError, match="must be a keras_vit.Preprocessor or None"):
        model.preprocessor = built
    with pytest.raises(ValueError, match="Received: 3 names, num_classes=4"):
        model.class_names = ["a", "b", "c"]
    with pytest.raises(ValueError, match="class_names must be a list of str. Received: 'abcd'"):
        model.class_names = "abcd"
    assert model.class_names == list("abcd") and model.preprocessor is before
    assert len(model.weights) == weights
    # What normalises within the model does not change any more.
    inside = tiny_vit(include_preprocessing=True)
    with pytest.raises(ValueError, match="mean and std are part of this model"):
        inside.preprocessor = keras_vit.Preprocessor((24, 16))
    inside.preprocessor = keras_vit.Preprocessor((24, 16), mean=(0.5,) * 3, std=(0.5,) * 3)
