"""Infers a Vision Transformer from tensors, configuration and the caller's arguments."""

from typing import NamedTuple

from keras_vit.checkpoints import layouts
from keras_vit.checkpoints.arguments import add_preprocessing
from keras_vit.checkpoints.errors import CheckpointError
from keras_vit.checkpoints.grids import source_grid
from keras_vit.checkpoints.tables import as_tuple
from keras_vit.checkpoints.untrusted import brief
from keras_vit.checkpoints.vit.fields import TIMM_HEADS
from keras_vit.checkpoints.vit.fields import describe as describe
from keras_vit.layers.validation import as_pair
from keras_vit.models.vit import VIT

# What a `.keras` file's configuration and its weights both say; they must agree.
SAID_TWICE = ("width", "depth", "mlp_dim", "num_registers", "num_classes")
# What must be equal for the same tensors to compute the same, and what besides where a
# configuration says it.
ARITHMETIC = frozenset({"num_heads", "qk_norm"})
DESCRIBED = frozenset({"mlp", "norm_epsilon"})
# Arguments of the model to fill that count where the source is silent.
ASKED = ("num_heads", "position_embedding")
GUESSED = ("num_heads", "image_size")
FIRST_CONVOLUTION = "patch_embedding/projection/kernel"  # which reads the pixels
ONLY_WITH = {r"pool/.*": ("pooling", "map")}
RESAMPLED, REFUSED = {}, {}
# Which weights an argument that the caller changed may leave out or begin anew.
EFFECTS = {
    "num_classes": r"(distillation_)?head/.*|pre_logits/.*",
    "representation_size": r"pre_logits/.*",
    "pooling": r"(pool|norm|fc_norm|class_token)/.*|position_embedding/prefix",
    "class_token": r"class_token/.*|position_embedding/prefix",
    "distillation_token": r"distillation_(token|head)/.*|position_embedding/prefix",
    "distillation_head": r"distillation_head/.*",
    "num_registers": r"registers/.*|position_embedding/prefix",
    "position_embedding": r"position_embedding/.*",
    "pre_norm": r"pre_norm/.*",
    "fc_norm": r"(fc_)?norm/.*",
    "depth": r"block\d+/.*",
    "layer_scale": r"block\d+/layer_scale[12]/.*",
    "qk_norm": r"block\d+/attention/(query|key)_norm/.*",
    "qkv_bias": r"block\d+/attention/qkv/bias",
    "patch_bias": r"patch_embedding/projection/bias",
}


class Positions(NamedTuple):
    """The position embeddings of a source.

    Attributes:
        count: int, how many there are.
        of_prefix: whether tokens before the patches have some, or None where it is not known.
        square: whether those of the patches always make a square.
    """

    count: int
    of_prefix: bool | None
    square: bool


def infer(matched, tensors):
    """What the tensors say of the model: constructor arguments of `VisionTransformer`.

    What they cannot say is left out: the number of heads (but for flax's, which keep them apart),
    the kind of GELU, epsilon, which tokens are pooled, and a grid that is not square.

    Args:
        matched: `Match`.
        tensors: dict of name to `Tensor`.

    Returns:
        dict; besides the arguments `positions`, the `Positions`.

    Raises:
        CheckpointError: for shapes that are not those of a Vision Transformer.
    """
    shapes = {}  # of the first source of each target, {i} in the path; the largest block number
    depth = 0
    for (row, number), sources in matched.found.items():
        shape = tensors[next(iter(sources.values()))].shape
        for target in as_tuple(row.targets):
            shapes.setdefault(target, (row, shape, len(as_tuple(row.sources))))
        depth = max(depth, int(number) + 1) if number is not None else depth
    try:
        return _infer(shapes, depth, matched.table)
    except KeyError as error:
        raise CheckpointError(
            f"Tensors of a Vision Transformer with names of {matched.table.name} are missing. "
            f"Expected: {error.args[0]}"
        ) from error
    except (IndexError, ValueError, ZeroDivisionError) as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(
            f"The shapes are not those of a Vision Transformer with names of {matched.table.name}. "
            f"Received: {error}"
        ) from error


