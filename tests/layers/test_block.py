"""A user's own block, of the base class alone: the whole library takes it like its own."""

import keras
import numpy as np
import pytest

import keras_vit
from keras_vit.layers import MLP, Attention, Block
from keras_vit.optimizers import layer_shares
from tests.helpers import compile_model, images, once, randomize, tiny_vit, to_numpy
from training.lora import enable_lora


@keras.saving.register_keras_serializable(package="tests")
class ParallelBlock(Block):
    """x + attention(norm(x)) + mlp(norm(x)), as in Dehghani et al. 2023 (arXiv:2302.05442)."""

    def __init__(self, num_heads, mlp_dim, drop_path_rate=0.0, **kwargs):
        super().__init__(**kwargs)
        part = {"dtype": self.dtype_policy}
        self.add_branches(
            Attention(num_heads, name="attention", **part),
            MLP(mlp_dim, name="mlp", **part),
            drop_path_rate=drop_path_rate,
        )

    def compute(self, x, training=None, **attention):
        y = self.attention(self.norm1(x), training=training, **attention)
        z = self.mlp(self.norm2(x), training=training)
        return x + self.scaled(1, y, training) + self.scaled(2, z, training)


@pytest.fixture
def model(monkeypatch):
    def block(num_heads, mlp_dim, drop_path_rate, remat, name, dtype, **_):
        options = {"drop_path_rate": drop_path_rate, "remat": remat, "name": name, "dtype": dtype}
        return ParallelBlock(num_heads, mlp_dim, **options)

    monkeypatch.setattr("keras_vit.models.vit.TransformerBlock", block)
    model = tiny_vit()
    assert isinstance(model.get_layer("block01"), ParallelBlock)
    randomize(model)
    return model


def test_features_attention_and_attribution(model):
    pixels = images(batch=2)
    assert list(model.features(pixels)) == ["block00", "block01"]
    maps = keras_vit.attention_maps(model, pixels)
    assert {name: x.shape for name, x in maps.items()} == {
        "block00": (2, 2, 7, 7),
        "block01": (2, 2, 7, 7),
    }
    on_grid = keras_vit.attention_maps(model, pixels, ["block01"], heads=[1], grid=True)
    expected = maps["block01"][:, 1:, :, 1:].reshape(2, 1, 7, 3, 2)
    np.testing.assert_array_equal(on_grid["block01"], expected)
    for explain in (keras_vit.attention_rollout, keras_vit.attention_attribution):
        found = explain(model, pixels)
        assert found.shape == (2, 3, 2) and found.max() > 0
    assert keras_vit.grad_cam(model, pixels).shape == (2, 3, 2)
    keras_vit.plot_attention(model, pixels, "block01")


@once
def test_complexity_and_rates_by_layer(model):
    ours, plain = keras_vit.complexity(model), keras_vit.complexity(tiny_vit())
    assert (ours.macs, ours.activation_bytes) == (plain.macs, plain.activation_bytes)
    assert ours.scores_bytes == plain.scores_bytes == 2 * 2 * 7 * 7 * 4
    assert str(ours.terms) == str(plain.terms)
    assert sorted(set(layer_shares(model, 0.5))) == [0.125, 0.25, 0.5, 1.0]


@once
def test_lora(model):
    enable_lora(model, rank=2)
    for name in ("block00", "block01"):
        trainable = [x.path for x in model.get_layer(name).trainable_weights]
        assert len(trainable) == 4 and all("lora" in path for path in trainable)


@once
def test_configuration_file_and_training(tmp_path):
    tokens = np.random.default_rng(0).normal(size=(4, 5, 8)).astype("float32")
    inputs = keras.Input((5, 8))
    block = ParallelBlock(2, 16, remat=True, drop_path_rate=0.2)
    model = keras.Model(inputs, block(inputs))
    randomize(block)
    config = block.get_config()
    assert (config["num_heads"], config["remat"], config["drop_path_rate"]) == (2, True, 0.2)
    model.save(tmp_path / "block.keras")
    loaded = keras.models.load_model(tmp_path / "block.keras")
    np.testing.assert_array_equal(to_numpy(loaded(tokens)), to_numpy(model(tokens)))

    compile_model(model)
    before = [to_numpy(x) for x in model.trainable_weights]
    model.fit(tokens, tokens, verbose=0)
    for old, weight in zip(before, model.trainable_weights, strict=True):
        assert np.abs(to_numpy(weight) - old).max() > 0
