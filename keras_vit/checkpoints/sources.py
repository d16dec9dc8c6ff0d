"""Locates a checkpoint: a file, a folder, a hub id or a name of the catalogue."""

import functools
import hashlib
import re
from pathlib import Path
from typing import NamedTuple

from keras_vit.checkpoints import keras_hub, torchvision, untrusted
from keras_vit.checkpoints.catalog import catalog, nearest, original_hashes
from keras_vit.checkpoints.errors import CheckpointError, named, readable
from keras_vit.checkpoints.readers.open import shards_of
from keras_vit.checkpoints.variants import checkpoint_of, download_size, find_variant

# In a folder or on the hub, best first.
WEIGHTS = (
    "model.safetensors",
    "model.safetensors.index.json",
    "model.keras",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
    keras_hub.WEIGHTS,
)
SUFFIXES = (".safetensors", ".npz", ".pth", ".pt", ".bin", ".ckpt", ".tar", ".keras", ".h5")
HUB_ID = re.compile(r"(hf://|hf-hub:)?([\w.-]+/[\w.-]+)(@[\w./-]+)?")


class Source(NamedTuple):
    """A checkpoint on this machine.

    Attributes:
        name: str, as the user gave it.
        weights: path of the file, or of the index of its shards.
        config: dict of `config.json`, or None; in a preset of keras-hub with "task".
        processor: dict of `preprocessor_config.json`, or None; the image processor in a
            `processor_config.json`, where transformers 5 keeps those of models of two towers; in a
            preset of keras-hub that of `image_converter.json`.
        head: path of a preset's further weights, or None.
        note: str, which checkpoint was chosen for a variant, or None.
    """

    name: str
    weights: Path
    config: dict | None = None
    processor: dict | None = None
    head: Path | None = None
    note: str | None = None


def locate(source):
    """Finds a checkpoint, downloading it where it is on the hub.

    Args:
        source: path of a file or folder; hub id such as "timm/vit_base_patch16_224.augreg_in21k",
            "hf://google/vit-base-patch16-224" or "owner/name@revision"; a catalogue name; or a
            variant, whose `best_checkpoint` is taken.

    Returns:
        `Source`.

    Raises:
        CheckpointError: where there is nothing of that name; it names what is near. For a file that
            has the name of an original of the catalogue but another SHA-256.
    """
    name = str(source)
    path = Path(name)
    if path.is_file():
        _check_hash(path)
        found = _with_configs(name, path, path.parent)
        return found if found.config else found._replace(config=torchvision.config_of(path.name))
    if path.is_dir():
        return _with_configs(name, _weights_in(path), path)
    if name in catalog():
        return _download_of_catalog(name)
    found = HUB_ID.fullmatch(name)
    if found and path.suffix.lower() not in SUFFIXES:
        return _download(name, found[2], found[3] and found[3][1:])
    if variant := find_variant(name):
        checkpoint, note = checkpoint_of(variant)
        with named(note):
            return _download_of_catalog(checkpoint)._replace(note=note)
    if path.suffix.lower() in SUFFIXES or name != path.name:
        raise CheckpointError(f"There is no such checkpoint: file not found. Received: {name!r}")
    raise CheckpointError(
        "There is no such checkpoint: no file or folder of that name was found. Expected: a file, "
        "a folder, a hub id (owner/name), a variant (ViTBase) or a name of the catalogue, such as "
        f"{', '.join(nearest(name))}. Received: {name!r}"
    )


def _check_hash(path):
    expected = original_hashes().get(path.name) or torchvision.hash_in(path.name)
    if expected is None:
        return
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if not found.startswith(expected):
        raise CheckpointError(
            f"{path} is not the file that its authors published under this name: download it "
            f"again. Expected: a SHA-256 that starts with {expected}. Received: {found}"
        )


def _weights_in(folder):
    for name in WEIGHTS:
        if (folder / name).is_file():
            return folder / name
    others = sorted(x for x in folder.iterdir() if x.suffix in SUFFIXES and x.is_file())
    if len(others) == 1:
        return others[0]
    raise CheckpointError(
        f"A folder must hold one of {', '.join(WEIGHTS)}, or a single file of weights. "
        f"Received: {folder} with {[x.name for x in others] or 'none'}"
    )


def _with_configs(name, weights, folder):
    found = _configured(name, weights, lambda file: read_json(folder / file))
    head = folder / keras_hub.HEAD
    with_head = weights.name == keras_hub.WEIGHTS and head.is_file()
    return found._replace(head=head) if with_head else found


def _configured(name, weights, read):
    """The `Source` of weights beside which `read` finds configurations, by the file's name."""
    config = read("config.json")
    if keras_hub.is_preset(config):
        return Source(name, weights, *keras_hub.configs(read))
    return Source(name, weights, config, None if config is None else _processor(read))


def _processor(read):
    both = read("processor_config.json")
    nested = both.get("image_processor") if isinstance(both, dict) else None
    return nested if isinstance(nested, dict) else read("preprocessor_config.json")


def read_json(path):
    """The object in a JSON file, or None if the file is absent."""
    if not path.is_file():
        return None
    with readable(path, "JSON"):
        with path.open("rb") as file:
            value = untrusted.read_json(file)
        if not isinstance(value, dict):
            raise ValueError(f"an object expected, {untrusted.brief(value)} found")
        return value


def _download_of_catalog(name):
    entry = catalog()[name]
    return _download(name, entry.source, None, download_size(entry))


def _download(name, repository, revision, size=""):
    """From the Hugging Face hub, with its cache, token, offline switch and progress bar."""
    import huggingface_hub
    from huggingface_hub.errors import (
        EntryNotFoundError,
        HfHubHTTPError,
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
    )

    @functools.cache
    def fetch(file):
        try:
            return Path(huggingface_hub.hf_hub_download(repository, file, revision=revision))
        except LocalEntryNotFoundError:
            if file == "config.json":
                raise  # neither network nor cache
            return None  # offline nobody can tell whether there is such a file
        except EntryNotFoundError:
            return None

    def read(file):
        path = fetch(file)
        return path and read_json(path)

    try:
        fetch("config.json")
        for file in WEIGHTS:
            weights = fetch(file)
            if weights is None:
                continue
            if file.endswith(".index.json"):
                with readable(weights, "index"):
                    _, shards = shards_of(read_json(weights))
                for shard in shards:
                    fetch(shard)
            found = _configured(name, weights, read)
            is_preset = file == keras_hub.WEIGHTS
            return found._replace(head=fetch(keras_hub.HEAD)) if is_preset else found
    except (LocalEntryNotFoundError, OfflineModeIsEnabled, HfHubHTTPError, OSError) as error:
        size = f" ({size})" if size else ""
        here = "" if name in catalog() else " is no file or folder here, and"
        raise CheckpointError(
            f"{name!r}{size}{here} could not be fetched from the hub. Expected: a network, or the "
            f"files in the cache of huggingface_hub, where `hf download {repository}` puts them; "
            "or the path of a folder with them. "
            f"Received: {type(error).__name__}: {str(error)[:500]}"
        ) from error
    raise CheckpointError(f"{repository} has none of {', '.join(WEIGHTS)}. Received: {name!r}")
