"""The contract of all models: features, configuration, training and files."""

import inspect
import json
import re

import keras
import numpy as np

import keras_vit
from keras_vit.layers.block import BaseBlock
from tests.helpers import WITHOUT_EFFECT, compile_model, images, randomize, run, to_numpy

STATISTICS = re.compile("moving_(mean|variance)$")


def size_of(model):
    """The image size of the tiny model of a family, (H, W)."""
    return (32, 32) if isinstance(model, keras_vit.SwinTransformer) else (24, 16)


def check_contract(make, arguments, tmp_path):
    """Checks features, configuration, training and files of a model.

    Args:
        make: function that builds the model.
        arguments: dict, arguments of `make`, which must be in the configuration.
        tmp_path: `Path` of a folder, in which `model.keras` is written.

    Returns:
        dict of path to array, the weights after training.
    """
    model = make(**arguments)
    randomize(model)
    pixels = images(size_of(model), channels=model.input.shape[-1])

    # outputs of inner layers can be used; shapes agree with the symbolic ones, for any batch size
    block = [x for x in model.layers if isinstance(x, BaseBlock)][-1]
    inner = keras.Model(model.input, [model.output, block.output])
    expected, tokens = run(inner, pixels)
    assert expected.shape == (3, model.num_classes or tokens.shape[-1])
    assert (model.num_classes is None) == ("num_classes" in arguments)
    assert model.output.shape == (None, expected.shape[1])
    for promised, n in zip(block.output.shape, (None, *tokens.shape[1:]), strict=True):
        assert promised in (n, None)
    assert np.isfinite(expected).all()

    # the configuration is exactly the constructor's arguments
    config = model.get_config()
    assert set(config) == set(inspect.signature(type(model)).parameters)
    assert type(model)(**config).get_config() == config
    for key, value in arguments.items():
        assert config[key] == value

    # a step of training changes every weight that is not frozen, and the statistics beside them
    compile_model(model)
    before = {weight.path: to_numpy(weight) for weight in model.weights}
    model.fit(pixels, np.ones_like(expected), verbose=0)
    after = {weight.path: to_numpy(weight) for weight in model.weights}
    assert len(after) == len(model.weights)
    assert all(np.isfinite(x).all() for x in after.values())
    same = {path for path, x in after.items() if np.array_equal(x, before[path])}
    trained = {weight.path for weight in model.weights if weight.trainable}
    frozen = {path for path in after if STATISTICS.sub("gamma", path) not in trained} - trained
    assert {p for p in same - frozen if not p.endswith(WITHOUT_EFFECT)} == set()
    if "frozen_layers" in arguments:
        (path,) = arguments["frozen_layers"]
        assert same - {p for p in same if p.endswith(WITHOUT_EFFECT)} == frozen
        assert frozen and (path == "cnn" or all(p.startswith(f"{path}/") for p in frozen))

    # a file restores everything, including the state of the optimizer and frozen weights
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert type(loaded) is type(model)
    assert json.dumps(loaded.get_config()) == json.dumps(config)  # where a tuple is a list
    assert [x.path for x in loaded.trainable_weights] == [x.path for x in model.trainable_weights]
    same_weights(loaded, after)
    for ours, theirs in zip(model.optimizer.variables, loaded.optimizer.variables, strict=True):
        np.testing.assert_allclose(to_numpy(theirs), to_numpy(ours), atol=1e-7)
    both = keras.Model(model.input, [model.output, loaded(model.input)])
    trained, read = run(both, pixels)
    np.testing.assert_allclose(read, trained, atol=1e-6)
    assert np.isfinite(trained).all() and np.abs(trained - expected).max() > 0
    return after


def same_weights(model, values):
    assert [weight.path for weight in model.weights] == list(values)
    for weight in model.weights:
        np.testing.assert_array_equal(to_numpy(weight), values[weight.path], err_msg=weight.path)
