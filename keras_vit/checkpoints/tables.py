"""Building blocks of the tables of tensor names: one row for each kind of tensor."""

from typing import NamedTuple

# A block's number in a tensor's name: blocks.3. layer.3. layers.3. encoderblock_3/ block03/
# stage2_block03/; where layers.2. is a stage its number stays.
BLOCK = (
    r"(?<=blocks\.)\d+(?=\.)|(?<=layer\.)\d+(?=\.)|(?<=layers\.)\d+(?=\.(?!blocks|downsample))"
    r"|(?<=encoderblock_)\d+(?=/)|(?<=^block)\d+(?=/)|(?<=^stage\d_block)\d+(?=/)"
)
# A head here is one linear layer: whatever else self-supervised training puts there is left out.
OTHER_HEADS = {
    r"head\w*\.(\d+|mlp|last_layer)\..*": "a head of several layers, such as a projection"
}
POSITIONS = ("position_embedding/prefix", "position_embedding/grid")


class Row(NamedTuple):
    """The names of one kind of tensor, in a source and here.

    Several sources are laid side by side to make the target, several targets cut from the source:
    both along the outputs, so that a fused projection meets its parts. `{i}` is a block's number.

    Attributes:
        sources: str, or tuple of str: the source's names.
        targets: str, or tuple of str: paths of weights here.
        layout: how the source's axes lie (`checkpoints.layouts`).
    """

    sources: str | tuple
    targets: str | tuple
    layout: str = "vector"


class Names(NamedTuple):
    """How one library names the tensors of one family.

    Attributes:
        name: str, what reports call it.
        rows: tuple of `Row`.
        prefixes: what may stand before every name, "" where nothing may.
        dropped: dict of a regular expression to the reason why such tensors are left out.
        position_resample: how this source resamples its position embeddings.
        prefix_positions: whether class token and other prefix tokens have position embeddings, or
            None where some of its models have them and others not.
        square: whether its position embeddings always make a square.
        arguments: dict, what its models are where neither tensors nor configuration say.
        family: str, which of `keras_vit.models.registry.FAMILIES` it names.
        needed: tuple of the targets that every such file has.
        marks: tuple of the names of tensors that every such file has.
        block: regular expression, where a block's number stands in a name.
    """

    name: str
    rows: tuple
    prefixes: tuple = ("",)
    dropped: dict = {}
    position_resample: str = "timm"
    prefix_positions: bool | None = True
    square: bool = False
    arguments: dict = {}
    family: str = "vit"
    needed: tuple = ("patch_embedding/projection/kernel", "block{i}/attention/qkv/kernel")
    marks: tuple = ()
    block: str = BLOCK


def as_tuple(names):
    return (names,) if isinstance(names, str) else names


def both(source, target, layout="linear"):
    """Rows of a linear layer: its weight and its bias."""
    return (
        Row(f"{source}.weight", f"{target}/kernel", layout),
        Row(f"{source}.bias", f"{target}/bias"),
    )


def norm(source, target):
    """Rows of a layer normalisation: its scale and its shift."""
    return Row(f"{source}.weight", f"{target}/gamma"), Row(f"{source}.bias", f"{target}/beta")


def fused(sources, target):
    """Rows of linear layers that are one fused projection here."""
    return (
        Row(tuple(f"{name}.weight" for name in sources), f"{target}/kernel", "linear"),
        Row(tuple(f"{name}.bias" for name in sources), f"{target}/bias"),
    )


def numbered(layers, *weights):
    """Rows of our own files, which number the weights of a layer."""
    return tuple(
        Row(f"{layer}/{number}", f"{layer}/{weight}", "plain")
        for layer in layers.split()
        for number, weight in enumerate(weights)
    )
