"""Images as patches of pixels, and back.

Letters: B batch, H x W image size, C channels, p x q patch size, h x w grid, N = h*w.
"""

from keras import ops


def patches_of(images, patch_size):
    """Cuts images (B, H, W, C) into patches (B, N, p*q*C), rows first, channels last.

    Pixels at the bottom and right that fill no patch are left out.
    """
    p, q = patch_size
    _, height, width, channels = ops.shape(images)
    h, w = height // p, width // q
    x = ops.reshape(images[:, : h * p, : w * q], (-1, h, p, w, q, channels))
    return ops.reshape(ops.transpose(x, (0, 1, 3, 2, 4, 5)), (-1, h * w, p * q * channels))


def images_of(patches, patch_size, grid):
    """Puts patches (B, N, p*q*C) of a grid (h, w) together to images (B, h*p, w*q, C)."""
    (p, q), (h, w) = patch_size, grid
    x = ops.reshape(patches, (-1, h, w, p, q, patches.shape[-1] // (p * q)))
    return ops.reshape(ops.transpose(x, (0, 1, 3, 2, 4, 5)), (-1, h * p, w * q, x.shape[-1]))
