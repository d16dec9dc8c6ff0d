"""The overlapping patch embedding: which pixels a patch sees, and zeros on both sides."""

import numpy as np
import pytest

from keras_vit.layers import ConvolutionalMLP, OverlappingPatchEmbedding
from tests.helpers import randomize, to_numpy


@pytest.mark.parametrize(("patch_size", "stride"), [(7, 4), (3, 2)])
def test_patches_are_centred_with_zeros_on_both_sides(patch_size, stride):
    """Against the sum written out; sizes that the stride does not divide too."""
    for h, w in [(12, 8), (9, 7)]:
        x = np.random.default_rng(0).normal(size=(2, h, w, 3)).astype("float32")
        layer = OverlappingPatchEmbedding(5, patch_size, stride)
        found = to_numpy(layer(x))
        kernel, bias = (to_numpy(weight) for weight in layer.weights)
        border = patch_size // 2
        padded = np.pad(x, ((0, 0), (border, border), (border, border), (0, 0)))
        assert found.shape == (2, -(-h // stride), -(-w // stride), 5)
        for i in range(found.shape[1]):
            for j in range(found.shape[2]):
                rows = slice(i * stride, i * stride + patch_size)
                columns = slice(j * stride, j * stride + patch_size)
                patch = padded[:, rows, columns]
                expected = np.tensordot(patch, kernel, ((1, 2, 3), (0, 1, 2))) + bias
                np.testing.assert_allclose(found[:, i, j], expected, atol=1e-5)


def test_the_mlp_mixes_neighbours_and_no_others():
    layer, x = ConvolutionalMLP(12), np.zeros((1, 5, 6, 4), "float32")
    layer(x)
    randomize(layer)
    other = x.copy()
    other[0, 2, 1] = 3.0
    changed = np.abs(to_numpy(layer(other)) - to_numpy(layer(x))).max(-1)[0] > 1e-6
    expected = np.zeros((5, 6), bool)
    expected[1:4, 0:3] = True
    np.testing.assert_array_equal(changed, expected)
