"""Layer-wise learning rates, selective weight decay, and learning rate schedules.

They are part of the library, and not of the training recipes, because a `.keras` file of a trained
model needs them to load.
"""

from keras_vit.optimizers.layerwise import LayerwiseAdamW, LayerwiseSGD
from keras_vit.optimizers.rates import backbone_shares, decays, head_shares, layer_shares
from keras_vit.optimizers.schedules import WarmupSchedule

__all__ = [
    "LayerwiseAdamW",
    "LayerwiseSGD",
    "WarmupSchedule",
    "backbone_shares",
    "decays",
    "head_shares",
    "layer_shares",
]
