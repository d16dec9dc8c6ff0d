"""Builds the model that a source describes, no larger than the source can fill."""

import math

from keras_vit.checkpoints.checks import SLACK, SPREAD, is_pair
from keras_vit.checkpoints.errors import CheckpointError
from keras_vit.layers.initializers import no_initialization

# Arguments that decide how many weights a model has.
_SIZES = (
    "width depth class_depth mlp_dim num_channels num_classes representation_size pool_size "
    "stem_width stem_depths num_registers depths widths reductions patch_sizes window_size "
    "patch_size position_grid image_size mlp_ratio mlp_ratios num_queries encoder_depth "
    "decoder_depth"
)
SIZES = frozenset(_SIZES.split())


def build(model, arguments, wanted, *, tensors, name):
    """Builds a model from the arguments `wanted`, without initial values.

    If the source's own arguments are invalid, the error names the source; if only the caller's
    changes are, it is the model's own error.

    Args:
        model: its class.
        arguments: dict, what the source says of the model.
        wanted: dict, the arguments with those of the caller.
        tensors: dict of name to `Tensor`, the source's.
        name: str, the source, for errors.
    """
    limit = _largest(tensors, arguments, wanted)
    try:
        with no_initialization(limit):
            return model(**wanted)
    except ValueError as error:
        if wanted != arguments:
            try:
                with no_initialization(limit):
                    model(**arguments)
            except ValueError as theirs:
                raise _no_model(name, theirs) from theirs
            raise
        raise _no_model(name, error) from error


def _no_model(name, error):
    return CheckpointError(f"{name} describes a model that cannot be built: {str(error)[:1000]}")


def _largest(tensors, arguments, wanted):
    """The most numbers that the kernels may have; None if the caller changes other sizes."""
    changed = {k for k, v in wanted.items() if k in SIZES and v != arguments.get(k)}
    if changed - {"num_classes", "image_size", "position_grid", "representation_size"}:
        return None
    extra, width = 0, wanted.get("width") or max(wanted.get("widths") or (0,))
    if "num_classes" in changed:
        extra += 2 * (wanted["num_classes"] or 0) * width  # with that of the distillation token
    if "image_size" in changed and is_pair(wanted["image_size"]):
        size = wanted["image_size"]
        extra += width * (size**2 if isinstance(size, int) else math.prod(size))
    return SPREAD * sum(math.prod(tensor.shape) for tensor in tensors.values()) + SLACK + extra
