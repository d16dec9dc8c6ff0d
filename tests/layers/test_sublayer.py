"""Sub-layers that are called directly on PyTorch, beside Keras's own way; and all that is not."""

import contextlib

import keras
import numpy as np
import pytest
from keras import ops

import benchmarks.counts
import keras_vit
from keras_vit.fast_paths import without_fast_paths
from keras_vit.layers import MLP, TransformerBlock, sublayer
from keras_vit.models.registry import FAMILIES
from tests.helpers import backends, images, randomize, tiny, tiny_vit, to_numpy, weighted_sum
from tests.layers.cases import CASES

pytestmark = backends("torch")

DIRECT = [case for case in CASES if case.values[0] in sublayer._direct]
TOKENS = np.random.default_rng(0).normal(size=(2, 5, 8)).astype("float32")


def picture(model):
    size = model.input_shape[1:3]
    return ops.convert_to_tensor(images(size if None not in size else (24, 16)))


def gradients(model, x):
    """The output and the gradients of a weighted sum of it, as NumPy arrays."""
    model.zero_grad()
    y = weighted_sum(model(x, training=False))
    y.backward()
    return [to_numpy(y), *(to_numpy(v.value.grad) for v in model.trainable_variables)]


@pytest.mark.parametrize("dtype", ["float32", "mixed_bfloat16"])
@pytest.mark.parametrize("family", FAMILIES)
def test_models_and_their_gradients_are_those_of_keras(family, dtype):
    model = tiny(family, dtype=dtype)
    randomize(model, scale=0.1)
    x = picture(model)
    found = gradients(model, x)
    with without_fast_paths():
        expected = gradients(model, x)
    limit = 2e-5 if dtype == "float32" else 0.1  # bfloat16 has steps of 1/128
    for ours, theirs in zip(found, expected, strict=True):
        scale = max(np.abs(theirs).max(), 1e-3)
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=limit * scale)


@pytest.mark.parametrize(("layer_class", "arguments", "inputs"), DIRECT)
def test_direct_classes_need_no_autocast_of_keras(layer_class, arguments, inputs):
    """As `direct` asks of them: `call` alone computes in the compute dtype."""
    layer = layer_class(**arguments, dtype="mixed_bfloat16")
    x = [ops.cast(x, "bfloat16") for x in inputs]
    layer(*x)
    randomize(layer, scale=0.1)
    found, expected = layer.call(*x), layer(*x)
    assert found.dtype == expected.dtype
    found, expected = to_numpy(found), to_numpy(expected)
    np.testing.assert_allclose(found, expected, rtol=0, atol=0.02 * np.abs(expected).max())


def test_a_forward_pass_calls_no_sub_layer_by_keras():
    model, called = tiny_vit(depth=2), []
    x = picture(model)
    with recorded(called):
        model(x)
        assert called == [model]
        called.clear()
        with without_fast_paths():
            model(x)
    assert len(called) > 20


@contextlib.contextmanager
def recorded(called):
    """Appends the layers that Keras calls to a list."""
    call = keras.layers.Layer.__call__

    def record(layer, *args, **kwargs):
        called.append(layer)
        return call(layer, *args, **kwargs)

    keras.layers.Layer.__call__ = record
    try:
        yield
    finally:
        keras.layers.Layer.__call__ = call


def block():
    layer = TransformerBlock(2, 16)
    layer.build(TOKENS.shape)
    return layer


def called_by_keras(layer, x=TOKENS):
    called = []
    with recorded(called):
        layer(ops.convert_to_tensor(x))
    return called[1:]


@pytest.mark.parametrize("part", ["attention", "norm1", "mlp"])
@pytest.mark.parametrize(
    "hook",
    [
        "register_forward_hook",
        "register_forward_pre_hook",
        "register_full_backward_hook",
        "register_full_backward_pre_hook",
    ],
)
def test_hooks_see_their_layer(part, hook):
    layer, seen = block(), []
    hooked = getattr(layer, part)
    handle = getattr(hooked, hook)(lambda *_: seen.append(1))
    x = ops.convert_to_tensor(TOKENS)
    x.requires_grad_()
    layer(x).sum().backward()
    assert len(seen) == 1 and called_by_keras(layer) == [hooked]
    handle.remove()
    assert called_by_keras(layer) == []


def test_hooks_of_dense_layers_and_of_all_modules():
    from torch.nn.modules.module import register_module_forward_hook

    layer, seen = block(), []
    layer.mlp.fc1.register_forward_hook(lambda *_: seen.append("fc1"))
    layer(TOKENS)
    assert seen == ["fc1"]
    handle = register_module_forward_hook(lambda module, *_: seen.append(module.name))
    try:
        layer(TOKENS)
    finally:
        handle.remove()
    assert {"qkv", "proj", "attention", "fc1", "fc2", "mlp", "norm1", "norm2"} <= set(seen)


