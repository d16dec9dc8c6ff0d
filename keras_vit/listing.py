"""Every named variant: what it costs, and how good its best published weights are."""

import csv
import fnmatch
import functools
import inspect
from importlib import resources

from keras_vit.checkpoints.catalog import catalog
from keras_vit.complexity import complexity
from keras_vit.layers.initializers import no_initialization
from keras_vit.models.registry import variants
from keras_vit.models.vit import VisionTransformer
from keras_vit.table import Table


@functools.cache
def costs():
    """dict of variant to (pixels, parameters, MACs), as in `costs.csv`.

    They are kept because counting builds every model (`python -m benchmarks.costs`); `list_models`
    counts a variant that has no row.
    """
    text = (resources.files(__package__) / "costs.csv").read_text("utf-8")
    rows = csv.DictReader(text.splitlines())
    return {
        row["variant"]: tuple(int(row[x]) for x in ("pixels", "parameters", "macs")) for row in rows
    }


@functools.cache
def count(variant):
    """(pixels, parameters, MACs) of a variant, a function, with its default arguments."""
    with no_initialization():
        model = variant(dtype="bfloat16")
    found = complexity(model)
    return found.image_size[0], found.parameters, found.macs


def list_models(pattern="*"):
    """Lists the variants, with their cost for 1000 classes and their best published weights.

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
    for name, family in variants().items():
        if not any(fnmatch.fnmatchcase(x.lower(), pattern) for x in (name, family.title)):
            continue
        pixels, parameters, macs = costs().get(name) or count(family.variants[name])
        checkpoint, accuracy = _best_checkpoint(name, pixels)
        gmacs = f"{macs / 1e9:.2f}"
        rows.append((name, family.title, str(pixels), parameters, gmacs, accuracy, checkpoint))
    header = ("variant", "family", "pixels", "parameters", "GMACs", "top-1 %", "checkpoint")
    return Table(header, rows)


def _best_checkpoint(variant, pixels):
    """(name, accuracy) of the best known checkpoint of a variant, or ("", "")."""
    family = variants()[variant]
    own = inspect.signature(family.variants[variant]).parameters
    found = {}
    for name, entry in catalog().items():
        if entry.variant != variant or entry.accuracy is None:
            continue
        if "window_size" in own and f"window{own['window_size'].default}_" not in name:
            continue  # only its name tells
        if family.model is VisionTransformer and entry.patch_size != own["patch_size"].default:
            continue
        found[name] = (entry.image_size == pixels, entry.accuracy)
    if not found:
        return "", str(family.paper_top1.get(variant, ""))
    best = max(found, key=found.get)
    return best, f"{found[best][1]:.1f}"
