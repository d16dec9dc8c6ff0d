"""Training by recipes: `training` in a checkout, `keras_vit.training` in an installed copy."""

import sys

NAMES = ("training", "keras_vit.training")

for name in NAMES:
    if name != __name__ and getattr(sys.modules.get(name), "NAMES", None) == NAMES:
        raise ImportError(
            "A process imports training under one name: the classes of two copies are not the "
            f"same to Keras. Expected: {name}, which is imported already. Received: {__name__}"
        )
