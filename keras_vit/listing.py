"""Every named variant: what it costs, and how good its best published weights are."""

import csv
import fnmatch
import functools
import inspect
from importlib import resources

from keras_vit.checkpoints.catalog import catalog
from keras_vit.models import cait, deit, hybrid, pvt, pvt_v2, swin, vit
from keras_vit.table import Table

FAMILIES = {
    "ViT": vit,
    "DeiT": deit,
    "Swin": swin,
    "PVT": pvt,
    "PVTv2": pvt_v2,
    "Hybrid": hybrid,
    "CaiT": cait,
}


def variants():
    """dict of every variant's name to its family's, as `list_models` has them."""
    return {name: family for family, module in FAMILIES.items() for name in module.VARIANTS}


@functools.cache
def costs():
    """dict of variant to (pixels, parameters, MACs), as in `costs.csv`.

    They are kept, because to count them all models must be built (`python -m benchmarks.costs`).
    """
    text = (resources.files(__package__) / "costs.csv").read_text("utf-8")
    rows = csv.DictReader(text.splitlines())
    return {
        row["variant"]: tuple(int(row[x]) for x in ("pixels", "parameters", "macs")) for row in rows
    }


def list_models(pattern="*"):
    """The named variants, with 1000 classes at the size of their defaults.

    Args:
        pattern: str, part of a variant's or a family's name in any case, or with `*` and `?` for
            the whole of it.

    Returns:
        `Table` of (variant, family, pixels, parameters, GMACs, top-1 %, checkpoint): the last two
        are the ImageNet-1k accuracy of the best of the known checkpoints of that variant, size and
        patch, as timm measured it, and its name for `from_pretrained`; "" where none is known.

    Example:
        >>> keras_vit.list_models("swin*")
    """
    if not any(sign in pattern for sign in "*?["):
        pattern = f"*{pattern}*"
    pattern = pattern.lower()
    rows = []
    for name, family in variants().items():
        if not any(fnmatch.fnmatchcase(x.lower(), pattern) for x in (name, family)):
            continue
        pixels, parameters, macs = costs()[name]
        checkpoint, accuracy = _best_checkpoint(name, pixels)
        accuracy = f"{accuracy:.1f}" if checkpoint else ""
        gmacs = f"{macs / 1e9:.2f}"
        rows.append((name, family, str(pixels), parameters, gmacs, accuracy, checkpoint))
    header = ("variant", "family", "pixels", "parameters", "GMACs", "top-1 %", "checkpoint")
    return Table(header, rows)


def _best_checkpoint(variant, pixels):
    """(name, accuracy) of the best known checkpoint of a variant at its own size, or ("", 0)."""
    module = FAMILIES[variants()[variant]]
    own = inspect.signature(getattr(module, variant)).parameters
    found = {}
    for name, entry in catalog().items():
        if entry.variant != variant or entry.accuracy is None or entry.image_size != pixels:
            continue
        if "window_size" in own and f"window{own['window_size'].default}_" not in name:
            continue  # only its name tells
        if "patch_size" in own and entry.patch_size != own["patch_size"].default:
            continue
        found[name] = entry.accuracy
    return max(found.items(), key=lambda item: item[1], default=("", 0.0))
