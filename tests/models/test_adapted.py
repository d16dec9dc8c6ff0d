"""Quantised layers and low-rank updates are there again after saving and loading."""

import gc
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

import keras_vit
from keras_vit.models.adapted import merged
from tests.helpers import (
    NEXT,
    compile_model,
    images,
    once,
    once_but,
    randomize,
    run,
    tiny_vit,
    to_numpy,
)
from tests.models.reloading import (
    EVERYWHERE,
    FAMILIES,
    assert_same,
    deit,
    dense_layers,
    pvt,
    reload,
    remat_vit,
)


@pytest.fixture(autouse=True)
def quick_collections():
    """Keras collects garbage for every layer that it quantises: not all that was imported too."""
    gc.freeze()
    yield
    gc.unfreeze()


# Every family in int8, and three in the other modes.
QUANTISED = {
    **{name: (make, "int8") for name, make in FAMILIES.items()},
    "remat_vit in int4": (remat_vit, "int4"),
    "pvt in float8": (pvt, "float8"),
    "deit in int4": (deit, "int4"),
}


@pytest.mark.parametrize(("make", "mode"), once_but(QUANTISED, EVERYWHERE))
def test_quantised_models_load_again(make, mode, tmp_path):
    model = make()
    randomize(model, scale=0.05)
    model.quantize(mode)
    pixels = images(model.input.shape[1:3])
    expected = run(model, pixels)
    loaded = reload(model, tmp_path)
    assert_same(model, loaded)
    np.testing.assert_array_equal(run(loaded, pixels), expected)
    modes = {path: x.quantization_mode for path, x in dense_layers(loaded).items()}
    assert modes and set(modes.values()) == {mode}
    model.save_weights(tmp_path / "model.weights.h5")
    again = type(model).from_config(model.get_config())
    again.load_weights(tmp_path / "model.weights.h5")
    np.testing.assert_array_equal(run(again, pixels), expected)


@once
def test_a_choice_of_layers_and_weights_alone_are_quantised(tmp_path):
    """The configuration of each layer counts: without quantised activations, in groups of 8."""
    model = tiny_vit()
    randomize(model)
    weights_alone = keras.quantizers.Int8QuantizationConfig(activation_quantizer=None)
    model.quantize(config=weights_alone, filters=lambda x: "block00" in (x.path or ""))
    groups = keras.quantizers.Int4QuantizationConfig(block_size=8)
    model.quantize(config=groups, filters=lambda x: "block01" in (x.path or ""))
    expected = run(model, images())
    loaded = reload(model, tmp_path)
    np.testing.assert_array_equal(run(loaded, images()), expected)
    assert loaded.get_layer("block00").attention.qkv.inputs_quantizer is None
    assert loaded.get_layer("block01").attention.qkv.kernel_scale.shape == (2, 48)
    assert loaded.get_layer("head").dense.quantization_mode is None


READ = """
import sys
import keras, keras_vit, numpy as np

file, pixels, outputs = sys.argv[1:]
model = keras.models.load_model(file)
trained = [x.path for x in model.trainable_weights]
np.savez(outputs, logits=model.predict(np.load(pixels), verbose=0), trained=trained)
"""


@pytest.mark.slow
def test_another_backend_reads_them(tmp_path):
    """int8, int4, low-rank updates and frozen weights in one file."""
    model = tiny_vit(depth=3)
    weights_alone = keras.quantizers.Int8QuantizationConfig(activation_quantizer=None)
    model.quantize(config=weights_alone, filters=lambda x: "block00" in (x.path or ""))
    model.quantize("int4", filters=lambda x: "block01" in (x.path or ""))
    for block in ("block00", "block02"):
        model.get_layer(block).attention.qkv.enable_lora(2, lora_alpha=3)
    model.get_layer("block02").mlp.trainable = False
    randomize_floats(model)
    model.save(tmp_path / "model.keras")
    np.save(tmp_path / "pixels.npy", images())
    files = [tmp_path / name for name in ("model.keras", "pixels.npy", "outputs.npz")]
    subprocess.run(
        [sys.executable, "-c", READ, *map(str, files)],
        env={**os.environ, "KERAS_BACKEND": NEXT[keras.backend.backend()]},
        cwd=Path(__file__).parents[2],
        check=True,
    )
    read = np.load(files[-1])
    np.testing.assert_allclose(read["logits"], model.predict(images(), verbose=0), atol=1e-4)
    assert list(read["trained"]) == [x.path for x in model.trainable_weights]


def randomize_floats(model):
    rng = np.random.default_rng(0)
    for weight in model.weights:
        if weight.dtype == "float32" and "scale" not in weight.path and "g_idx" not in weight.path:
            weight.assign(to_numpy(weight) + rng.normal(0, 0.2, weight.shape))


def adapted(make, **arguments):
    """A model with low-rank updates that a step of training has filled."""
    model = make(**arguments)
    randomize(model, scale=0.05)
    for path, layer in dense_layers(model).items():
        if path.endswith(("qkv", "query", "proj", "fc1")):
            layer.enable_lora(2, lora_alpha=5)
    compile_model(model)
    return model


