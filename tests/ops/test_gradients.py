"""The fast paths on JAX beside Keras's own functions, and the switch that turns them off."""

import functools
import os
import subprocess
import sys

import keras
import numpy as np
import pytest
from keras import ops

import keras_vit
from keras_vit.layers.tokenwise import LayerNormalization, linear
from keras_vit.models.registry import FAMILIES
from keras_vit.ops.gradients import gelu, layer_norm
from tests.helpers import backends, images, randomize, tiny, to_numpy, weighted_sum

pytestmark = backends("jax")

RANDOM = np.random.default_rng(0)
X = RANDOM.normal(0, 2, (3, 5, 16)).astype("float32")
GAMMA, BETA = RANDOM.normal(1, 0.5, (2, 16)).astype("float32")


@pytest.fixture
def off():
    """Calls a function with the fast paths off."""

    def call(function, *arguments):
        keras_vit.set_fast_paths(False)
        try:
            return function(*arguments)
        finally:
            keras_vit.set_fast_paths(True)

    return call


def normalized(x):
    """With scale and offset in float32, as layers have them; in float64 for differences."""
    dtype = "float64" if x.dtype == "float64" else "float32"
    return layer_norm(x, ops.cast(GAMMA, dtype), ops.cast(BETA, dtype), 1e-6)


FUNCTIONS = {"layer_norm": normalized, "gelu": gelu}
function = pytest.mark.parametrize("function", FUNCTIONS.values(), ids=FUNCTIONS)


def loss(function, x):
    return weighted_sum(function(x))


@function
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_values_and_gradients_are_those_of_keras(function, dtype, off):
    import jax

    x = ops.cast(X, dtype)
    compute = jax.value_and_grad(functools.partial(loss, function))
    ways = (function(x), *compute(x)), (off(function, x), *off(compute, x))
    for found, expected in zip(*ways, strict=True):
        assert found.dtype == expected.dtype == dtype
        scale = np.abs(to_numpy(expected)).max()
        # Keras's GELU computes in half precision: ours is compared with float32 below.
        limit = 2e-6 if dtype == "float32" else 2e-2
        np.testing.assert_allclose(to_numpy(found), to_numpy(expected), rtol=0, atol=limit * scale)


@function
def test_half_precision_is_rounded_once(function):
    """The result in bfloat16 is the rounded result in float32, and so is the gradient."""
    import jax

    x = ops.cast(ops.cast(X, "bfloat16"), "float32")
    exact = ops.cast(function(x), "bfloat16")
    np.testing.assert_allclose(
        to_numpy(function(ops.cast(x, "bfloat16"))), to_numpy(exact), 1 / 128
    )
    slopes = [
        jax.grad(lambda x: function(x).astype("float32").sum())(ops.cast(x, d))
        for d in ("bfloat16", "float32")
    ]
    np.testing.assert_allclose(*map(to_numpy, slopes), rtol=1 / 64, atol=2e-2)


@function
def test_derivatives_of_every_order_and_direction(function):
    """Against differences in float64: forward, backward, and each of the other, three times."""
    import jax
    from jax.test_util import check_grads

    with jax.enable_x64(True):
        check_grads(function, (ops.convert_to_tensor(X, "float64"),), order=3, modes=("fwd", "rev"))


def test_gradients_of_scale_and_offset(off):
    import jax

    def compute(gamma, beta):
        return loss(lambda x: layer_norm(x, gamma, beta, 1e-6), ops.convert_to_tensor(X))

    gradients = jax.grad(compute, argnums=(0, 1))
    arguments = ops.convert_to_tensor(GAMMA), ops.convert_to_tensor(BETA)
    for found, expected in zip(gradients(*arguments), off(gradients, *arguments), strict=True):
        np.testing.assert_allclose(to_numpy(found), to_numpy(expected), rtol=1e-5, atol=1e-5)


@function
def test_vmap_and_jit_agree(function):
    import jax

    gradient = jax.grad(functools.partial(loss, function))
    plain = np.stack([to_numpy(gradient(x)) for x in X])
    for other in (jax.vmap(gradient), jax.jit(jax.vmap(gradient))):
        np.testing.assert_allclose(to_numpy(other(X)), plain, rtol=1e-5, atol=1e-6)


