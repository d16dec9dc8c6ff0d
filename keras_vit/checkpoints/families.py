"""The families whose checkpoints are known, and the modules that read and write them.

Every family has a folder of three modules. `names` has its `TABLES`. `write` has `WRITERS`: dict of
"hf" and "timm" to (model, folder) -> None. `read` has

    infer: (`Match`, tensors) -> dict of arguments, what the tensors say.
    describe: (config, processor, name) -> `Description`, what a configuration says.
    complete: (inferred, description, overrides, name) -> arguments of the model.
    facts: (arguments) -> `layouts.Facts` or `StageFacts` of a source, or of a model.
    EFFECTS: dict of argument to the pattern of weights that the caller's value may leave out.
    SAID_TWICE: arguments that a `.keras` file's configuration and weights both say.
    ARITHMETIC: arguments that must be equal for the same tensors to compute the same.
    DESCRIBED: more of them, which count only where a configuration says them.
    ASKED: arguments of a standing model that fill in where the source is silent.
    FIRST_CONVOLUTION: path of the kernel that reads the pixels.
"""

from types import ModuleType
from typing import NamedTuple

from keras_vit.checkpoints.cait import read as cait
from keras_vit.checkpoints.cait import write as cait_write
from keras_vit.checkpoints.hybrid import read as hybrid
from keras_vit.checkpoints.hybrid import write as hybrid_write
from keras_vit.checkpoints.pvt import read as pvt
from keras_vit.checkpoints.pvt import write as pvt_write
from keras_vit.checkpoints.pvt_v2 import read as pvt_v2
from keras_vit.checkpoints.pvt_v2 import write as pvt_v2_write
from keras_vit.checkpoints.swin import read as swin
from keras_vit.checkpoints.swin import write as swin_write
from keras_vit.checkpoints.vit import read as vit
from keras_vit.checkpoints.vit import write as vit_write
from keras_vit.models.cait import CaiT
from keras_vit.models.hybrid import HybridVisionTransformer
from keras_vit.models.pvt import PyramidVisionTransformer
from keras_vit.models.pvt_v2 import PyramidVisionTransformerV2
from keras_vit.models.swin import SwinTransformer
from keras_vit.models.vit import VisionTransformer


class Family(NamedTuple):
    """A family: its class, and the modules of its folder."""

    model: type
    read: ModuleType
    write: ModuleType


FAMILIES = {
    "vit": Family(VisionTransformer, vit, vit_write),
    "swin": Family(SwinTransformer, swin, swin_write),
    "pvt": Family(PyramidVisionTransformer, pvt, pvt_write),
    "pvt_v2": Family(PyramidVisionTransformerV2, pvt_v2, pvt_v2_write),
    "hybrid": Family(HybridVisionTransformer, hybrid, hybrid_write),
    "cait": Family(CaiT, cait, cait_write),
}
MODELS = tuple(family.model for family in FAMILIES.values())


def family_of(model):
    """The `Family` of a model, or None."""
    return next((x for x in FAMILIES.values() if isinstance(model, x.model)), None)


def names_of(models=MODELS):
    """The models' classes in words, for errors."""
    return " or ".join(f"{model.__name__}" for model in models)
