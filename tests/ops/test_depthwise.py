"""The depthwise convolution as a sum of products beside Keras's layer."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_vit.fast_paths import without_fast_paths
from keras_vit.layers import ConvolutionalMLP
from keras_vit.ops.depthwise import depthwise, faster_shifted
from tests.helpers import backends, once, randomize, to_numpy, weighted_sum

RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(2, 5, 4, 6)).astype("float32")


def kernel(kh, kw):
    return RANDOM.normal(size=(kh, kw, 6, 1)).astype("float32")


@once
@pytest.mark.parametrize("sides", [(3, 3), (5, 1), (1, 3)])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_it_is_the_convolution(sides, dtype):
    k = kernel(*sides)
    found = depthwise(ops.cast(X, dtype), k)
    expected = ops.depthwise_conv(X, k, padding="same", data_format="channels_last")
    assert keras.backend.standardize_dtype(found.dtype) == dtype
    limit = 1e-6 if dtype == "float32" else 1e-2
    scale = np.abs(to_numpy(expected)).max()
    np.testing.assert_allclose(to_numpy(found), to_numpy(expected), rtol=0, atol=limit * scale)


def mlp(**arguments):
    layer = ConvolutionalMLP(6, **arguments)
    layer(X)
    randomize(layer)
    return layer


@backends("jax")
def test_the_mlp_and_its_gradients_are_those_of_keras():
    import jax

    layer = mlp()
    variables = [v.value for v in layer.trainable_variables]

    def loss(variables, x):
        return weighted_sum(layer.stateless_call(variables, [], x)[0])

    compute = jax.value_and_grad(loss, argnums=(0, 1))

    def convolves():  # traced anew, which JAX does for each function once
        return "conv_general" in str(jax.make_jaxpr(lambda *x: compute(*x))(variables, X))

    assert faster_shifted() and not convolves()
    found = jax.tree.leaves(compute(variables, X))
    with without_fast_paths():
        assert convolves()
        expected = jax.tree.leaves(compute(variables, X))
    for ours, theirs in zip(found, expected, strict=True):
        scale = np.abs(to_numpy(theirs)).max()
        np.testing.assert_allclose(to_numpy(ours), to_numpy(theirs), rtol=0, atol=1e-5 * scale)


@backends("jax")
def test_gradients_in_bfloat16_are_as_good_as_those_of_keras():
    """Compared with float32, because one of Keras's sums may end a step of bfloat16 elsewhere."""
    import jax

    k = kernel(3, 3)

    def gradients(convolve, dtype):
        def loss(x, k):
            return weighted_sum(convolve(x, k)).astype("float32")

        found = jax.grad(loss, argnums=(0, 1))(ops.cast(X, dtype), ops.cast(k, dtype))
        return [to_numpy(x) for x in found]

    def of_keras(x, k):
        return ops.depthwise_conv(x, k, padding="same", data_format="channels_last")

    exact = gradients(of_keras, "float32")
    ours, theirs = gradients(depthwise, "bfloat16"), gradients(of_keras, "bfloat16")
    for found, other, right in zip(ours, theirs, exact, strict=True):
        assert np.abs(found - right).max() <= max(np.abs(other - right).max(), 1e-3)


@backends("jax")
def test_derivatives_of_every_order_and_direction():
    import jax
    from jax.test_util import check_grads

    with jax.enable_x64(True):
        k = ops.convert_to_tensor(kernel(3, 3), "float64")
        x = ops.convert_to_tensor(X, "float64")
        check_grads(lambda x, k: depthwise(x, k) ** 2, (x, k), order=2, modes=("fwd", "rev"))
        gradient = jax.grad(lambda x: (depthwise(x[None], k) ** 3).sum())
        plain = np.stack([gradient(x) for x in x])
        np.testing.assert_allclose(jax.jit(jax.vmap(gradient))(x), plain, rtol=1e-12)


@backends("jax")
def test_a_layer_of_another_kind_or_with_another_call_is_called():
    class Own(keras.layers.DepthwiseConv2D):
        def call(self, inputs):
            return 2 * super().call(inputs)

    class Replaced(ConvolutionalMLP):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            self.depthwise = Own(3, padding="same", name="depthwise")

    layer, replaced, patched = mlp(), Replaced(6), mlp()
    replaced(X)
    call = patched.depthwise.call
    patched.depthwise.call = lambda x: 2 * call(x)
    for other in (replaced, patched):
        other.set_weights(layer.get_weights())
        assert not np.allclose(to_numpy(other(X)), to_numpy(layer(X)))
    np.testing.assert_allclose(to_numpy(replaced(X)), to_numpy(patched(X)), rtol=1e-5, atol=1e-6)
