import keras
import numpy as np
import pytest
from keras import ops

from keras_vit.layers import PatchEmbedding
from tests.helpers import to_numpy


def test_equals_the_convolution_that_the_paper_describes(rng):
    images = rng.normal(size=(2, 12, 8, 5)).astype("float32")
    layer = PatchEmbedding(16, patch_size=(6, 2))
    tokens = to_numpy(layer(images))

    kernel = to_numpy(layer.projection.kernel).reshape(6, 2, 5, 16)
    expected = ops.conv(
        images, kernel, strides=(6, 2), padding="valid", data_format="channels_last"
    )
    np.testing.assert_allclose(tokens, to_numpy(expected).reshape(2, 8, 16), atol=1e-5)


def test_tokens_run_row_by_row():
    images = np.zeros((1, 8, 12, 1), "float32")
    images[0, 4:8, 8:12] = 1  # the last patch of a 2 x 3 grid
    layer = PatchEmbedding(4, patch_size=4, use_bias=False)
    lit = np.abs(to_numpy(layer(images))[0]).sum(axis=-1) > 0
    assert lit.tolist() == [False] * 5 + [True]


def test_any_size_at_call_time():
    layer = PatchEmbedding(4, patch_size=4)
    model = keras.Sequential([keras.Input((None, None, 3)), layer])
    assert model.output_shape == (None, None, 4)
    assert model.predict(np.zeros((1, 8, 20, 3)), verbose=0).shape == (1, 10, 4)
    assert model.predict(np.zeros((2, 4, 4, 3)), verbose=0).shape == (2, 1, 4)


def test_what_fills_no_patch_is_left_out_or_an_error(rng):
    images = rng.normal(size=(2, 13, 10, 3)).astype("float32")
    layer = PatchEmbedding(8, patch_size=(6, 4), drop_remainder=True)
    expected = PatchEmbedding(8, patch_size=(6, 4))
    expected.build((None, 12, 8, 3))
    layer.build((None, 13, 10, 3))
    layer.set_weights(expected.get_weights())
    assert layer.compute_output_shape((2, 13, 10, 3)) == (2, 4, 8)
    tokens = to_numpy(layer(images))
    np.testing.assert_array_equal(tokens, to_numpy(expected(images[:, :12, :8])))
    with pytest.raises(ValueError, match="at least patch_size.*Received: image size=\\(5, 10\\)"):
        layer(images[:, :5])
    with pytest.raises(ValueError, match="multiples of patch_size.*Received: .*\\(13, 10\\)"):
        expected(images)
