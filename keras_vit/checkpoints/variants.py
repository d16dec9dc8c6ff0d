"""The best checkpoint that the catalogue has of each variant, and what variants cost."""

import csv
import functools
import inspect
from importlib import resources

from keras_vit.checkpoints.catalog import catalog
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
