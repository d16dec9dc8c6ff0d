"""Resizes a patch embedding to another patch size."""

import numpy as np

from keras_vit.ops.resample import resampling_matrix


def resample_patches(kernel, size):
    """FlexiViT's pseudo-inverse resize of a patch embedding.

    The new kernel gives resized patches, as nearly as can be, the tokens that the old one gave the
    patches themselves: exactly, where patches grow.

    Args:
        kernel: array (p, q, C, D).
        size: (p', q').

    Returns:
        float32 array (p', q', C, D).

    Source: Beyer et al. 2023 (arXiv:2212.08013), section 3.4, equation 4.
    """
    p, q, channels, width = kernel.shape
    rows, columns = (
        resampling_matrix(old, new, "bilinear", dtype="float64")
        for old, new in zip((p, q), size, strict=True)
    )
    resize = np.kron(rows, columns)  # (p' q', p q): a patch as a vector, resized
    new = np.linalg.pinv(resize.T) @ kernel.reshape(p * q, channels * width)
    return new.reshape(*size, channels, width).astype("float32")
