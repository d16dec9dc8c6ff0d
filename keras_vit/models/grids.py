"""Checks of image size and patch size, and the grid of learned position embeddings."""

from keras_vit.layers.validation import as_pair


def patch_grids(patch_size, image_size, position_grid, drop_remainder=False):
    """Converts the three sizes to pairs and checks them against each other.

    Args:
        patch_size: int or (p, q), in pixels.
        image_size: int or (H, W), in pixels, or None for any size.
        position_grid: int or (h, w); None for the grid of the image, or of 224 pixels if
            `image_size` is None.
        drop_remainder: bool, whether the image size may be other than a multiple of the patch size.

    Returns:
        (p, q), (H, W) or None, (h, w).

    Raises:
        ValueError: for sizes that are not positive integers, or do not divide.
    """
    patch_size = as_pair(patch_size, "patch_size")
    if image_size is not None:
        image_size = as_pair(image_size, "image_size")
        if not drop_remainder:
            check_multiple(image_size, patch_size, "patch_size", patch_size=patch_size)
    if position_grid is None:
        sides = zip(image_size or (224, 224), patch_size, strict=True)
        position_grid = tuple(max(side // patch, 1) for side, patch in sides)
    return patch_size, image_size, as_pair(position_grid, "position_grid")


def check_multiple(image_size, whole, of, **received):
    """Raises a `ValueError` unless both sides of an image are multiples of a patch size.

    Args:
        image_size: int or (H, W), in pixels, or None for any size, which passes.
        whole: (p, q), in pixels.
        of: str, the name of `whole` in the error message.
        received: arguments to show in the error message.
    """
    if image_size is None:
        return
    sides = zip(as_pair(image_size, "image_size"), whole, strict=True)
    if any(side % patch for side, patch in sides):
        given = {"image_size": image_size, **received}
        given = ", ".join(f"{name}={value}" for name, value in given.items())
        raise ValueError(f"image_size must be a multiple of {of}. Received: {given}")
