"""Tensor names of ResNet, in torchvision and timm, which are the same, and in transformers."""

from keras_vit.checkpoints.tables import Names, Row, both, norm, numbered

STAGES = range(10)  # however many there are
CONVOLUTIONS = (1, 2, 3)  # of a bottleneck block; a basic one has two
COUNTER = {r".*\.num_batches_tracked": "counts the batches of training, and has no effect"}
_RESNET = {
    "family": "resnet",
    "dropped": COUNTER,
    # Of the first block's first: convolutions within blocks end in the names of the stem's.
    "needed": ("stage0_block{i}/conv1/kernel", "stem/conv/kernel"),
}


def convolution(source, normalisation, target, conv="conv", norm_name="norm"):
    """Rows of a convolution without bias and its batch normalisation."""
    return (
        Row(f"{source}.weight", f"{target}/{conv}/kernel", "kernel"),
        *norm(normalisation, f"{target}/{norm_name}"),
        Row(f"{normalisation}.running_mean", f"{target}/{norm_name}/moving_mean"),
        Row(f"{normalisation}.running_var", f"{target}/{norm_name}/moving_variance"),
    )


def _block(source, target, conv, normalisation, shortcut):
    """Rows of a block, whose convolution `n` is named by `conv` and `normalisation`."""
    parts = [(conv(n), normalisation(n), f"conv{n}", f"norm{n}") for n in CONVOLUTIONS]
    parts.append((*shortcut, "conv_proj", "norm_proj"))
    return tuple(
        row
        for theirs, theirs_norm, ours, ours_norm in parts
        for row in convolution(
            f"{source}.{theirs}", f"{source}.{theirs_norm}", target, ours, ours_norm
        )
    )


# The body of the network, which detectors have too.
TORCHVISION_BODY = (
    *convolution("conv1", "bn1", "stem"),
    *(
        row
        for s in STAGES
        for row in _block(
            f"layer{s + 1}.{{i}}",
            f"stage{s}_block{{i}}",
            "conv{}".format,
            "bn{}".format,
            ("downsample.0", "downsample.1"),
        )
    ),
)
TRANSFORMERS_BODY = (
    *convolution("embedder.embedder.convolution", "embedder.embedder.normalization", target="stem"),
    *(
        row
        for s in STAGES
        for row in _block(
            f"encoder.stages.{s}.layers.{{i}}",
            f"stage{s}_block{{i}}",
            lambda n: f"layer.{n - 1}.convolution",
            lambda n: f"layer.{n - 1}.normalization",
            ("shortcut.convolution", "shortcut.normalization"),
        )
    ),
)

TORCHVISION = Names(
    name="torchvision or timm resnet",
    prefixes=("", "timm_model."),
    rows=(*TORCHVISION_BODY, *both("fc", "head/dense")),
    block=r"(?<=layer\d\.)\d+(?=\.)",
    **_RESNET,
)
TRANSFORMERS = Names(
    name="transformers resnet",
    prefixes=("", "resnet."),
    rows=(*TRANSFORMERS_BODY, *both("classifier.1", "head/dense")),
    block=r"(?<=layers\.)\d+(?=\.)",
    **_RESNET,
)

_NORM = ("gamma", "beta", "moving_mean", "moving_variance")
KERAS = Names(
    name="keras",
    rows=(
        *numbered("stem/conv", "kernel"),
        *numbered("stem/norm", *_NORM),
        *(
            row
            for s in STAGES
            for part in ("1", "2", "3", "_proj")
            for row in (
                *numbered(f"stage{s}_block{{i}}/conv{part}", "kernel"),
                *numbered(f"stage{s}_block{{i}}/norm{part}", *_NORM),
            )
        ),
        *numbered("head/dense", "kernel", "bias"),
    ),
    **_RESNET,
)

TABLES = (TORCHVISION, TRANSFORMERS, KERAS)
