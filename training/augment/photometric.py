"""Photometric distortion of a picture, as mmsegmentation's.

Letters: H x W image size.
"""

import tensorflow as tf

BRIGHTNESS = 32.0  # of 255
CONTRAST = SATURATION = (0.5, 1.5)
HUE = 18 / 180  # of the circle


def photometric_distortion(image, seed):
    """Changes brightness, contrast, saturation and hue, each of half of the pictures.

    The contrast is changed before saturation and hue, or after them. After every change pixels are
    whole numbers 0..255 again, rounded down.

    Args:
        image: float32 (H, W, 3), pixels 0..255.
        seed: integer (2,).

    Returns:
        float32 (H, W, 3).

    Source: mmsegmentation `PhotoMetricDistortion`, after Liu et al. 2016 (arXiv:1512.02325). It
    rounds hue and saturation to 8 bits, as OpenCV does; here they are floats.
    """
    chosen, values = tf.unstack(tf.random.split(seed, 2))
    chosen = tf.random.stateless_uniform((5,), chosen) < 0.5
    values = tf.random.stateless_uniform((4,), values)

    def between(i, low, high):
        return low + (high - low) * values[i]

    def contrast(x):
        return _whole(x * between(1, *CONTRAST))

    def of_hsv(x):
        hue, saturation, value = tf.unstack(tf.image.rgb_to_hsv(x / 255.0), axis=-1)
        stronger = tf.minimum(saturation * between(2, *SATURATION), 1.0)
        saturation = tf.where(chosen[2], stronger, saturation)
        hue = tf.where(chosen[3], tf.math.floormod(hue + between(3, -HUE, HUE), 1.0), hue)
        return _whole(255.0 * tf.image.hsv_to_rgb(tf.stack([hue, saturation, value], axis=-1)))

    x = tf.where(chosen[0], _whole(image + between(0, -BRIGHTNESS, BRIGHTNESS)), image)
    x = tf.where(chosen[1] & chosen[4], contrast(x), x)
    x = tf.cond(chosen[2] | chosen[3], lambda: of_hsv(x), lambda: x)
    return tf.where(chosen[1] & ~chosen[4], contrast(x), x)


def _whole(x):
    # 1e-3 is for whole numbers that floats make slightly less.
    return tf.floor(tf.clip_by_value(x + 1e-3, 0.0, 255.0))