def _infer(shapes, depth, table):
    row, kernel, _ = shapes["patch_embedding/projection/kernel"]
    found = {"depth": depth, **table.arguments, "position_resample": table.position_resample}
    if row.layout == "convolution":
        found["width"], found["num_channels"], p, q = kernel
        found["patch_size"] = (p, q)
    elif row.layout == "patches":
        p, q, found["num_channels"], found["width"] = kernel
        found["patch_size"] = (p, q)
    else:  # our own files hold a matrix: their configuration says what it was made of
        found["width"] = kernel[-1]
    width = found["width"]
    attention = shapes["block{i}/attention/qkv/kernel"]
    if attention[0].layout == "heads_out":
        found["num_heads"] = attention[1][1]
    fc1, fc2 = (_outputs(shapes, f"block{{i}}/mlp/fc{n}/kernel") for n in (1, 2))
    inputs = _inputs(shapes, "block{i}/mlp/fc2/kernel")
    if fc2 != width or fc1 not in (inputs, 2 * inputs):
        raise ValueError(f"an MLP of {width} -> {fc1}, {inputs} -> {fc2}")
    found["mlp_dim"] = inputs
    if fc1 == 2 * inputs:
        found["mlp"] = "swiglu"
    registers = shapes.get("registers/tokens")
    found.update(
        patch_bias="patch_embedding/projection/bias" in shapes,
        qkv_bias="block{i}/attention/qkv/bias" in shapes,
        qk_norm="block{i}/attention/query_norm/gamma" in shapes,
        layer_scale=1e-5 if "block{i}/layer_scale1/gamma" in shapes else None,
        pre_norm="pre_norm/gamma" in shapes,
        fc_norm="fc_norm/gamma" in shapes and "norm/gamma" not in shapes,
        class_token="class_token/tokens" in shapes,
        distillation_token="distillation_token/tokens" in shapes,
        num_registers=registers[1][-2] if registers else 0,
        representation_size=_outputs(shapes, "pre_logits/kernel"),
        num_classes=_outputs(shapes, "head/dense/kernel"),
    )
    if "pool/probe" in shapes:
        found["pooling"] = "map"
    elif not found["class_token"] or found["fc_norm"]:
        found["pooling"] = "gap"
    positions = shapes.get("position_embedding/grid")
    if positions:
        row, shape, _ = positions
        after = row.layout == "positions_after_class_token"  # whose own position is not counted
        found["positions"] = Positions(shape[-2] - after, table.prefix_positions, table.square)
    return found


def _outputs(shapes, target):
    if target not in shapes:
        return None
    row, shape, parts = shapes[target]
    return shape[0] if row.layout == "linear" else shape[-1] * (parts if parts > 1 else 1)


def _inputs(shapes, target):
    row, shape, _ = shapes[target]
    return shape[1] if row.layout == "linear" else shape[0]


def heads_of(width, depth, mlp_dim):
    """The number of heads of the published variant of this size, or None."""
    for row in VIT.rows.values():
        if (row["width"], row["depth"], row["mlp_dim"]) == (width, depth, mlp_dim):
            return row["num_heads"]
    return None


# What tensors and another library's configuration both say; they must agree.
MUST_AGREE = (
    "width",
    "depth",
    "mlp_dim",
    "num_channels",
    "patch_size",
    "num_registers",
    "num_classes",
    "qkv_bias",
)


