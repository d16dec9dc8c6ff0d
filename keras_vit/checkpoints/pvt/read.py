"""Infers a Pyramid Vision Transformer, of either version, from tensors and configuration."""

import math
import re

from keras_vit.checkpoints import layouts
from keras_vit.checkpoints.arguments import add_preprocessing
from keras_vit.checkpoints.errors import CheckpointError
from keras_vit.checkpoints.grids import source_grid
from keras_vit.checkpoints.pvt.fields import DEFAULTS
from keras_vit.checkpoints.pvt.fields import describe as describe
from keras_vit.checkpoints.tables import as_tuple
from keras_vit.checkpoints.untrusted import brief
from keras_vit.layers.validation import as_pair
from keras_vit.models import pvt_v2

# What tensors and another library's configuration both say; they must agree.
MUST_AGREE = (
    "widths",
    "depths",
    "mlp_ratios",
    "reductions",
    "pool_size",
    "patch_sizes",
    "num_channels",
    "num_classes",
    "qkv_bias",
)

# What a `.keras` file's configuration and its weights both say; they must agree.
SAID_TWICE = ("widths", "depths", "num_classes")
# What must be equal for the same tensors to compute the same, and what besides where a
# configuration says it.
ARITHMETIC = frozenset({"num_heads"})
DESCRIBED = frozenset({"norm_epsilon", "conv_norm_epsilon"})
# Arguments of the model to fill that count where the source is silent.
ASKED = ("num_heads", "image_size")
GUESSED = ("num_heads", "image_size")
FIRST_CONVOLUTION = "stage0_patch_embedding/projection/kernel"  # which reads the pixels
RESAMPLED, ONLY_WITH, REFUSED = {}, {}, {}
# Which weights an argument that the caller changed may leave out or begin anew.
_REDUCTION = r"stage\d_block\d+/attention/(reduce|norm)/.*"
EFFECTS = {
    "num_classes": r"head/.*",
    "depths": r"stage\d_block\d+/.*",
    "reductions": _REDUCTION,
    "pool_size": _REDUCTION,
    "qkv_bias": r"stage\d_block\d+/attention/(query|key_value|qkv)/bias",
}


def infer(matched, tensors):
    """What the tensors say of the model: constructor arguments, and the counts of `positions`.

    What they cannot say is left out: the number of heads, the epsilons where the table's library
    has one for all, strides, a grid that is not square.

    Args:
        matched: `Match`.
        tensors: dict of name to `Tensor`.

    Returns:
        dict; of our own files only what tells them apart, since their configuration says the rest.

    Raises:
        CheckpointError: for shapes that are not those of a pyramid.
    """
    shapes, depths = {}, {}
    for (row, number), sources in matched.found.items():
        shape = tensors[next(iter(sources.values()))].shape
        for target in as_tuple(row.targets):
            shapes.setdefault(target, shape)
        if number is not None:
            stage = int(re.match(r"stage(\d)_", as_tuple(row.targets)[0])[1])
            depths[stage] = max(depths.get(stage, 0), int(number) + 1)
    try:
        depths = tuple(depths[stage] for stage in range(len(depths)))
        return _infer(shapes, depths, matched.table)
    except (KeyError, IndexError, ValueError, ZeroDivisionError) as error:
        raise CheckpointError(
            "The shapes are not those of a Pyramid Vision Transformer with names of "
            f"{matched.table.name}. "
            f"Received: {error}"
        ) from error


