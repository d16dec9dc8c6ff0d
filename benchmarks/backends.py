"""What Keras leaves to its backend: data on the device, waiting for it, gradients."""

import keras
from keras import ops


def to_device(array):
    """`array` where the backend computes."""
    return ops.convert_to_tensor(array)


def synchronize(outputs=None):
    """Returns when the device has computed everything that was asked of it, `outputs` too."""
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        tf.test.experimental.sync_devices()
    elif backend == "jax":
        import jax

        jax.block_until_ready(outputs)
    else:
        import torch

        if torch.cuda.is_available():
            torch.cuda.synchronize()


def full_float32():
    """Float32 products in float32 on a GPU too, where TensorFlow and JAX would use TF32."""
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        tf.config.experimental.enable_tensor_float_32_execution(False)
    elif backend == "jax":
        import jax

        if jax.default_backend() != "cpu":
            jax.config.update("jax_default_matmul_precision", "highest")


def device_peak():
    """Peak memory in MB that the backend allocated on its GPU, 0 without one."""
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        gpus = tf.config.list_logical_devices("GPU")
        return tf.config.experimental.get_memory_info("GPU:0")["peak"] / 1e6 if gpus else 0.0
    if backend == "jax":
        import jax

        statistics = jax.devices()[0].memory_stats() or {}
        return statistics.get("peak_bytes_in_use", 0) / 1e6
    import torch

    return torch.cuda.max_memory_allocated() / 1e6 if torch.cuda.is_available() else 0.0


def forward_function(model):
    """A function of images that runs the model as `predict` does: compiled, or eager on PyTorch."""
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        return tf.function(lambda images: model(images, training=False), jit_compile=True)
    if backend == "jax":
        import jax

        weights = _values(model)
        forward = jax.jit(lambda *a: model.stateless_call(*a, training=False)[0])
        return lambda images: forward(*weights, images)
    import torch

    def forward(images):
        with torch.no_grad():
            return model(images, training=False)

    return forward


def gradient_function(model):
    """A function of images that gives the gradients of mean(output²) by the weights."""
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        @tf.function(jit_compile=True)
        def gradient(images):
            with tf.GradientTape() as tape:
                loss = ops.mean(ops.square(model(images, training=True)))
            return tape.gradient(loss, [v.value for v in model.trainable_variables])

        return gradient
    if backend == "jax":
        weights = _values(model)
        gradient = jax_gradient(model)
        return lambda images: gradient(*weights, images)
    import torch

    def gradient(images):
        loss = ops.mean(ops.square(model(images, training=True)))
        return torch.autograd.grad(loss, [v.value for v in model.trainable_variables])

    return gradient


def jax_gradient(model):
    """The compiled gradient, a function of (trainable, non-trainable values, images)."""
    import jax

    def loss(trainable, non_trainable, images):
        outputs, _ = model.stateless_call(trainable, non_trainable, images, training=True)
        return ops.mean(ops.square(outputs))

    return jax.jit(jax.grad(loss))


def _values(model):
    return (
        [v.value for v in model.trainable_variables],
        [v.value for v in model.non_trainable_variables],
    )
