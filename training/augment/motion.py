"""Random flips, rotations, shifts and zooms of one image, as functions of image and seed.

Letters: H x W image size, C channels.
"""

import math

import tensorflow as tf


def augmentation(rotate, translate, zoom, flip, probability=1.0):
    """Returns a function that augments one image.

    Args:
        rotate: float, largest rotation in degrees, in both directions.
        translate: float, largest shift as a fraction of the image's side, in both directions.
        zoom: float, largest magnification minus one: 0.2 for scales from 1/1.2 to 1.2.
        flip: bool, whether half of the images are flipped left to right.
        probability: float, probability that an image is changed.

    Returns:
        A function from a float32 image (H, W, C) and an integer seed (2,) to an image (H, W, C).
        The same seed gives the same pixels. If no augmentation is on, it returns the image
        unchanged; with a flip only, the image may have any dtype and is not resampled.

    Example:
        >>> augmentation(rotate=10.0, translate=0.1, zoom=0.1, flip=False)(image, seed=(0, 1)).shape
        TensorShape([8, 8, 1])
    """

    def augment(image, seed):
        if rotate or translate or zoom:
            changed, *motion = _draw(seed)
            image = tf.where(changed, warp(image, *motion), image)
        elif flip:
            changed, *_, mirror = _draw(seed)
            # Not tf.where or a slice with step -1, which take ten times as long for uint8.
            mirrored = changed & (mirror < 0)
            image = tf.cond(mirrored, lambda: tf.reverse(image, [1]), lambda: image)
        return image

    def _draw(seed):
        draw = tf.random.stateless_uniform((6,), seed, -1.0, 1.0)
        mirror = tf.sign(draw[4]) if flip else 1.0
        return (
            draw[5] < 2 * probability - 1,
            math.radians(rotate) * draw[0],
            translate * draw[1],
            translate * draw[2],
            tf.pow(1.0 + zoom, draw[3]),
            mirror,
        )

    return augment


def warp(image, angle, shift_x, shift_y, scale, mirror):
    """Rotates, shifts, scales and flips an image about its centre in one bilinear resampling.

    Args:
        image: float32 (H, W, C).
        angle: float, radians, counter-clockwise.
        shift_x, shift_y: floats, to the right and down, as fractions of the image's sides.
        scale: float, 2 for twice the size.
        mirror: 1, or -1 to flip left to right.

    Returns:
        float32 (H, W, C); pixels from outside the image are 0.
    """
    height, width, _ = image.shape
    center_x, center_y = (width - 1) / 2, (height - 1) / 2
    # The op maps output pixels to input pixels, so this is the inverse of the motion.
    cos, sin = tf.cos(angle) / scale, tf.sin(angle) / scale
    xx, xy, yx, yy = mirror * cos, -mirror * sin, sin, cos
    from_x, from_y = center_x + width * shift_x, center_y + height * shift_y
    x0 = center_x - xx * from_x - xy * from_y
    y0 = center_y - yx * from_x - yy * from_y
    warped = tf.raw_ops.ImageProjectiveTransformV3(
        images=image[None],
        transforms=tf.stack([xx, xy, x0, yx, yy, y0, 0.0, 0.0])[None],
        output_shape=(height, width),
        fill_value=0.0,
        interpolation="BILINEAR",
        fill_mode="CONSTANT",
    )
    return tf.ensure_shape(warped[0], image.shape)
