"""Gradients of a class logit with respect to values inside a model, on every backend.

Letters: B batch, K classes.
"""

import inspect

import keras
import numpy as np
from keras import ops

from keras_vit.interpret.attention import check_family, check_size


def class_gradients(model, images, values, classes=None, scores=False):
    """Computes gradients of each image's class logit with respect to values inside the model.

    The layers of the model are run with zeros added to these values, and the logit is
    differentiated with respect to the zeros. The model does not change: neither its weights, nor
    their gradients, nor its graph.

    Args:
        model: functional model from images to logits (B, K).
        images: array or tensor (B, H, W, C), the model's input.
        values: dict of layer name to array, the output or the attention scores of the layer; only
            the shape is used.
        classes: list of B class indices, or None for the most probable class of each image.
        scores: bool, whether the values are attention scores instead of outputs.

    Returns:
        dict of layer name to float32 NumPy array, of the same shape as the value.
    """
    images = ops.convert_to_tensor(images, model.input.dtype)

    def logit(zeros):
        offsets = dict(zip(values, zeros, strict=True))

        def run(layer, *args, **kwargs):
            block = scores and layer.name in offsets
            call = layer.call_with_offset if block else layer
            if block:
                args = (*args, offsets[layer.name])
            elif "training" in inspect.signature(layer.call).parameters:
                kwargs["training"] = False
            x = call(*args, **kwargs)
            if layer.name in offsets and not block:
                x = x + ops.cast(offsets[layer.name], x.dtype)
            return x

        # With tensors: layers would keep references to symbolic inputs.
        logits = model._run_through_graph([images], call_fn=run)
        logits = ops.cast(logits, "float32")  # (B, K)
        chosen = ops.argmax(logits, axis=-1) if classes is None else np.asarray(classes)
        # Images are independent, so the gradient of the sum is that of each image's logit.
        return ops.sum(logits * ops.one_hot(chosen, logits.shape[-1]))

    zeros = [ops.zeros(value.shape, "float32") for value in values.values()]
    gradients = zip(values, _gradients(logit, zeros), strict=True)
    return {name: ops.convert_to_numpy(gradient) for name, gradient in gradients}


def check_classes(model, images, classes):
    """Converts `classes` to a list of B indices; None (the most probable class) is kept.

    Raises:
        ValueError: if the model has no head, does not take `images`, or a class does not exist.
    """
    check_family(model)
    check_size(model, images)
    number = model.num_classes
    if number is None:
        raise ValueError(
            "Attribution to a class needs a model with a head. Received: num_classes=None"
        )
    if classes is None:
        return None
    batch = len(images)
    classes = [classes] * batch if np.ndim(classes) == 0 else list(classes)
    if len(classes) != batch or not all(
        isinstance(x, (int, np.integer)) and 0 <= x < number for x in classes
    ):
        raise ValueError(
            f"classes must be an index from 0 to {number - 1}, or a list with one index for each "
            f"of the {batch} images. Received: {classes}"
        )
    return classes


def _gradients(function, arguments):
    """Gradients of a scalar function of a list of tensors; zeros where one has no effect."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(arguments)
            value = function(arguments)
        return tape.gradient(value, arguments, unconnected_gradients=tf.UnconnectedGradients.ZERO)
    if keras.backend.backend() == "jax":
        import jax

        return jax.grad(function)(arguments)
    import torch

    with torch.enable_grad():
        arguments = [x.requires_grad_() for x in arguments]
        # Not backward(), which would change the gradients of the weights.
        return torch.autograd.grad(
            function(arguments), arguments, allow_unused=True, materialize_grads=True
        )
