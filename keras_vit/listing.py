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
# Wang et al. 2021, table 2: of variants whose weights are at no hub that the catalogue knows.
PAPERS = {"PVTTiny": "75.1", "PVTSmall": "79.8", "PVTMedium": "81.2", "PVTLarge": "81.7"}


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
        are the ImageNet-1k accuracy of the best known checkpoint of that variant's patch and window
        size, at its image size if there is one, as timm measured it, and its name for
        `from_pretrained`. Without such weights the accuracy is the paper's, or "".

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
        gmacs = f"{macs / 1e9:.2f}"
        rows.append((name, family, str(pixels), parameters, gmacs, accuracy, checkpoint))
    header = ("variant", "family", "pixels", "parameters", "GMACs", "top-1 %", "checkpoint")
    return Table(header, rows)


def _best_checkpoint(variant, pixels):
    """(name, accuracy) of the best known checkpoint of a variant, or ("", "")."""
    module = FAMILIES[variants()[variant]]
    own = inspect.signature(getattr(module, variant)).parameters
    found = {}
    for name, entry in catalog().items():
        if entry.variant != variant or entry.accuracy is None:
            continue
        if "window_size" in own and f"window{own['window_size'].default}_" not in name:
            continue  # only its name tells
        if module in (vit, deit) and entry.patch_size != own["patch_size"].default:
            continue
        found[name] = (entry.image_size == pixels, entry.accuracy)
    if not found:
        return "", PAPERS.get(variant, "")
    best = max(found, key=found.get)
    return best, f"{found[best][1]:.1f}"
