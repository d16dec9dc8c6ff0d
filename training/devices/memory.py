"""Estimates of the memory of a training step, for the message after an out-of-memory error."""

import errno
import math
import os

import keras

import keras_vit
from keras_vit.layers.block import BaseBlock

# Weights, gradients and the two moments of AdamW, in float32.
BYTES_A_PARAMETER = 16
# Out-of-memory errors by class: NumPy, PyTorch on GPUs, TensorFlow. By the message of a plain
# RuntimeError: XLA, PyTorch on CPUs (Linux, Windows), C++, NVIDIA's libraries.
KINDS = {"MemoryError", "OutOfMemoryError", "ResourceExhaustedError"}
WORDS = (
    "resource_exhausted",
    "out of memory",
    "can't allocate memory",
    "cannot allocate memory",
    "not enough memory: you tried",
    "bad_alloc",
    "status_alloc_failed",
)


def is_out_of_memory(error):
    """Whether an exception of a backend or of the system means that memory ran out."""
    names = {kind.__name__ for kind in type(error).__mro__}
    said = str(error).lower()
    return (
        bool(names & KINDS)
        or any(words in said for words in WORDS)
        or isinstance(error, OSError)
        and error.errno == errno.ENOMEM
    )


def needs(model, batch_size, bfloat16=False, remat=False):
    """Estimates the bytes that a training step of a model needs at least.

    Args:
        model: functional `keras.Model` on images, built in float32 or 16 bits.
        batch_size: int, images per step.
        bfloat16: bool, whether activations are kept in 16 bits.
        remat: bool, whether only the inputs of the blocks are kept.

    Returns:
        int, bytes. Attention scores are included if the backend writes them to memory.
    """
    cost = keras_vit.complexity(model)
    activations = cost.activation_bytes
    backend = keras.backend.backend()
    if backend != "torch":
        activations += cost.scores_bytes
    blocks = [layer for layer in model.layers if isinstance(layer, BaseBlock)]
    if remat and blocks:
        # The input of every block is kept, and one block at a time is recomputed.
        borders = sum(4 * math.prod(block.output.shape[1:]) for block in blocks)
        activations = activations // len(blocks) + borders
    if bfloat16 and model.compute_dtype == "float32":
        activations //= 2
    return BYTES_A_PARAMETER * model.count_params() + batch_size * activations


def device_memory():
    """Total bytes of memory of the device; None if the backend does not report it."""
    backend = keras.backend.backend()
    if backend == "torch":
        import torch

        if torch.cuda.is_available():
            return torch.cuda.get_device_properties(0).total_memory
    elif backend == "jax":
        import jax

        if jax.default_backend() != "cpu":
            return (jax.devices()[0].memory_stats() or {}).get("bytes_limit")
    else:
        import tensorflow as tf

        if tf.config.list_physical_devices("GPU"):
            return None
    if not hasattr(os, "sysconf"):
        return None
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def advice(model, batch_size, memory=None):
    """Advice on settings that would fit into memory.

    Args:
        model, batch_size: those of the step that failed.
        memory: int, bytes of the device; by default `device_memory()`.

    Returns:
        str, one line.
    """
    memory = device_memory() if memory is None else memory
    parts = [f"A step of {batch_size} images needs about {_gib(needs(model, batch_size))}"]
    if memory is not None:
        parts[0] += f" of {_gib(memory)}"
    for words, options in (
        ("", {}),
        ("train.precision=mixed_bfloat16 and ", {"bfloat16": True}),
        ("model.remat=true and ", {"remat": True}),
        ("both and ", {"bfloat16": True, "remat": True}),
    ):
        size = batch_size if options else max(batch_size // 2, 1)
        while size > 1 and memory is not None and needs(model, size, **options) > memory:
            size //= 2
        amount = _gib(needs(model, size, **options))
        parts.append(f"{words}train.batch_size={size} about {amount}")
    accumulate = "optimizer.accumulate keeps the batch size of an update"
    return f"{'; '.join(parts)}. {accumulate}."


def _gib(count):
    return f"{count / 2**30:.1f} GiB"
