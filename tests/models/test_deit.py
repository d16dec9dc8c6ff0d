"""DeiT: two tokens and two heads through everything that a model here does."""

import keras
import numpy as np
import pytest

import keras_vit
from keras_vit.optimizers import decays, layer_shares
from tests.helpers import compile_model, images, once, randomize, tiny_vit, to_numpy
from training.lora import enable_lora


def tiny_deit(**arguments):
    return tiny_vit(**{"distillation_token": True, **arguments})


def test_the_output_is_the_mean_of_the_two_heads():
    model = tiny_deit()
    randomize(model)
    heads = model.distillation_model().predict(images(), verbose=0)
    mean = (heads["class"] + heads["distillation"]) / 2
    np.testing.assert_allclose(model.predict(images(), verbose=0), mean, atol=1e-6)
    assert np.abs(heads["class"] - heads["distillation"]).max() > 1e-2


def test_each_head_reads_its_own_token():
    """[class, distillation, registers, patches], as the heads and the grid read them."""
    model = tiny_deit(num_registers=2)
    randomize(model)
    assert model.num_prefix_tokens == 4
    tokens = to_numpy(model.features(images(), ["norm"])["norm"])
    heads = model.distillation_model().predict(images(), verbose=0)
    for i, (output, layer) in enumerate([("class", "head"), ("distillation", "distillation_head")]):
        kernel, bias = map(to_numpy, model.get_layer(layer).weights)
        np.testing.assert_allclose(heads[output], tokens[:, i] @ kernel + bias, atol=1e-5)
    names = ["patch_embedding", "registers", "distillation_token", "block00"]
    found = model.features(images(), names)
    assert [found[name].shape[1] for name in names] == [6, 8, 9, 10]
    patches = to_numpy(found["patch_embedding"])
    for name in names[:3]:
        grid = to_numpy(model.features(images(), [name], grid=True)[name])
        np.testing.assert_array_equal(grid.reshape(patches.shape), patches)
    assert keras_vit.attention_maps(model, images(), ["block01"])["block01"].shape == (3, 2, 10, 10)


def test_features_are_the_mean_of_the_tokens():
    model = tiny_deit(num_classes=None)
    randomize(model)
    tokens = to_numpy(model.features(images(), ["norm"])["norm"])
    np.testing.assert_allclose(to_numpy(model(images())), tokens[:, :2].mean(1), atol=1e-6)
    with pytest.raises(ValueError, match="num_classes=.*Received: .* last layers"):
        model.distillation_model()


def test_without_its_head_the_token_only_takes_part_in_the_attention():
    model, plain = tiny_deit(distillation_head=False), tiny_vit()
    randomize(model)
    weights = {weight.path: to_numpy(weight) for weight in model.weights}
    weights["position_embedding/prefix"] = weights["position_embedding/prefix"][:1]
    for weight in plain.weights:
        weight.assign(weights.pop(weight.path))
    assert list(weights) == ["distillation_token/tokens"]
    found = to_numpy(model(images()))
    kernel, bias = map(to_numpy, model.get_layer("head").weights)
    tokens = to_numpy(model.features(images(), ["norm"])["norm"])
    np.testing.assert_allclose(found, tokens[:, 0] @ kernel + bias, atol=1e-5)
    assert np.abs(found - to_numpy(plain(images()))).max() > 1e-3


def test_both_heads_train_save_and_resize(tmp_path):
    model = tiny_deit()
    both = model.distillation_model()
    before = {w.path: to_numpy(w) for w in model.weights}
    compile_model(both)
    targets = {"class": np.ones((3, 4)), "distillation": -np.ones((3, 4))}
    both.fit(images(), targets, verbose=0)
    for weight in model.weights:
        assert np.abs(to_numpy(weight) - before[weight.path]).max() > 0, weight.path
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    expected = model.predict(images(), verbose=0)
    np.testing.assert_allclose(loaded.predict(images(), verbose=0), expected, atol=1e-6)
    np.testing.assert_allclose(
        keras_vit.from_pretrained(tmp_path / "model.keras").predict(images(), verbose=0),
        expected,
        atol=1e-6,
    )

    resized = keras_vit.resize(model, (32, 24))
    prefix = to_numpy(model.get_layer("position_embedding").prefix)
    assert prefix.shape == (2, 16)
    np.testing.assert_array_equal(to_numpy(resized.get_layer("position_embedding").prefix), prefix)
    for name in ("head", "distillation_head", "distillation_token"):
        for ours, theirs in zip(
            resized.get_layer(name).weights, model.get_layer(name).weights, strict=True
        ):
            np.testing.assert_array_equal(to_numpy(ours), to_numpy(theirs))


def test_a_new_task_begins_both_heads_anew(tmp_path):
    model = tiny_deit()
    randomize(model)
    model.save(tmp_path / "model.keras")
    other = keras_vit.from_pretrained(tmp_path / "model.keras", num_classes=7)
    fresh = {"head/dense/kernel", "head/dense/bias"}
    assert set(other.load_report.fresh) == fresh | {f"distillation_{path}" for path in fresh}
    assert other.predict(images(), verbose=0).shape == (3, 7)
    plain = keras_vit.from_pretrained(tmp_path / "model.keras", distillation_token=False)
    assert list(plain.load_report.fresh) == ["position_embedding/prefix"]
    assert plain.num_prefix_tokens == 1


def test_rates_decay_and_low_rank_updates_know_the_second_head():
    model = tiny_deit()
    shares = dict(
        zip([v.path for v in model.trainable_variables], layer_shares(model, 0.5), strict=True)
    )
    assert shares["head/dense/kernel"] == shares["distillation_head/dense/kernel"] == 1
    assert shares["distillation_token/tokens"] == shares["class_token/tokens"] == 0.125
    assert not decays("distillation_token/tokens") and decays("distillation_head/dense/kernel")
    enable_lora(model, 2)
    trained = {variable.path.split("/")[0] for variable in model.trainable_variables}
    assert trained == {"block00", "block01", "head", "distillation_head"}


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_the_mean_of_the_logits_is_float32(policy):
    model = tiny_deit(dtype=policy)
    assert keras.backend.standardize_dtype(model(images()).dtype) == "float32"


@once
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"distillation_token": False, "distillation_head": True}, "distillation_token=True"),
        (
            {"pooling": "gap"},
            "pooling='token'; otherwise pass distillation_head=False. Received.*'gap'",
        ),
        ({"fc_norm": True}, "needs fc_norm=False"),
        ({"representation_size": 8}, "needs representation_size=None"),
    ],
    ids=str,
)
def test_bad_arguments_are_explained(arguments, message):
    with pytest.raises(ValueError, match=message):
        tiny_deit(**arguments)
