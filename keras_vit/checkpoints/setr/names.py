"""Tensor names of SETR: those of its authors, and of mmsegmentation 0.x and 1.x.

The names of the encoder follow `backbone.`; decoder and auxiliary heads stand beside it.
"""

from keras_vit.checkpoints.tables import POSITIONS, Names, Row, both, norm

HEADS = range(5)  # auxiliary heads that a file may have
LEVELS = range(4)  # of MLA, the shallowest first
CONVS = range(4)  # of one head

_SETR = {
    "family": "setr",
    "prefixes": ("backbone.",),
    "position_resample": "bilinear",
    "arguments": {"norm_epsilon": 1e-6},
}
_COUNTER = {r".*\.num_batches_tracked": "counts the batches of training, and has no effect"}
_UNUSED = {
    r"(decode_head|auxiliary_head\.\d+)\.conv_seg\..*": "a classifier that the authors' code "
    "creates and never uses"
}


def conv(source, target):
    """Rows of a convolution: its kernel and its bias."""
    return both(source, target, "kernel")


def conv_norm(convolution, normalisation, target):
    """Rows of a convolution and its batch normalisation."""
    return (
        *conv(convolution, f"{target}/conv"),
        *norm(normalisation, f"{target}/norm"),
        Row(f"{normalisation}.running_mean", f"{target}/norm/moving_mean"),
        Row(f"{normalisation}.running_var", f"{target}/norm/moving_variance"),
    )


def _heads():
    """(name there, name here) of the decoder and the auxiliary heads."""
    heads = [(f"auxiliary_head.{i}", f"auxiliary_head{i}") for i in HEADS]
    return [("decode_head", "decoder"), *heads]


_EMBEDDING = (
    Row("cls_token", "class_token/tokens", "token"),
    Row("pos_embed", POSITIONS, "positions"),
)
_AUTHORS_ENCODER = (
    *both("patch_embed.proj", "patch_embedding/projection", "convolution"),
    *_EMBEDDING,
    *norm("blocks.{i}.norm1", "block{i}/norm1"),
    *both("blocks.{i}.attn.qkv", "block{i}/attention/qkv"),
    *both("blocks.{i}.attn.proj", "block{i}/attention/proj"),
    *norm("blocks.{i}.norm2", "block{i}/norm2"),
    *both("blocks.{i}.mlp.fc1", "block{i}/mlp/fc1"),
    *both("blocks.{i}.mlp.fc2", "block{i}/mlp/fc2"),
)
_MMSEG_ENCODER = (
    *both("patch_embed.projection", "patch_embedding/projection", "convolution"),
    *_EMBEDDING,
    *norm("layers.{i}.ln1", "block{i}/norm1"),
    Row("layers.{i}.attn.attn.in_proj_weight", "block{i}/attention/qkv/kernel", "linear"),
    Row("layers.{i}.attn.attn.in_proj_bias", "block{i}/attention/qkv/bias"),
    *both("layers.{i}.attn.attn.out_proj", "block{i}/attention/proj"),
    *norm("layers.{i}.ln2", "block{i}/norm2"),
    *both("layers.{i}.ffn.layers.0.0", "block{i}/mlp/fc1"),
    *both("layers.{i}.ffn.layers.1", "block{i}/mlp/fc2"),
)


def _authors_upsampling(convs):
    """Rows of the heads of "naive" and "pup": the decoder has `convs` convolutions, others one."""
    rows = []
    for there, here in _heads():
        count = convs if here == "decoder" else 1
        rows += norm(f"{there}.norm", f"{here}/norm")
        for i in range(count):
            rows += conv_norm(f"{there}.conv_{i}", f"{there}.syncbn_fc_{i}", f"{here}/conv{i}")
        rows += conv(f"{there}.conv_{count}", f"{here}/classifier")
    return tuple(rows)


def _needed(*targets):
    return ("patch_embedding/projection/kernel", "block{i}/attention/qkv/kernel", *targets)


