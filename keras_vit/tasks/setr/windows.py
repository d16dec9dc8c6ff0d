"""Sliding windows over an image, and bilinear resizing, in NumPy.

Letters: H x W size of an image, h x w another size, C channels, K classes.
"""

import numpy as np

STRIP = 64  # rows that are resized at a time, so that K maps of a large picture take little memory


def starts(side, window, stride):
    """The first pixel of each window along a side; the last window ends where the side does.

    >>> starts(480, 256, 170)
    [0, 170, 224]

    Source: mmsegmentation `mmseg/models/segmentors/encoder_decoder.py`, `slide_inference`.
    """
    count = max(side - window + stride - 1, 0) // stride + 1
    return [max(min(i * stride, side - window), 0) for i in range(count)]


def padded(image, size, value):
    """The image (H, W, C), padded at the bottom and right to at least (h, w) with `value` (C,)."""
    height, width, channels = image.shape
    h, w = max(height, size[0]), max(width, size[1])
    if (h, w) == (height, width):
        return image
    canvas = np.empty((h, w, channels), image.dtype)
    canvas[:] = value
    canvas[:height, :width] = image
    return canvas


class Canvas:
    """Adds up the logits of windows, and averages them where they overlap.

    Args:
        image: array (H, W, C).
        window: (h, w) of the windows; smaller images are padded.
        stride: (a, b), steps between the windows.
        value: array (C,), what padded pixels are.
        flipped: bool, whether the image is mirrored, and its logits mirrored back.
    """

    def __init__(self, image, window, stride, value, flipped=False):
        self.size = image.shape[:2]
        self.window = window
        self.flipped = flipped
        self._image = padded(image[:, ::-1] if flipped else image, window, value)
        sides = zip(self._image.shape[:2], window, stride, strict=True)
        rows, columns = (starts(*side) for side in sides)
        self.places = [(top, left) for top in rows for left in columns]
        self._done, self._sum, self._count = 0, None, None

    def crop(self, place):
        """The image (h, w, C) in the window whose first pixel is `place`."""
        (top, left), (h, w) = place, self.window
        return self._image[top : top + h, left : left + w]

    def add(self, place, logits):
        """Adds the logits (h, w, K) of a window."""
        if self._sum is None:
            size = self._image.shape[:2]
            self._sum = np.zeros((*size, logits.shape[-1]), "float32")
            self._count = np.zeros((*size, 1), "float32")
        (top, left), (h, w) = place, self.window
        self._sum[top : top + h, left : left + w] += logits
        self._count[top : top + h, left : left + w] += 1
        self._done += 1

    @property
    def is_complete(self):
        """bool, whether every window was added."""
        return self._done == len(self.places)

    def logits(self):
        """The mean logits (H, W, K) of the image."""
        height, width = self.size
        mean = (self._sum / self._count)[:height, :width]
        return mean[:, ::-1] if self.flipped else mean


def resize(x, size):
    """Resizes (H, W, C) with bilinear interpolation, not antialiased: float32 array (h, w, C)."""
    strips = [strip(x, size, first) for first in range(0, size[0], STRIP)]
    return np.concatenate(strips)


def strip(x, size, first):
    """Up to `STRIP` rows, from `first` on, of what `resize` returns."""
    rows = slice(first, min(first + STRIP, size[0]))
    if x.shape[0] == size[0]:
        y = x[rows].astype("float32", copy=False)
    else:
        low, high, share = (part[rows] for part in _taps(x.shape[0], size[0]))
        share = share[:, None, None]
        y = x[low] * (1 - share) + x[high] * share
    if x.shape[1] == size[1]:
        return y
    low, high, share = _taps(x.shape[1], size[1])
    return y[:, low] * (1 - share[:, None]) + y[:, high] * share[:, None]


def _taps(old, new):
    """For each of `new` cells the two old cells around its centre, and the share of the second."""
    centre = np.clip((np.arange(new) + 0.5) * (old / new) - 0.5, 0, old - 1)
    low = np.floor(centre).astype("int64")
    return low, np.minimum(low + 1, old - 1), (centre - low).astype("float32")
