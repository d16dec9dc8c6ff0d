"""Infers a SETR from tensors and the caller's arguments; files have no configuration."""

import inspect
import re

from keras_vit.checkpoints.errors import CheckpointError
from keras_vit.checkpoints.setr import names
from keras_vit.checkpoints.tables import as_tuple
from keras_vit.checkpoints.vit import read as vit
from keras_vit.models.vit import VisionTransformer
from keras_vit.preprocessing import Preprocessor
from keras_vit.tasks.setr.features import quarters
from keras_vit.tasks.setr.model import SETR

SAID_TWICE = ()
ARITHMETIC = frozenset({"num_heads", "decoder", "convention", "layers"})
DESCRIBED = frozenset()
ASKED = ("num_heads", "layers")
GUESSED = ("num_heads", "layers")
FIRST_CONVOLUTION = vit.FIRST_CONVOLUTION
RESAMPLED, ONLY_WITH, REFUSED = {}, {}, {}
FREE = ("class_names", "short_side")
EFFECTS = {
    "num_classes": r"(decoder|auxiliary_head\d+)/classifier/.*",
    "auxiliary_heads": r"auxiliary_head\d+/.*",
}
OWN = re.compile(r"neck/|decoder/|auxiliary_head\d+/")  # paths of what an encoder has not

# Arguments of the encoder that this reads; a SETR shares the rest of its arguments with it.
_NOT_OF_ENCODERS = ("pooling", "fc_norm", "representation_size", "distillation_head")
_OWN_ARGUMENTS = {k: p for k, p in inspect.signature(SETR).parameters.items() if k != "encoder"}
_OF_VIT = inspect.signature(VisionTransformer).parameters
_ENCODER_ARGUMENTS = {
    name: parameter
    for name, parameter in _OF_VIT.items()
    if name not in _NOT_OF_ENCODERS and name not in _OWN_ARGUMENTS
}
# The layers that the published models of 24 blocks read. In others they are guessed.
_PUBLISHED = {"naive": (9, 14, 19, 23), "pup": (9, 14, 19, 23), "mla": (5, 11, 17, 23)}
# To how many pixels the authors resized the short side in tests: of ADE20K, Cityscapes and Pascal
# Context, by number of classes and image size.
_SHORT_SIDES = {(150, 512): 512, (19, 768): 1025, (60, 480): 520}


def build(**arguments):
    """A `SETR` from its own arguments and those of its `VisionTransformer`, side by side."""
    encoder = {k: v for k, v in arguments.items() if k in _ENCODER_ARGUMENTS}
    for name in ("image_size", "include_preprocessing", "dtype"):
        if name in arguments:
            encoder[name] = arguments[name]
    if encoder.get("include_preprocessing"):
        encoder["preprocessor"] = arguments.get("preprocessor")
    own = {k: v for k, v in arguments.items() if k in _OWN_ARGUMENTS and k != "image_size"}
    return SETR(VisionTransformer(num_classes=None, **encoder), **own)


build.__name__ = "SETR"
build.__signature__ = inspect.Signature(
    parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)
    for parameter in {
        **_ENCODER_ARGUMENTS,
        **_OWN_ARGUMENTS,
        # which a SETR takes from a given encoder
        **{name: _OF_VIT[name] for name in ("image_size", "include_preprocessing")},
    }.values()
)


def arguments_of(model):
    """The arguments of `build` for a standing model.

    Raises:
        CheckpointError: if its encoder is no `VisionTransformer`.
    """
    config = model.get_config()
    encoder = config.pop("encoder")
    if encoder["class_name"] != VisionTransformer.__name__:
        raise CheckpointError(
            "Checkpoints of SETR have a VisionTransformer as the encoder. "
            f"Received: a model with a {encoder['class_name']}"
        )
    return {**encoder["config"], **config}


def infer(matched, tensors):
    """What the tensors say of the model: arguments of `build`.

    Args, Returns, Raises: as `vit.read.infer`.
    """
    encoder, shapes = {}, {}
    for (row, number), sources in matched.found.items():
        target = as_tuple(row.targets)[0]
        if OWN.match(target):
            shapes[target] = tensors[next(iter(sources.values()))].shape
        else:
            encoder[row, number] = sources
    found = vit.infer(matched._replace(found=encoder), tensors)
    table, mla = matched.table, "neck/norm0/gamma" in shapes
    heads = {OWN.match(x)[0] for x in shapes if x.startswith("auxiliary_head")}
    convs = [x for x in shapes if re.fullmatch(r"auxiliary_head0/conv\d/conv/kernel", x)]
    kernel = shapes.get("neck/project0/conv/kernel" if mla else "decoder/conv0/conv/kernel")
    if kernel is None or len(kernel) != 4:
        raise CheckpointError(
            f"The decoder of a SETR with names of {table.name} must have a convolution. "
            f"Received: a kernel of shape {kernel}"
        )
    found.update(
        decoder="mla" if mla else "naive" if kernel[-1] == 1 else "pup",
        convention="authors" if table in names.AUTHORS.values() else "mmseg",
        num_classes=shapes["decoder/classifier/kernel"][0],
        decoder_width=kernel[0],
        auxiliary_heads=bool(heads),
        auxiliary_convs=max(len(convs), 1),
    )
    if found["depth"] == 24 and "layers" not in found:
        found["layers"] = _PUBLISHED[found["decoder"]]
    return found


def describe(config, processor=None, name=""):
    """Refuses a configuration: no library has one for these tensors."""
    raise CheckpointError(
        f"The tensors of {name} are those of a SETR, for which config.json has no meaning here: "
        "pass the file with the tensors alone"
    )


def complete(inferred, description, overrides, name):
    """Arguments of `build` from what tensors and caller say.

    Args, Returns, Raises: as `vit.read.complete`.
    """
    own = {k: v for k, v in inferred.items() if k in _OWN_ARGUMENTS}
    encoder = {k: v for k, v in inferred.items() if k not in own} | {"num_classes": None}
    found = vit.complete(encoder, None, overrides, name)
    size = found["image_size"]
    layers = overrides.get("layers") or own.get("layers") or quarters(found["depth"])
    own |= {
        "image_size": size,
        "layers": tuple(layers),
        "short_side": _SHORT_SIDES.get((own["num_classes"], size[0]), min(size)),
        "preprocessor": Preprocessor(size, crop_fraction=1.0, interpolation="bilinear"),
    }
    return {k: v for k, v in found.items() if k in _ENCODER_ARGUMENTS} | own


def facts(arguments):
    """`layouts.Facts` of a source, or of a model, that these arguments describe."""
    return vit.facts(arguments)
