"""A Pyramid Vision Transformer v2 as transformers or timm open it."""

from keras_vit.checkpoints.pvt.write import WRITERS as WRITERS
