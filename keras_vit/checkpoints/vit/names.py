"""All tables of tensor names of Vision Transformers, and the one of our own files."""

from keras_vit.checkpoints.tables import Names, numbered
from keras_vit.checkpoints.vit.flax_names import (
    BIG_VISION,
    VISION_TRANSFORMER,
    VISION_TRANSFORMER_PUBLISHED,
)
from keras_vit.checkpoints.vit.keras_hub_names import KERAS_HUB_DEIT, KERAS_HUB_VIT
from keras_vit.checkpoints.vit.timm_names import DEIT3, DINOV2, DINOV2_REGISTERS, TIMM
from keras_vit.checkpoints.vit.torchvision_names import TORCHVISION, TORCHVISION_PUBLISHED
from keras_vit.checkpoints.vit.transformers_names import (
    HF_CLIP,
    HF_DEIT,
    HF_DEIT_DISTILLED,
    HF_DINOV2,
    HF_DINOV2_REGISTERS,
    HF_SIGLIP,
    HF_VIT_READ,
)
from keras_vit.checkpoints.vit.transformers_names import (
    HF_VIT as HF_VIT,
)

KERAS = Names(
    name="keras",
    rows=(
        *numbered("class_token distillation_token registers", "tokens"),
        *numbered("position_embedding", "grid", "prefix"),
        *numbered("pre_norm norm fc_norm pool/norm block{i}/norm1 block{i}/norm2", "gamma", "beta"),
        *numbered("block{i}/attention/query_norm block{i}/attention/key_norm", "gamma", "beta"),
        *numbered("block{i}/layer_scale1 block{i}/layer_scale2", "gamma"),
        *numbered("patch_embedding/projection pre_logits", "kernel", "bias"),
        *numbered("head/dense distillation_head/dense", "kernel", "bias"),
        *numbered("block{i}/attention/qkv block{i}/attention/proj", "kernel", "bias"),
        *numbered("block{i}/mlp/fc1 block{i}/mlp/fc2 pool/mlp/fc1 pool/mlp/fc2", "kernel", "bias"),
        *numbered("pool", "probe"),
        *numbered("pool/query pool/key_value pool/proj", "kernel", "bias"),
    ),
    dropped={r".*/seed_generator/\d+": "the state of a dropout layer's random numbers"},
)

TABLES = (
    KERAS,
    DINOV2,
    DINOV2_REGISTERS,
    TIMM,
    HF_VIT_READ,
    HF_DINOV2,
    HF_DINOV2_REGISTERS,
    HF_CLIP,
    HF_SIGLIP,
    VISION_TRANSFORMER,
    VISION_TRANSFORMER_PUBLISHED,
    BIG_VISION,
    DEIT3,
    HF_DEIT,
    HF_DEIT_DISTILLED,
    TORCHVISION,
    TORCHVISION_PUBLISHED,
    KERAS_HUB_VIT,
    KERAS_HUB_DEIT,
)
