"""The families whose checkpoints are known: what reads their tensors and configurations."""

from collections.abc import Callable
from typing import NamedTuple

from keras_vit.checkpoints.cait import read as cait
from keras_vit.checkpoints.hybrid import read as hybrid
from keras_vit.checkpoints.pvt import read as pvt
from keras_vit.checkpoints.swin import read as swin
from keras_vit.checkpoints.vit import configs as vit_configs
from keras_vit.checkpoints.vit import read as vit
from keras_vit.models.cait import CaiT
from keras_vit.models.hybrid import HybridVisionTransformer
from keras_vit.models.pvt import PyramidVisionTransformer
from keras_vit.models.pvt_v2 import PyramidVisionTransformerV2
from keras_vit.models.swin import SwinTransformer
from keras_vit.models.vit import VisionTransformer


class Family(NamedTuple):
    """How checkpoints of one family are read.

    Attributes:
        model: its class.
        infer: (`Match`, tensors) -> dict, what the tensors say.
        describe: (config, processor, name) -> `Description`, what a configuration says.
        complete: (inferred, description, overrides, name) -> arguments of the model.
        facts: (`Match`, tensors, arguments) -> `layouts.Facts` of the source.
        effects: dict of argument to the pattern of weights that the caller's value may leave out.
        said_twice: arguments that a `.keras` file's configuration and weights both say.
        arithmetic: arguments that must be equal for the same tensors to compute the same; those in
            `described` only where a configuration says them.
        described: see `arithmetic`.
        asked: arguments of a standing model that fill in where the source is silent.
        first_convolution: path of the kernel that reads the pixels.
    """

    model: type
    infer: Callable
    describe: Callable
    complete: Callable
    facts: Callable
    effects: dict
    said_twice: tuple
    arithmetic: frozenset
    described: frozenset
    asked: tuple
    first_convolution: str = "patch_embedding/projection/kernel"


def _by_arguments(facts):
    """Facts that the arguments alone tell."""
    return lambda matched, tensors, arguments: facts(arguments)


FAMILIES = {
    "vit": Family(
        model=VisionTransformer,
        infer=vit.infer,
        describe=vit_configs.describe,
        complete=vit.complete_arguments,
        facts=_by_arguments(vit.facts),
        effects=vit.EFFECTS,
        said_twice=("width", "depth", "mlp_dim", "num_registers", "num_classes"),
        arithmetic=frozenset({"num_heads", "qk_norm"}),
        described=frozenset({"mlp", "norm_epsilon"}),
        asked=("num_heads", "position_embedding"),
    ),
    "swin": Family(
        model=SwinTransformer,
        infer=swin.infer,
        describe=swin.describe,
        complete=swin.complete_arguments,
        facts=swin.facts,
        effects=swin.EFFECTS,
        said_twice=("version", "width", "depths", "num_heads", "num_classes"),
        arithmetic=frozenset({"version", "num_heads"}),
        described=frozenset({"mlp", "norm_epsilon", "pretrained_window_size"}),
        asked=("image_size", "window_size"),
    ),
    "pvt": Family(
        model=PyramidVisionTransformer,
        infer=pvt.infer,
        describe=pvt.describe_pvt,
        complete=pvt.complete,
        facts=_by_arguments(pvt.facts),
        effects=pvt.EFFECTS,
        said_twice=("widths", "depths", "num_classes"),
        arithmetic=frozenset({"num_heads"}),
        described=frozenset({"norm_epsilon", "conv_norm_epsilon"}),
        asked=("num_heads", "image_size"),
        first_convolution="stage0_patch_embedding/projection/kernel",
    ),
    "hybrid": Family(
        model=HybridVisionTransformer,
        infer=hybrid.infer,
        describe=hybrid.describe,
        complete=hybrid.complete,
        facts=_by_arguments(hybrid.facts),
        effects=hybrid.EFFECTS,
        said_twice=("stem_depths", "stem_width", "width", "depth", "mlp_dim", "num_classes"),
        arithmetic=frozenset({"num_heads", "stem_groups", "convention"}),
        described=frozenset({"mlp", "norm_epsilon"}),
        asked=("num_heads", "stem_groups", "image_size"),
        first_convolution="stem_conv/kernel",
    ),
    "cait": Family(
        model=CaiT,
        infer=cait.infer,
        describe=cait.describe,
        complete=cait.complete,
        facts=_by_arguments(cait.facts),
        effects=cait.EFFECTS,
        said_twice=("width", "depth", "class_depth", "num_heads", "mlp_dim", "num_classes"),
        arithmetic=frozenset({"num_heads"}),
        described=frozenset({"mlp", "norm_epsilon"}),
        asked=("image_size",),
    ),
}
FAMILIES["pvt_v2"] = FAMILIES["pvt"]._replace(
    model=PyramidVisionTransformerV2, describe=pvt.describe_pvt_v2
)
MODELS = tuple(family.model for family in FAMILIES.values())


def family_of(model):
    """The `Family` of a model, or None."""
    return next((x for x in FAMILIES.values() if isinstance(model, x.model)), None)


def names_of(models=MODELS):
    """The models' classes in words, for errors."""
    return " or ".join(f"{model.__name__}" for model in models)
