"""Heads that talk, and a class token that reads: against plain attention."""

import numpy as np

from keras_vit import layers
from tests.helpers import randomize, to_numpy

TOKENS = np.random.default_rng(0).normal(size=(2, 7, 16)).astype("float32")


def test_heads_that_say_nothing_are_plain_attention():
    talking, plain = layers.TalkingHeadsAttention(4), layers.Attention(4)
    plain(TOKENS)
    talking(TOKENS)
    randomize(plain)
    for ours, theirs in ((talking.qkv, plain.qkv), (talking.proj, plain.proj)):
        ours.kernel.assign(to_numpy(theirs.kernel))
        ours.bias.assign(to_numpy(theirs.bias))
    talking.logits_projection.kernel.assign(np.eye(4))
    talking.weights_projection.kernel.assign(np.eye(4))
    expected, expected_scores = plain(TOKENS, return_attention_scores=True)
    found, scores = talking(TOKENS, return_attention_scores=True)
    np.testing.assert_allclose(to_numpy(found), to_numpy(expected), atol=1e-5)
    np.testing.assert_allclose(to_numpy(scores), to_numpy(expected_scores), atol=1e-6)

    # each head may listen to another: the map goes from the kernel's rows to its columns
    swap = np.eye(4)[[1, 2, 3, 0]]
    talking.logits_projection.kernel.assign(swap)
    talking.weights_projection.kernel.assign(swap.T)
    _, swapped = talking(TOKENS, return_attention_scores=True)
    heads = to_numpy(expected_scores)[:, [3, 0, 1, 2]]
    np.testing.assert_allclose(to_numpy(swapped), heads, atol=1e-6)
    np.testing.assert_allclose(to_numpy(talking(TOKENS)), to_numpy(expected), atol=1e-5)


def test_the_class_token_attends_as_it_does_in_plain_attention():
    reading, plain = layers.ClassAttention(4), layers.Attention(4)
    plain(TOKENS)
    reading(TOKENS)
    randomize(plain)
    kernel, bias = to_numpy(plain.qkv.kernel), to_numpy(plain.qkv.bias)
    reading.query.kernel.assign(kernel[:, :16])
    reading.query.bias.assign(bias[:16])
    reading.key_value.kernel.assign(kernel[:, 16:])
    reading.key_value.bias.assign(bias[16:])
    reading.proj.kernel.assign(to_numpy(plain.proj.kernel))
    reading.proj.bias.assign(to_numpy(plain.proj.bias))
    expected = to_numpy(plain(TOKENS))[:, :1]
    np.testing.assert_allclose(to_numpy(reading(TOKENS)), expected, atol=1e-5)
    found, scores = reading(TOKENS, return_attention_scores=True)
    np.testing.assert_allclose(to_numpy(found), expected, atol=1e-5)
    assert scores.shape == (2, 4, 1, 7)
