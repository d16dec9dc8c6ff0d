"""`Preprocessor` and `load_image`, which turn pictures into images for a model.

In this library a picture is a raw input of any size: a file, its bytes, a PIL image, or an array of
pixels 0..255. An image is a model's input, a tensor (H, W, C): a picture that has been resized,
cropped and normalised. A model with `include_preprocessing=True` normalises its images itself, so
their pixels are still 0..255.

Letters: B batch, H x W size of the picture, h x w size of the image, C channels.
"""

import math
import numbers

import keras
import numpy as np
from keras import ops

from keras_vit.layers.validation import as_pair, check_choice
from keras_vit.ops.resample import cubic, lanczos, triangle
from keras_vit.ops.sides import (
    arange,
    as_float,
    at_least,
    fitted_size,
    number,
    shape_of,
    within,
)
from keras_vit.picture_files import MAX_RATIO, check_sides, resize_and_crop
from keras_vit.picture_files import load_image as load_image

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
KERNELS = {"bilinear": triangle, "bicubic": cubic, "lanczos": lanczos}  # those of PIL
INTERPOLATIONS = tuple(KERNELS)
CONVENTIONS = ("timm", "transformers", "keras")
SMALLEST = 2**-126  # the smallest normal float32; dividing by less may give infinity


@keras.saving.register_keras_serializable(package="keras_vit")
class Preprocessor(keras.layers.Layer):
    """Resizes, crops the centre and normalises pictures, like timm and transformers with PIL.

    Resizing is antialiased as in PIL: the kernel is wider when it shrinks, and pixels are rounded
    after each side. NumPy arrays of uint8 are resized by PIL, tensors by an explicit matrix per
    side. Both resize in the order of Pillow 13: the width first, unless the height shrinks by more
    than twice as many pixels (older versions: always the width first). The first resized side is
    cropped before the second is resized.

    Args:
        image_size: int or (h, w), size of the result in pixels; with resize="fit" (s, m), the
            shorter side and the most of the longer.
        resize: "short_side" (the shorter side becomes image_size / crop_fraction, and the longer
            keeps its proportion), "squash" (both sides become image_size / crop_fraction), "fit"
            (the shorter side becomes s and the longer keeps its proportion, unless it would exceed
            m: then the shorter becomes smaller; nothing is cropped, so results differ in size) or
            None (pictures already have the size `image_size`).
        crop_fraction: float in (0, 1], fraction of the resized side that the centre crop keeps, or
            a pair of them for (height, width).
        interpolation: "bilinear", "bicubic" or "lanczos".
        mean, std: sequences of float, one per channel, for pixels scaled to 0..1.
        convention: how to crop if the number of pixels to remove is odd. "timm" rounds half of it
            to the nearest even number, as torchvision does; "transformers" rounds it down. "keras":
            like `keras.layers.Resizing` instead of PIL: with "short_side" the largest centre crop
            with the proportions of `image_size` is taken first, and no pixels are rounded.
        antialias: bool, whether the kernel is wider when it shrinks; False only with "keras".

    Call arguments:
        images: pictures, pixels 0..255, (H, W, C) or (B, H, W, C): an array, a tensor, or with any
            backend a TensorFlow tensor in a `tf.data` pipeline. H and W may be unknown. If one side
            is above 200 times the other, a `ValueError` is raised, or, if the sizes are known only
            in the graph (in an export or in `tf.data`), the middle of the picture is used.

    Returns:
        Tensor (h, w, C) or (B, h, w, C), normalised; `fitted_size` says h and w for "fit".

    Raises:
        ValueError: if an argument is invalid, or a picture has another rank or number of channels,
            or is empty.

    Example:
        >>> Preprocessor(224)(keras_vit.preprocessing.load_image("cat.jpg")).shape
        (224, 224, 3)

    Sources: timm `data/transforms_factory.py`, `transforms_imagenet_eval`; transformers
    `image_transforms.py`, `center_crop`; facebookresearch/detr `datasets/transforms.py`, `resize`,
    for "fit"; Pillow `src/libImaging/Resample.c`.
    """

    def __init__(
        self,
        image_size=224,
        resize="short_side",
        crop_fraction=0.875,
        interpolation="bicubic",
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
        convention="timm",
        antialias=True,
        **kwargs,
    ):
        super().__init__(**kwargs)
        check_choice(resize, "resize", ("short_side", "squash", None, "fit"))
        check_choice(interpolation, "interpolation", INTERPOLATIONS)
        check_choice(convention, "convention", CONVENTIONS)
        self.image_size = as_pair(image_size, "image_size")
        self.resize = resize
        self.crop_fraction = _share(crop_fraction)
        self.interpolation = interpolation
        self.convention = convention
        self.antialias = bool(antialias)
        if not (antialias if convention != "keras" else self.crop_fraction in (1, (1, 1))):
            raise ValueError(
                'convention="keras" has crop_fraction=1, and it alone antialias=False. Received: '
                f"{convention=}, {crop_fraction=}, {antialias=}"
            )
        fits = resize == "fit"
        if fits and (convention == "keras" or self.crop_fraction not in (1, (1, 1))):
            raise ValueError(
                'resize="fit" crops nothing: pass crop_fraction=1, and another convention than '
                f'"keras". Received: {crop_fraction=}, {convention=}'
            )
        if fits and self.image_size[0] > self.image_size[1]:
            raise ValueError(
                'With resize="fit" image_size is the shorter side and the most of the longer. '
                f"Received: {image_size=}"
            )
        self.mean, self.std = _per_channel(mean, "mean"), _per_channel(std, "std")
        if len(self.mean) != len(self.std) or min(self.std) < SMALLEST:
            raise ValueError(
                "mean and std must have one number per channel, and std must be above 0. "
                f"Received: mean={mean}, std={std}"
            )
        self.built = True

    @property
    def resized_size(self):
        """(h, w) between resizing and crop; with "short_side" the longer side is larger."""
        fraction = self.crop_fraction
        fractions = fraction if isinstance(fraction, tuple) else (fraction, fraction)
        sides = zip(self.image_size, fractions, strict=True)
        return tuple(math.floor(side / share + 1e-9) for side, share in sides)

    def __call__(self, images, *args, **kwargs):
        if not kwargs.get("resized") and self._takes_pil(images):
            return super().__call__(self._resize_by_pil(images), resized=True)
        if keras.backend.backend() != "tensorflow" and _is_tensorflow(images):
            import tensorflow as tf  # in a tf.data pipeline with another backend

            return self._transform(images, tf.experimental.numpy)
        return super().__call__(images, *args, **kwargs)

    def resized(self, picture):
        """The first half of the call for a picture, which any thread can do: resizes it by PIL.

        Args:
            picture: uint8 array (H, W, C).

        Returns:
            uint8 array (h, w, C), for `preprocessor(batch, resized=True)`; None if this
            preprocessor does not resize by PIL.
        """
        return self._resize_by_pil(picture) if self._takes_pil(picture) else None

    def _takes_pil(self, images):
        by_pil = self.resize and self.convention != "keras"
        return by_pil and isinstance(images, np.ndarray) and images.dtype == np.uint8

    def call(self, images, resized=False, branch=True):
        return self._transform(images, ops, resized, branch)

    def _transform(self, x, xp, resized=False, branch=True):
        self._check(x.shape)
        single = len(x.shape) == 3
        x = xp.expand_dims(x, 0) if single else x
        shape = shape_of(x, xp)
        if self.resize and not resized:
            x, shape = _within_ratio(x, shape, xp)
        x = ops.cast(x, "float32") if xp is ops else xp.asarray(x, dtype="float32")
        if self.resize and not resized and self.convention == "keras":
            x = self._resized_as_keras_does(x, shape, xp)
        elif self.resize and not resized:
            x = self._resized_as_pil_does(x, shape, xp, branch)
        mean, std = (xp.array(v, "float32") for v in (self.mean, self.std))
        x = (x / 255.0 - mean) / std
        x = x[0] if single else x
        return ops.cast(x, self.compute_dtype) if xp is ops else x

    def _resized_as_pil_does(self, x, shape, xp, branch):
        _, height, width, _ = shape
        # Symbols of PyTorch's exporter stay such where they become the size of the result.
        known = (height, width) if self.resize == "fit" else (number(height), number(width))
        (new_height, *_), (new_width, *_) = sides = self._resized(*known, xp)
        rows = self._matrix(height, 0, height, *sides[0], xp)  # (h, H)
        columns = self._matrix(width, 0, width, *sides[1], xp)  # (w, W)

        def height_first(x, rows, columns, xp=xp):
            return _resample(_resample(x, rows, 1, xp), columns, 2, xp)

        def width_first(x, rows, columns, xp=xp):
            return _resample(_resample(x, columns, 2, xp), rows, 1, xp)

        decision = _height_first(number(height), new_height, number(width), new_width)
        operands = (x, rows, columns)
        if isinstance(decision, bool):
            return height_first(*operands) if decision else width_first(*operands)
        if xp is ops and keras.backend.backend() == "torch":
            import torch  # sizes are symbolic in its exporter

            return torch.cond(
                decision,
                lambda *x: height_first(*x, torch).contiguous(),  # both need one memory layout
                lambda *x: width_first(*x, torch).contiguous(),
                operands,
            )
        import tensorflow as tf

        if not branch:
            return tf.where(decision, height_first(*operands), width_first(*operands))
        return tf.cond(decision, lambda: height_first(*operands), lambda: width_first(*operands))

    def _resized(self, height, width, xp=np):
        """For both sides: the resized length, the start of the crop, and its length."""
        if self.resize == "fit":
            return [(side, 0, side) for side in fitted_size(height, width, *self.image_size, xp)]
        to = self.resized_size
        if self.resize == "short_side":
            # The relatively shorter side becomes exact, and the other keeps the proportion.
            even = to[0] != to[1]  # torchvision truncates; timm rounds if the crop is not a square
            to = [
                at_least(to[0], height * to[1], width, even, xp),
                at_least(to[1], width * to[0], height, even, xp),
            ]
        crop = self.image_size
        excess = [side - part for side, part in zip(to, crop, strict=True)]
        starts = [e // 2 for e in excess]
        if self.convention == "timm":  # rounds half to even, like Python's round
            starts = [
                start + (e % 2) * (start % 2) for e, start in zip(excess, starts, strict=True)
            ]
        return list(zip(to, starts, crop, strict=True))

    def _matrix(self, side, first, part, new, start, length, xp):
        """(length, side): resizes `part` of a side from `first` to `new`, crops from `start`."""
        first, part = as_float(first, xp), as_float(number(part), xp)
        scale = part / as_float(number(new), xp)
        index = arange(length, xp) + as_float(start, xp)
        centre = xp.expand_dims((index + 0.5) * scale + first, 1)  # (length, 1)
        source = arange(side, xp) + 0.5  # (side,)
        # tf.experimental.numpy would turn a Python float into a float64.
        widened = max(scale, 1.0) if isinstance(scale, float) else xp.maximum(scale, 1.0)
        widened = widened if self.antialias else 1.0
        weights = KERNELS[self.interpolation](xp, (source - centre) / widened)
        if self.convention == "keras":  # pixels outside the part do not count
            weights = xp.where(xp.abs(source - first - part / 2) < part / 2, weights, 0.0 * weights)
        return weights / xp.sum(weights, axis=1, keepdims=True)

    def _resized_as_keras_does(self, x, shape, xp):
        (h, w), (_, height, width, _) = self.image_size, shape
        for side, most, new, axes in (
            (height, number(width) * h // w, h, "nh,bhwc->bnwc"),
            (width, number(height) * w // h, w, "nw,bhwc->bhnc"),
        ):
            part = number(side) if self.resize == "squash" else within(most, number(side), xp)
            first = (number(side) - part) // 2
            x = xp.einsum(axes, self._matrix(side, first, part, new, 0, new, xp), x)
        return x

    def _resize_by_pil(self, images):
        self._check(images.shape)
        if images.ndim == 4:
            return np.stack([self._resize_by_pil(image) for image in images])
        height, width, _ = images.shape
        rows, columns = self._resized(height, width)
        height_first = _height_first(height, rows[0], width, columns[0])
        return resize_and_crop(images, rows, columns, self.interpolation, height_first)

    def _check(self, shape):
        if len(shape) not in (3, 4) or shape[-1] != len(self.mean) or 0 in shape:
            raise ValueError(
                f"Preprocessor expects pictures (height, width, {len(self.mean)}) or a batch of "
                "them. Use keras_vit.preprocessing.load_image to convert a file or an array. "
                f"Received: shape={tuple(shape)}"
            )
        if self.resize and isinstance(shape[-3], int) and isinstance(shape[-2], int):
            check_sides(*shape[-3:-1])
        if self.resize is None and any(
            isinstance(side, int) and side != expected
            for side, expected in zip(shape[-3:-1], self.image_size, strict=True)
        ):
            raise ValueError(
                f"With resize=None pictures must have the size {self.image_size}: resize them "
                "before, or pass resize='short_side' or 'squash'. "
                f"Received: shape={tuple(shape)}"
            )

    def compute_output_shape(self, images_shape):
        self._check(images_shape)
        size, (height, width) = self.image_size, images_shape[-3:-1]
        if self.resize == "fit":
            known = None not in (height, width)
            size = fitted_size(height, width, *size) if known else (None, None)
        return (*images_shape[:-3], *size, images_shape[-1])

    def get_config(self):
        return {
            **super().get_config(),
            "image_size": self.image_size,
            "resize": self.resize,
            "crop_fraction": self.crop_fraction,
            "interpolation": self.interpolation,
            "mean": self.mean,
            "std": self.std,
            "convention": self.convention,
            **({} if self.antialias else {"antialias": False}),  # older versions know no True
        }


def _height_first(height, new_height, width, new_width):
    """Whether Pillow 13.0.0 resizes the height first, as observed for thousands of sizes.

    Older versions never do.
    """
    less = height - new_height
    return (less > 0) & (less > 2 * (width - new_width))


def _resample(x, matrix, axis, xp):
    """Resizes axis 1 (rows) or 2 (columns) of (B, H, W, C) by a matrix (new, old)."""
    x = xp.einsum("nw,bhwc->bhnc" if axis == 2 else "nh,bhwc->bnwc", matrix, x)
    return xp.clip(xp.floor(x + 0.5), 0.0, 255.0)


def _within_ratio(x, shape, xp):
    """(pictures, shape), cut to the middle if one side is above MAX_RATIO times the other.

    Sizes that are known to Python are refused before. Sizes that are known only in the graph, in an
    export or in tf.data, are cut here, so that no picture takes disproportionate memory.
    """
    batch, height, width, channels = shape
    if isinstance(height, int) and isinstance(width, int):
        return x, shape
    x, new_height = _middle(x, 1, height, MAX_RATIO * width, xp)
    x, new_width = _middle(x, 2, width, MAX_RATIO * height, xp)
    return x, (batch, new_height, new_width, channels)


def _middle(x, axis, side, most, xp):
    """(x cut to at most `most` rows or columns in the middle, their number)."""
    if keras.backend.backend() == "torch" and xp is ops:
        import torch

        kept = torch.sym_min(side, most)  # min() would make the exporter fix the result
        index = torch.arange(kept, device=x.device) + (side - kept) // 2
        return torch.index_select(x, axis, index), kept
    import tensorflow as tf

    kept = tf.minimum(side, most)
    start = (side - kept) // 2
    part = slice(start, start + kept)
    return (x[:, part] if axis == 1 else x[:, :, part]), kept


def _is_tensorflow(x):
    return type(x).__module__.startswith("tensorflow")


def _per_channel(values, name):
    values = values.tolist() if hasattr(values, "tolist") else values
    if not isinstance(values, (list, tuple)) or not values or not all(map(is_number, values)):
        raise ValueError(f"{name} must hold one number per channel. Received: {name}={values!r}")
    return tuple(float(value) for value in values)


def _share(value):
    """Checks a number in (0, 1] or a pair of them; a list, as from JSON, becomes a tuple."""
    pair = tuple(value) if isinstance(value, (list, tuple)) else (value, value)
    if len(pair) != 2 or not all(is_number(x) and 0 < x <= 1 for x in pair):
        raise ValueError(
            "crop_fraction must be a number, or a pair of them for height and width, in (0, 1]. "
            f"Received: crop_fraction={value!r}"
        )
    return pair if isinstance(value, (list, tuple)) else value


def is_number(value):
    """Whether `value` is a finite number in the range of float32."""
    return isinstance(value, numbers.Real) and not isinstance(value, bool) and abs(value) < 2**128
