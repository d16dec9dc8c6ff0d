"""Figures of what a masked autoencoder sees and predicts.

Letters: B batch, H x W image size, N patches of p x q pixels.
"""

import numpy as np
from keras import ops

from keras_vit.interpret.drawing import add_axes, new_figure, style
from keras_vit.ops.patches import images_of, patches_of
from keras_vit.tasks.reconstruction import ReconstructsImages

WIDTH, TITLE, GAP = 1.6, 0.22, 0.06  # inches: a picture, the line of titles, between pictures
GREY = 128  # of removed patches
COLUMNS = ("image", "visible", "reconstruction")


def plot_reconstruction(model, images, noise=None):
    """Draws images, what of them the encoder sees, and the reconstruction, a row each.

    Visible patches of the reconstruction are those of the image. With `normalize_pixels` the
    predicted patches have the mean and the contrast of the true ones, which the model does not
    predict.

    Args:
        model: `keras_vit.MAE` or `keras_vit.SimMIM`.
        images: array (B, H, W, C) or list of pictures, as `model.reconstruct` takes it.
        noise: as of `model.reconstruct`.

    Returns:
        `matplotlib.figure.Figure`.

    Raises:
        ValueError: for another model, or images that it does not take.
        ImportError: without matplotlib.

    Example:
        >>> mae = keras_vit.from_pretrained("facebook/vit-mae-base")
        >>> keras_vit.plot_reconstruction(mae, ["cat.jpg", "dog.jpg"])
    """
    if not isinstance(model, ReconstructsImages):
        raise ValueError(
            "plot_reconstruction takes a keras_vit.MAE or keras_vit.SimMIM. "
            f"Received: {type(model).__name__}"
        )
    if not hasattr(images, "shape"):
        images = model.preprocess_images(images)
    images = np.asarray(ops.convert_to_numpy(images), "float32")
    found = model.reconstruct(images, noise)
    rows = panels(model, images, found)
    height = WIDTH * images.shape[1] / images.shape[2]
    across = len(COLUMNS) * (WIDTH + GAP) - GAP
    figure = new_figure(across, TITLE + len(rows) * (height + GAP) - GAP)
    with style():
        for i, row in enumerate(rows):
            for j, pixels in enumerate(row):
                left, top = j * (WIDTH + GAP), TITLE + i * (height + GAP)
                ax = add_axes(figure, left, top, WIDTH, height)
                ax.imshow(pixels.squeeze(), cmap="gray", vmin=0, vmax=255)
                ax.set_axis_off()
                if i == 0:
                    ax.set_title(COLUMNS[j])
    return figure


def panels(model, images, found):
    """list of (image, visible patches, reconstruction) for each image, uint8 (H, W, C).

    Args:
        model: `ReconstructsImages`.
        images: float32 array (B, H, W, C), the model's input.
        found: what `model.reconstruct` returned for them.
    """
    p, q = model.predicted_patch
    grid = (images.shape[1] // p, images.shape[2] // q)
    known = model.takes_pixels or model.preprocessor is not None
    true = images if model.takes_pixels else model.in_pixels(images)
    patches = np.asarray(ops.convert_to_numpy(patches_of(true, (p, q))))
    both = [patches, np.asarray(ops.convert_to_numpy(patches_of(found["images"], (p, q))))]
    if not known:  # values of an unknown range are stretched to that of the images
        low, high = patches.min(), patches.max()
        both = [255 * (x - low) / max(high - low, 1e-6) for x in both]
    hidden = found["mask"][..., None] > 0
    shown = (both[0], np.where(hidden, GREY, both[0]), both[1])
    shown = [np.asarray(ops.convert_to_numpy(images_of(x, (p, q), grid))) for x in shown]
    return [
        [np.clip(np.round(x[i]), 0, 255).astype("uint8") for x in shown] for i in range(len(images))
    ]
