"""Tensor names of Vision Transformers in torchvision."""

from keras_vit.checkpoints.tables import POSITIONS, Names, Row, both, norm


def _rows(fc1, fc2):
    """All rows; the layers of the MLP had other names in the files that were published."""
    block = "encoder.layers.encoder_layer_{i}"
    return (
        Row("class_token", "class_token/tokens", "token"),
        Row("encoder.pos_embedding", POSITIONS, "positions"),
        *both("conv_proj", "patch_embedding/projection", "convolution"),
        *norm(f"{block}.ln_1", "block{i}/norm1"),
        Row(f"{block}.self_attention.in_proj_weight", "block{i}/attention/qkv/kernel", "linear"),
        Row(f"{block}.self_attention.in_proj_bias", "block{i}/attention/qkv/bias"),
        *both(f"{block}.self_attention.out_proj", "block{i}/attention/proj"),
        *norm(f"{block}.ln_2", "block{i}/norm2"),
        *both(f"{block}.mlp.{fc1}", "block{i}/mlp/fc1"),
        *both(f"{block}.mlp.{fc2}", "block{i}/mlp/fc2"),
        *norm("encoder.ln", "norm"),
        *both("heads.pre_logits", "pre_logits"),
        *both("heads.head", "head/dense"),
    )


TORCHVISION = Names(
    name="torchvision vit",
    rows=_rows("0", "3"),
    position_resample="torchvision",
    square=True,
    block=r"(?<=encoder_layer_)\d+(?=\.)",
)
TORCHVISION_PUBLISHED = TORCHVISION._replace(rows=_rows("linear_1", "linear_2"))
