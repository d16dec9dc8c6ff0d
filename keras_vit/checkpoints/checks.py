"""Checks the arguments that a file gives for a model: types, finite numbers, sane sizes.

The model's own checks come with its layers, the first of which may be too large to be built.
"""

import math

from keras_vit.checkpoints.errors import CheckpointError
from keras_vit.checkpoints.tables import as_tuple
from keras_vit.checkpoints.untrusted import brief, is_count, is_finite

MAX_BLOCKS = 1000
MAX_COUNT = 2**20
MAX_PIXELS = 2**26  # of an image: 8192 x 8192
MAX_STAGES = 16
MAX_PATCHES = 2**20  # in windows
MAX_WINDOW = 64
# By how much blocks may differ from the first, and models have more kernels than their files.
SPREAD, SLACK = 4, 10**7


def check_arguments(arguments):
    """Raises unless every argument of a model has a value of the right kind.

    Args:
        arguments: dict of name to value, as JSON or a caller gives them; None is left to the model,
            and so are choices such as `pooling`.

    Raises:
        ValueError: it names the argument.
    """
    for name, value in arguments.items():
        if value is None:
            continue
        expected, is_right = _RULES.get(name, _TEXT)
        if not is_right(value):
            raise ValueError(f"{name} must be {expected}. Received: {name}={brief(value)}")
    _check_windows(arguments)


def _check_windows(arguments):
    """Raises if the masks and indices of a Swin's windows, which no weight shows, would be huge."""
    windows, size = arguments.get("window_size"), arguments.get("image_size")
    if windows is None:
        return
    largest = max(windows, default=1) if isinstance(windows, (list, tuple)) else windows
    if size is not None:
        size, patch = ((x, x) if isinstance(x, int) else x for x in (size, _patch(arguments)))
        grid = [-(-side // p) for side, p in zip(size, patch, strict=True)]
        if math.prod(grid) > MAX_PATCHES:
            raise ValueError(f"windows of more than {MAX_PATCHES} patches. Received: {grid}")
        largest = min(largest, *grid)
    if largest > MAX_WINDOW:
        raise ValueError(f"window_size must be at most {MAX_WINDOW}. Received: {windows}")


def _patch(arguments):
    return arguments.get("patch_size") or 1


def check_blocks(matched, tensors):
    """Raises unless blocks are numbered without gaps and the file can hold all of them.

    A number in a name decides how many blocks are built, all as large as the first.

    Args:
        matched: `matching.Match`.
        tensors: dict of name to `Tensor`.
    """
    numbers, sizes, seen = {}, [], set()  # numbers of each kind of block; sizes of all tensors
    for (row, number), sources in matched.found.items():
        kind = as_tuple(row.targets)[0].partition("{i}")[0]
        if number is not None:
            number = int(number) if len(number) < 5 else MAX_BLOCKS
            numbers.setdefault(kind, set()).add(number)
            if (row, number) in seen:
                raise CheckpointError(f"Two tensors belong to block {number}: {list(sources)}")
            seen.add((row, number))
        sizes += [(kind, row, math.prod(tensors[name].shape)) for name in sources.values()]
    for found in numbers.values():
        missing = set(range(max(found) + 1)) - found
        if missing or len(found) > MAX_BLOCKS:
            raise CheckpointError(
                f"Blocks must be numbered from 0 without gaps, at most {MAX_BLOCKS} of them. "
                f"Received: {len(found)} blocks up to number {max(found)}"
            )
    expected, first = 0, set()
    for kind, row, size in sizes:
        if row not in first:
            first.add(row)
            expected += size * len(numbers.get(kind, (0,)))
    held = sum(size for _, _, size in sizes)
    if expected > SPREAD * held + SLACK:
        raise CheckpointError(
            f"The blocks must be of one size. Received: {held} numbers, where all blocks as large "
            f"as the first would have {expected}"
        )


def _is_size(value):
    return is_count(value, 1) and value <= MAX_COUNT


def _are(kind, value):
    return isinstance(value, (list, tuple)) and len(value) <= MAX_STAGES and all(map(kind, value))


def _is_flag(value):
    return isinstance(value, bool)


def _is_or_are_sizes(value):
    return _is_size(value) or _are(_is_size, value)


def is_pair(value):
    """Whether the value is a positive int or a pair of them."""
    return _is_size(value) or (_are(_is_size, value) and len(value) == 2)


def _is_image_size(value):
    if not is_pair(value):
        return False
    height, width = (value, value) if isinstance(value, int) else value
    return height * width <= MAX_PIXELS


def _is_ratio(value):
    return is_finite(value) and 0 < value <= MAX_COUNT


def _is_share(value):
    return is_finite(value) and 0 <= value < 1


def _are_texts(value):
    is_list = isinstance(value, (list, tuple)) and len(value) <= MAX_COUNT
    return is_list and all(isinstance(text, str) for text in value)


def _are_ids(value):
    is_list = isinstance(value, (list, tuple)) and len(value) <= MAX_COUNT
    return is_list and all(map(is_count, value))


_TEXT = ("a string", lambda value: isinstance(value, str))
_KINDS = (
    (
        f"an integer from 1 to {MAX_COUNT}",
        _is_size,
        "width depth class_depth num_channels num_classes representation_size stem_width "
        "stem_groups decoder_width decoder_depth decoder_heads decoder_mlp_dim auxiliary_convs "
        "short_side num_queries query_groups mask_unit",
    ),
    (
        "an integer from 1 to 255",
        lambda value: is_count(value, 1) and value < 256,
        "pool_size version",
    ),
    (
        f"an integer from 0 to {MAX_COUNT}",
        lambda value: is_count(value) and value <= MAX_COUNT,
        "num_registers encoder_depth seed",
    ),
    (
        f"an integer from 1 to {MAX_COUNT}, or one for each stage",
        _is_or_are_sizes,
        "num_heads mlp_dim depths widths reductions strides patch_sizes stem_depths window_size",
    ),
    (
        "an integer from 0 on, or one for each stage",
        lambda value: is_count(value) or _are(is_count, value),
        "pretrained_window_size",
    ),
    (
        "a positive integer or a pair (height, width) of them",
        is_pair,
        "patch_size position_grid",
    ),
    (
        f"a positive integer or a pair (height, width) of them, at most {MAX_PIXELS} pixels",
        _is_image_size,
        "image_size",
    ),
    (
        "a finite number above 0, or one for each stage",
        lambda value: _is_ratio(value) or _are(_is_ratio, value),
        "mlp_ratios",
    ),
    ("a finite number above 0", _is_ratio, "mlp_ratio"),
    (
        "a number above 0 and below 1",
        lambda value: _is_share(value) and value > 0,
        "norm_epsilon conv_norm_epsilon mask_ratio",
    ),
    (
        "a number in [0, 1)",
        _is_share,
        "dropout_rate attention_dropout_rate drop_path_rate",
    ),
    ("a finite number", is_finite, "layer_scale"),
    (
        "true or false",
        _is_flag,
        "class_token distillation_token distillation_head patch_bias drop_remainder qkv_bias "
        "qk_norm pre_norm fc_norm remat include_preprocessing auxiliary_heads dilation "
        "denoising normalize_pixels",
    ),
    ("a list of at most 16 integers from 0 on", lambda value: _are(is_count, value), "layers"),
    ("a list of strings", _are_texts, "class_names frozen_layers"),
    ("a list of integers from 0 on", _are_ids, "class_ids"),
)
_RULES = {
    name: (expected, is_right) for expected, is_right, names in _KINDS for name in names.split()
}