def test_the_error_function_is_computed_anew_for_the_gradient():
    """From the input behind a barrier, so that XLA does not keep that of the forward pass."""
    import jax

    graph = jax.make_jaxpr(jax.grad(functools.partial(loss, gelu)))(ops.cast(X, "bfloat16"))
    inner = [str(x) for x in graph.eqns if "optimization_barrier" in str(x)]
    assert len(inner) == 1 and str(graph).count("= erf") == 2


def test_layers_with_several_token_axes_are_called_with_one(off):
    seen = []

    class Recorded(keras.layers.Dense):
        def call(self, inputs):
            seen.append(inputs.shape)
            return super().call(inputs)

    layer = Recorded(4)
    layer.build((None, 16))
    found, expected = linear(layer, X), off(linear, layer, X)
    assert seen == [(15, 16), (3, 5, 16)] and found.shape == expected.shape == (3, 5, 4)
    np.testing.assert_allclose(to_numpy(found), to_numpy(expected), rtol=1e-6, atol=1e-6)


def test_layer_normalization_computes_with_its_variables_later_too():
    layer = LayerNormalization(dtype="mixed_bfloat16")
    layer.build((None, 16))
    assert layer(X).dtype == "bfloat16" and layer.gamma.dtype == "float32"
    layer.gamma.assign(GAMMA)
    layer.beta.assign(BETA)
    plain = keras.layers.LayerNormalization(dtype="mixed_bfloat16")
    plain.build((None, 16))
    plain.set_weights([GAMMA, BETA])
    np.testing.assert_allclose(to_numpy(layer(X)), to_numpy(plain(X)), rtol=1 / 64, atol=1e-2)


@pytest.mark.parametrize("family", FAMILIES)
def test_models_and_their_gradients_are_the_same_without(family, off):
    import jax

    model = tiny(family)
    randomize(model, scale=0.1)
    size = model.input_shape[1:3]
    x = images(size if None not in size else (24, 16))
    values = [
        [v.value for v in vs] for vs in (model.trainable_variables, model.non_trainable_variables)
    ]

    def compute(trainable, rest):
        outputs = model.stateless_call(trainable, rest, x, training=False)[0]
        return sum((y**2).sum() for y in jax.tree.leaves(outputs))

    # Traced anew each time: JAX would find the first trace of the same function.
    gradients = [
        f(lambda: jax.jit(jax.value_and_grad(lambda *v: compute(*v)))(*values))
        for f in (lambda g: g(), off)
    ]
    (loss, found), (other, expected) = gradients
    assert abs(loss - other) < 1e-5 * abs(other)
    for a, b, variable in zip(found, expected, model.trainable_variables, strict=True):
        scale = max(np.abs(to_numpy(b)).max(), 1e-3)
        np.testing.assert_allclose(
            to_numpy(a), to_numpy(b), rtol=0, atol=3e-4 * scale, err_msg=variable.path
        )


def test_the_switch_takes_a_bool():
    with pytest.raises(ValueError, match="enabled must be True or False"):
        keras_vit.set_fast_paths("off")


SHARDED = """
import re
import jax, keras_vit, numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from tests.helpers import tiny_swin, tiny_vit

mesh = Mesh(np.array(jax.devices()), ("batch",))
assert mesh.size == 8
copies = NamedSharding(mesh, PartitionSpec())
for model in (tiny_vit(), tiny_swin()):
    images = np.zeros((16, *model.input_shape[1:]), "float32")
    images = jax.device_put(images, NamedSharding(mesh, PartitionSpec("batch")))
    values = jax.device_put([v.value for v in model.trainable_variables], copies)
    found = []
    for fast in (True, False):
        keras_vit.set_fast_paths(fast)

        def loss(values, images):
            return (model.stateless_call(values, [], images, training=False)[0] ** 2).mean()

        compiled = jax.jit(jax.grad(loss), out_shardings=copies).lower(values, images).compile()
        found.append(len(re.findall(r"(?:reduce|gather|all|permute|scatter)(?:-start)?\\(.*"
                                    r"replica_groups", compiled.as_text())))
    assert 1 <= found[0] <= found[1], found
"""


@pytest.mark.slow
def test_no_collective_is_added_on_eight_devices():
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=8"
    environment = {**os.environ, "XLA_FLAGS": flags}
    done = subprocess.run(
        [sys.executable, "-c", SHARDED], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
