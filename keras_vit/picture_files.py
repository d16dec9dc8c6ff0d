"""Pictures from files, PIL images and arrays, as the RGB bytes that everything here starts from.

Letters: H x W size of the picture.
"""

import collections
import contextlib
import io
import os
import stat

import numpy as np

from keras_vit.terminal import printable

SUFFIXES = (".jpg", ".jpeg", ".png", ".avif", ".bmp", ".gif", ".tif", ".tiff", ".webp")
MAX_RATIO = 200  # of a picture's sides: panoramas are below 50
ORIENTATION = 0x0112  # EXIF's number for how a camera was held


def load_image(source, upright=True):
    """A picture as the RGB bytes that a `Preprocessor` takes.

    Transparency is left out, grey is repeated, CMYK and palettes are converted, as PIL converts to
    "RGB". Of 16 bits the upper 8 are kept, as PIL and TensorFlow do with colours. Of several pages
    or frames the first is taken.

    Args:
        source: path, the bytes of a file, a PIL image, or an array of pixels 0..255: (H, W),
            (H, W, 1), (H, W, 3) or (H, W, 4).
        upright: bool, whether a file or PIL image is turned as its camera noted (the orientation in
            EXIF or XMP); TIFF, where it belongs to the format, always is.

    Returns:
        uint8 array (H, W, 3).

    Raises:
        ValueError: for what is no picture, a broken one, one of 32-bit integers or floats, a float
            array of pixels 0..1, and sides of which one is more than 200 times the other.

    Example:
        >>> load_image("cat.jpg").shape
        (480, 640, 3)
    """
    from PIL import Image

    if isinstance(source, np.ndarray) or hasattr(source, "__array__") and _has_rank(source):
        return _rgb_array(np.asarray(source))
    name = f"a file of {len(source)} bytes" if isinstance(source, bytes) else str(source)
    with contextlib.ExitStack() as stack:
        image = source
        if not isinstance(source, Image.Image):
            with _explained(name):
                image = stack.enter_context(Image.open(_file(source)))
        check_sides(image.height, image.width, name)  # before anything is decoded
        with _explained(name):
            image.load()
        if image.mode == "F" or image.mode == "I" and image.format != "PPM":
            raise ValueError(
                "A picture must have 8 or 16 bits: of 32 nobody knows what is black and what is "
                "white; scale it to 0..255 and give the array. "
                f"Received: {name} of mode {image.mode!r}"
            )
        with _explained(name):
            turn = TURNS.get(orientation(image)) if upright else None
            image = _eight_bits(image)
            return np.asarray((image if turn is None else image.transpose(turn)).convert("RGB"))


# What `PIL.Image.transpose` takes, by EXIF's orientation.
TURNS = {2: 0, 3: 3, 4: 1, 5: 5, 6: 4, 7: 6, 8: 2}


def orientation(image):
    """How a PIL image lies, EXIF's 1 to 8; 1, upright, where nobody says."""
    try:
        return image.getexif().get(ORIENTATION, 1)
    except Exception:  # of any kind: a broken note says nothing, and the pixels may be whole
        return 1


def check_sides(height, width, name=None):
    """Raises for a picture without pixels, or of which one side is above MAX_RATIO times the other.

    A resized strip would be as long as its ratio says, whatever little of it is then kept.
    """
    if not 0 < max(height, width) <= MAX_RATIO * min(height, width):
        raise ValueError(
            f"The longer side of a picture may be {MAX_RATIO} times the shorter at most; cut it "
            f"before. Received: {'' if name is None else f'{name} of '}{height} x {width} pixels"
        )


def is_picture(path):
    """Whether the name ends as that of a picture does."""
    return os.fspath(path).lower().endswith(SUFFIXES)


def said_of_others(paths):
    """What to say of files that lie among pictures and are not read, for a terminal.

    Example:
        >>> said_of_others(["my/a.heic", "my/b.heic", "my/list"])
        '3 files are not read (2 .heic, 1 without suffix): my/a.heic, my/b.heic, my/list'
    """
    suffixes = collections.Counter(os.path.splitext(path)[1].lower() for path in paths)
    kinds = [f"{count} {suffix or 'without suffix'}" for suffix, count in suffixes.most_common(5)]
    kinds += ["others"] if len(suffixes) > 5 else []
    names = [*map(str, paths[:3]), *(["..."] if len(paths) > 3 else [])]
    files = "file is" if len(paths) == 1 else "files are"
    return printable(f"{len(paths)} {files} not read ({', '.join(kinds)}): {', '.join(names)}")


def _file(source):
    """What PIL opens; a ValueError for what a reader would wait at, such as a named pipe."""
    if isinstance(source, bytes):
        return io.BytesIO(source)
    if isinstance(source, (str, os.PathLike)) and not stat.S_ISREG(os.stat(source).st_mode):
        raise ValueError("a folder, pipe or device, and no file")
    return source


@contextlib.contextmanager
def _explained(name):
    """Makes a ValueError of what PIL raises, which may be anything where a file is broken."""
    try:
        yield
    except FileNotFoundError:
        raise ValueError(f"There is no such picture. Received: {name}") from None
    except Exception as error:
        raise ValueError(
            "A picture must be a path, bytes, a PIL image or an array, and whole. "
            f"Received: {name}: {type(error).__name__}: {error}"
        ) from error


def _eight_bits(image):
    """A PIL image that `convert` understands: it would cut 16 bits off at 255."""
    from PIL import Image

    if image.mode == "La":
        return image.convert("LA")
    if not image.mode.startswith("I"):
        return image
    tags = getattr(image, "tag_v2", {})  # of TIFF
    bits = tags.get(258, (16,))[0]
    pixels = np.asarray(image) >> (bits - 8)
    negative = tags.get(262) == 0  # 0 is white, which PIL minds with 8 bits alone
    return Image.fromarray((255 - pixels if negative else pixels).astype("uint8"))


def _has_rank(source):
    return hasattr(source, "ndim") or hasattr(source, "shape")


def _rgb_array(pixels):
    x = pixels[..., None] if pixels.ndim == 2 else pixels
    if x.ndim != 3 or x.shape[-1] not in (1, 3, 4) or x.size == 0:
        raise ValueError(
            "An array must have the shape (height, width), or (height, width, channels) with 1, 3 "
            f"or 4 channels. Received: shape={pixels.shape}"
        )
    check_sides(*x.shape[:2])
    if x.dtype != np.uint8:
        x = _as_bytes(x)
    return np.repeat(x, 3, axis=-1) if x.shape[-1] == 1 else x[..., :3]


def _as_bytes(x):
    """uint8 of numbers 0..255, rounded."""
    if x.dtype.kind in "OSUMmc":
        raise ValueError(f"Pixels must be numbers 0..255. Received: dtype={x.dtype}")
    if not np.isfinite(x).all() or x.min() < 0 or x.max() > 255:
        raise ValueError(
            f"Pixels must be 0..255. Received: {x.dtype} values from {np.min(x)} to {np.max(x)}"
        )
    x = x.astype("float32")
    if x.max() <= 1 and (x % 1).any():
        raise ValueError(
            "Pixels must be 0..255, and these look like 0..1: multiply by 255. "
            f"Received: fractions from {x.min()} to {x.max()}"
        )
    return np.floor(x + 0.5).astype("uint8")
