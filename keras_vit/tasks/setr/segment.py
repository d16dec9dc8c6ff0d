"""`SegmentsPictures`: class maps of pictures of any size, by sliding windows or as a whole.

Letters: B batch, H x W size of a picture, C channels, K classes.
"""

from types import SimpleNamespace

import keras
import numpy as np

from keras_vit.layers.validation import as_pair, check_count
from keras_vit.models.base import check_list
from keras_vit.models.normalization import mean_and_std
from keras_vit.models.resize import learned_positions
from keras_vit.picture_files import load_image
from keras_vit.tasks.setr.windows import STRIP, Canvas, resize, strip

WINDOWS = ("slide", "whole")


class SegmentsPictures(keras.Model):
    """Mixin of an `ImageModel` from images (B, H, W, C) to logits (B, H, W, K)."""

    _free = SimpleNamespace(model=None)

    def segment(
        self,
        pictures,
        window="slide",
        stride=None,
        short_side=None,
        scales=(1,),
        flip=False,
        batch_size=8,
        probabilities=False,
    ):
        """Finds the class of every pixel of pictures of any size.

        A picture is resized by its shorter side (bilinear, not antialiased, as in mmsegmentation)
        and normalised, its logits are resized to the picture's own size, and the class with the
        largest one is taken. With several scales or `flip` the probabilities of all are averaged.

        Args:
            pictures: list of pictures, each a path, the bytes of a file, a PIL image, or an array
                of pixels 0..255, (H, W, 3).
            window: "slide" for windows of the size that the model was built for, whose logits are
                averaged where they overlap; smaller pictures are padded at the bottom and right.
                int or (h, w), in pixels, for windows of another size. "whole" for the whole picture
                in one call, padded at the bottom and right to a multiple of the patch size;
                positions are resampled to it.
            stride: int or (a, b), in pixels, steps between windows; by default two thirds of the
                window.
            short_side: int, to how many pixels the shorter side of a picture is resized; by
                default the model's `short_side`, and if that is None the picture keeps its size.
            scales: sequence of float, by which `short_side` is multiplied.
            flip: bool, whether mirrored pictures count too.
            batch_size: int, number of windows in a batch.
            probabilities: bool, whether to return the probabilities of all classes.

        Returns:
            list with one array per picture: int32 class indices (H, W), or float32 probabilities
            (H, W, K).

        Raises:
            ValueError: if an argument is invalid, the model has no `preprocessor`, or an item is
                not a picture, which it names.

        Example:
            >>> model.segment(["street.jpg"], scales=(0.5, 1, 1.5), flip=True)[0].shape
            (360, 480)
        """
        check_list(pictures)
        plan = self._plan(window, stride, short_side, scales, flip, batch_size)
        found, waiting, batch = [], [], []
        for picture in pictures:
            pixels = load_image(picture)
            canvases = self._canvases(pixels, plan)
            waiting.append((pixels.shape[:2], canvases))
            for canvas in canvases:
                for place in canvas.places:
                    if len(batch) == batch_size or batch and batch[0][0].window != canvas.window:
                        self._run(plan, batch)
                        batch = []
                    batch.append((canvas, place))
            found += _complete(waiting, probabilities)
        if batch:
            self._run(plan, batch)
        return found + _complete(waiting, probabilities)

    def _plan(self, window, stride, short_side, scales, flip, batch_size):
        """The checked arguments of `segment`, and how to normalise and pad."""
        check_count(batch_size, "batch_size")
        if short_side is not None:
            check_count(short_side, "short_side")
        numbers = isinstance(scales, (list, tuple)) and scales
        if not numbers or not all(isinstance(x, (int, float)) and 0 < x < 100 for x in scales):
            raise ValueError(
                f"scales must be a sequence of numbers above 0. Received: scales={scales!r}"
            )
        if self.input.shape[-1] != 3:
            raise ValueError(
                "segment needs a model of RGB images. "
                f"Received: a model of {self.input.shape[-1]} channels"
            )
        if self.preprocessor is None and not self.takes_pixels:
            raise ValueError(
                "To take pictures, a model needs preprocessor=keras_vit.Preprocessor(...), whose "
                "mean and std normalise them. Received: preprocessor=None"
            )
        mean, std = (
            np.array(x, "float32") * np.ones(3, "float32") for x in mean_and_std(self.preprocessor)
        )
        own = self.input.shape[1:3]
        size = None if window == "whole" else self._window(window)
        if size is None and stride is not None:
            raise ValueError(f"stride applies to windows only. Received: window='whole', {stride=}")
        steps = size and as_pair(
            tuple(max(side * 2 // 3, 1) for side in size) if stride is None else stride, "stride"
        )
        if size is not None and any(a > b for a, b in zip(steps, size, strict=True)):
            raise ValueError(
                "stride must be at most the window, or pixels in between would have no class. "
                f"Received: stride={steps}, window={size}"
            )
        return SimpleNamespace(
            model=self if size == tuple(own) or None in own else self._of_any_size(),
            window=size,
            stride=steps,
            short_side=self._arguments["short_side"] if short_side is None else short_side,
            scales=tuple(scales),
            flips=(False, True) if flip else (False,),
            mean=mean,
            std=std,
        )

    def _window(self, window):
        """(h, w) of the sliding windows."""
        if isinstance(window, str):
            if window != "slide":
                raise ValueError(
                    f"window must be 'slide', 'whole', or a size in pixels. Received: {window=}"
                )
            own, learned = self.input.shape[1:3], learned_positions(self)
            if None not in own:
                return tuple(own)
            if not learned:
                raise ValueError(
                    "This model was built for images of any size: pass the size of the windows, "
                    f"such as window=(512, 512), or window='whole'. Received: {window=}"
                )
            sides = zip(learned[0].grid_size, learned[0].patch_size, strict=True)
            return tuple(side * patch for side, patch in sides)
        size = as_pair(window, "window")
        if any(side % patch for side, patch in zip(size, self.patch_size, strict=True)):
            raise ValueError(
                f"window must be a multiple of patch_size={self.patch_size}. Received: {window=}"
            )
        return size

    def _canvases(self, pixels, plan):
        """The `Canvas` of every scale and flip of a picture (H, W, 3)."""
        found, (height, width) = [], pixels.shape[:2]
        for scale in plan.scales:
            factor = scale * (plan.short_side or min(height, width)) / min(height, width)
            size = tuple(max(int(side * factor + 0.5), 1) for side in (height, width))
            image = resize(pixels.astype("float32"), size)
            padding = plan.mean * 255
            if not self.takes_pixels:
                image, padding = (image / 255 - plan.mean) / plan.std, 0
            window, stride = plan.window, plan.stride
            if window is None:
                sides = zip(size, self.patch_size, strict=True)
                window = stride = tuple(-(-side // patch) * patch for side, patch in sides)
            found += [Canvas(image, window, stride, padding, flipped) for flipped in plan.flips]
        return found

    def _run(self, plan, batch):
        """Computes the logits of windows of one size, and adds them to their canvases."""
        images = np.stack([canvas.crop(place) for canvas, place in batch])
        count = len(images)
        if keras.backend.backend() != "torch":  # few sizes of batches, because each is compiled
            more = 2 ** (count - 1).bit_length() - count
            images = np.concatenate([images, images[-1:].repeat(more, axis=0)])
        logits = plan.model.predict_on_batch(images.astype(self.input.dtype))
        for (canvas, place), one in zip(batch, logits, strict=False):
            canvas.add(place, one)

    def _of_any_size(self):
        """A model of images of any size with the same layers; positions are resampled in calls."""
        if self._free.model is None:
            images = keras.Input((None, None, self.input.shape[-1]), dtype=self.input.dtype)
            logits = self._run_through_graph([images], operation_fn=lambda layer: layer)
            free = keras.Model(images, logits, name=f"{self.name}_of_any_size")
            # In a namespace, where Keras does not look for layers to track and to save.
            object.__setattr__(self, "_free", SimpleNamespace(model=free))
        return self._free.model


def _complete(waiting, probabilities):
    """Takes the pictures whose windows are all done from the front of a list: their results."""
    found = []
    while waiting and all(canvas.is_complete for canvas in waiting[0][1]):
        size, canvases = waiting.pop(0)
        found.append(class_map([canvas.logits() for canvas in canvases], size, probabilities))
    return found


def class_map(maps, size, probabilities=False):
    """Resizes logits to a size and finds the class of every pixel, a few rows at a time.

    Args:
        maps: list of logits (h, w, K) of any sizes; the probabilities of several are averaged.
        size: (H, W).
        probabilities: bool, whether to return these instead.

    Returns:
        int32 array (H, W), or float32 array (H, W, K).
    """
    rows = []
    for first in range(0, size[0], STRIP):
        scores = [strip(logits, size, first) for logits in maps]
        if probabilities or len(scores) > 1:
            scores = [_softmax(x) for x in scores]
        total = scores[0] if len(scores) == 1 else sum(scores) / len(scores)
        rows.append(total if probabilities else total.argmax(axis=-1).astype("int32"))
    return np.concatenate(rows)


def _softmax(x):
    x = np.exp(x - x.max(axis=-1, keepdims=True))
    return x / x.sum(axis=-1, keepdims=True)
