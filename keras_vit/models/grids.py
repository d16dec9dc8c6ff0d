"""Image size, patches and the grid of learned positions, which must fit each other."""

from keras_vit.layers.validation import as_pair


def patch_grids(patch_size, image_size, position_grid, drop_remainder=False):
    """The three sizes as pairs, checked against each other."""
    patch_size = as_pair(patch_size, "patch_size")
    if image_size is not None:
        image_size = as_pair(image_size, "image_size")
        sides = zip(image_size, patch_size, strict=True)
        if not drop_remainder and any(side % patch for side, patch in sides):
            raise ValueError(
                "image_size must be a multiple of patch_size. "
                f"Received: image_size={image_size}, patch_size={patch_size}"
            )
    if position_grid is None:
        sides = zip(image_size or (224, 224), patch_size, strict=True)
        position_grid = tuple(max(side // patch, 1) for side, patch in sides)
    return patch_size, image_size, as_pair(position_grid, "position_grid")
