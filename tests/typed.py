"""What a type checker and an editor know of the public API: `make lint` checks it, nothing runs it.

Keras has no type hints, so what its classes give is unknown to both. A line that must be an error
has `type: ignore`; mypy says so where it is none (`warn_unused_ignores`).
"""

from typing import assert_type

import keras_vit
from keras_vit import (
    CaiT,
    Distiller,
    HybridVisionTransformer,
    Preprocessor,
    PyramidVisionTransformer,
    PyramidVisionTransformerV2,
    SwinTransformer,
    VisionTransformer,
)
from keras_vit.optimizers import nothing_of_this_name  # type: ignore[attr-defined]  # noqa: F401

# A variant is a function that gives its family's model, whatever it is called with.
assert_type(keras_vit.ViTBase(num_classes=10, image_size=384), VisionTransformer)
assert_type(keras_vit.DeiTSmall(), VisionTransformer)
assert_type(keras_vit.SwinTiny(image_size=(800, 1216)), SwinTransformer)
assert_type(keras_vit.PVTTiny(), PyramidVisionTransformer)
assert_type(keras_vit.PVTv2B2(image_size=None), PyramidVisionTransformerV2)
assert_type(keras_vit.R50ViTBase16(), HybridVisionTransformer)
assert_type(keras_vit.CaiTSmall24(), CaiT)

# Classes are classes, and names that do not exist are errors.
assert_type(Preprocessor((24, 16), "squash", 1.0), Preprocessor)
models: list[type] = [Distiller, VisionTransformer]
keras_vit.ViTEnormous()  # type: ignore[attr-defined]
keras_vit.ViTBase(10)  # type: ignore[call-arg]
