"""Pictures from files, PIL images and arrays."""

import io

import numpy as np


def load_image(source):
    """A picture as the RGB bytes that a `Preprocessor` takes.

    The orientation that a camera wrote down (EXIF) is applied; transparency is left out, grey is
    repeated, CMYK and palettes are converted, as PIL converts to "RGB".

    Args:
        source: path, the bytes of a file, a PIL image, or an array of pixels 0..255: (H, W),
            (H, W, 1), (H, W, 3) or (H, W, 4).

    Returns:
        uint8 array (H, W, 3).

    Raises:
        ValueError: for what is no picture, or a broken one.

    Example:
        >>> load_image("cat.jpg").shape
        (480, 640, 3)
    """
    from PIL import Image, ImageOps

    if isinstance(source, np.ndarray) or hasattr(source, "__array__") and _has_rank(source):
        return _rgb_array(np.asarray(source))
    name = f"a file of {len(source)} bytes" if isinstance(source, bytes) else str(source)
    try:
        if isinstance(source, Image.Image):
            image = source
        else:
            image = Image.open(io.BytesIO(source) if isinstance(source, bytes) else source)
        return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    except FileNotFoundError:
        raise ValueError(f"There is no such picture. Received: {name}") from None
    except (
        AttributeError,
        EOFError,
        Image.DecompressionBombError,
        LookupError,
        MemoryError,
        OSError,
        SyntaxError,  # PIL's word for a broken PNG
        TypeError,
        ValueError,
    ) as error:
        raise ValueError(
            "A picture must be a path, bytes, a PIL image or an array, and whole. "
            f"Received: {name}: {type(error).__name__}: {error}"
        ) from error


def _has_rank(source):
    return hasattr(source, "ndim") or hasattr(source, "shape")


def _rgb_array(pixels):
    x = pixels[..., None] if pixels.ndim == 2 else pixels
    if x.ndim != 3 or x.shape[-1] not in (1, 3, 4) or x.size == 0:
        raise ValueError(
            "An array must have the shape (height, width), or (height, width, channels) with 1, 3 "
            f"or 4 channels. Received: shape={pixels.shape}"
        )
    if x.dtype != np.uint8:
        if not np.isfinite(x).all() or x.min() < 0 or x.max() > 255:
            raise ValueError(
                f"Pixels must be 0..255. Received: {x.dtype} values from {np.min(x)} to {np.max(x)}"
            )
        x = np.floor(x.astype("float32") + 0.5).astype("uint8")
    return np.repeat(x, 3, axis=-1) if x.shape[-1] == 1 else x[..., :3]
