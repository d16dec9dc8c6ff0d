"""Infers a DETR on a ResNet from tensors and configuration."""

import inspect
import re

from keras_vit.checkpoints import layouts
from keras_vit.checkpoints.detr import names
from keras_vit.checkpoints.detr.coco import COCO
from keras_vit.checkpoints.detr.fields import describe as describe
from keras_vit.checkpoints.errors import CheckpointError
from keras_vit.checkpoints.resnet import read as resnet
from keras_vit.checkpoints.tables import as_tuple
from keras_vit.checkpoints.untrusted import brief
from keras_vit.models.resnet import ResNet
from keras_vit.tasks.detr.backbone import fitting
from keras_vit.tasks.detr.model import DETR

# What tensors and configuration both say; they must agree.
MUST_AGREE = (
    "num_queries",
    "width",
    "encoder_depth",
    "decoder_depth",
    "mlp_dim",
    "position_embedding",
    "block",
    "num_channels",
    "num_classes",
)
SAID_TWICE = ()
ARITHMETIC = frozenset({"num_heads", "dilation", "position_embedding"})
DESCRIBED = frozenset({"mlp"})
ASKED = ("num_heads", "dilation")
GUESSED = ("num_heads", "dilation")
FIRST_CONVOLUTION = resnet.FIRST_CONVOLUTION
RESAMPLED, ONLY_WITH, REFUSED = {}, {}, {}
EFFECTS = {
    "num_classes": r"class_head/.*",
    "num_queries": r"queries/.*",
    "encoder_depth": r"encoder_block\d+/.*",
    "decoder_depth": r"decoder_block\d+/.*",
}
# Of a `.keras` file (`checkpoints.task_file`).
ENCODER, OF_ENCODER = "backbone", ("image_size", "dilation", "include_preprocessing")
FREE = ("class_names", "class_ids")

_BODY = re.compile(r"stem/|stage\d_block")
_DEPTH = re.compile(r"(encoder|decoder)_block")
_SHARED = ("image_size", "dilation", "include_preprocessing", "dtype")  # given to the backbone
_OWN_ARGUMENTS = {
    name: x
    for name, x in inspect.signature(DETR).parameters.items()
    if name not in ("backbone", *_SHARED)
}
_OF_RESNET = inspect.signature(ResNet).parameters
_BACKBONE_ARGUMENTS = {
    name: x
    for name, x in _OF_RESNET.items()
    if name in _SHARED or name not in (*_OWN_ARGUMENTS, "num_classes", "class_names")
}
PUBLISHED_HEADS = 8  # of every published DETR, which no tensor shows


def build(**arguments):
    """A `DETR` from its own arguments and those of its `ResNet`, side by side."""
    backbone = {k: v for k, v in arguments.items() if k in _BACKBONE_ARGUMENTS}
    if backbone.get("include_preprocessing"):
        backbone["preprocessor"] = arguments.get("preprocessor")
    own = {k: v for k, v in arguments.items() if k in _OWN_ARGUMENTS}
    return DETR(ResNet(num_classes=None, **backbone), dtype=arguments.get("dtype"), **own)


build.__name__ = "DETR"
build.__signature__ = inspect.Signature(
    parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)
    for parameter in {**_BACKBONE_ARGUMENTS, **_OWN_ARGUMENTS}.values()
)


def arguments_of(model):
    """The arguments of `build` for a standing model.

    Raises:
        CheckpointError: if its backbone is no `ResNet`.
    """
    config = model.get_config()
    backbone = config.pop("backbone")
    if backbone["class_name"] != ResNet.__name__:
        raise CheckpointError(
            "Checkpoints of DETR have a ResNet as the backbone; format='keras' keeps any. "
            f"Received: a model with a {backbone['class_name']}"
        )
    return {**backbone["config"], **config}


def infer(matched, tensors):
    """What the tensors say of the model: arguments of `build`.

    Args:
        matched: `Match`.
        tensors: dict of name to `Tensor`.

    Returns:
        dict. Heads, dilation and activation are not in it, because no tensor shows them.

    Raises:
        CheckpointError: for shapes that are not those of a DETR.
    """
    body, shapes, depths = {}, {}, {"encoder": 0, "decoder": 0}
    for (row, number), sources in matched.found.items():
        target = as_tuple(row.targets)[0]
        if _BODY.match(target):
            body[row, number] = sources
            continue
        shapes[target] = tensors[next(iter(sources.values()))].shape
        block = _DEPTH.match(target)
        if block:
            depths[block[1]] = max(depths[block[1]], int(number) + 1)
    found = resnet.infer(matched._replace(found=body), tensors)
    try:
        queries, classes = shapes["queries/embeddings"], shapes["class_head/kernel"]
        hidden = [
            shapes[f"{x}_block{{i}}/mlp/fc1/kernel"][0]
            for x in ("encoder", "decoder")
            if depths[x] > 0
        ]
        return {
            **found,
            "num_classes": classes[0] - 1,  # the last is "no object"
            "num_queries": queries[0],
            "width": queries[1],
            "encoder_depth": depths["encoder"],
            "decoder_depth": depths["decoder"],
            "mlp_dim": (hidden[0], hidden[-1]),
            "position_embedding": "learned" if "positions/rows" in shapes else "sine",
        }
    except (KeyError, IndexError) as error:
        raise CheckpointError(
            f"The tensors are not those of a DETR with names of {matched.table.name}. "
            f"Received: {error}"
        ) from error


def complete(inferred, description, overrides, name):
    """Arguments of `build` from what tensors, configuration and caller say.

    Batch normalisations and the first layers of the backbone are frozen, as the authors have it.

    Args:
        inferred: dict, what the tensors say (`infer`).
        description: `Description` of the source's configuration, or None.
        overrides: dict of the caller's arguments, read where the source is silent.
        name: str, the source, for errors.

    Returns:
        dict with every argument that concerns the architecture, as the source has it.

    Raises:
        CheckpointError: where tensors and configuration contradict each other.
    """
    said = {
        k: v for k, v in (description.arguments if description else {}).items() if v is not None
    }
    for key in MUST_AGREE:
        if said.get(key, inferred[key]) != inferred[key]:
            raise CheckpointError(
                f"The configuration and the tensors of {name} contradict each other. Expected: "
                f"{key}={inferred[key]!r}, as the tensors have it. "
                f"Received: {key}={brief(said[key])}"
            )
    found = {
        "num_heads": overrides.get("num_heads") or PUBLISHED_HEADS,
        # The authors' files say it in their names alone.
        "dilation": overrides.get("dilation", "dc5" in name.lower()),
        **said,
        **inferred,
        "image_size": None,
        "batch_norm": "frozen",
    }
    first = [f"stage0_block{i:02d}" for i in range(found["depths"][0])]
    found["frozen_layers"] = ["stem", *first]
    found["preprocessor"] = description.preprocessor if description else fitting(None)
    found["class_names"] = description.class_names if description else None
    if description is None and found["num_classes"] == len(COCO):
        found["class_names"] = list(COCO)
    names_given = found["class_names"]
    if names_given is not None and len(names_given) != found["num_classes"]:
        raise CheckpointError(
            "config.json must name every class once. "
            f"Received: {len(names_given)} names, {found['num_classes']} classes"
        )
    return found


def facts(arguments):
    """`layouts.Facts` of a source, or of a model, that these arguments describe."""
    return layouts.Facts((1, 1), arguments["widths"][-1])


def is_panoptic(name):
    """Whether a tensor belongs to the part of a panoptic model that segments."""
    return any(re.fullmatch(pattern, name) for pattern in names.PANOPTIC)
