"""Computes a functional model layer by layer on PyTorch, compiled where the model is."""

import functools
import sys

from keras_vit.fast_paths import fast_paths_enabled
from keras_vit.layers.sublayer import sublayer


def walk(model, inputs, training, jit_compile=False):
    """What `keras.Model.call` computes; each layer is called as a `sublayer`.

    Args:
        model: functional model.
        inputs: what `keras.Model.call` takes.
        training: bool, or None for what the call around it says.
        jit_compile: bool, whether `torch.compile` compiles the layers as one graph. Keras compiles
            the whole step instead, in pieces that end wherever it handles metrics or arrays.

    Returns:
        The output of the model.
    """
    tensors = model._standardize_inputs(inputs)
    if jit_compile and can_compile(tensors[0]):
        outputs = compiled(model, _run)(tensors, training)
    else:
        outputs = _run(model, tensors, training)
    return outputs[0] if isinstance(outputs, list) and len(outputs) == 1 else outputs


def _run(model, tensors, training):
    def step(layer, *args, **kwargs):
        if training is not None and "training" in getattr(layer, "_call_context_args", ()):
            kwargs["training"] = training
        return sublayer(layer, *args, **kwargs)

    return model._run_through_graph(tensors, call_fn=step)


def can_compile(tensor):
    """Whether `torch.compile` may be used for a call with this tensor."""
    import torch

    # Keras asks for shapes on the device "meta", and exporters trace the layers themselves.
    asked = tensor.device.type == "meta"
    asked = asked or torch.compiler.is_compiling() or torch.jit.is_tracing()
    return fast_paths_enabled() and not asked


def compiled(model, function):
    """A function whose first argument is the model, bound to it and compiled, once per model."""
    known = vars(model).get("_compiled_graphs", {})
    if function not in known:
        import torch

        if not known:
            print(f"Compiling {model.name} with torch.compile, at its first steps", file=sys.stderr)
        known = {**known, function: torch.compile(functools.partial(function, model))}
        object.__setattr__(model, "_compiled_graphs", known)  # neither tracked nor saved
    return known[function]
