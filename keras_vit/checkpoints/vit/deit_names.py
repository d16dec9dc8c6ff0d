"""How DeiT's authors and transformers name its tensors, where that is not as of the ViT.

What its authors and timm call the distillation token and its head is in timm's own table.
"""

from keras_vit.checkpoints.tables import Row, both
from keras_vit.checkpoints.vit.names import HF_HEAD, HF_VIT, HF_VIT_BODY, TIMM

# The authors' own files of DeiT III have other names for LayerScale.
DEIT3 = TIMM._replace(
    name="deit",
    rows=(
        *TIMM.rows,
        Row("blocks.{i}.gamma_1", "block{i}/layer_scale1/gamma"),
        Row("blocks.{i}.gamma_2", "block{i}/layer_scale2/gamma"),
    ),
    prefix_positions=False,
)

_BODY = (
    Row("embeddings.distillation_token", "distillation_token/tokens", "token"),
    *HF_VIT_BODY,
)

# transformers: DeiTModel and DeiTForImageClassification, whose head is on the class token alone
HF_DEIT = HF_VIT._replace(
    name="transformers deit",
    prefixes=("", "deit."),
    rows=(*_BODY, *HF_HEAD),
    arguments={**HF_VIT.arguments, "distillation_head": False},
)
# DeiTForImageClassificationWithTeacher
HF_DEIT_DISTILLED = HF_VIT._replace(
    name="transformers deit with teacher",
    prefixes=("deit.",),
    rows=(
        *_BODY,
        *both("cls_classifier", "head/dense"),
        *both("distillation_classifier", "distillation_head/dense"),
    ),
)

TABLES = (DEIT3, HF_DEIT, HF_DEIT_DISTILLED)
