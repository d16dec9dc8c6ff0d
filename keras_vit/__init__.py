"""Vision Transformers for Keras 3, on TensorFlow, JAX and PyTorch.

>>> model = keras_vit.ViTBase(num_classes=10)
"""

# Building blocks, of models and of their training
from keras_vit import layers as layers
from keras_vit import optimizers as optimizers

# Other people's weights
from keras_vit.checkpoints.catalog import list_checkpoints as list_checkpoints
from keras_vit.checkpoints.load import from_pretrained as from_pretrained
from keras_vit.checkpoints.load import load_weights as load_weights
from keras_vit.checkpoints.save import save_pretrained as save_pretrained

# Looking at a model: shapes, cost, attention
from keras_vit.complexity import complexity as complexity
from keras_vit.complexity import shape_flow as shape_flow

# Learning from a teacher
from keras_vit.distillation import DistillationLoss as DistillationLoss
from keras_vit.distillation import Distiller as Distiller

# Shipping a model
from keras_vit.export import export as export
from keras_vit.interpret import attention_attribution as attention_attribution
from keras_vit.interpret import attention_maps as attention_maps
from keras_vit.interpret import attention_rollout as attention_rollout
from keras_vit.interpret import grad_cam as grad_cam
from keras_vit.interpret import patch_filters as patch_filters
from keras_vit.interpret import plot_attention as plot_attention
from keras_vit.interpret import plot_filters as plot_filters
from keras_vit.interpret import plot_maps as plot_maps
from keras_vit.interpret import plot_position_similarity as plot_position_similarity
from keras_vit.interpret import position_similarity as position_similarity

# The named variants
from keras_vit.listing import list_models as list_models

# Class-Attention in Image Transformers, and their variants
from keras_vit.models.cait import CaiT as CaiT
from keras_vit.models.cait import CaiTMedium36 as CaiTMedium36
from keras_vit.models.cait import CaiTMedium48 as CaiTMedium48
from keras_vit.models.cait import CaiTSmall24 as CaiTSmall24
from keras_vit.models.cait import CaiTSmall36 as CaiTSmall36
from keras_vit.models.cait import CaiTXSmall24 as CaiTXSmall24
from keras_vit.models.cait import CaiTXXSmall24 as CaiTXXSmall24
from keras_vit.models.cait import CaiTXXSmall36 as CaiTXXSmall36

# DeiT: the Vision Transformer that is distilled, and DeiT III
from keras_vit.models.deit import DeiT3Base as DeiT3Base
from keras_vit.models.deit import DeiT3Huge as DeiT3Huge
from keras_vit.models.deit import DeiT3Large as DeiT3Large
from keras_vit.models.deit import DeiT3Small as DeiT3Small
from keras_vit.models.deit import DeiTBase as DeiTBase
from keras_vit.models.deit import DeiTSmall as DeiTSmall
from keras_vit.models.deit import DeiTTiny as DeiTTiny

# The hybrids of CNN and Vision Transformer, and their variants
from keras_vit.models.hybrid import HybridVisionTransformer as HybridVisionTransformer
from keras_vit.models.hybrid import R26ViTSmall32 as R26ViTSmall32
from keras_vit.models.hybrid import R50ViTBase16 as R50ViTBase16
from keras_vit.models.hybrid import R50ViTLarge32 as R50ViTLarge32
from keras_vit.models.hybrid import RViTTiny16 as RViTTiny16

# The Pyramid Vision Transformers, first and second, and their variants
from keras_vit.models.pvt import PVTLarge as PVTLarge
from keras_vit.models.pvt import PVTMedium as PVTMedium
from keras_vit.models.pvt import PVTSmall as PVTSmall
from keras_vit.models.pvt import PVTTiny as PVTTiny
from keras_vit.models.pvt import PyramidVisionTransformer as PyramidVisionTransformer
from keras_vit.models.pvt_v2 import PVTv2B0 as PVTv2B0
from keras_vit.models.pvt_v2 import PVTv2B1 as PVTv2B1
from keras_vit.models.pvt_v2 import PVTv2B2 as PVTv2B2
from keras_vit.models.pvt_v2 import PVTv2B2Linear as PVTv2B2Linear
from keras_vit.models.pvt_v2 import PVTv2B3 as PVTv2B3
from keras_vit.models.pvt_v2 import PVTv2B4 as PVTv2B4
from keras_vit.models.pvt_v2 import PVTv2B5 as PVTv2B5
from keras_vit.models.pvt_v2 import PyramidVisionTransformerV2 as PyramidVisionTransformerV2

# Changing a model
from keras_vit.models.resize import resize as resize

# The Swin Transformer and its variants
from keras_vit.models.swin import SwinBase as SwinBase
from keras_vit.models.swin import SwinLarge as SwinLarge
from keras_vit.models.swin import SwinSmall as SwinSmall
from keras_vit.models.swin import SwinTiny as SwinTiny
from keras_vit.models.swin import SwinTransformer as SwinTransformer
from keras_vit.models.swin import SwinV2Base as SwinV2Base
from keras_vit.models.swin import SwinV2Small as SwinV2Small
from keras_vit.models.swin import SwinV2Tiny as SwinV2Tiny

# The Vision Transformer and its variants
from keras_vit.models.vit import VisionTransformer as VisionTransformer
from keras_vit.models.vit import ViTBase as ViTBase
from keras_vit.models.vit import ViTGiant as ViTGiant
from keras_vit.models.vit import ViTGigantic as ViTGigantic
from keras_vit.models.vit import ViTHuge as ViTHuge
from keras_vit.models.vit import ViTLarge as ViTLarge
from keras_vit.models.vit import ViTSmall as ViTSmall
from keras_vit.models.vit import ViTSo400m as ViTSo400m
from keras_vit.models.vit import ViTTiny as ViTTiny

# From pictures to what a model takes
from keras_vit.preprocessing import Preprocessor as Preprocessor
from keras_vit.teacher import teacher_logits as teacher_logits

__version__ = "0.1.0"
