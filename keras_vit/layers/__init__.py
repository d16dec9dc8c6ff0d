"""The layers that the models are built of. They do not depend on any model."""

from keras_vit.layers.attention import Attention
from keras_vit.layers.block import Block
from keras_vit.layers.bottleneck_block import BottleneckBlock
from keras_vit.layers.class_attention import ClassAttention, ClassAttentionBlock
from keras_vit.layers.convolutional_mlp import ConvolutionalMLP
from keras_vit.layers.cross_attention import CrossAttention
from keras_vit.layers.heads import AttentionPooling, ClassificationHead, TokenPooling
from keras_vit.layers.mlp import MLP
from keras_vit.layers.overlapping_patch_embedding import OverlappingPatchEmbedding
from keras_vit.layers.patch_embedding import PatchEmbedding
from keras_vit.layers.patch_merging import PatchMerging
from keras_vit.layers.position_embedding import AddPositionEmbedding, sincos_grid
from keras_vit.layers.pyramid_block import PyramidBlock
from keras_vit.layers.regularization import DropPath, LayerScale
from keras_vit.layers.resnet_block import ResNetBlock
from keras_vit.layers.resnet_stem import ResNetStem
from keras_vit.layers.spatial_reduction_attention import SpatialReductionAttention
from keras_vit.layers.standardized_convolution import StandardizedConv2D
from keras_vit.layers.swin_block import SwinBlock
from keras_vit.layers.talking_heads_attention import TalkingHeadsAttention
from keras_vit.layers.tokens import ClassToken, TokensToGrid
from keras_vit.layers.transformer_block import TransformerBlock
from keras_vit.layers.window_attention import WindowAttention
from keras_vit.ops.resample import resample_grid

__all__ = [
    "MLP",
    "AddPositionEmbedding",
    "Attention",
    "AttentionPooling",
    "Block",
    "BottleneckBlock",
    "ClassAttention",
    "ClassAttentionBlock",
    "ClassToken",
    "ClassificationHead",
    "ConvolutionalMLP",
    "CrossAttention",
    "DropPath",
    "LayerScale",
    "OverlappingPatchEmbedding",
    "PatchEmbedding",
    "PatchMerging",
    "SwinBlock",
    "PyramidBlock",
    "ResNetBlock",
    "ResNetStem",
    "SpatialReductionAttention",
    "StandardizedConv2D",
    "TalkingHeadsAttention",
    "TokenPooling",
    "TokensToGrid",
    "TransformerBlock",
    "WindowAttention",
    "resample_grid",
    "sincos_grid",
]