def complete(inferred, description, overrides, name):
    """Arguments of `VisionTransformer` from what tensors, configuration and caller say.

    Args:
        inferred: dict, what the tensors say (`vit.read.infer`).
        description: `Description` of the source's configuration, or None.
        overrides: dict of the caller's arguments, read where the source is silent.
        name: str, the source, for errors.

    Returns:
        dict with every argument that concerns the architecture, as the source has it.

    Raises:
        CheckpointError: where tensors and configuration contradict each other, or both are silent.
    """
    found = dict(inferred)
    positions = found.pop("positions", None)
    said = description.arguments if description else {}
    for key in MUST_AGREE:
        value = said.get(key, found[key])
        value = (value, value) if key == "patch_size" and isinstance(value, int) else value
        if value != found[key]:
            raise CheckpointError(
                f"The configuration and the tensors of {name} contradict each other. Expected: "
                f"{key}={found[key]!r}, as the tensors have it. Received: {key}={brief(value)}"
            )
    if found.get("mlp") == "swiglu" and said.get("mlp") not in (None, "swiglu"):
        raise CheckpointError(f"{name} has tensors of SwiGLU. Received: mlp={said['mlp']!r}")
    extra = {k: v for k, v in said.items() if k not in MUST_AGREE and v is not None}
    heads = found.get("num_heads")  # flax's tensors know
    for value in (said.get("num_heads"), overrides.get("num_heads")):
        if None not in (heads, value) and value != heads:
            raise CheckpointError(
                f"The tensors of {name} contradict what is said of its heads. Expected: "
                f"num_heads={heads}, as the tensors have it. Received: num_heads={value!r}"
            )
    found.update(extra)
    found.setdefault("pooling", "token")
    if "num_heads" not in found:
        heads = overrides.get("num_heads") or heads_of(
            found["width"], found["depth"], found["mlp_dim"]
        )
        if heads is None and description is not None and description.architecture:
            heads = TIMM_HEADS.get(found["width"], found["width"] // 64) or None
        if heads is None:
            raise CheckpointError(
                f"{name} does not say how many heads its attention has: pass num_heads=. Received: "
                f"a width of {found['width']}, which is that of no published variant here"
            )
        found["num_heads"] = heads
    _positions(found, positions, overrides, name)
    if description is not None and description.architecture:
        # timm resamples its own way, also the weights of DINOv2's authors.
        found["position_resample"] = "timm"
    if description is not None:
        add_preprocessing(found, description, found["patch_size"], overrides)
    sides = zip(found["image_size"], found["patch_size"], strict=True)
    if any(side % patch for side, patch in sides):
        found["drop_remainder"] = True  # as the convolution of the source does
    return found


def num_prefix_tokens(arguments):
    """How many tokens of a model with these arguments are no patches."""
    learned = (arguments["class_token"], arguments["distillation_token"])
    return sum(map(bool, learned)) + arguments["num_registers"]


def _positions(found, positions, overrides, name):
    """Grid, image size and kind of the position embeddings from how many there are."""
    p, q = found["patch_size"]
    size, prefix = found.get("image_size"), num_prefix_tokens(found)
    if positions is None:
        found.setdefault("position_embedding", None)
        size = (224 // p * p, 224 // q * q) if size is None else as_pair(size, "image_size")
        found.update(image_size=size, position_grid=None)
        return
    kind, prefixed = found.get("position_embedding"), positions.of_prefix
    if prefixed is None and prefix and kind in ("learned", "learned_patches"):
        prefixed = kind == "learned"
    extras = (prefix, 0) if prefix and prefixed is None else (prefix if prefixed else 0,)
    # Models with registers are published both ways; a class token has its position nearly always.
    usual = extras if found["num_registers"] else extras[:1]
    asked = {} if positions.square else overrides
    grid, size, extra = source_grid(
        positions.count,
        extras,
        usual=usual,
        patch_size=(p, q),
        image_size=size,
        overrides=asked,
        name=name,
    )
    kind = "learned" if extra == prefix else "learned_patches"
    found.update(image_size=size, position_grid=grid, position_embedding=kind)


def facts(arguments):
    """`layouts.Facts` of a source whose model has these arguments."""
    learned = arguments["position_embedding"] == "learned"
    return layouts.Facts(
        arguments["patch_size"],
        arguments["num_channels"],
        arguments["num_heads"],
        num_prefix_tokens=num_prefix_tokens(arguments) if learned else 0,
        grid=arguments["position_grid"],
    )
