"""The sliding window of a segmentation model in a TensorFlow graph: pictures in, class maps out.

It computes what `model.segment(pictures)` does with its defaults.

Letters: B batch, H x W size of the pictures, h x w size of a window, K classes.
"""

import numpy as np

from keras_vit.models.normalization import mean_and_std


def class_maps(model):
    """Returns a function from uint8 pictures (B, H, W, 3) of one size to int32 (B, H, W)."""
    import tensorflow as tf

    plan = model._plan("slide", None, None, (1,), False, 1)
    mean, std = (np.array(x, "float32") for x in mean_and_std(model.preprocessor))
    padding = mean * 255 if model.takes_pixels else np.zeros_like(mean)

    def serve(images):
        size = tf.shape(images)[1:3]
        x = tf.cast(images, "float32")
        if plan.short_side is not None:
            sides = tf.cast(size, "float64")
            factor = plan.short_side / tf.reduce_min(sides)
            x = tf.image.resize(x, tf.maximum(tf.cast(sides * factor + 0.5, "int32"), 1))
        inner = tf.shape(x)[1:3]
        if not model.takes_pixels:
            x = (x / 255 - mean) / std
        x = _padded(x - padding, plan.window) + padding
        logits = _averaged(x, plan)[:, : inner[0], : inner[1]]
        return {"classes": tf.argmax(tf.image.resize(logits, size), axis=-1, output_type="int32")}

    return serve


def _padded(x, window):
    """Pads (B, H, W, C) with zeros at the bottom and right to at least the window."""
    import tensorflow as tf

    missing = tf.maximum(tf.constant(window) - tf.shape(x)[1:3], 0)
    return tf.pad(x, [[0, 0], [0, missing[0]], [0, missing[1]], [0, 0]])


def _averaged(x, plan):
    """The logits (B, H, W, K) of images (B, H, W, C), averaged over the windows."""
    import tensorflow as tf

    (h, w), (batch, height, width, _) = plan.window, tf.unstack(tf.shape(x))
    rows = _starts(height, h, plan.stride[0])
    columns = _starts(width, w, plan.stride[1])
    classes = plan.model.output.shape[-1]

    def of_column(i, strip, top):
        left = columns[i]
        crop = tf.ensure_shape(x[:, top : top + h, left : left + w], (None, h, w, 3))
        logits = tf.cast(plan.model(crop, training=False), "float32")
        return strip + tf.pad(logits, [[0, 0], [0, 0], [left, width - w - left], [0, 0]])

    def of_row(i, total):
        top = rows[i]
        strip = tf.zeros((batch, h, width, classes))
        strip = _loop(tf.size(columns), lambda j, strip: of_column(j, strip, top), strip)
        return total + tf.pad(strip, [[0, 0], [top, height - h - top], [0, 0], [0, 0]])

    total = _loop(tf.size(rows), of_row, tf.zeros((batch, height, width, classes)))
    counts = tf.expand_dims(_counts(height, rows, h), 1) * _counts(width, columns, w)  # (H, W)
    return total / counts[..., None]


def _loop(count, step, value):
    """value = step(i, value), for i below `count`."""
    import tensorflow as tf

    shape = tf.TensorShape([None, None, None, value.shape[-1]])
    return tf.while_loop(
        lambda i, _: i < count,
        lambda i, value: (i + 1, step(i, value)),
        (tf.constant(0), value),
        (tf.TensorShape([]), shape),
    )[1]


def _starts(side, window, stride):
    """The first pixel of each window along a side, as `keras_vit.tasks.setr.windows.starts`."""
    import tensorflow as tf

    count = tf.maximum(side - window + stride - 1, 0) // stride + 1
    return tf.minimum(tf.range(count) * stride, side - window)


def _counts(side, starts, window):
    """How many windows each pixel of a side is in: float32 (side,)."""
    import tensorflow as tf

    pixels = tf.range(side)[:, None]
    inside = (pixels >= starts) & (pixels < starts + window)
    return tf.reduce_sum(tf.cast(inside, "float32"), axis=1)
