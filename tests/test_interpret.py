import keras
import numpy as np
import pytest

import keras_vit
from tests.helpers import images, randomize, tiny_vit, to_numpy


@pytest.mark.parametrize("arguments", [{}, {"image_size": None}, {"num_registers": 2}], ids=str)
def test_attention_maps(arguments):
    model = tiny_vit(**arguments)
    randomize(model)
    pixels = images()
    before = to_numpy(model(pixels))
    maps = keras_vit.attention_maps(model, pixels)
    tokens = 6 + model.num_prefix_tokens
    assert list(maps) == ["block00", "block01"]
    for scores in maps.values():
        assert scores.shape == (3, 2, tokens, tokens) and scores.dtype == np.float32
        np.testing.assert_allclose(scores.sum(-1), 1, atol=1e-5)
    np.testing.assert_array_equal(to_numpy(model(pixels)), before)

    # They are the scores with which the block really works.
    block = model.get_layer("block01")
    x = to_numpy(model.features(pixels, ["block00"])["block00"])
    _, scores = block.attention(block.norm1(x), return_attention_scores=True)
    np.testing.assert_allclose(maps["block01"], to_numpy(scores), atol=1e-6)
    only = keras_vit.attention_maps(model, pixels, layers=["block01"])
    assert list(only) == ["block01"]


def test_bad_input_is_explained():
    with pytest.raises(ValueError, match="block00, block01. Received: \\['block07'\\]"):
        keras_vit.attention_maps(tiny_vit(), images(), layers=["block07"])
    plain = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    with pytest.raises(ValueError, match="no transformer blocks"):
        keras_vit.attention_maps(plain, np.zeros((1, 4)))