AUTHORS_NAIVE = Names(
    name="setr naive",
    rows=(*_AUTHORS_ENCODER, *_authors_upsampling(convs=1)),
    dropped={**_COUNTER, **_UNUSED},
    needed=_needed("decoder/classifier/kernel"),
    **_SETR,
)
AUTHORS_PUP = AUTHORS_NAIVE._replace(
    name="setr pup",
    rows=(*_AUTHORS_ENCODER, *_authors_upsampling(convs=4)),
    needed=_needed("decoder/conv3/conv/kernel", "decoder/classifier/kernel"),
)
AUTHORS_MLA = AUTHORS_NAIVE._replace(
    name="setr mla",
    rows=(
        *_AUTHORS_ENCODER,
        *(row for i in LEVELS for row in norm(f"norm_{i}", f"neck/norm{i}")),
        *(
            row
            for i in LEVELS
            for there, here in (("_1x1", "project"), ("", "extract"))
            for row in conv_norm(
                f"mla.mla_p{i + 2}{there}.0", f"mla.mla_p{i + 2}{there}.1", f"neck/{here}{i}"
            )
        ),
        *(
            row
            for i in LEVELS
            for first, here in ((0, "first"), (3, "second"))
            for row in conv_norm(
                f"decode_head.mlahead.head{i + 2}.{first}",
                f"decode_head.mlahead.head{i + 2}.{first + 1}",
                f"decoder/{here}{i}",
            )
        ),
        *conv("decode_head.cls", "decoder/classifier"),
        *(
            row
            for i in HEADS
            for row in conv(f"auxiliary_head.{i}.aux", f"auxiliary_head{i}/classifier")
        ),
    ),
    needed=_needed("neck/norm0/gamma", "decoder/classifier/kernel"),
)

MMSEG = Names(
    name="mmseg setr",
    rows=(
        *_MMSEG_ENCODER,
        *(
            row
            for there, here in _heads()
            for row in (
                *norm(f"{there}.norm", f"{here}/norm"),
                *(
                    row
                    for i in CONVS
                    for row in conv_norm(
                        f"{there}.up_convs.{i}.0.conv",
                        f"{there}.up_convs.{i}.0.bn",
                        f"{here}/conv{i}",
                    )
                ),
                *conv(f"{there}.conv_seg", f"{here}/classifier"),
            )
        ),
    ),
    dropped=_COUNTER,
    needed=_needed("decoder/norm/gamma", "decoder/classifier/kernel"),
    **_SETR,
)
# There the maps that leave the neck are the deepest level first.
MMSEG_MLA = MMSEG._replace(
    name="mmseg setr mla",
    rows=(
        *_MMSEG_ENCODER,
        *(row for i in LEVELS for row in norm(f"neck.norm.{i}", f"neck/norm{i}")),
        *(
            row
            for i in LEVELS
            for there, here in (
                (f"neck.mla.channel_proj.{i}", f"neck/project{i}"),
                (f"neck.mla.feat_extract.{i}", f"neck/extract{LEVELS[-1] - i}"),
                (f"decode_head.up_convs.{i}.0", f"decoder/first{LEVELS[-1] - i}"),
                (f"decode_head.up_convs.{i}.1", f"decoder/second{LEVELS[-1] - i}"),
            )
            for row in conv_norm(f"{there}.conv", f"{there}.bn", here)
        ),
        *(
            row
            for there, here in _heads()
            for row in conv(f"{there}.conv_seg", f"{here}/classifier")
        ),
    ),
    needed=_needed("neck/norm0/gamma", "decoder/classifier/kernel"),
)

AUTHORS = {"naive": AUTHORS_NAIVE, "pup": AUTHORS_PUP, "mla": AUTHORS_MLA}
TABLES = (AUTHORS_NAIVE, AUTHORS_PUP, AUTHORS_MLA, MMSEG, MMSEG_MLA)
