"""The model families, one per file, each with its variants.

Whoever imports one of them has all in the registry: the command `keras-vit` looks variants up
before it runs `keras_vit/__init__.py`.
"""

from keras_vit.models import vit, deit, swin, pvt, pvt_v2, hybrid, cait, resnet  # noqa: F401, as listed
