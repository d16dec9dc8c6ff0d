"""Embed, encode, read out: what tasks do between the stages, with the model's own layers."""

import keras
import numpy as np
import pytest
from keras import ops

from tests.helpers import compile_model, images, once_but, randomize, run, tiny_vit, to_numpy

MODELS = {
    "vit": {},
    "any size": {"image_size": None, "position_grid": (3, 2)},
    "deit": {"distillation_token": True, "num_registers": 2},
    "fc_norm": {"pooling": "gap", "fc_norm": True, "pre_norm": True, "representation_size": 8},
    "map": {"pooling": "map", "position_embedding": "sincos", "include_preprocessing": True},
}


@pytest.mark.parametrize("arguments", once_but(MODELS, "vit"))
def test_the_model_is_its_three_stages(arguments):
    model = tiny_vit(**arguments)
    randomize(model)
    before = [weight.path for weight in model.weights]
    tokens = model.embed(ops.convert_to_tensor(images()))
    assert tokens.shape == (3, 6 + model.num_prefix_tokens, 16)
    found = to_numpy(model.read_out(model.encode(tokens)))
    np.testing.assert_array_equal(found, to_numpy(model(images())))
    assert [weight.path for weight in model.weights] == before


class MaskedEncoder(keras.Model):
    """What a masked autoencoder's encoder does: some patches are dropped before the blocks."""

    def __init__(self, encoder, kept):
        super().__init__()
        self.encoder, self.kept = encoder, kept

    def call(self, pixels, training=None):
        x = self.encoder.embed(pixels, training=training)  # (B, 1 + N, D)
        prefix, patches = x[:, :1], x[:, 1:]
        x = ops.concatenate([prefix, ops.take(patches, self.kept, axis=1)], axis=1)
        return self.encoder.encode(x, training=training)


def test_a_masked_autoencoder_drops_patches_between_embed_and_encode():
    model = tiny_vit()
    randomize(model)
    everything = MaskedEncoder(model, range(6))(ops.convert_to_tensor(images()))
    expected = run(keras.Model(model.input, model.get_layer("norm").output), images())
    np.testing.assert_allclose(to_numpy(everything), expected, atol=1e-6)
    whole = to_numpy(model.encode(model.embed(ops.convert_to_tensor(images()))))
    np.testing.assert_array_equal(to_numpy(everything), whole)

    some = MaskedEncoder(model, [4, 0])
    pixels = images()
    dropped = pixels.copy()
    dropped[:, 0:8, 8:16] += 1  # patch 1
    found = to_numpy(some(ops.convert_to_tensor(pixels)))
    assert found.shape == (3, 3, 16)
    np.testing.assert_array_equal(to_numpy(some(ops.convert_to_tensor(dropped))), found)
    assert np.abs(found - whole[:, [0, 5, 1]]).max() > 1e-3  # the others were not attended to

    # The encoder's own weights are trained, all but those of the head.
    compile_model(some)
    before = {weight.path: to_numpy(weight) for weight in model.weights}
    some.fit(pixels, np.ones((3, 3, 16)), verbose=0)
    same = {path for path, x in before.items() if np.array_equal(x, to_numpy(_of(model, path)))}
    assert same == {"head/dense/kernel", "head/dense/bias"}


def _of(model, path):
    return next(weight for weight in model.weights if weight.path == path)


def test_tokens_from_elsewhere():
    """As a text tower or a detector has them: a graph of its own around the model's blocks."""
    model = tiny_vit()
    randomize(model)
    words = keras.Input((5,), dtype="int32")
    x = keras.layers.Embedding(7, 16, name="words")(words)
    tower = keras.Model(words, model.encode(x))
    x = np.array([[1, 2, 3, 4, 5]])
    expected = ops.convert_to_tensor(to_numpy(tower.get_layer("words")(x)))
    for block in ("block00", "block01", "norm"):
        expected = model.get_layer(block)(expected)
    np.testing.assert_allclose(run(tower, x), to_numpy(expected), atol=1e-5)
    assert tower.get_layer("block01") is model.get_layer("block01")
    np.testing.assert_allclose(run(model, images()), to_numpy(model(images())), atol=1e-6)


def test_stages_keep_dropout_to_training():
    model = tiny_vit(dropout_rate=0.5)
    pixels = ops.convert_to_tensor(images())
    plain = to_numpy(model.encode(model.embed(pixels)))
    np.testing.assert_array_equal(to_numpy(model.encode(model.embed(pixels))), plain)
    drawn = to_numpy(model.embed(pixels, training=True))
    assert np.abs(drawn - to_numpy(model.embed(pixels))).max() > 1e-3
    tokens = model.embed(pixels)
    assert np.abs(to_numpy(model.encode(tokens, training=True)) - plain).max() > 1e-3
