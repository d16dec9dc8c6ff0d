"""Spatial-reduction attention: plain where nothing is reduced, whole patches where it is."""

import numpy as np
import pytest

from keras_vit.layers import Attention, SpatialReductionAttention
from keras_vit.ops.resample import adaptive_average
from tests.helpers import randomize, to_numpy


def grid(h, w, width=8, seed=0):
    return np.random.default_rng(seed).normal(size=(2, h, w, width)).astype("float32")


def test_a_reduction_of_1_is_plain_attention():
    x = grid(3, 4)
    reduced, plain = SpatialReductionAttention(2), Attention(2)
    reduced(x), plain(x.reshape(2, 12, 8))
    randomize(reduced)
    for name in ("kernel", "bias"):
        parts = [to_numpy(getattr(layer, name)) for layer in (reduced.query, reduced.key_value)]
        getattr(plain.qkv, name).assign(np.concatenate(parts, axis=-1))
        getattr(plain.proj, name).assign(to_numpy(getattr(reduced.proj, name)))
    expected = to_numpy(plain(x.reshape(2, 12, 8))).reshape(2, 3, 4, 8)
    np.testing.assert_allclose(to_numpy(reduced(x)), expected, atol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "keys"),
    [({"reduction": 2}, 3 * 2), ({"pool_size": 4}, 16)],
    ids=str,
)
def test_rows_of_the_scores_sum_to_one(arguments, keys):
    layer, x = SpatialReductionAttention(2, **arguments), grid(7, 5)
    layer(x)
    randomize(layer, scale=1.0)
    y, scores = layer(x, return_attention_scores=True)
    assert tuple(scores.shape) == (2, 2, 35, keys)
    assert layer.num_keys(x.shape) == keys
    np.testing.assert_allclose(to_numpy(scores).sum(-1), 1, atol=1e-5)
    np.testing.assert_allclose(to_numpy(layer(x)), to_numpy(y), atol=1e-5)  # the fused kernel


def test_keys_come_from_whole_patches_alone():
    """As a strided convolution leaves out what is beyond its last window."""
    layer, x = SpatialReductionAttention(2, reduction=3), grid(7, 5)
    layer(x)
    randomize(layer)
    beyond = x.copy()
    beyond[:, 6:] += 1
    beyond[:, :, 3:] += 1
    inside = to_numpy(layer(x))[:, :6, :3]
    np.testing.assert_allclose(to_numpy(layer(beyond))[:, :6, :3], inside, atol=1e-5)
    beyond[:, 5, 2] += 1
    assert np.abs(to_numpy(layer(beyond))[:, :5, :2] - inside[:, :5, :2]).max() > 1e-4


def test_adaptive_average_to_the_same_grid_is_the_identity():
    np.testing.assert_array_equal(to_numpy(adaptive_average(grid(7, 7), 7)), grid(7, 7))


def test_adaptive_average_is_the_mean_of_each_window():
    """floor(i h / n) up to ceil((i + 1) h / n), for sizes that divide, do not, and are smaller."""
    n = 7
    for h, w in [(14, 23), (5, 3)]:
        x = grid(h, w)
        expected = np.empty((2, n, n, 8), "float32")
        for i in range(n):
            for j in range(n):
                rows = slice(i * h // n, -(-(i + 1) * h // n))
                columns = slice(j * w // n, -(-(j + 1) * w // n))
                expected[:, i, j] = x[:, rows, columns].mean((1, 2))
        np.testing.assert_allclose(to_numpy(adaptive_average(x, n)), expected, atol=1e-6)
