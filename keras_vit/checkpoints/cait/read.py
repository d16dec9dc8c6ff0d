"""Infers a CaiT from tensors and configuration."""

import inspect

from keras_vit.checkpoints import layouts
from keras_vit.checkpoints.cait.fields import describe as describe
from keras_vit.checkpoints.errors import CheckpointError
from keras_vit.checkpoints.tables import as_tuple
from keras_vit.checkpoints.vit import read as vit
from keras_vit.models.cait import CaiT

# What a `.keras` file's configuration and its weights both say; they must agree.
SAID_TWICE = ("width", "depth", "class_depth", "num_heads", "mlp_dim", "num_classes")
# What must be equal for the same tensors to compute the same, and what besides where a
# configuration says it.
ARITHMETIC = frozenset({"num_heads"})
DESCRIBED = frozenset({"mlp", "norm_epsilon"})
# Arguments of the model to fill that count where the source is silent.
ASKED = ("image_size",)
GUESSED = ("image_size",)
FIRST_CONVOLUTION = "patch_embedding/projection/kernel"  # which reads the pixels
RESAMPLED, ONLY_WITH, REFUSED = {}, {}, {}
# Which weights an argument that the caller changed may leave out or begin anew.
EFFECTS = {
    "num_classes": r"head/.*",
    "depth": r"block\d+/.*",
    "class_depth": r"class_block\d+/.*",
    "qkv_bias": r"(class_)?block\d+/attention/(qkv|query|key_value)/bias",
}


def infer(matched, tensors):
    """What the tensors say of the model: constructor arguments of `CaiT`.

    What they cannot say is left out, as in `vit.read.infer`, which reads all but the class token's
    blocks.

    Args, Returns, Raises: as `vit.read.infer`.
    """
    class_depth, patches, heads = 0, {}, None
    for (row, number), sources in matched.found.items():
        target = as_tuple(row.targets)[0]
        if target.startswith("class_block"):
            class_depth = max(class_depth, int(number) + 1)
            continue
        patches[row, number] = sources
        if target.endswith("logits_projection/kernel"):
            heads = tensors[next(iter(sources.values()))].shape[0]
    found = vit.infer(matched._replace(found=patches), tensors)
    return {**found, "class_depth": class_depth, "num_heads": heads}


def complete(inferred, description, overrides, name):
    """Arguments of `CaiT` from what tensors, configuration and caller say.

    Args, Returns, Raises: as `vit.read.complete`.
    """
    found = vit.complete(inferred, description, overrides, name)
    if found["position_embedding"] != "learned_patches":
        raise CheckpointError(
            f"{name} must have a position embedding for every patch, and none for the class token. "
            f"Received: position_embedding={found['position_embedding']!r}"
        )
    known = inspect.signature(CaiT).parameters
    return {key: value for key, value in found.items() if key in known}


def facts(arguments):
    """`layouts.Facts` of a source, or of a model, that these arguments describe."""
    return layouts.Facts(
        arguments["patch_size"],
        arguments["num_channels"],
        arguments["num_heads"],
        grid=arguments["position_grid"],
    )