def test_what_somebody_changed_is_called_as_a_layer():
    class Louder(keras.layers.Dense):
        def call(self, inputs):
            return 2 * super().call(inputs)

    class Norm(keras.layers.LayerNormalization):
        pass

    layer = TransformerBlock(2, 16)
    layer.norm2, layer.mlp.fc1 = Norm(), Louder(16)
    layer.build(TOKENS.shape)
    assert called_by_keras(layer) == [layer.norm2, layer.mlp.fc1]

    layer = block()
    layer.attention.call = lambda tokens, training=None: tokens * 0
    assert called_by_keras(layer) == [layer.attention]


def test_activations_regularizers_and_dtypes_of_sub_layers_hold():
    layer = MLP(16)
    layer.build(TOKENS.shape)
    layer.fc1.activation = keras.activations.relu
    layer.fc2.activity_regularizer = keras.regularizers.L2(1.0)
    assert called_by_keras(layer) == [layer.fc1, layer.fc2]
    assert len(layer.losses) == 1 and float(layer.losses[0]) > 0

    layer = MLP(16, dtype="mixed_bfloat16")
    layer.build(TOKENS.shape)
    layer.fc2.dtype_policy = "float32"
    assert (
        called_by_keras(layer) == [layer.fc2]
        and layer(TOKENS).dtype == layer.fc2.kernel.value.dtype
    )


@pytest.mark.parametrize("dtype", ["float32", "mixed_bfloat16"])
def test_lora_is_part_of_the_product(dtype):
    layer = MLP(16, dtype=dtype)
    layer.build(TOKENS.shape)
    layer.fc1.enable_lora(2)
    randomize(layer)
    found = to_numpy(layer(TOKENS))
    with without_fast_paths():
        np.testing.assert_allclose(found, to_numpy(layer(TOKENS)), rtol=0.05, atol=0.05)
    before = found
    layer.fc1.lora_kernel_b.assign(layer.fc1.lora_kernel_b * 2)
    assert np.abs(to_numpy(layer(TOKENS)) - before).max() > 0.1


def test_quantised_layers_compute_with_integers():
    model = tiny_vit()
    x = picture(model)
    model.quantize("int8")
    found = to_numpy(model(x))
    with without_fast_paths():
        np.testing.assert_allclose(found, to_numpy(model(x)), rtol=1e-4, atol=1e-5)
    dense = [layer for layer in called_by_keras(model, x) if isinstance(layer, keras.layers.Dense)]
    assert len(dense) >= 4 * 2


def test_rates_of_dropout_and_layers_of_users_are_trained():
    """Also of a layer without `training`, which Keras tells the layers within it."""

    class Noisy(keras.layers.Layer):
        def __init__(self):
            super().__init__()
            self.dropout = keras.layers.Dropout(0.5)

        def call(self, x):
            return self.dropout(x)

    model = tiny_vit(dropout_rate=0.5, drop_path_rate=0.5)
    x = picture(model)
    assert np.array_equal(to_numpy(model(x)), to_numpy(model(x, training=False)))
    assert not np.allclose(to_numpy(model(x, training=True)), to_numpy(model(x, training=True)))
    inputs = keras.Input(model.input_shape[1:])
    whole = keras.Model(inputs, Noisy()(model(inputs)))
    assert (to_numpy(whole(x, training=True)) == 0).any()
    assert not (to_numpy(whole(x)) == 0).any()


def test_derivatives_of_higher_order_and_vmap():
    import torch

    layer = block()
    randomize(layer, scale=0.3)
    x = ops.convert_to_tensor(TOKENS)

    def curvature(x):
        def loss(x):
            return weighted_sum(layer(x))

        return torch.func.grad(lambda x: (torch.func.grad(loss)(x) ** 2).sum())(x)

    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        found = to_numpy(curvature(x))
        many = torch.func.vmap(lambda x: layer(x[None])[0])(x)
        with without_fast_paths():
            expected = to_numpy(curvature(x))
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())
    np.testing.assert_allclose(to_numpy(many), to_numpy(layer(x)), rtol=1e-4, atol=1e-5)


def test_the_switch_is_public():
    layer = block()
    assert called_by_keras(layer) == []
    keras_vit.set_fast_paths(False)
    try:
        assert len(called_by_keras(layer)) == 8
    finally:
        keras_vit.set_fast_paths(True)


def test_a_forward_pass_makes_few_python_calls():
    """At most 12,000 with those into C: what a small batch waits for. It was 71,233."""
    found = benchmarks.counts.torch_calls("keras_vit")()
    functions, all_calls = found["python_calls"], found["all_calls"]
    assert functions < 8_000 and all_calls < 12_000
