"""MixUp and CutMix of the examples in a batch, as functions of batch and seed.

Letters: B batch, H x W image size, C channels, K classes.
"""

import tensorflow as tf


def mixup(images, labels, seed, alpha):
    """Blends every example of a batch, image and label, with the opposite one in the batch.

    Args:
        images: float32 (B, H, W, C).
        labels: float32 (B, K), one-hot.
        seed: integer (2,); the same seed gives the same result.
        alpha: float above 0; the weight of the opposite example is Beta(alpha, alpha) distributed;
            of the two weights the smaller is used, so it is at most one half.

    Returns:
        images (B, H, W, C), labels (B, K).

    Source: Zhang et al. 2018 (arXiv:1710.09412).
    """
    size = tf.shape(images)[0]
    one, other = tf.unstack(tf.random.stateless_gamma((2, size), seed, alpha))
    share = tf.math.divide_no_nan(tf.minimum(one, other), one + other)  # (B,), in [0, 1/2]

    def blend(x):
        shares = tf.reshape(share, (-1, *[1] * (len(x.shape) - 1)))
        return (1.0 - shares) * x + shares * x[::-1]

    return blend(images), blend(labels)


def cutmix(images, labels, seed, alpha):
    """Pastes a box of the opposite example of a batch into every example.

    Args:
        images: float32 (B, H, W, C).
        labels: float32 (B, K), one-hot.
        seed: integer (2,); the same seed gives the same result.
        alpha: float above 0; the area of the box, as a fraction of the image, is Beta(alpha, alpha)
            distributed before the box is clipped to the image. Its centre is uniform over the
            image.

    Returns:
        images (B, H, W, C), labels (B, K), blended by the area of the clipped box.

    Source: Yun et al. 2019 (arXiv:1905.04899). Each example has its own box; the paper's code and
    timm's batch mode draw one box per batch.
    """
    size, (height, width) = tf.shape(images)[0], images.shape[1:3]
    of_share, of_middle = tf.unstack(tf.random.split(seed, 2))
    one, other = tf.unstack(tf.random.stateless_gamma((2, size), of_share, alpha))
    side = tf.sqrt(tf.math.divide_no_nan(one, one + other))  # (B,), fraction of the image's sides
    middle = tf.random.stateless_uniform((2, size), of_middle)

    def inside(length, middle):
        """Whether each of `length` pixels is inside the box along one side: (B, length)."""
        middle, half = tf.floor(middle * length), tf.floor(side * length) / 2
        low, high = tf.floor(middle - half), tf.floor(middle + half)
        places = tf.range(length, dtype=tf.float32)
        return (low[:, None] <= places) & (places < high[:, None])

    rows, columns = inside(height, middle[0]), inside(width, middle[1])
    area = tf.math.count_nonzero(rows, 1) * tf.math.count_nonzero(columns, 1)
    share = tf.cast(area, tf.float32)[:, None] / (height * width)  # (B, 1)
    # Rows are masked as W * C values, which is faster than a mask that broadcasts over C.
    box = rows[:, :, None] & tf.repeat(columns, images.shape[-1], axis=1)[:, None]  # (B, H, W C)
    flat = tf.reshape(images, tf.shape(box))
    cut = tf.reshape(tf.where(box, flat[::-1], flat), tf.shape(images))
    return tf.ensure_shape(cut, images.shape), (1.0 - share) * labels + share * labels[::-1]


def mixing(mixup_alpha, cutmix_alpha):
    """Returns a function that mixes the examples of a batch by `mixup` or `cutmix`.

    Args:
        mixup_alpha, cutmix_alpha: floats; 0 to switch one off. If both are on, each batch uses one
            of them with equal probability, as in timm's `Mixup`.

    Returns:
        A function from float32 images (B, H, W, C), labels (B, K) and an integer seed (2,) to
        images and labels.
    """

    def mix(images, labels, seed):
        if not cutmix_alpha:
            return mixup(images, labels, seed, mixup_alpha) if mixup_alpha else (images, labels)
        if not mixup_alpha:
            return cutmix(images, labels, seed, cutmix_alpha)
        which = tf.random.stateless_uniform((), tf.random.fold_in(seed, 1))
        return tf.cond(
            which < 0.5,
            lambda: mixup(images, labels, seed, mixup_alpha),
            lambda: cutmix(images, labels, seed, cutmix_alpha),
        )

    return mix
