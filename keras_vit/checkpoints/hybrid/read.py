"""Infers a hybrid of CNN and Vision Transformer from tensors and configuration."""

import inspect
import re

from keras_vit.checkpoints import layouts
from keras_vit.checkpoints.errors import CheckpointError
from keras_vit.checkpoints.hybrid.fields import describe as describe
from keras_vit.checkpoints.tables import as_tuple
from keras_vit.checkpoints.vit import read as vit
from keras_vit.models.hybrid import HybridVisionTransformer

# What a `.keras` file's configuration and its weights both say; they must agree.
SAID_TWICE = ("stem_depths", "stem_width", "width", "depth", "mlp_dim", "num_classes")
# What must be equal for the same tensors to compute the same, and what besides where a
# configuration says it.
ARITHMETIC = frozenset({"num_heads", "stem_groups", "convention"})
DESCRIBED = frozenset({"mlp", "norm_epsilon"})
# Arguments of the model to fill that count where the source is silent.
ASKED = ("num_heads", "stem_groups", "image_size")
GUESSED = ("num_heads", "stem_groups", "image_size")
FIRST_CONVOLUTION = "stem_conv/kernel"  # which reads the pixels
RESAMPLED, ONLY_WITH = {}, {}
# A stem is a whole model, which nothing here looks into.
REFUSED = {"stem": "a hybrid without a CNN of its own"}
# Which weights an argument that the caller changed may leave out or begin anew.
EFFECTS = {
    "num_classes": r"head/.*|pre_logits/.*",
    "representation_size": r"pre_logits/.*",
    "depth": r"block\d+/.*",
}
BIT_GROUPS = 32  # which no tensor tells
_STAGE = re.compile(r"stage(\d+)_block(\{i\}|\d+)/")


def infer(matched, tensors):
    """What the tensors say of the model: constructor arguments of `HybridVisionTransformer`.

    What they cannot say is left out, as in `vit.read.infer`, which reads those of the transformer.

    Args, Returns, Raises: as `vit.read.infer`.
    """
    depths, root, transformer = {}, None, {}
    for (row, number), sources in matched.found.items():
        target = as_tuple(row.targets)[0]
        stage = _STAGE.match(target)
        if stage:
            block = int(number if stage[2] == "{i}" else stage[2])
            depths[int(stage[1])] = max(depths.get(int(stage[1]), 0), block + 1)
        elif target == "stem_conv/kernel":
            root = row.layout, tensors[next(iter(sources.values()))].shape
        elif not target.startswith("stem_"):
            transformer[row, number] = sources
    found = vit.infer(matched._replace(found=transformer), tensors)
    layout, shape = root
    if len(shape) != 4 or sorted(depths) != list(range(len(depths))):
        raise CheckpointError(
            f"The shapes are not those of a hybrid with names of {matched.table.name}. Received: a "
            f"first convolution of {shape}, stages {sorted(depths)}"
        )
    found["stem_depths"] = tuple(depths[s] for s in range(len(depths)))
    channels, width = (shape[1], shape[0]) if layout == "kernel" else shape[2:]
    return {**found, "stem_width": width, "num_channels": channels}


def complete(inferred, description, overrides, name):
    """Arguments of `HybridVisionTransformer` from what tensors, configuration and caller say.

    Args, Returns, Raises: as `vit.read.complete`.
    """
    p, q = inferred["patch_size"]
    stride = 2 ** (1 + max(len(inferred["stem_depths"]), 1))
    pixels = {**inferred, "patch_size": (p * stride, q * stride)}
    found = vit.complete(pixels, description, overrides, name)
    if found["position_embedding"] != "learned":
        raise CheckpointError(
            f"{name} must have a position embedding for the class token and every patch. "
            f"Received: position_embedding={found['position_embedding']!r}"
        )
    found["patch_size"] = (p, q)
    found["stem_groups"] = overrides.get("stem_groups", BIT_GROUPS)
    known = inspect.signature(HybridVisionTransformer).parameters
    return {key: value for key, value in found.items() if key in known}


def facts(arguments):
    """`layouts.Facts` of a source, or of a model, that these arguments describe."""
    stages = len(arguments["stem_depths"])
    channels = arguments["stem_width"] * (4 * 2 ** (stages - 1) if stages else 1)
    return layouts.Facts(
        arguments["patch_size"],
        channels,
        arguments["num_heads"],
        num_prefix_tokens=1,
        grid=arguments["position_grid"],
    )
