"""Attention in windows: cut and put together, shifted, masked, biased."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_vit import layers
from keras_vit.layers.position_bias import CONVENTIONS, log_offsets, resample_bias_table
from keras_vit.layers.windows import (
    merge_windows,
    partition_windows,
    relative_index,
    shift_mask,
    shift_sizes,
)
from keras_vit.ops.attention import apply_scores, attention_scores, fused_attention
from tests.helpers import randomize, to_numpy


def block(**arguments):
    found = layers.SwinBlock(2, 16, **{"window_size": 3, "shifted": True, **arguments})
    found.build((None, None, None, 8))
    randomize(found)
    return found


def test_partition_inverts_and_windows_are_neighbourhoods(rng):
    x = rng.normal(size=(2, 6, 8, 5)).astype("float32")
    windows = to_numpy(partition_windows(x, (3, 2)))
    assert windows.shape == (2 * 2 * 4, 6, 5)
    np.testing.assert_array_equal(windows[4 + 1].reshape(3, 2, 5), x[0, 3:6, 2:4])
    np.testing.assert_array_equal(to_numpy(merge_windows(windows, (3, 2), (6, 8))), x)


def test_relative_index_tells_offsets():
    a, b = 3, 4
    index = relative_index((a, b))
    assert set(index.ravel()) == set(range((2 * a - 1) * (2 * b - 1)))
    for query in range(a * b):
        for key in range(a * b):
            down, right = query // b - key // b, query % b - key % b
            assert index[query, key] == (down + a - 1) * (2 * b - 1) + right + b - 1


@pytest.mark.parametrize("version", [1, 2])
def test_only_neighbours_meet_in_a_shifted_block(rng, version):
    """Pairs that the cyclic shift brings together from two ends of the map have no attention."""
    h, w, a, shift = 6, 9, 3, 1
    layer = block(version=version)
    scores = to_numpy(layer.attention_scores(ops.convert_to_tensor(rng.normal(size=(1, h, w, 8)))))
    assert scores.shape == (1, 6, 2, 9, 9)
    np.testing.assert_allclose(scores.sum(-1), 1, atol=1e-6)
    places = np.stack(np.mgrid[:h, :w], -1).astype("float32")[None]
    places = to_numpy(partition_windows(np.roll(places, (-shift, -shift), (1, 2)), (a, a)))
    distance = np.abs(places[:, :, None] - places[:, None]).max(-1)  # (W, N, N)
    np.testing.assert_array_equal(scores[0].min(1) > 1e-25, distance < a)
    assert scores[0].max(1)[distance >= a].max() < 1e-25


def test_known_and_unknown_sizes_give_one_mask():
    for size, window, shift in [((6, 9), (3, 3), (1, 1)), ((8, 4), (4, 4), (0, 0))]:
        tensors = [ops.convert_to_tensor(np.int32(x)) for x in size]
        expected = shift_mask(size, window, shift)
        assert isinstance(expected, np.ndarray)
        np.testing.assert_array_equal(to_numpy(shift_mask(tensors, window, shift)), expected)
    assert not shift_mask((8, 4), (4, 4), (0, 0)).any()  # nothing moves, nothing is kept apart


def test_a_map_that_one_window_covers_does_not_shift():
    for size, authors, timm in [
        ((14, 14), (3, 3), (3, 3)),
        ((7, 7), (0, 0), (0, 0)),
        ((7, 10), (0, 0), (0, 3)),
        ((5, 5), (0, 0), (0, 0)),
    ]:
        assert shift_sizes(size, (7, 7), "authors") == authors
        assert shift_sizes(size, (7, 7), "timm") == timm
        assert shift_sizes(size, (7, 7), "torchvision") == timm
        tensors = [ops.convert_to_tensor(np.int32(x)) for x in size]
        assert [int(x) for x in shift_sizes(tensors, (7, 7), "authors")] == list(authors)
        assert [int(x) for x in shift_sizes(tensors, (7, 7), "timm")] == list(timm)


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("shifted", [False, True])
def test_a_block_equals_the_formula_written_out(rng, version, shifted):
    """Place by place, with loops: the window's pairs, their bias, no padding needed."""
    layer, x = block(version=version, shifted=shifted), rng.normal(size=(1, 6, 6, 8))
    x, attention = x.astype("float32"), layer.attention
    y = to_numpy(layer.norm1(x)) if version == 1 else x
    qkv = to_numpy(attention.qkv(y))
    if version == 2:
        biases = to_numpy(attention.query_bias), np.zeros(8), to_numpy(attention.value_bias)
        qkv = qkv + np.concatenate(biases)
    q, k, v = (part.reshape(6, 6, 2, 4) for part in np.split(qkv[0], 3, -1))
    if version == 2:
        q, k = (part / np.linalg.norm(part, axis=-1, keepdims=True) for part in (q, k))
        factor = np.exp(np.minimum(to_numpy(attention.logit_scale), np.log(100)))
        network = attention.position_bias
        offsets = np.arange(-2, 3) / 2 * 8
        offsets = np.sign(offsets) * np.log2(np.abs(offsets) + 1) / np.log2(8)
        grid = np.stack(np.meshgrid(offsets, offsets, indexing="ij"), -1).astype("float32")
        table = 16 / (1 + np.exp(-to_numpy(network.fc2(network.fc1(grid)))))
    else:
        factor, table = np.full(2, 0.5), to_numpy(attention.position_bias.table)
    by = 1 if shifted else 0
    window = lambda i, j: ((i - by) // 3, (j - by) // 3)  # noqa: E731
    out = np.zeros((6, 6, 2, 4))
    for i, j in np.ndindex(6, 6):
        near = [p for p in np.ndindex(6, 6) if window(*p) == window(i, j)]
        for head in range(2):
            scores = [
                q[i, j, head] @ k[r, c, head] * factor[head] + table[i - r + 2, j - c + 2, head]
                for r, c in near
            ]
            weights = np.exp(scores) / np.exp(scores).sum()
            out[i, j, head] = sum(s * v[p][head] for s, p in zip(weights, near, strict=True))
    out = to_numpy(attention.proj(out.reshape(1, 6, 6, 8).astype("float32")))
    if version == 1:
        y = x + out
        expected = y + to_numpy(layer.mlp(to_numpy(layer.norm2(y))[0]))
    else:
        y = x + to_numpy(layer.norm1(out))
        expected = y + to_numpy(layer.norm2(to_numpy(layer.mlp(y[0]))))
    np.testing.assert_allclose(to_numpy(layer(x)), expected, atol=2e-5)


def test_padding_leaves_windows_without_it_alone(rng):
    """In an unshifted block only the windows at the lower and right edge know of the padding."""
    layer = block(shifted=False)
    x = rng.normal(size=(1, 8, 7, 8)).astype("float32")
    np.testing.assert_allclose(
        to_numpy(layer(x))[:, :6, :6], to_numpy(layer(x[:, :6, :6])), atol=1e-5
    )
    assert layer.num_windows(x.shape) == 9


def test_scores_asked_for_and_dropout_take_the_same_path(rng):
    for version in (1, 2):
        attention = block(version=version).attention
        x = rng.normal(size=(8, 9, 8)).astype("float32")
        mask = shift_mask((6, 6), (3, 3), (1, 1))
        plain, scores = attention(x, mask, return_attention_scores=True)
        np.testing.assert_allclose(to_numpy(attention(x, mask)), to_numpy(plain), atol=1e-5)
        np.testing.assert_allclose(to_numpy(scores).sum(-1), 1, atol=1e-6)


def test_the_cost_is_linear_in_the_places():
    layer = block()
    small, large = (layer.cost((1, side, side, 8)) for side in (6, 24))
    assert large.macs == 16 * small.macs
    assert layer.cost((1, 5, 4, 8)).macs < small.macs  # the MLP knows nothing of the padding


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_resampled_bias_tables(rng, convention):
    table = rng.normal(size=(5, 7, 3)).astype("float32")
    same = resample_bias_table(table, (5, 7), convention)
    np.testing.assert_array_equal(to_numpy(same), table)
    larger = to_numpy(resample_bias_table(table, (9, 13), convention))
    np.testing.assert_allclose(larger[4, 6], table[2, 3], atol=1e-5)  # a place beside itself
    constant = resample_bias_table(np.ones((5, 5, 1)), (11, 3), convention)
    np.testing.assert_allclose(to_numpy(constant), 1, atol=1e-5)


def test_log_offsets_of_the_pretraining_window():
    offsets = log_offsets((3, 2), (3, 2))
    assert offsets.shape == (5, 3, 2)
    np.testing.assert_allclose(offsets[-1, -1], np.log2(9) / 3)  # the longest, along both
    np.testing.assert_allclose(offsets, -offsets[::-1, ::-1])
    larger = log_offsets((5, 5), (3, 3))
    np.testing.assert_allclose(larger[2:7, 2:7], log_offsets((3, 3), (3, 3)), atol=1e-6)


def test_version_2_starts_as_the_identity(rng):
    layer = layers.SwinBlock(2, 16, window_size=3, version=2)
    x = rng.normal(size=(1, 6, 6, 8)).astype("float32")
    np.testing.assert_array_equal(to_numpy(layer(x)), x)


def test_merging_lays_columns_before_rows(rng):
    """The order in which the authors' projection expects the four neighbours."""
    layer, x = layers.PatchMerging(), rng.normal(size=(1, 3, 4, 2)).astype("float32")
    layer.build(x.shape)
    randomize(layer)
    padded = np.pad(x, ((0, 0), (0, 1), (0, 0), (0, 0)))
    near = [padded[:, r::2, c::2] for c in range(2) for r in range(2)]
    expected = layer.reduction(layer.norm(np.concatenate(near, -1)))
    np.testing.assert_allclose(to_numpy(layer(x)), to_numpy(expected), atol=1e-6)


def test_unknown_sizes_in_one_graph(rng):
    """As in an exported model or after a second image size: TensorFlow then knows no side."""
    inputs = keras.Input((None, None, 8))
    layer, merging = block(), layers.PatchMerging()
    model = keras.Model(inputs, merging(layer(inputs)))
    for size in [(7, 8), (2, 4)]:
        x = rng.normal(size=(2, *size, 8)).astype("float32")
        expected = to_numpy(merging(layer(x)))
        np.testing.assert_allclose(model.predict(x, verbose=0), expected, atol=1e-5)


def test_the_fused_kernels_add_the_bias(rng, monkeypatch):
    """Keras's kernel too, which JAX takes on an accelerator."""
    q, k, v = (ops.convert_to_tensor(rng.normal(size=(6, 9, 2, 4)), "float32") for _ in range(3))
    for groups in (1, 3):
        bias = ops.convert_to_tensor(rng.normal(size=(groups, 2, 9, 9)), "float32")
        for scale in (None, 2.0):
            expected = apply_scores(attention_scores(q, k, bias, scale), v)
            found = fused_attention(q, k, v, bias, scale)
            np.testing.assert_allclose(to_numpy(found), to_numpy(expected), atol=1e-5)
            if keras.backend.backend() == "jax":
                monkeypatch.setattr("jax.default_backend", lambda: "gpu")
                found = fused_attention(q, k, v, bias, scale)
                monkeypatch.undo()
                np.testing.assert_allclose(to_numpy(found), to_numpy(expected), atol=1e-5)