def _infer(shapes, depths, table):
    stages = range(len(depths))
    found = {"depths": depths, **table.arguments}
    ours = table.name == "keras"
    head = shapes.get("head/dense/kernel")
    found["num_classes"] = head and head[-1 if ours else 0]
    patches = [shapes[f"stage{s}_patch_embedding/projection/kernel"] for s in stages]
    found["widths"] = tuple(shape[-1 if ours else 0] for shape in patches)
    if ours:
        return found
    found["num_channels"] = patches[0][1]
    found["patch_sizes"] = tuple(shape[-1] for shape in patches)
    hidden = [shapes[f"stage{s}_block{{i}}/mlp/fc1/kernel"][0] for s in stages]
    found["mlp_ratios"] = tuple(map(_ratio, hidden, found["widths"]))
    found["qkv_bias"] = "stage0_block{i}/attention/query/bias" in shapes
    reduce = [shapes.get(f"stage{s}_block{{i}}/attention/reduce/kernel") for s in stages]
    found["reductions"] = tuple(shape[-1] if shape else 1 for shape in reduce)
    if table.family == "pvt_v2":  # a reduction by 1 is that of linear attention
        found["pool_size"] = 7 if reduce[-1] and reduce[-1][-1] == 1 else None
    else:
        found["position_resample"] = table.position_resample
        grids = [shapes[f"stage{s}_position_embedding/grid"] for s in stages]
        found["positions"] = [shape[-2] for shape in grids]
    return found


def _ratio(hidden, width):
    return hidden // width if hidden % width == 0 else (hidden + 0.5) / width


def complete(inferred, description, overrides, name):
    """Constructor arguments from what tensors, configuration and caller say.

    Args:
        inferred: dict, what the tensors say (`infer`).
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
    said = {
        k: v for k, v in (description.arguments if description else {}).items() if v is not None
    }
    for key in MUST_AGREE:
        if key in found and said.get(key, found[key]) != found[key]:
            raise CheckpointError(
                f"The configuration and the tensors of {name} contradict each other. Expected: "
                f"{key}={found[key]!r}, as the tensors have it. Received: {key}={brief(said[key])}"
            )
    found.update({k: v for k, v in said.items() if k not in MUST_AGREE})
    if "num_heads" not in found:
        found["num_heads"] = overrides.get("num_heads") or _published_heads(found["widths"])
        if found["num_heads"] is None:
            raise CheckpointError(
                f"{name} does not say how many heads its attention has: pass num_heads=. Received: "
                f"widths={found['widths']}, which are those of no published variant here"
            )
    size = found.get("image_size")
    found["image_size"] = (size, size) if isinstance(size, int) else size
    if positions is not None:
        _positions(found, positions, overrides, name)
    found["image_size"] = found["image_size"] or (224, 224)
    if description is not None:
        whole = 1 if positions is None else math.prod(found["patch_sizes"])
        add_preprocessing(found, description, (whole, whole), overrides)
    return found


def _published_heads(widths):
    rows = [row.get("widths", widths) for row in pvt_v2.PVT_V2.rows.values()]
    return DEFAULTS["num_attention_heads"] if widths in (rows[0], rows[1]) else None


def _positions(found, counts, overrides, name):
    """Image size and grid of the first stage from how many position embeddings each stage has."""
    size, patches = found["image_size"], found["patch_sizes"]
    if size is None:
        first = (patches[0], patches[0])
        _, size, _ = source_grid(counts[0], (0,), patch_size=first, overrides=overrides, name=name)
    grids = [[side // math.prod(patches[: s + 1]) for side in size] for s in range(4)]
    expected = [h * w + (s == 3) for s, (h, w) in enumerate(grids)]
    if counts != expected or size[0] % math.prod(patches) or size[1] % math.prod(patches):
        raise CheckpointError(
            f"{name} has {counts} position embeddings in its stages, which do not fit its images. "
            f"Expected: {expected}. Received: image_size={size}"
        )
    found.update(image_size=size, position_grid=tuple(grids[0]))


def facts(arguments):
    """`layouts.StageFacts` of a source, or of a model, that these arguments describe."""
    grid, stages, reductions = arguments.get("position_grid"), [], []
    grid = None if grid is None else as_pair(grid, "position_grid")
    channels = (arguments["num_channels"], *arguments["widths"])
    last = len(arguments["widths"]) - 1
    for s, patch in enumerate(arguments["patch_sizes"]):
        if grid is not None and s > 0:
            grid = tuple(side // patch for side in grid)
        heads = arguments["num_heads"][s]
        stages.append(
            layouts.Facts(
                (patch, patch), channels[s], heads, num_prefix_tokens=int(s == last), grid=grid
            )
        )
        r = arguments["reductions"][s]
        reductions.append(layouts.Facts((r, r), channels[s + 1], heads))
    return layouts.StageFacts(tuple(stages), tuple(reductions))
