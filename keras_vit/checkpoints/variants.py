"""Variants as sources of weights: the best checkpoint that the catalogue has of each."""

import csv
import functools
import inspect
from importlib import resources

from keras_vit.checkpoints.catalog import catalog
from keras_vit.checkpoints.errors import CheckpointError
from keras_vit.models.registry import variants
from keras_vit.models.vit import VisionTransformer


@functools.cache
def costs():
    """dict of variant to (pixels, parameters, MACs), as in `costs.csv`.

    They are kept because counting builds every model (`python -m benchmarks.costs`); `list_models`
    counts a variant that has no row.
    """
    text = (resources.files("keras_vit") / "costs.csv").read_text("utf-8")
    rows = csv.DictReader(text.splitlines())
    return {
        row["variant"]: tuple(int(row[x]) for x in ("pixels", "parameters", "macs")) for row in rows
    }


def find_variant(name):
    """The variant of this name in any case, with underscores and hyphens or without, or None.

    Example:
        >>> find_variant("vit_tiny")
        'ViTTiny'
    """
    wanted = _letters(str(name))
    return next((variant for variant in variants() if _letters(variant) == wanted), None)


def best_checkpoint(variant):
    """The name of the best known checkpoint of a variant, or None.

    Of those whose ImageNet-1k accuracy is known and whose patch size (of a ViT) or window size (of
    a Swin Transformer) is the variant's own, it is the most accurate at the variant's own image
    size or, where there is none of that size, the most accurate of all.

    Args:
        variant: str, such as "ViTBase".
    """
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
        found[name] = (entry.image_size == own["image_size"].default, entry.accuracy)
    return max(found, key=found.get) if found else None


def checkpoint_of(variant):
    """(name, note) of the checkpoint that is loaded for a variant; the note says why this one.

    Raises:
        CheckpointError: where no checkpoint with a classifier of ImageNet-1k is known.
    """
    name = best_checkpoint(variant)
    others = [x for x, entry in catalog().items() if entry.variant == variant and x != name]
    if name is None:
        raise CheckpointError(
            f"The catalogue has no {variant} that classifies ImageNet-1k. Expected: another source"
            f"{', such as ' + some(others) if others else ''}. Received: {variant!r}"
        )
    entry = catalog()[name]
    note = (
        f"{variant}: the best known checkpoint is {name} ({entry.accuracy:.1f} % top-1 on "
        f"ImageNet-1k at {entry.image_size} pixels, licence {entry.licence})"
    )
    return name, f"{note}; others: {some(others)}" if others else note


def some(names, count=3):
    """The first names, and how many more there are."""
    more = f" and {len(names) - count} more" if len(names) > count else ""
    return ", ".join(names[:count]) + more


def download_size(entry):
    """What an `Entry` of the catalogue takes to download, in words, or "" where it is not known.

    Weights are published as float32, and nearly all of them are those of the variant.
    """
    if entry.variant not in costs():
        return ""
    _, parameters, _ = costs()[entry.variant]
    return f"about {4 * parameters / 1e6:,.0f} MB"


def _letters(name):
    return name.replace("_", "").replace("-", "").lower()
