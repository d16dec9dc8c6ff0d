"""Tensor names of the Vision Transformers of keras-hub, as its presets number their weights."""

from keras_vit.checkpoints.tables import POSITIONS, Names, Row

# Of keras-hub 0.21 and others, whose `task.weights.h5` was meant to hold the head alone.
BACKBONE_TWICE = {r"[^/]+/layers/.*": "the backbone once more, which model.weights.h5 holds"}


def pair(source, target, kernel="plain", bias="vector"):
    """Rows of a linear layer or a convolution: its kernel and its bias."""
    return (
        Row(f"{source}/0", f"{target}/kernel", kernel),
        Row(f"{source}/1", f"{target}/bias", bias),
    )


def norm(source, target):
    """Rows of a layer normalisation: its scale and its shift."""
    return Row(f"{source}/0", f"{target}/gamma"), Row(f"{source}/1", f"{target}/beta")


def _attention(source, target):
    """Rows of Keras's attention, whose projections keep the heads as an axis of their own."""
    parts = [f"{source}/{part}_dense" for part in ("query", "key", "value")]
    return (
        Row(tuple(f"{part}/0" for part in parts), f"{target}/qkv/kernel", "heads_out"),
        Row(tuple(f"{part}/1" for part in parts), f"{target}/qkv/bias", "heads_bias"),
        *pair(f"{source}/output_dense", f"{target}/proj", "heads_in"),
    )


def _encoder(encoder, block, fc1, fc2):
    """Rows of the blocks and of the layer normalisation behind them."""
    source = f"{encoder}/encoder_layers/{block}_{{i}}"
    return (
        *norm(f"{source}/layer_norm_1", "block{i}/norm1"),
        *_attention(f"{source}/mha", "block{i}/attention"),
        *norm(f"{source}/layer_norm_2", "block{i}/norm2"),
        *pair(f"{source}/{fc1}", "block{i}/mlp/fc1"),
        *pair(f"{source}/{fc2}", "block{i}/mlp/fc2"),
        *norm(f"{encoder}/layer_norm", "norm"),
    )


_HEAD = (*pair("pre_logits", "pre_logits"), *pair("predictions", "head/dense"))
_VIT, _DEIT = "vit_patching_and_embedding", "deit_patching_and_embedding"

KERAS_HUB_VIT = Names(
    name="keras-hub vit",
    rows=(
        Row(f"{_VIT}/0", "class_token/tokens", "token"),
        Row(f"{_VIT}/position_embedding/0", POSITIONS, "position_table"),
        *pair(f"{_VIT}/patch_embedding", "patch_embedding/projection", "patches"),
        *_encoder("vit_encoder", "vi_t_encoder_block", "mlp/dense_1", "mlp/dense_2"),
        *_HEAD,
    ),
    dropped=BACKBONE_TWICE,
    block=r"(?<=vi_t_encoder_block_)\d+(?=/)",
)

KERAS_HUB_DEIT = Names(
    name="keras-hub deit",
    rows=(
        Row(f"{_DEIT}/0", "class_token/tokens", "token"),
        Row(f"{_DEIT}/1", "distillation_token/tokens", "token"),
        Row(f"{_DEIT}/2", POSITIONS, "positions"),
        *pair(f"{_DEIT}/patch_embedding", "patch_embedding/projection", "patches"),
        *_encoder("deit_encoder", "dei_t_encoder_block", "mlp/dense", "output_layer/dense"),
        *_HEAD,
    ),
    dropped=BACKBONE_TWICE,
    arguments={"distillation_head": False},  # its classifier reads the class token alone
    block=r"(?<=dei_t_encoder_block_)\d+(?=/)",
)
