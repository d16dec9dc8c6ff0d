"""A detector from pictures to boxes, labels and scores, in one graph.

Letters: B batch, H x W size of the pictures, Q queries, K classes.
"""

import keras
from keras import ops

from keras_vit.layers.configured import ConfiguredLayer
from keras_vit.models.normalization import mean_and_std
from keras_vit.ops.boxes import center_to_corners


def found_in_pictures(model, branch=True):
    """Returns a functional model from uint8 pictures (B, H, W, C) of one size to their objects.

    Args:
        model: DETR.
        branch: bool, False for preprocessing without a conditional in TensorFlow's graph.

    Returns:
        `keras.Model` with an input "images" and the outputs "boxes", float32 (B, Q, 4), x0, y0, x1,
        y1 in pixels, "labels", int32 (B, Q), and "scores", float32 (B, Q).
    """
    pictures = keras.Input((None, None, model.input.shape[-1]), dtype="uint8", name="images")
    x = model.picture_preprocessor(pictures, branch=branch)
    if model.whole_patches:
        mean = mean_and_std(model.preprocessor)[0] if model.takes_pixels else (0.0,)
        value = [255 * m for m in mean]
        images, valid = PadToPatches(model.patch_size, value, name="pad")(x)
        x = {"images": images, "valid": valid}
    outputs = model(x, training=False)
    boxes, labels, scores = Objects(name="objects")(outputs["logits"], outputs["boxes"], pictures)
    return keras.Model(pictures, {"boxes": boxes, "labels": labels, "scores": scores})


def objects(logits, boxes, size):
    """(boxes (B, Q, 4) as corners in pixels, labels (B, Q), scores (B, Q)) of every query.

    Args:
        logits: (B, Q, K + 1), of which the last class is "no object".
        boxes: (B, Q, 4), centre x, centre y, width, height, in 0..1.
        size: (H, W), ints, or scalar tensors if a graph does not know them.
    """
    shares = ops.softmax(ops.cast(logits, "float32"), axis=-1)[..., :-1]
    height, width = (ops.cast(side, "float32") for side in size)
    corners = center_to_corners(ops.cast(boxes, "float32"))
    x0, y0, x1, y1 = (corners[..., i] for i in range(4))
    corners = ops.stack([x0 * width, y0 * height, x1 * width, y1 * height], axis=-1)
    labels = ops.cast(ops.argmax(shares, axis=-1), "int32")
    return corners, labels, ops.max(shares, axis=-1)


class Objects(ConfiguredLayer):
    """`objects` as a layer; the size is that of pictures (B, H, W, C)."""

    def call(self, logits, boxes, pictures):
        return objects(logits, boxes, ops.shape(pictures)[1:3])

    def compute_output_spec(self, logits, boxes, pictures):
        shape = logits.shape[:-1]
        return (
            keras.KerasTensor((*shape, 4), "float32"),
            keras.KerasTensor(shape, "int32"),
            keras.KerasTensor(shape, "float32"),
        )


class PadToPatches(ConfiguredLayer):
    """Pads images at the bottom and right to whole patches; returns them and the mask of pixels.

    Args:
        patch_size: (p, q), in pixels.
        value: list of floats, one for each channel or for all, what padded pixels are.
    """

    def __init__(self, patch_size, value, **kwargs):
        super().__init__(**kwargs)
        self.patch_size, self.value = tuple(patch_size), list(value)

    def call(self, images):
        batch, height, width, _ = ops.shape(images)
        p, q = self.patch_size
        more = ((0, 0), (0, -height % p), (0, -width % q))
        value = ops.cast(ops.convert_to_tensor(self.value), images.dtype)
        padded = ops.pad(images - value, (*more, (0, 0))) + value
        valid = ops.pad(ops.ones_like(images[..., 0], dtype="int32"), more) > 0
        return padded, valid

    def compute_output_spec(self, images):
        batch, height, width, channels = images.shape
        sides = zip((height, width), self.patch_size, strict=True)
        h, w = (side and side + -side % by for side, by in sides)
        return (
            keras.KerasTensor((batch, h, w, channels), images.dtype),
            keras.KerasTensor((batch, h, w), "bool"),
        )
