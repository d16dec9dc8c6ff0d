"""`load_image`: reads pictures from files, PIL images and arrays as RGB arrays of uint8.

Letters: H x W size of the picture.
"""

import collections
import concurrent.futures
import contextlib
import io
import os
import stat

import numpy as np

from keras_vit.terminal import printable

SUFFIXES = (".jpg", ".jpeg", ".png", ".avif", ".bmp", ".gif", ".tif", ".tiff", ".webp")
MAX_RATIO = 200  # of the longer to the shorter side of a picture; panoramas are below 50
ORIENTATION = 0x0112  # the EXIF tag of the orientation


def load_image(source, upright=True):
    """Loads a picture as an RGB array that a `Preprocessor` takes.

    Pictures are converted like PIL converts to "RGB": an alpha channel is dropped, grey is
    repeated, CMYK and palettes are converted. From 16-bit channels the upper 8 bits are kept, as in
    PIL and TensorFlow. From several pages or frames the first is read.

    Args:
        source: path, the bytes of a file, a PIL image, or an array of pixels 0..255: (H, W),
            (H, W, 1), (H, W, 3) or (H, W, 4).
        upright: bool, whether to turn a file or PIL image by the orientation in its EXIF or XMP
            data. TIFF files, whose format includes the orientation, are always turned.

    Returns:
        uint8 array (H, W, 3).

    Raises:
        ValueError: if the source is not a picture, is broken, has 32-bit integers or floats, is an
            array of pixels 0..1, or has a side that is more than 200 times the other.

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
        check_sides(image.height, image.width, name)  # before it is decoded
        with _explained(name):
            image.load()
        if image.mode == "F" or image.mode == "I" and image.format != "PPM":
            raise ValueError(
                "A picture must have 8 or 16 bits, because 32 bits define no values for black and "
                "white; scale it to 0..255 and pass the array. "
                f"Received: {name} of mode {image.mode!r}"
            )
        with _explained(name):
            turn = TURNS.get(orientation(image)) if upright else None
            image = _eight_bits(image)
            return np.asarray((image if turn is None else image.transpose(turn)).convert("RGB"))


def resize_and_crop(pixels, rows, columns, interpolation, height_first):
    """Resizes both sides of a picture by PIL and crops them.

    Args:
        pixels: uint8 array (H, W, C).
        rows, columns: (size, first, number) of each side: what it becomes, the first pixel that is
            kept of that, and how many are.
        interpolation: str, a name of `PIL.Image.Resampling`.
        height_first: bool, which side is resized first.

    Returns:
        uint8 array (h, w, C).
    """
    from PIL import Image

    (h, top, height), (w, left, width) = rows, columns
    method = getattr(Image.Resampling, interpolation.upper())

    # One side at a time: PIL does the same, but would keep the whole strip in between.
    def vertically(image):
        resized = image.resize((image.width, h), method)
        return resized.crop((0, top, image.width, top + height))

    def horizontally(image):
        resized = image.resize((w, image.height), method)
        return resized.crop((left, 0, left + width, image.height))

    one, other = (vertically, horizontally) if height_first else (horizontally, vertically)
    if pixels.shape[-1] == 3:  # PIL resizes every channel of RGB by itself
        return np.asarray(other(one(Image.fromarray(pixels))))
    channels = [Image.fromarray(pixels[..., i]) for i in range(pixels.shape[-1])]
    return np.stack([np.asarray(other(one(channel))) for channel in channels], axis=-1)


def ahead(load, sources, batch_size):
    """Loads pictures in threads, while the caller works on the batch before.

    PIL decodes and resizes without Python's lock, so the threads use all cores.

    Args:
        load: function of a source, such as `load_image`.
        sources: list.
        batch_size: int, number of sources in a batch.

    Yields:
        (list of sources, list of `concurrent.futures.Future` of what `load` returns or raises), for
        each batch in turn. No more than two batches are held.
    """
    pool = concurrent.futures.ThreadPoolExecutor(os.cpu_count())
    batches = [sources[i : i + batch_size] for i in range(0, len(sources), batch_size)]
    waiting = collections.deque()
    try:
        for batch in batches:
            waiting.append((batch, [pool.submit(load, source) for source in batch]))
            if len(waiting) > 1:
                yield waiting.popleft()
        yield from waiting
    finally:
        pool.shutdown(cancel_futures=True)


# Arguments of `PIL.Image.transpose` by EXIF orientation.
TURNS = {2: 0, 3: 3, 4: 1, 5: 5, 6: 4, 7: 6, 8: 2}


def orientation(image):
    """The EXIF orientation of a PIL image, 1 to 8; 1 (upright) if it has none."""
    try:
        return image.getexif().get(ORIENTATION, 1)
    except Exception:  # any: broken EXIF data is ignored, since the pixels may be intact
        return 1


def check_sides(height, width, name=None):
    """Raises a `ValueError` for an empty picture, or one with a side above MAX_RATIO times another.

    Resizing the short side of such a strip would make the other very long, although only a small
    part is kept.
    """
    if not 0 < max(height, width) <= MAX_RATIO * min(height, width):
        raise ValueError(
            f"The longer side of a picture must be at most {MAX_RATIO} times the shorter: crop it "
            f"first. Received: {'' if name is None else f'{name} of '}{height} x {width} pixels"
        )


def is_picture(path):
    """Whether a path has the suffix of a picture file."""
    return os.fspath(path).lower().endswith(SUFFIXES)


def said_of_others(paths):
    """A message about files that are skipped because they are not pictures, for a terminal.

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
    """What PIL opens; raises a `ValueError` for sources that block, such as a named pipe."""
    if isinstance(source, bytes):
        return io.BytesIO(source)
    if isinstance(source, (str, os.PathLike)) and not stat.S_ISREG(os.stat(source).st_mode):
        raise ValueError("not a file, but a folder, pipe or device")
    return source


@contextlib.contextmanager
def _explained(name):
    """Turns an exception of PIL, which may be of any type for a broken file, into a ValueError."""
    try:
        yield
    except FileNotFoundError:
        raise ValueError(f"There is no such picture. Received: {name} (file not found)") from None
    except Exception as error:
        raise ValueError(
            "A picture must be a path, bytes, a PIL image or an array, and complete. "
            f"Received: {name}: {type(error).__name__}: {error}"
        ) from error


def _eight_bits(image):
    """Reduces 16-bit PIL images to 8 bits; `convert` would clip them at 255."""
    from PIL import Image

    if image.mode == "La":
        return image.convert("LA")
    if not image.mode.startswith("I"):
        return image
    tags = getattr(image, "tag_v2", {})  # of TIFF
    bits = tags.get(258, (16,))[0]
    pixels = np.asarray(image) >> (bits - 8)
    negative = tags.get(262) == 0  # 0 is white, which PIL respects with 8 bits only
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
    """Rounds numbers 0..255 to uint8."""
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
