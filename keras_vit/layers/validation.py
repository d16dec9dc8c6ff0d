"""Checks of arguments that layers share; each error says what was expected and what came."""


def as_pair(value, name):
    """`16` -> `(16, 16)`, `(h, w)` as it is; what is not one or two positive integers raises."""
    pair = (value, value) if isinstance(value, int) else value
    if (
        not isinstance(pair, (tuple, list))
        or len(pair) != 2
        or not all(isinstance(side, int) and not isinstance(side, bool) for side in pair)
        or min(pair) < 1
    ):
        raise ValueError(
            f"{name} must be a positive integer or a pair (height, width) of them. "
            f"Received: {name}={value!r}"
        )
    return tuple(pair)


def check_count(value, name, minimum=1):
    """Raises unless `value` is an integer of at least `minimum`."""
    if not isinstance(value, int) or isinstance(value, bool) or value < minimum:
        raise ValueError(f"{name} must be an integer >= {minimum}. Received: {name}={value!r}")


def check_rate(value, name):
    """Raises unless `value` is a probability that leaves something: 0 <= value < 1."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < 1:
        raise ValueError(f"{name} must be a number in [0, 1). Received: {name}={value!r}")


def check_choice(value, name, choices):
    """Raises unless `value` is one of `choices`."""
    if value not in choices:
        options = ", ".join(repr(choice) for choice in choices)
        raise ValueError(f"{name} must be one of {options}. Received: {name}={value!r}")


def check_tokens(shape, layer):
    """Raises unless `shape` is that of a token sequence, (B, N, D), with a known width D."""
    if len(shape) != 3 or shape[-1] is None:
        raise ValueError(
            f"{layer} expects tokens of shape (batch, tokens, width) with a known width. "
            f"Received: shape={tuple(shape)}"
        )


def check_map(shape, layer):
    """Raises unless `shape` is that of a feature map, (B, h, w, D), with a known width D."""
    if len(shape) != 4 or shape[-1] is None:
        raise ValueError(
            f"{layer} expects a feature map of shape (batch, height, width, channels) with a known "
            f"number of channels. Received: shape={tuple(shape)}"
        )


def check_images(shape, patch_size, layer, drop_remainder=False):
    """Raises unless `shape` is (B, H, W, C), channels last, in whole patches if it is known.

    With `drop_remainder` one patch is enough.
    """
    if len(shape) != 4 or shape[-1] is None:
        raise ValueError(
            f"{layer} expects images of shape (batch, height, width, channels) with a known number "
            f"of channels; add a batch axis to a single image: images[None]. "
            f"Received: shape={tuple(shape)}"
        )
    for side, patch in zip(shape[1:3], patch_size, strict=True):
        if isinstance(side, int) and (side < patch or (side % patch and not drop_remainder)):
            what = "at least" if drop_remainder else "multiples of"
            raise ValueError(
                f"Image height and width must be {what} patch_size; resize, crop or pad the "
                f"images. Received: image size={tuple(shape[1:3])}, patch_size={patch_size}"
            )


def check_grid(shape, least, layer):
    """Raises unless `shape` is that of a feature map, (B, h, w, D), with sides >= `least`."""
    check_map(shape, layer)
    if any(isinstance(side, int) and side < least for side in shape[1:3]):
        raise ValueError(
            f"{layer} needs a feature map of at least {least} x {least}: use larger images. "
            f"Received: shape={tuple(shape)}"
        )