# A ResNet has no projections.
@pytest.mark.parametrize(
    "make", once_but({k: v for k, v in FAMILIES.items() if k != "resnet"}, EVERYWHERE)
)
def test_low_rank_updates_stay_apart(make, tmp_path):
    """Training goes on from the file with the losses that it would have had without."""
    model = adapted(make)
    pixels = images(model.input.shape[1:3])
    data = {"x": pixels, "y": np.ones((3, 4)), "verbose": 0, "shuffle": False}
    model.fit(**data)
    loaded = reload(model, tmp_path)
    assert_same(model, loaded)
    assert any(to_numpy(x).any() for x in loaded.weights if "lora_kernel_b" in x.path)
    losses = [m.fit(**data, epochs=2).history["loss"] for m in (model, loaded)]
    assert losses[0] == losses[1] and losses[0][0] != losses[0][1]
    # The weights alone, into a model that has the layers too.
    model.save_weights(tmp_path / "model.weights.h5")
    again = type(model).from_config(model.get_config())
    again.load_weights(tmp_path / "model.weights.h5")
    assert_same(model, again)


@once
def test_low_rank_updates_of_quantised_layers(tmp_path):
    model = tiny_vit()
    model.quantize("int8")
    for block in ("block00", "block01"):
        model.get_layer(block).mlp.fc1.enable_lora(2)
    compile_model(model)
    model.fit(images(), np.ones((3, 4)), verbose=0)
    expected = run(model, images())
    loaded = reload(model, tmp_path)
    assert_same(model, loaded)
    np.testing.assert_array_equal(run(loaded, images()), expected)


def _with_sums(model, path):
    model.save(path)
    with pytest.warns(UserWarning, match="added to the matrices") as said:
        loaded = keras_vit.from_pretrained(path, preprocessor=None)
    assert [x.filename for x in said] == [__file__]
    return loaded


def test_a_base_that_is_trained_too_stays_so(tmp_path):
    """`trainable = True` after `enable_lora` trains the matrix as well."""
    model = adapted(tiny_vit)
    model.trainable = False  # TensorFlow hears changes alone
    model.trainable = True
    assert model.get_layer("block00").attention.qkv._kernel.trainable
    assert_same(model, reload(model, tmp_path))


@once
def test_merged_on_purpose(tmp_path):
    """As a run's checkpoints are: a plain model with the sums, for everybody."""
    model = adapted(tiny_vit)
    model.fit(images(), np.ones((3, 4)), verbose=0)
    model.get_layer("block00").attention.qkv.lora_kernel_a.trainable = False
    with merged(model):
        plain = reload(model, tmp_path)
    assert not any("lora" in x.path for x in plain.weights)
    assert not model.get_layer("block00").attention.qkv._kernel.trainable
    for loaded in (plain, _with_sums(model, tmp_path / "apart.keras")):
        assert loaded.get_layer("block00").attention.qkv.kernel.trainable  # as the update was
    np.testing.assert_allclose(run(plain, images()), run(model, images()), atol=1e-5)
    assert "lora" in str(model.get_config()["adapted_layers"])
    # Read back into the model with updates, these begin anew and have gradients.
    model.get_layer("block00").attention.qkv.lora_kernel_a.trainable = True
    model.load_weights(tmp_path / "model.keras")
    np.testing.assert_allclose(run(plain, images()), run(model, images()), atol=1e-5)
    first = model.get_layer("block01").attention.qkv
    before = to_numpy(first.lora_kernel_b)
    assert not before.any() and to_numpy(first.lora_kernel_a).any()
    model.fit(images(), np.ones((3, 4)), verbose=0)
    assert to_numpy(first.lora_kernel_b).any()


@once
def test_other_readers_and_writers_get_the_sums(tmp_path):
    model = adapted(tiny_vit)
    model.fit(images(), np.ones((3, 4)), verbose=0)
    expected = run(model, images())
    model.save(tmp_path / "model.keras")
    with pytest.warns(UserWarning, match="low-rank updates of .* are added to the matrices"):
        plain = keras_vit.from_pretrained(tmp_path / "model.keras")
    np.testing.assert_allclose(run(plain, images()), expected, atol=1e-5)
    keras_vit.save_pretrained(model, tmp_path / "hf", format="hf")
    again = keras_vit.from_pretrained(tmp_path / "hf")
    np.testing.assert_allclose(run(again, images()), expected, atol=1e-5)


@once
def test_what_cannot_be_kept_is_refused(tmp_path):
    model = tiny_vit()
    model.quantize("int8")
    model.save(tmp_path / "model.keras")
    with pytest.raises(ValueError, match="holds a quantised model: load it with keras.models"):
        keras_vit.from_pretrained(tmp_path / "model.keras")
    with pytest.raises(ValueError, match="use format='keras' for a quantised model"):
        keras_vit.save_pretrained(model, tmp_path / "hf", format="hf")
    qkv = model.get_layer("block00").attention.qkv
    qkv.dtype_policy = keras.dtype_policies.GPTQDTypePolicy("gptq/4/128", "float32")
    with pytest.raises(ValueError, match="mode 'gptq' cannot be saved.*block00/attention/qkv"):
        model.save(tmp_path / "gptq.keras")
    for wrong in ({"block00": 3}, {"block9": {"lora_rank": 2}}, {"head/dense": {"rank": 2}}):
        with pytest.raises(ValueError, match="adapted_layers must be what.*get_config gives"):
            tiny_vit(adapted_layers=wrong)
    with pytest.raises(ValueError, match="quantization must be the configuration of one of"):
        tiny_vit(adapted_layers={"head/dense": {"quantization": {"class_name": "Lambda"}}})
    with pytest.raises(ValueError, match="adapted_layers must be a dict or None"):
        tiny_vit(adapted_layers=["head"])
