"""The switch of the fast paths: shorter ways to the results of Keras's own functions."""

import contextlib

_enabled = True


def set_fast_paths(enabled):
    """Turns the library's fast paths on (the default) or off. TensorFlow has none so far.

    On JAX they are matrix products, layer normalisation and GELU with their own gradients, which
    read and write less memory, on a CPU depthwise convolutions as sums of products, and on a GPU
    cuDNN's attention for odd numbers of tokens too. On PyTorch they are PyTorch's own linear layer
    and layer normalisation, calls of sub-layers without what Keras does around each of them, and,
    in `fit` and `train_on_batch`, fused steps of `keras.optimizers.Adam` and `AdamW` and of this
    library's optimizers; a layer or an optimizer of a class of one's own, a quantised layer, and
    one with hooks is called as ever. With them off, Keras's own functions compute all of these.
    The results are the same up to rounding.

    A function that is already compiled keeps what it was compiled with: call this before the first
    `fit`, `predict` or `evaluate`, or compile the model again.

    Args:
        enabled: bool.

    Raises:
        ValueError: if `enabled` is not a bool.

    Example:
        >>> keras_vit.set_fast_paths(False)
    """
    global _enabled
    if not isinstance(enabled, bool):
        raise ValueError(f"enabled must be True or False. Received: enabled={enabled!r}")
    _enabled = enabled


def fast_paths_enabled():
    """Whether fast paths are on (`set_fast_paths`)."""
    return _enabled


@contextlib.contextmanager
def without_fast_paths():
    """Within this context fast paths are off, in every thread."""
    global _enabled
    before, _enabled = _enabled, False
    try:
        yield
    finally:
        _enabled = before
