"""Checks of arguments that several layers share."""


def as_pair(value, name):
    """Converts an int to a pair: `16` -> `(16, 16)`; a pair `(h, w)` is returned as a tuple.

    Raises:
        ValueError: for anything but one or two positive integers.
    """
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
    """Raises a `ValueError` unless `value` is an integer of at least `minimum`."""
    if not isinstance(value, int) or isinstance(value, bool) or value < minimum:
        raise ValueError(f"{name} must be an integer >= {minimum}. Received: {name}={value!r}")


def check_rate(value, name):
    """Raises a `ValueError` unless `value` is a number with 0 <= value < 1."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < 1:
        raise ValueError(f"{name} must be a number in [0, 1). Received: {name}={value!r}")


def check_choice(value, name, choices):
    """Raises a `ValueError` unless `value` is one of `choices`."""
    if value not in choices:
        options = ", ".join(repr(choice) for choice in choices)
        raise ValueError(f"{name} must be one of {options}. Received: {name}={value!r}")


def check_tokens(shape, layer):
    """Raises a `ValueError` unless `shape` is that of tokens (B, N, D), with a known width D."""
    if len(shape) != 3 or shape[-1] is None:
        raise ValueError(
            f"{layer} expects tokens of shape (batch, tokens, width) with a known width. "
            f"Received: shape={tuple(shape)}"
        )


def check_map(shape, layer):
    """Raises a `ValueError` unless `shape` is that of a map (B, h, w, D), with a known width D."""
    if len(shape) != 4 or shape[-1] is None:
        raise ValueError(
            f"{layer} expects a feature map of shape (batch, height, width, channels) with a known "
            f"number of channels. Received: shape={tuple(shape)}"
        )


def check_images(shape, patch_size, layer, drop_remainder=False):
    """Raises a `ValueError` unless `shape` is that of images (B, H, W, C) with a known C.

    H and W, if they are known, must be multiples of the patch size, or with `drop_remainder` at
    least as large as a patch.
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
    """Raises a `ValueError` unless `shape` is that of a map (B, h, w, D), h and w >= `least`."""
    check_map(shape, layer)
    if any(isinstance(side, int) and side < least for side in shape[1:3]):
        raise ValueError(
            f"{layer} needs a feature map of at least {least} x {least}: use larger images. "
            f"Received: shape={tuple(shape)}"
        )
