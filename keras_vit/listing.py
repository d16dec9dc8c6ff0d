"""Every named variant: what it costs, and how good its best published weights are."""

import fnmatch
import functools

from keras_vit.checkpoints.catalog import catalog
from keras_vit.checkpoints.variants import best_checkpoint, costs
from keras_vit.complexity import complexity
from keras_vit.layers.initializers import no_initialization
from keras_vit.models.registry import task_variants, variants
from keras_vit.table import Table

ANY_SIZE = (800, 1066)  # (H, W) of a model that takes any: of COCO, as in DETR's paper


@functools.cache
def count(variant):
    """(pixels, parameters, MACs) of a variant, a function, with its default arguments."""
    with no_initialization():
        model = variant(dtype="bfloat16")
    found = complexity(model, ANY_SIZE if None in model.input.shape[1:3] else None)
    return found.image_size[0], found.parameters, found.macs


def list_models(pattern="*"):
    """Lists the variants, with their cost and their best published weights.

    The cost is that of a classifier of 1000 classes, of a model for segmentation with the 150
    classes of ADE20K, or of a detector for COCO on pictures of 800 x 1066 pixels.

    Args:
        pattern: str, part of the name of a variant or family, in upper or lower case, or a pattern
            with `*` and `?` for the whole name.

    Returns:
        `Table` of (variant, family, pixels, parameters, GMACs, top-1 %, checkpoint). `checkpoint`
        is the name for `from_pretrained` of the most accurate known checkpoint with the default
        patch and window size of the variant, at its default image size if there is one. `top-1 %`
        is its ImageNet-1k accuracy as measured by timm. Without such a checkpoint it is the
        accuracy in the paper, or "".

    Example:
        >>> keras_vit.list_models("swin*")
    """
    if not any(sign in pattern for sign in "*?["):
        pattern = f"*{pattern}*"
    pattern = pattern.lower()
    rows = []
    for name, family in (variants() | task_variants()).items():
        if not any(fnmatch.fnmatchcase(x.lower(), pattern) for x in (name, family.title)):
            continue
        pixels, parameters, macs = costs().get(name) or count(family.variants[name])
        checkpoint = best_checkpoint(name) if name in variants() else None
        accuracy = str(family.paper_top1.get(name, ""))
        if checkpoint is not None:
            accuracy = f"{catalog()[checkpoint].accuracy:.1f}"
        gmacs, checkpoint = f"{macs / 1e9:.2f}", checkpoint or ""
        rows.append((name, family.title, str(pixels), parameters, gmacs, accuracy, checkpoint))
    header = ("variant", "family", "pixels", "parameters", "GMACs", "top-1 %", "checkpoint")
    return Table(header, rows)
