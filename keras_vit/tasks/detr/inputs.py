"""`PaddedInputs`: a model of images that also takes padded ones, with a mask.

Letters: B batch, H x W image size, C channels.
"""

from keras import ops

from keras_vit.layers.validation import check_images
from keras_vit.models.base import ImageModel
from keras_vit.models.inputs import check_range, with_range_check
from keras_vit.models.walk import can_compile, compiled

KEYS = {"images", "valid", "targets"}  # targets come from `train_step`


class PaddedInputs(ImageModel):
    """Mixin of a functional model on images (B, H, W, C).

    It also takes {"images": (B, H, W, C), "valid": bool (B, H, W)}, of any size: pictures that
    were padded at the bottom and right. A subclass computes them in
    `compute(images, valid, training, targets)`.
    """

    _computed = frozenset()  # kinds of calls that may be compiled

    def __call__(self, inputs, *args, **kwargs):
        if isinstance(inputs, dict) and "images" in inputs:
            check_range(self, inputs["images"])
        return super().__call__(inputs, *args, **kwargs)

    def call(self, inputs, training=None, mask=None):
        images, valid, targets = split(inputs)
        if valid is None and not training:
            return super().call(images, training=training, mask=mask)
        self.check_padded(images.shape)
        if self.compiled_by_torch:
            images, valid = (
                ops.convert_to_tensor(images),
                valid if valid is None else as_bool(valid),
            )
            # The first call of a kind creates layers, such as those of masks.
            kind = (valid is None, bool(training), targets is None)
            if kind in self._computed and can_compile(images):
                return compiled(self, type(self).compute)(images, valid, training, targets)
            object.__setattr__(self, "_computed", self._computed | {kind})
        return self.compute(images, valid, training, targets)

    def checked_data(self, data, watch=True):
        x = getattr(data, "element_spec", data)
        x = x[0] if isinstance(x, (tuple, list)) and x else x
        if not isinstance(x, dict) or "valid" not in x:
            return super().checked_data(data, watch)
        shape = getattr(x.get("images"), "shape", None)
        if shape is not None and getattr(shape, "rank", 4) is not None:
            self.check_padded(shape)
        return with_range_check(self, data) if watch else data

    def check_padded(self, shape):
        """Raises a `ValueError` unless the model takes padded images of this shape."""
        patch_size = self.patch_size if self.whole_patches else (1, 1)
        check_images(shape, patch_size, self.name, self.drop_remainder)
        channels = self.input.shape[-1]
        if shape[-1] != channels:
            raise ValueError(
                f"{self.name} was built for images of {channels} channels. "
                f"Received: shape={tuple(shape)}"
            )

    @property
    def input_spec(self):
        """None: `call` checks its inputs, which Keras would compare with images alone."""


def as_bool(mask):
    return ops.convert_to_tensor(mask, dtype="bool")


def split(inputs):
    """(images, valid or None, targets or None) of what a model takes.

    Raises:
        ValueError: if a dict has other keys, or the mask has another shape than the images.
    """
    if not isinstance(inputs, dict):
        return inputs, None, None
    if "images" not in inputs or not set(inputs) <= KEYS:
        raise ValueError(
            "The input must be images (B, H, W, C), or a dict of these as 'images' and the mask "
            f"'valid', bool (B, H, W), True = picture. Received: keys {sorted(inputs)}"
        )
    images, valid = inputs["images"], inputs.get("valid")
    if valid is not None:
        known = zip(valid.shape, images.shape, strict=False)
        if len(valid.shape) != 3 or any(None not in pair and pair[0] != pair[1] for pair in known):
            raise ValueError(
                "valid must be a mask of the pixels of the images, bool (B, H, W). "
                f"Received: shape={tuple(valid.shape)}, images of {tuple(images.shape)}"
            )
    return images, valid, inputs.get("targets")
