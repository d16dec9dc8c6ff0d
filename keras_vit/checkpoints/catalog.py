"""The catalogue of known checkpoints: source, licence, preprocessing and accuracy."""

import difflib
import fnmatch
import functools
import tomllib
from dataclasses import dataclass, field
from importlib import resources

from keras_vit.table import Table


@dataclass(frozen=True)
class Entry:
    """One published checkpoint.

    Attributes:
        variant: str, the factory in `keras_vit` of this size.
        source: str, hub id.
        image_size: int, pixels.
        patch_size: int, pixels.
        num_classes: int; 0 for features.
        mean, std: lists, normalisation of values 0..1.
        crop_fraction, interpolation, resize: as `keras_vit.Preprocessor` takes them.
        licence: str.
        original: str, where the authors published it.
        accuracy: float, top-1 on ImageNet-1k in %, as timm measured it.
        sha256_start: str, the first digits of the SHA-256 of `original`, which its authors put into
            its name; a file of that name is held against it.
        arguments: dict of the variant's arguments that are not its defaults, without `image_size`
            and `num_classes`.
    """

    variant: str
    source: str
    image_size: int
    patch_size: int
    num_classes: int
    mean: list
    std: list
    crop_fraction: float
    interpolation: str
    resize: str
    licence: str
    original: str | None = None
    accuracy: float | None = None
    sha256_start: str | None = None
    arguments: dict = field(default_factory=dict)


@functools.cache
def catalog():
    """dict of name to `Entry`, as in `catalog.toml`."""
    text = (resources.files(__package__) / "catalog.toml").read_text("utf-8")
    return {name: Entry(**fields) for name, fields in tomllib.loads(text).items()}


@functools.cache
def original_hashes():
    """dict of file name to the first digits of its SHA-256, for originals that tell them."""
    known = [entry for entry in catalog().values() if entry.sha256_start]
    return {entry.original.rpartition("/")[2]: entry.sha256_start for entry in known}


@functools.cache
def imagenet_names():
    """tuple of str, the 1000 classes of ImageNet-1k in their order."""
    text = (resources.files(__package__) / "imagenet1k.txt").read_text("utf-8")
    return tuple(text.splitlines())


def nearest(name, count=3):
    """The names of the catalogue that are most like `name`."""
    short = name.removeprefix("hf://").removeprefix("timm/")
    return difflib.get_close_matches(short, catalog(), count, 0.0)


def list_checkpoints(pattern="*"):
    """The checkpoints that `from_pretrained` knows by name; any other of the hub loads by its id.

    Args:
        pattern: str, part of a name, or with `*` and `?` for the whole of it; or a variant in any
            case, such as "ViTTiny".

    Returns:
        `Table` of (name, variant, pixels, patch, classes, top-1 %, licence).

    Example:
        >>> keras_vit.list_checkpoints("vit_base*augreg*")
    """
    variant = pattern.lower()
    if not any(sign in pattern for sign in "*?["):
        pattern = f"*{pattern}*"
    return Table(
        ("name", "variant", "pixels", "patch", "classes", "top-1 %", "licence"),
        [
            (
                name,
                entry.variant,
                str(entry.image_size),
                str(entry.patch_size),
                str(entry.num_classes or "features"),
                "" if entry.accuracy is None else f"{entry.accuracy:.2f}",
                entry.licence,
            )
            for name, entry in catalog().items()
            if fnmatch.fnmatchcase(name, pattern) or entry.variant.lower() == variant
        ],
    )
